"""Random blur kernels of one sample: drawn as stock Real-ESRGAN draws them, built on precomputed grids."""

import random
from functools import cache
from typing import Annotated, Literal

import numpy as np
from annotated_types import Len
from pydantic import Field, ValidationInfo, field_validator
from scipy.special import j1

from facesr_plugin.blocks import Block, Probabilities, Probability, Range

KernelName = Literal['iso', 'aniso', 'generalized_iso', 'generalized_aniso', 'plateau_iso', 'plateau_aniso']
KernelNames = Annotated[list[KernelName], Len(1)]
KernelSize = Annotated[int, Field(ge=7)]

_ALL_KERNELS = list(KernelName.__args__)
_KERNEL_PROB = [0.45, 0.25, 0.12, 0.03, 0.12, 0.03]


class KernelRanges(Block):
    """What blur kernels are drawn from; names and defaults are those of `train_realesrnet_x4plus.yml`."""

    blur_kernel_size: KernelSize = Field(21, description='largest kernel of the first blur, px, odd; smallest is 7')
    kernel_list: KernelNames = Field(_ALL_KERNELS, description='kernel shapes of the first blur')
    kernel_prob: Probabilities = Field(_KERNEL_PROB, description='probability of each shape')
    sinc_prob: Probability = Field(0.1, description='probability of a sinc kernel instead')
    blur_sigma: Range = Field([0.2, 3], description='standard deviation, px')
    betag_range: Range = Field([0.5, 4], description='exponent of generalised Gaussian kernels')
    betap_range: Range = Field([1, 2], description='exponent of plateau kernels')

    blur_kernel_size2: KernelSize = Field(21, description='as above, for the second blur')
    kernel_list2: KernelNames = Field(_ALL_KERNELS, description='as above, for the second blur')
    kernel_prob2: Probabilities = Field(_KERNEL_PROB, description='as above, for the second blur')
    sinc_prob2: Probability = Field(0.1, description='as above, for the second blur')
    blur_sigma2: Range = Field([0.2, 1.5], description='as above, for the second blur')
    betag_range2: Range = Field([0.5, 4], description='as above, for the second blur')
    betap_range2: Range = Field([1, 2], description='as above, for the second blur')

    final_sinc_prob: Probability = Field(0.8, description='probability of a final sinc filter')

    @field_validator('blur_kernel_size', 'blur_kernel_size2')
    @classmethod
    def _is_odd(cls, size: int) -> int:
        if size % 2 == 0:
            raise ValueError('an odd number expected')
        return size

    @field_validator('kernel_prob', 'kernel_prob2')
    @classmethod
    def _one_per_kernel(cls, probabilities: list[float], info: ValidationInfo) -> list[float]:
        names = info.field_name.replace('prob', 'list')
        if names in info.data and len(info.data[names]) != len(probabilities):
            raise ValueError(f'{len(info.data[names])} numbers expected, as many as {names}')
        return probabilities


def sample_kernels(
    ranges: KernelRanges, python: random.Random, numpy: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the first blur's, the second blur's and the final sinc kernel of one sample.

    The draws are those of `RealESRGANDataset.__getitem__` in the same order, so streams seeded alike give the same
    kernels; without a final sinc filter its kernel is a single 1 in the middle.

    Args:
        ranges: What to draw from.
        python: Stream of the choices.
        numpy: Stream of the numbers.

    Returns:
        Three float32 kernels of odd side (`blur_kernel_size`, `blur_kernel_size2`, `blur_kernel_size`), each summing
        to 1, smaller kernels padded with zeros.
    """
    first = _sample_blur(ranges, '', python, numpy)
    second = _sample_blur(ranges, '2', python, numpy)
    side = ranges.blur_kernel_size
    if numpy.uniform() < ranges.final_sinc_prob:
        size = python.choice(_sizes(side))
        last = sinc_kernel(numpy.uniform(np.pi / 3, np.pi), size)
    else:
        last = np.ones((1, 1))
    return first, second, _pad(last, side)


def _sample_blur(ranges: KernelRanges, suffix: str, python: random.Random, numpy: np.random.RandomState) -> np.ndarray:
    def option(name: str) -> list:
        return getattr(ranges, name + suffix)

    side = option('blur_kernel_size')
    size = python.choice(_sizes(side))
    if numpy.uniform() < option('sinc_prob'):
        lowest = np.pi / 3 if size < 13 else np.pi / 5
        return _pad(sinc_kernel(numpy.uniform(lowest, np.pi), size), side)

    name = python.choices(option('kernel_list'), option('kernel_prob'))[0]
    sigma_x = sigma_y = numpy.uniform(*option('blur_sigma'))
    rotation = 0.0
    if name.endswith('aniso'):
        sigma_y = numpy.uniform(*option('blur_sigma'))
        rotation = numpy.uniform(-np.pi, np.pi)
    shape, beta = 'gaussian', 1.0
    if name.startswith(('generalized', 'plateau')):
        shape = name.split('_')[0]
        low, high = option('betag_range' if shape == 'generalized' else 'betap_range')
        beta = numpy.uniform(low, 1) if numpy.uniform() < 0.5 else numpy.uniform(1, high)
    return _pad(blur_kernel(size, sigma_x, sigma_y, rotation, beta, plateau=shape == 'plateau'), side)


def blur_kernel(
    size: int, sigma_x: float, sigma_y: float, rotation: float = 0.0, beta: float = 1.0, plateau: bool = False
) -> np.ndarray:
    """Return a kernel that falls with q = x^T Sigma^-1 x, normalised to sum 1, shape (size, size).

    Gaussian exp(-q^beta / 2), generalised where beta is not 1; plateau 1 / (1 + q^beta).

    Args:
        size: Side, px, odd.
        sigma_x: Standard deviation along the first axis of the ellipse, px.
        sigma_y: The same along its second axis.
        rotation: Angle of the ellipse, radians.
        beta: Shape exponent.
        plateau: Plateau instead of Gaussian.
    """
    x, y, _ = _grid(size)
    cos, sin = np.cos(rotation), np.sin(rotation)
    inverse_x, inverse_y = sigma_x**-2, sigma_y**-2
    q = (
        (cos * cos * inverse_x + sin * sin * inverse_y) * (x * x)
        + (sin * sin * inverse_x + cos * cos * inverse_y) * (y * y)
        + (2 * cos * sin * (inverse_x - inverse_y)) * (x * y)
    )
    if beta != 1:
        q = np.maximum(q, 0) ** beta
    kernel = 1 / (q + 1) if plateau else np.exp(-0.5 * q)
    return kernel / kernel.sum()


def sinc_kernel(cutoff: float, size: int) -> np.ndarray:
    """Return a circular low-pass kernel, cutoff J1(cutoff r) / (2 pi r), normalised to sum 1, shape (size, size).

    Args:
        cutoff: Cut-off frequency, radians per px, in (0, pi].
        size: Side, px, odd.
    """
    radius = _grid(size)[2]
    with np.errstate(invalid='ignore'):
        kernel = cutoff * j1(cutoff * radius) / (2 * np.pi * radius)
    kernel[size // 2, size // 2] = cutoff**2 / (4 * np.pi)
    return kernel / kernel.sum()


@cache
def _sizes(largest: int) -> list[int]:
    return list(range(7, largest + 1, 2))


@cache
def _grid(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x (along the columns), y (along the rows) and the distance from the middle, px."""
    axis = np.arange(size) - size // 2
    x, y = np.meshgrid(axis, axis)
    return x, y, np.hypot(x, y)


def _pad(kernel: np.ndarray, side: int) -> np.ndarray:
    """Centre `kernel` in a float32 square of `side` px."""
    padded = np.zeros((side, side), np.float32)
    start = (side - len(kernel)) // 2
    padded[start : start + len(kernel), start : start + len(kernel)] = kernel
    return padded
