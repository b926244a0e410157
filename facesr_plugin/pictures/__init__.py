"""Picture files with all they hold: pixels of 8 or 16 bits, profile, metadata, frames. One reader, one writer.

`data/` (training) and `enlarge/` stand on it. `formats` is the registry: which files are read, which are written.
"""
