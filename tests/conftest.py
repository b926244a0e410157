import facesr_plugin  # noqa: F401  (first: it makes BasicSR importable)
