"""The training set: an HR patch and the blur kernels of its degradation, ready for the device."""

import random
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import torch
from annotated_types import Len
from pydantic import Field, ValidationInfo, field_validator
from torch.utils.data import Dataset

from facesr_plugin.blocks import Block, Count, FileName, FilePath, PositiveCount, PositiveNumber, RuleError
from facesr_plugin.data.epoch_sampler import Share
from facesr_plugin.data.fingerprint import fingerprint
from facesr_plugin.data.image_source import JoinedImages, open_images
from facesr_plugin.degradations.kernels import KernelRanges, sample_kernels
from facesr_plugin.errors import UserError, attempts, lines_of, raise_all


class IoBackend(Block):
    """`io_backend`: where images are read from."""

    type: Literal['lmdb', 'disk'] = Field(description='lmdb: made by `facesr lmdb`; disk: a folder of images')


class FaceDegradationOptions(KernelRanges):
    """`datasets.train` for `FaceDegradationDataset`, loader keys included; the rest are `KernelRanges`."""

    name: FileName = Field(description='what the log calls it')
    type: Literal['FaceDegradationDataset']
    dataroot_gt: FilePath | Annotated[list[FilePath], Len(1)] = Field(
        description='LMDB or folder of HR faces; of several in a list those named *.lmdb are LMDBs'
    )
    weights: list[PositiveNumber] | None = Field(
        None, description='of several dataroot_gt: relation of the samples taken from each; default: of their images'
    )
    io_backend: IoBackend
    scale: PositiveCount = Field(4, description='set by BasicSR from the top level')
    gt_size: PositiveCount = Field(512, description='HR patch, px; images of this size are used whole')
    use_hflip: bool = Field(True, description='flip half of the samples horizontally')
    use_rot: bool = Field(False, description='rotate by multiples of 90 degrees too')

    num_worker_per_gpu: Count = Field(description='loader processes; 0 loads in the training process')
    batch_size_per_gpu: PositiveCount = Field(description='images an iteration and process')
    dataset_enlarge_ratio: PositiveCount = Field(1, description='passes over the set that count as one epoch')
    use_shuffle: bool = Field(True, description='kept for BasicSR files; the order is always shuffled')
    prefetch_mode: Literal['cpu', 'cuda'] | None = Field(
        None, description='cuda: copy batches ahead of time; cpu: not used, the loader processes do that'
    )
    num_prefetch_queue: PositiveCount = Field(1, description='as in files of BasicSR; not used')
    pin_memory: bool | None = Field(None, description='prefetch_mode cuda needs it; default: on CUDA')
    persistent_workers: bool = Field(False, description='keep the loader processes between epochs')

    phase: Literal['train'] = Field('train', description='set by BasicSR')

    @field_validator('weights')
    @classmethod
    def _are_one_each(cls, weights: list[float] | None, info: ValidationInfo) -> list[float] | None:
        roots = info.data.get('dataroot_gt')
        if weights is not None and roots and len(weights) != (count := 1 if isinstance(roots, str) else len(roots)):
            raise ValueError(f'{count} numbers expected, one per dataroot_gt')
        return weights

    @field_validator('gt_size')
    @classmethod
    def _is_of_the_scale(cls, gt_size: int, info: ValidationInfo) -> int:
        if 'scale' in info.data and gt_size % info.data['scale']:
            raise ValueError(f'a multiple of the scale {info.data["scale"]} expected')
        return gt_size

    @field_validator('persistent_workers')
    @classmethod
    def _need_workers(cls, persistent: bool, info: ValidationInfo) -> bool:
        if persistent and info.data.get('num_worker_per_gpu') == 0:
            raise RuleError('', 'needs num_worker_per_gpu of at least 1, got 0')
        return persistent


class FaceDegradationDataset(Dataset):
    """HR faces with blur kernels for on-the-fly degradation by `AlphaRealESRNetModel`.

    YAML: `datasets.train: {type: FaceDegradationDataset, dataroot_gt: ..., io_backend: {type: lmdb}, gt_size: 512}`;
    all keys stand in `FaceDegradationOptions`.

    A sample is a function of (`manual_seed`, position in the run) when the sampler is `EpochSampler`, whatever process
    loads it; with any other sampler it follows the loader process's own random state.

    A sample holds `gt`, uint8 RGB (3, gt_size, gt_size); `kernel1`, `kernel2` and `sinc_kernel`, float (K, K);
    and `gt_path`, what messages call the image.

    Args:
        opt: The YAML block as BasicSR hands it over.

    Raises:
        UserError: A key is unknown or wrong, the images cannot be found, or one is smaller than the patch.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self.opt = opt
        self.options = FaceDegradationOptions.parse(opt, 'datasets.train')
        roots = self.options.dataroot_gt
        roots, backend = ([roots], self.options.io_backend.type) if isinstance(roots, str) else (roots, None)
        opened = attempts(lambda root: open_images(Path(root).expanduser(), backend), roots)
        self.parts = [part for part in opened if not isinstance(part, UserError)]
        self.images = self.parts[0] if len(self.parts) == 1 else JoinedImages(self.parts)
        sized = attempts(self._check_size, zip(self.images.keys, self.images.names, strict=True))
        raise_all(lines_of([*opened, *sized]))

    def _check_size(self, image: tuple[str, str]) -> None:
        """Check that an image, its key and name, is one by its header, and large enough."""
        key, name = image
        height, width = self.images.shape(key)
        if min(height, width) < (side := self.options.gt_size):
            of = '' if len(self.parts) > 1 else f'{self.images.root}: '  # names of several tell it themselves
            expected = f'at least {side}x{side} px expected (datasets.train.gt_size)'
            raise UserError(f'{of}{name}: {expected}, got {width}x{height}')

    def __len__(self) -> int:
        return len(self.images.keys)

    def shares(self) -> list[Share]:
        """Return what is to be taken of each `dataroot_gt`, in their order."""
        counts = [len(part.keys) for part in self.parts]
        weights = self.options.weights or counts
        total = sum(weights)
        return [
            Share(str(part.root), count, weight / total)
            for part, count, weight in zip(self.parts, counts, weights, strict=True)
        ]

    def fingerprint(self) -> dict[str, Any]:
        """Return what tells its images from others (`data/fingerprint.py`), for the training state."""
        return fingerprint(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        entropy = getattr(index, 'seed', None)
        seed = random.getrandbits(32) if entropy is None else int(np.random.SeedSequence(entropy).generate_state(1)[0])
        python, numpy = random.Random(seed), np.random.RandomState(seed)

        patch = self._augment(self.images.read(self.images.keys[index]), python)
        names = ('kernel1', 'kernel2', 'sinc_kernel')
        kernels = map(torch.from_numpy, sample_kernels(self.options, python, numpy))
        sample = {'gt': torch.from_numpy(patch), 'gt_path': self.images.names[index]}
        return sample | dict(zip(names, kernels, strict=True))

    def _augment(self, image: np.ndarray, python: random.Random) -> np.ndarray:
        """Flip, rotate and crop as stock does, in its order of draws: (H, W, 3) -> (3, gt_size, gt_size)."""
        size = self.options.gt_size
        hflip = self.options.use_hflip and python.random() < 0.5
        vflip = self.options.use_rot and python.random() < 0.5
        transpose = self.options.use_rot and python.random() < 0.5
        if hflip:
            image = cv2.flip(image, 1)
        if vflip:
            image = cv2.flip(image, 0)
        if transpose:
            image = cv2.transpose(image)
        height, width = image.shape[:2]
        if (height, width) != (size, size):
            top, left = python.randint(0, height - size), python.randint(0, width - size)
            image = image[top : top + size, left : left + size]
        patch = np.empty((3, size, size), np.uint8)
        cv2.split(image, list(patch))
        return patch
