"""What `benchmark.py` compares: stock's model and ours, alike in options, weights and data."""

import logging
import random
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from types import FunctionType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from basicsr.utils import get_root_logger
from basicsr.utils.file_client import FileClient, LmdbBackend
from basicsr.utils.img_process_util import filter2D
from realesrgan.data.realesrgan_dataset import RealESRGANDataset
from realesrgan.models import realesrnet_model
from torch.nn import functional as F

from facesr_plugin import AlphaRealESRNetModel, FaceDegradationDataset
from facesr_plugin.data.images import list_images, read_image, read_shape
from facesr_plugin.data.lmdb_writer import write_lmdbs
from facesr_plugin.degradations import DegradationRanges, KernelRanges, RandomStreams, degrade, sample_kernels
from facesr_plugin.errors import UserError
from facesr_plugin.losses.alpha_schedule import cosine_alpha
from facesr_plugin.options.read import load_yaml
from facesr_plugin.report.machine import ROOT

OPTIONS = ROOT / 'options'
SCALE = 4
STOCK_CROP = 400  # px, hard-coded in RealESRGANDataset
Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Setup:
    """Where and on what is measured; sides in px.

    Attributes:
        device: Where both sides work.
        faces: Folder of HR faces.
        folder: For LMDBs and whatever a model writes.
        patch: Side of the HR patches of a step.
        workers: Loader processes of a training iteration.
        batch: Images of a step.
        blocks: Residual blocks.
        features: Their channels.
        degraded: Sides of the batches that are only degraded.
        pool_size: Pairs in the pool.
        pool_side: HR side of those pairs, where the pool is measured alone.
        validated: HR side of the validation pair.
        items: Faces to take, and items of the data set that a repetition reads.
        batches: Batches that a repetition degrades, or exchanges with the pool.
        steps: Optimisation steps of a repetition.
        iterations: Training iterations of a repetition.
        enlarged: Sides of the small and the large picture that are enlarged.
        pictures: Small pictures that are enlarged one after the other.
    """

    device: torch.device
    faces: Path
    folder: Path
    patch: int
    workers: int = 0
    batch: int = 5
    blocks: int = 20
    features: int = 64
    degraded: tuple[int, ...] = (400, 512)
    pool_size: int = 180
    pool_side: int = 512
    validated: int = 512
    items: int = 32
    batches: int = 8
    steps: int = 1
    iterations: int = 3
    enlarged: tuple[int, int] = (128, 1024)
    pictures: int = 200

    @property
    def is_here(self) -> bool:
        """Whether this machine has the device."""
        return self.device.type == 'cpu' or torch.cuda.is_available()

    @property
    def crop(self) -> int:
        """What a data set yields, out of which a step's patch is cut: stock's 400 px unless the patch is larger."""
        return max(STOCK_CROP, self.patch)

    @property
    def files(self) -> list[Path]:
        """The faces that are used.

        Raises:
            UserError: There are none.
        """
        return list_images(self.faces)[: self.items]

    def check_faces(self) -> None:
        """Check that the faces are large enough for every row.

        Raises:
            UserError: One is not.
        """
        side = max(self.crop, self.pool_side, self.validated, *self.degraded)
        for path in self.files:
            height, width = read_shape(path)
            if min(height, width) < side:
                raise UserError(f'{path}: at least {side}x{side} px expected, got {width}x{height}')

    def lmdb(self, name: str) -> Path:
        """Return an LMDB of the faces, made at the first call: `raw` of pixels, any other of PNGs."""
        path = self.folder / f'{name}.lmdb'
        if not path.exists():
            files = {file.stem: file for file in self.files}
            write_lmdbs([path], list(files), lambda key: [read_image(files[key])], None if name == 'raw' else 1)
        return path


class DualLossRealESRNet(realesrnet_model.RealESRNetModel):
    """Stock with the regularised loss written the obvious way: two forwards, the sum of both losses, one backward."""

    def optimize_parameters(self, current_iter: int) -> None:
        """Do one step as `SRModel.optimize_parameters` does it."""
        self.optimizer_g.zero_grad()
        clean_lq = F.interpolate(self.gt, scale_factor=1 / SCALE, mode='bicubic', antialias=True)
        alpha = cosine_alpha((current_iter - 1) / self.opt['train']['total_iter'])
        self.output = self.net_g(self.lq)
        l_degraded = self.cri_pix(self.output, self.gt)
        l_clean = self.cri_pix(self.net_g(clean_lq), self.gt)
        l_total = (1 - alpha) * l_degraded + alpha * l_clean
        l_total.backward()
        self.optimizer_g.step()
        self.log_dict = self.reduce_loss_dict(OrderedDict(l_pix=l_total, l_degraded=l_degraded, l_clean=l_clean))


STOCK_MODELS = {'plain L1': realesrnet_model.RealESRNetModel, 'dual loss': DualLossRealESRNet}


@contextmanager
def stock_runs(setup: Setup) -> Iterator[None]:
    """Let stock run as it is released, silently; on the CPU without `.cuda()`, its filter's images made contiguous.

    Where a patch is larger than stock's crop, which no option changes, the crop is set to it.
    """
    get_root_logger(log_level=logging.ERROR)  # BasicSR prints every network it builds
    get_item = RealESRGANDataset.__getitem__
    crops = tuple(setup.crop if constant == STOCK_CROP else constant for constant in get_item.__code__.co_consts)
    cropping = FunctionType(get_item.__code__.replace(co_consts=crops), get_item.__globals__)
    with ExitStack() as stack:
        stack.enter_context(patch.object(RealESRGANDataset, '__getitem__', cropping))
        stack.enter_context(patch.dict(FileClient._backends, {'lmdb': LmdbBackend}))
        if setup.device.type == 'cpu':
            for holder in (torch.Tensor, torch.nn.Module):
                stack.enter_context(patch.object(holder, 'cuda', lambda self: self))
            contiguous = patch.object(realesrnet_model, 'filter2D', lambda img, k: filter2D(img.contiguous(), k))
            stack.enter_context(contiguous)
        yield


def seed_globals(seed: int) -> None:
    """Seed what stock draws from."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def build_stock(setup: Setup, kind: str = 'plain L1', **changes: Any) -> realesrnet_model.RealESRNetModel:
    """Return stock's model with the options of experiment 2; `changes` are those of its top level."""
    opt = _options(setup, 'exp2_l1.yml', changes)
    opt['network_g']['type'] = 'MSRResNet'
    torch.manual_seed(0)
    return STOCK_MODELS[kind](opt)


def build_ours(
    setup: Setup, kind: str = 'experiment 2', precision: str = 'fp32', compiled: bool = False, **changes: Any
) -> AlphaRealESRNetModel:
    """Return our model with the options of experiment 2, or of experiment 1 with `kind` as its `forward`."""
    opt = _options(setup, 'exp2_l1.yml' if kind == 'experiment 2' else 'exp1_lsr.yml', changes)
    if kind != 'experiment 2':
        opt['train']['pixel_opt']['forward'] = kind
    opt['train'] |= {'precision': precision, 'compile': compiled}
    torch.manual_seed(0)
    return AlphaRealESRNetModel(opt)


def _options(setup: Setup, name: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Return an option file as BasicSR's parser would, on one device."""
    opt = load_yaml(OPTIONS / name)
    opt['network_g'] |= {'num_block': setup.blocks, 'num_feat': setup.features}
    for key in ('experiments_root', 'models', 'training_states', 'visualization'):
        opt['path'][key] = str(setup.folder / key)
    machine = {'is_train': True, 'dist': False, 'rank': 0, 'world_size': 1, 'num_gpu': int(setup.device.type == 'cuda')}
    return {**opt, **machine, **changes}


def hr_batch(setup: Setup, side: int) -> Batch:
    """Return faces, uint8 (B, 3, side, side), and kernels on the device, as `AlphaRealESRNetModel` is fed."""
    images = map(read_image, islice(cycle(setup.files), setup.batch))
    faces = np.stack([image[:side, :side].transpose(2, 0, 1) for image in images])
    streams = RandomStreams(0)
    kernels = [sample_kernels(KernelRanges(), streams.python, streams.numpy) for _ in range(setup.batch)]
    names = ('gt', 'kernel1', 'kernel2', 'sinc_kernel')
    columns = (faces, *map(np.stack, zip(*kernels, strict=True)))
    return {name: torch.from_numpy(value).to(setup.device) for name, value in zip(names, columns, strict=True)}


def as_stock(data: Batch) -> Batch:
    """Return a batch as stock is fed: float images in [0, 1]."""
    return {**data, 'gt': data['gt'].float() / 255}


def pairs(setup: Setup, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a degraded LR batch and its HR batch, `side` px, float in [0, 1]."""
    data = as_stock(hr_batch(setup, side))
    return degrade(*data.values(), DegradationRanges(), SCALE, RandomStreams(0, setup.device)), data['gt']


def stock_dataset(setup: Setup) -> RealESRGANDataset:
    """Return stock's data set over an LMDB that only it opens."""
    return RealESRGANDataset(_dataset_options(setup, 'stock'))


def our_dataset(setup: Setup, values: str) -> FaceDegradationDataset:
    """Return our data set over an LMDB of `png` or `raw` values."""
    return FaceDegradationDataset(_dataset_options(setup, values) | {'gt_size': setup.crop})


def _dataset_options(setup: Setup, lmdb: str) -> dict[str, Any]:
    return load_yaml(OPTIONS / 'exp1_lsr.yml')['datasets']['train'] | {'dataroot_gt': str(setup.lmdb(lmdb))}
