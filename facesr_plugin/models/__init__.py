"""The BasicSR model and its parts: one optimisation step, pair pool, validation, history, checkpoints."""
