"""BasicSR plugin for blind x4 face super-resolution: importing it registers the six classes below with BasicSR.

It does so as soon as BasicSR is imported, before or after (`registry.py`); alone it imports nothing heavy.

`upscale(image)` enlarges a picture with the network that comes trained with the plugin; `upscale_faces(image)` a
photograph with each of its faces.

- `archs/`: `FaceSRResNet`, the network; `PatchDiscriminator`, its adversary in the second stage.
- `pictures/`: picture files with all they hold, one reader and one writer for training and enlarging.
- `faces/`: the faces of a photograph: found, aligned, put back.
- `data/`: `FaceDegradationDataset`, HR faces and their blur kernels, from LMDB or folder.
- `degradations/`: D and R, an HR batch to an LR batch.
- `losses/`: `RegularizedL1Loss`, the dual-forward loss, and the schedule of its alpha.
- `models/`: `AlphaRealESRNetModel`, one training step, validation, the record of a run; `AlphaRealESRGANModel`, the
  second stage.
- `run/`: what a training needs around the method: checkpoints, states, processes, the lock.
- `options/`: what may stand in an option file, and how it is read.
- `enlarge/`: a trained network on pictures; `upscale`. `weights/`: the network that comes with the plugin.
- `report/`: what looks at results: curves, comparisons, the report. `web/`: the page of `facesr web`.
- `commands/`, `cli.py`: the command `facesr`; `train.py` and `test.py` are two of its subcommands.
- `spandrel.py`: importing it lets programs built on spandrel load these networks.
- `errors.py`, `files.py`, `blocks.py`, `compat.py`, `command_line.py`: what all stand on.

Nothing imports what stands above it: from the ground up that is `errors`, `files`, `blocks`; pictures, faces,
archs, losses, degradations, data; run; models; options; enlarge; report, web; commands; the entry points.
"""

from importlib import import_module
from typing import Any

from facesr_plugin import compat
from facesr_plugin.registry import register
from facesr_plugin.version import __version__

compat.around_basicsr(after=register)

_HOMES = {
    'AlphaRealESRGANModel': 'models.alpha_realesrgan_model',
    'AlphaRealESRNetModel': 'models.alpha_realesrnet_model',
    'FaceDegradationDataset': 'data.face_degradation_dataset',
    'FaceSRResNet': 'archs.face_srresnet_arch',
    'PatchDiscriminator': 'archs.patch_discriminator_arch',
    'RegularizedL1Loss': 'losses.regularized_l1_loss',
    'FaceOptions': 'enlarge.photograph',
    'upscale': 'enlarge.api',
    'upscale_faces': 'enlarge.api',
}
__all__ = ['__version__', *_HOMES]


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'{__name__}.{_HOMES[name]}'), name)
