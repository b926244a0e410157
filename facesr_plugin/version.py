"""The version, here and nowhere else in the package; `setup.py` says the same."""

VERSION = '0.1.0'
