"""Option files: their types, the check of what they name, how one is read, and whether a state fits.

`read.py` and `named.py` need no BasicSR; the others import it first, which registers the plugin.
"""
