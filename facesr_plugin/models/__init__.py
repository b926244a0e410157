"""The BasicSR model and its parts: one optimisation step, pair pool, validation, history, checkpoints."""

import basicsr  # noqa: F401  (first: that registers the plugin, which is all there then)
