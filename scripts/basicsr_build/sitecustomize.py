"""Lets the setup.py of BasicSR 1.4.2 run on Python 3.13 and later; this folder is on PYTHONPATH during its build only.

    PYTHONPATH=$PWD/scripts/basicsr_build pip install --no-build-isolation --no-deps \
        -r scripts/basicsr_build/requirements.txt

Its `get_version` calls `exec(source)` and then reads what that set from `locals()`. Since PEP 667, Python 3.13, it is
not there (XPixelGroup/BasicSR#749). Here an `exec` without namespaces runs in those of its caller, as it did before.
Nothing else is changed, neither in BasicSR nor in Python.
"""

import builtins
import sys

_exec = builtins.exec


def exec(source, /, globals=None, locals=None, **options):
    """Do what `builtins.exec` does; the caller's local names are its own and no copy of them."""
    caller = sys._getframe(1)
    if globals is None:
        globals, locals = caller.f_globals, caller.f_locals if locals is None else locals
    return _exec(source, globals, locals, **options)


builtins.exec = exec
