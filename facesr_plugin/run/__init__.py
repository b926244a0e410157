"""What a training needs around the method: checkpoints, states, processes, the guard, the lock."""
