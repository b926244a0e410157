"""D and R on 8-bit pictures, each a batch of its own: what is drawn depends on a key and a seed alone."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from facesr_plugin.degradations.kernels import KernelRanges, sample_kernels
from facesr_plugin.degradations.pipeline import DegradationRanges, degrade, resize_clean, smallest_side
from facesr_plugin.degradations.streams import RandomStreams
from facesr_plugin.errors import UserError


def as_batch(image: np.ndarray) -> torch.Tensor:
    """Return uint8 RGB (H, W, 3) as a batch of one, (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32) / 255)


def as_picture(images: torch.Tensor) -> np.ndarray:
    """Return a batch of one, (1, 3, H, W) in [0, 1], as uint8 RGB (H, W, 3)."""
    return (images[0].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy().astype(np.uint8)


@dataclass(frozen=True)
class Degradation:
    """D and R on 8-bit pictures.

    Attributes:
        ranges: What D is drawn from.
        blur: What its kernels are drawn from.
        scale: HR size / LR size.
    """

    ranges: DegradationRanges
    blur: KernelRanges
    scale: int

    @property
    def smallest_side(self) -> int:
        """Of an HR picture that every draw can degrade, px."""
        return smallest_side(self.ranges, self.blur, self.scale)

    def degraded(self, image: np.ndarray, key: str, seed: int) -> np.ndarray:
        """Return D of uint8 RGB (H, W, 3) as uint8 (H / scale, W / scale, 3), drawn from `key` and `seed` alone."""
        streams = RandomStreams(int.from_bytes(hashlib.sha256(f'{seed}/{key}'.encode()).digest()[:4], 'big'))
        kernels = [torch.from_numpy(k)[None] for k in sample_kernels(self.blur, streams.python, streams.numpy)]
        return as_picture(degrade(as_batch(image), *kernels, self.ranges, self.scale, streams))

    def clean(self, image: np.ndarray) -> np.ndarray:
        """Return R of uint8 RGB (H, W, 3) as uint8 (H / scale, W / scale, 3)."""
        return as_picture(resize_clean(as_batch(image), self.scale))


def pick_ranges(opt: Mapping[str, Any]) -> tuple[DegradationRanges, KernelRanges]:
    """Return the ranges of a training's options.

    Raises:
        UserError: A range is wrong, or there is no `datasets.train`.
    """
    datasets = opt.get('datasets')
    block = datasets.get('train') if isinstance(datasets, Mapping) else None
    if not isinstance(block, Mapping):
        raise UserError('options of a training expected, there is no datasets.train')
    return DegradationRanges.pick(opt), KernelRanges.pick(block)
