"""Option files: their types, the check of what they name, how one is read, and whether a state fits."""

import basicsr  # noqa: F401  (first: that registers the plugin, which is all there then)
