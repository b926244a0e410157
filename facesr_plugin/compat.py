"""BasicSR 1.4.2 on today's torch and without CUDA: every repair of an upstream break, each with its issue.

`import facesr_plugin` calls `apply` before anything of BasicSR is imported. Breaks that a subclass or an entry point
can avoid are avoided there instead (see `models/`, `data/lmdb_images.py` and `train.py`).
"""

import importlib.util
import sys


def apply() -> None:
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
