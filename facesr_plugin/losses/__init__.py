"""The loss and the schedule of its weight: tensors and numbers in, no option file and no BasicSR model."""
