"""The version; setup.py has it too."""

__version__ = '0.1.0'
