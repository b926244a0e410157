"""BasicSR plugin for blind x4 face super-resolution: importing it registers the four classes below with BasicSR.

`upscale(image)` enlarges a picture with the network that comes trained with the plugin.

- `archs/`: `FaceSRResNet`, the network.
- `data/`: `FaceDegradationDataset`, HR faces and their blur kernels, from LMDB or folder.
- `degradations/`: D and R, an HR batch to an LR batch.
- `losses/`: `RegularizedL1Loss`, the dual-forward loss, and the schedule of its alpha.
- `models/`: `AlphaRealESRNetModel`, one training step, validation, history, checkpoints.
- `option_types.py`, `option_check.py`, `options.py`: what may stand in an option file, and how it is read.
- `train.py`, `test.py`, `upscale_command.py`: entry points, installed as `facesr-train`, `-test` and `-upscale`.
- `inference.py`, `api.py`: a trained network on pictures; `upscale`. `weights/`: the one that comes with the plugin.
- `images.py`, `pictures.py`: image files as RGB, and with all they hold.
- `spandrel.py`: importing it lets programs built on spandrel load these networks.
- `strict.py`, `state_check.py`, `run_lock.py`: typed option blocks, whether a state fits a file, one training a folder.
- `errors.py`, `compat.py`: what is told in one line; what BasicSR 1.4.2 needs to be imported today.
"""

from facesr_plugin import compat

compat.apply()

from facesr_plugin.archs.face_srresnet_arch import FaceSRResNet  # noqa: E402
from facesr_plugin.data.face_degradation_dataset import FaceDegradationDataset  # noqa: E402
from facesr_plugin.enlarge.api import upscale  # noqa: E402  (compat first: BasicSR needs it)
from facesr_plugin.losses.regularized_l1_loss import RegularizedL1Loss  # noqa: E402
from facesr_plugin.models.alpha_realesrnet_model import AlphaRealESRNetModel  # noqa: E402

__all__ = ['AlphaRealESRNetModel', 'FaceDegradationDataset', 'FaceSRResNet', 'RegularizedL1Loss', 'upscale']
__version__ = '0.1.0'
