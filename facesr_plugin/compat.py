"""BasicSR 1.4.2 on today's stack: every repair of an upstream break, each with its issue, at the time of its import.

Breaks that a subclass or an entry point can avoid are avoided there instead (see `models/` and `train.py`).
"""

import importlib.abc
import importlib.util
import secrets
import string
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


def around_basicsr(after: Callable[[], None]) -> None:
    """Repair BasicSR before it is imported, and call `after` as soon as it is: now, if it has been.

    So neither this package nor what needs no BasicSR, as enlarging a picture, waits for it.
    """
    if 'basicsr' in sys.modules:
        repair()
        after()
    else:
        sys.meta_path.insert(0, _Finder(after))


def repair() -> None:
    """Make BasicSR 1.4.2 importable; calling it again changes nothing."""
    _alias_functional_tensor()


def _alias_functional_tensor() -> None:
    """Give `torchvision.transforms.functional_tensor` back: torchvision 0.17 removed it, BasicSR 1.4.2 imports it.

    XPixelGroup/BasicSR#533, #663, #711; mended on its master (#650), never released.
    """
    name = 'torchvision.transforms.functional_tensor'
    if name not in sys.modules and importlib.util.find_spec(name) is None:
        from torchvision.transforms import functional

        sys.modules[name] = functional


def repair_wandb() -> None:
    """Give `wandb.util.generate_id` back, which BasicSR calls and wandb 0.28.2 has moved out of sight."""
    import wandb

    if not hasattr(wandb.util, 'generate_id'):
        alphabet = string.ascii_lowercase + string.digits
        wandb.util.generate_id = lambda length=8: ''.join(secrets.choice(alphabet) for _ in range(length))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds BasicSR where it is, with a loader that does something before and after."""

    def __init__(self, after: Callable[[], None]) -> None:
        self.after = after

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return BasicSR's spec with our loader; of any other module None."""
        if fullname != 'basicsr':
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self)
        return spec


class _Loader(importlib.abc.Loader):
    """Loads BasicSR by its own loader."""

    def __init__(self, stock: importlib.abc.Loader, finder: _Finder) -> None:
        self.stock, self.finder = stock, finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Leave that to BasicSR's own loader."""
        return self.stock.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Repair, import, and call what is to come after; nothing of this class is left in the module."""
        sys.meta_path.remove(self.finder)
        module.__loader__ = module.__spec__.loader = self.stock
        repair()
        self.stock.exec_module(module)
        self.finder.after()
