"""D, the second-order degradation of Real-ESRGAN, and R, the plain resize: a batch of HR images to LR images."""

import math
from typing import Annotated

import torch
from annotated_types import Len
from pydantic import Field
from torch.nn import functional as F

from facesr_plugin.blocks import Block, PositiveRange, Probabilities, Probability, Range
from facesr_plugin.degradations.blur import filter_batch
from facesr_plugin.degradations.jpeg import jpeg
from facesr_plugin.degradations.kernels import KernelRanges
from facesr_plugin.degradations.noise import add_gaussian_noise, add_poisson_noise
from facesr_plugin.degradations.streams import RandomStreams

_MODES = ['area', 'bilinear', 'bicubic']
ResizeProbabilities = Annotated[Probabilities, Len(3, 3)]


class DegradationRanges(Block):
    """What a batch's degradation is drawn from; names and defaults are those of `train_realesrnet_x4plus.yml`."""

    resize_prob: ResizeProbabilities = Field([0.2, 0.7, 0.1], description='first resize: chances of up, down, keep')
    resize_range: PositiveRange = Field([0.15, 1.5], description='first resize: smallest and largest scale factor')
    gaussian_noise_prob: Probability = Field(0.5, description='first noise: probability of Gaussian, else Poisson')
    noise_range: Range = Field([1, 30], description='first Gaussian noise: standard deviation, 8-bit grey levels')
    poisson_scale_range: Range = Field([0.05, 3], description='first Poisson noise: strength')
    gray_noise_prob: Probability = Field(0.4, description='first noise: probability of equal noise in all channels')
    jpeg_range: Range = Field([30, 95], description='first JPEG: quality')

    second_blur_prob: Probability = Field(0.8, description='probability of the second blur')
    resize_prob2: ResizeProbabilities = Field([0.3, 0.4, 0.3], description='as above, for the second resize')
    resize_range2: PositiveRange = Field([0.3, 1.2], description='as above, relative to the LR size')
    gaussian_noise_prob2: Probability = Field(0.5, description='as above, for the second noise')
    noise_range2: Range = Field([1, 25], description='as above, for the second noise')
    poisson_scale_range2: Range = Field([0.05, 2.5], description='as above, for the second noise')
    gray_noise_prob2: Probability = Field(0.4, description='as above, for the second noise')
    jpeg_range2: Range = Field([30, 95], description='as above, for the second JPEG')


@torch.no_grad()
def degrade(
    gt: torch.Tensor,
    kernel1: torch.Tensor,
    kernel2: torch.Tensor,
    sinc_kernel: torch.Tensor,
    ranges: DegradationRanges,
    scale: int,
    streams: RandomStreams,
) -> torch.Tensor:
    """Degrade a batch twice, D(I): blur, resize, noise and JPEG, then the same again with a final sinc filter.

    Resize factors, modes and kinds of noise are drawn once per batch; strengths, qualities and kernels per image.
    Computes what `RealESRNetModel.feed_data` computes on the CPU, drawing in the same order; only Poisson noise is
    drawn otherwise, from the same distribution.

    Source: Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data".

    Args:
        gt: RGB (B, 3, H, W), float in [0, 1]; H and W multiples of `scale`.
        kernel1: (B, K, K), first blur; see `kernels.sample_kernels`.
        kernel2: (B, K, K), second blur.
        sinc_kernel: (B, K, K), final filter.
        ranges: What the rest is drawn from.
        scale: HR size / LR size.
        streams: Where it is drawn.

    Returns:
        RGB (B, 3, H / scale, W / scale), multiples of 1/255 in [0, 1].
    """
    height, width = gt.shape[2] // scale, gt.shape[3] // scale
    python, numpy = streams.python, streams.numpy

    # First degradation.
    out = filter_batch(gt, kernel1)
    factor = _draw_factor(ranges.resize_prob, ranges.resize_range, streams)
    out = F.interpolate(out, scale_factor=factor, mode=python.choice(_MODES))
    if numpy.uniform() < ranges.gaussian_noise_prob:
        out = add_gaussian_noise(out, ranges.noise_range, ranges.gray_noise_prob, streams)
    else:
        out = add_poisson_noise(out, ranges.poisson_scale_range, ranges.gray_noise_prob, streams)
    out = jpeg(out, _draw_quality(len(out), ranges.jpeg_range, streams))

    # Second degradation.
    if numpy.uniform() < ranges.second_blur_prob:
        out = filter_batch(out, kernel2)
    factor = _draw_factor(ranges.resize_prob2, ranges.resize_range2, streams)
    size = (int(gt.shape[2] / scale * factor), int(gt.shape[3] / scale * factor))
    out = F.interpolate(out, size=size, mode=python.choice(_MODES))
    if numpy.uniform() < ranges.gaussian_noise_prob2:
        out = add_gaussian_noise(out, ranges.noise_range2, ranges.gray_noise_prob2, streams)
    else:
        out = add_poisson_noise(out, ranges.poisson_scale_range2, ranges.gray_noise_prob2, streams)

    # Resize to the LR size with the final sinc filter, and JPEG, in either order.
    sinc_first = numpy.uniform() < 0.5
    if not sinc_first:
        out = jpeg(out, _draw_quality(len(out), ranges.jpeg_range2, streams))
    out = F.interpolate(out, size=(height, width), mode=python.choice(_MODES))
    out = filter_batch(out, sinc_kernel)
    if sinc_first:
        out = jpeg(out.clamp_(0, 1), _draw_quality(len(out), ranges.jpeg_range2, streams))
    return (out * 255).round_().clamp_(0, 255).div_(255)


def smallest_side(ranges: DegradationRanges, kernels: KernelRanges, scale: int) -> int:
    """Return the least side of an HR image, px, that no draw shrinks below what the filters' reflected borders need.

    The second blur meets the image after the first resize, the final sinc filter at the LR size.

    Example:
        >>> smallest_side(DegradationRanges(), KernelRanges(), 4)  # a 21 px kernel needs 11 px; 11 / 0.15
        74
    """
    lowest = min(1, ranges.resize_range[0])
    second, last = kernels.blur_kernel_size2 // 2 + 1, kernels.blur_kernel_size // 2 + 1
    return math.ceil(max(second / lowest, last * scale))


def resize_clean(gt: torch.Tensor, scale: int, mode: str = 'bicubic') -> torch.Tensor:
    """Only resize, R(I): the LR image of the clean branch, antialiased and not rounded to 8 bits.

    Args:
        gt: (B, C, H, W); H and W multiples of `scale`.
        scale: HR size / LR size.
        mode: `bicubic` or `bilinear`, with antialiasing, or `area`.

    Returns:
        (B, C, H / scale, W / scale); bicubic can leave [0, 1] a little at edges.

    Example:
        >>> resize_clean(torch.full((1, 1, 4, 4), 0.5), 4, 'area')
        tensor([[[[0.5000]]]])
    """
    size = (gt.shape[2] // scale, gt.shape[3] // scale)
    return F.interpolate(gt, size=size, mode=mode, antialias=mode != 'area')


def _draw_factor(probabilities: list[float], limits: list[float], streams: RandomStreams) -> float:
    """Draw a scale factor: above 1 (up), below 1 (down) or 1 (keep)."""
    direction = streams.python.choices(['up', 'down', 'keep'], probabilities)[0]
    if direction == 'up':
        return streams.numpy.uniform(1, limits[1])
    if direction == 'down':
        return streams.numpy.uniform(limits[0], 1)
    return 1.0


def _draw_quality(batch: int, limits: list[float], streams: RandomStreams) -> torch.Tensor:
    return torch.empty(batch).uniform_(*limits, generator=streams.torch)
