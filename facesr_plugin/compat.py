"""BasicSR 1.4.2 on today's stack: every repair of an upstream break, each with its issue, at the time of its import.

Breaks that a subclass or an entry point can avoid are avoided there instead (see `models/` and `train.py`).
"""

import contextlib
import importlib.abc
import importlib.util
import secrets
import string
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

_kept: list[Any] = []  # what must live as long as the process


def around_basicsr(after: Callable[[], None]) -> None:
    """Repair BasicSR before it is imported, and call `after` as soon as it is: now, if it has been.

    So neither this package nor what needs no BasicSR, as enlarging a picture, waits for it.
    """
    if 'torchvision' not in sys.modules:
        sys.meta_path.insert(0, _Finder('torchvision', before=_declare_detection_operators))
    if 'basicsr' in sys.modules:
        repair()
        after()
    else:
        sys.meta_path.insert(0, _Finder('basicsr', before=repair, after=after))


def repair() -> None:
    """Make BasicSR 1.4.2 importable; calling it again changes nothing."""
    _give_loose_version()
    _alias_functional_tensor()


def _give_loose_version() -> None:
    """Give `distutils.version.LooseVersion` back: Python 3.12 removed distutils, BasicSR 1.4.2 compares versions by it.

    setuptools gives distutils back too, by a `.pth` file, which not every environment processes.
    """
    if 'distutils' in sys.modules or importlib.util.find_spec('distutils') is not None:
        return
    from packaging.version import Version

    package, module = ModuleType('distutils'), ModuleType('distutils.version')
    package.__path__ = []
    package.version, module.LooseVersion = module, Version
    sys.modules |= {'distutils': package, 'distutils.version': module}


def _declare_detection_operators() -> None:
    """Declare two operators that importing torchvision describes, where its compiled part, which has them, won't load.

    That is so for the torchvision of the package index beside a PyTorch without CUDA ("operator torchvision::nms does
    not exist"). What is used here, transforms and `make_grid`, needs no compiled part.
    """
    import torch

    folder = Path(importlib.util.find_spec('torchvision').submodule_search_locations[0])
    for compiled in folder.glob('_C*.*'):
        with contextlib.suppress(OSError):
            torch.ops.load_library(str(compiled))  # as torchvision is about to do
            return
    library = torch.library.Library('torchvision', 'FRAGMENT')
    library.define('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
    library.define('qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
    _kept.append(library)


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
    """Finds a package where it is, once, with a loader that does something before and after."""

    def __init__(self, name: str, before: Callable[[], None], after: Callable[[], None] = lambda: None) -> None:
        self.name, self.before, self.after = name, before, after

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the package's spec with our loader; of any other module None."""
        if fullname != self.name:
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
    """Loads a package by its own loader."""

    def __init__(self, stock: importlib.abc.Loader, finder: _Finder) -> None:
        self.stock, self.finder = stock, finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Leave that to the package's own loader."""
        return self.stock.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Call what comes before, import, call what comes after; nothing of this class is left in the module."""
        sys.meta_path.remove(self.finder)
        module.__loader__ = module.__spec__.loader = self.stock
        self.finder.before()
        self.stock.exec_module(module)
        self.finder.after()
