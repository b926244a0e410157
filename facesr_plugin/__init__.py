"""BasicSR plugin for blind x4 face super-resolution: importing it registers the four classes below with BasicSR.

`upscale(image)` enlarges a picture with the network that comes trained with the plugin.

- `archs/`: `FaceSRResNet`, the network.
- `data/`: `FaceDegradationDataset`, HR faces and their blur kernels, from LMDB or folder.
- `degradations/`: D and R, an HR batch to an LR batch.
- `losses/`: `RegularizedL1Loss`, the dual-forward loss, and the schedule of its alpha.
- `models/`: `AlphaRealESRNetModel`, one training step, validation, the record of a run.
- `run/`: what a training needs around the method: checkpoints, states, processes, the lock.
- `options/`: what may stand in an option file, and how it is read.
- `enlarge/`: a trained network on pictures; `upscale`. `weights/`: the network that comes with the plugin.
- `report/`: what looks at results: curves, comparisons, the page.
- `commands/`, `cli.py`: the command `facesr`; `train.py` and `test.py` are two of its subcommands.
- `spandrel.py`: importing it lets programs built on spandrel load these networks.
- `errors.py`, `files.py`, `blocks.py`, `compat.py`: what all stand on.

Nothing imports what stands above it: from the ground up that is `errors`, `files`, `blocks`; archs, losses,
degradations, data; run; models; options; enlarge; report; commands; the entry points.
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
