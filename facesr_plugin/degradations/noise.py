"""Gaussian and Poisson noise of a batch, colour or grey per image, without waiting for the device."""

import torch
from torchvision.transforms.functional import rgb_to_grayscale

from facesr_plugin.degradations.streams import RandomStreams


def add_gaussian_noise(
    images: torch.Tensor, sigma_range: list[float], gray_prob: float, streams: RandomStreams
) -> torch.Tensor:
    """Add normal noise of a random strength per image, and clip to [0, 1].

    Args:
        images: RGB (B, 3, H, W) in [0, 1].
        sigma_range: Standard deviation is drawn from it per image, in 8-bit grey levels.
        gray_prob: Probability that an image gets the same noise in all channels.
        streams: Draws in the order of stock's `random_add_gaussian_noise_pt`.

    Returns:
        (B, 3, H, W) in [0, 1].
    """
    batch, channels, height, width = images.shape
    sigma, gray = _draw_parameters(batch, sigma_range, gray_prob, streams)
    sigma = _per_image(sigma / 255, images)
    field = torch.randn(1, 1, height, width, generator=streams.device, device=images.device) if gray.any() else None
    noise = torch.randn(batch, channels, height, width, generator=streams.device, device=images.device)
    if field is not None:
        noise = torch.where(_per_image(gray, images), field, noise)
    return torch.addcmul(images, noise, sigma).clamp_(0, 1)


def add_poisson_noise(
    images: torch.Tensor, scale_range: list[float], gray_prob: float, streams: RandomStreams
) -> torch.Tensor:
    """Add shot noise of a random strength per image, and clip to [0, 1].

    The image is rounded to 8 bits; with L the number of its distinct levels, rounded up to a power of two, the noise is
    scale * (Poisson(L image) / L - image). Distributed as stock's `random_add_poisson_noise_pt`, but drawn otherwise:
    grey noise for the images that get it, colour noise for the others, by `sample_poisson`.

    Args:
        images: RGB (B, 3, H, W) in [0, 1].
        scale_range: The scale is drawn from it per image.
        gray_prob: Probability that an image gets the same noise in all channels.
        streams: Where it is drawn.

    Returns:
        (B, 3, H, W) in [0, 1].
    """
    scale, gray = _draw_parameters(len(images), scale_range, gray_prob, streams)
    noise = torch.empty_like(images)
    for chosen, channels in ((gray, rgb_to_grayscale), (~gray, lambda rgb: rgb)):
        if chosen.any():
            index = chosen.nonzero().flatten().to(images.device, non_blocking=True)
            noise[index] = _shot_noise(channels(images[index]), streams).expand(-1, images.shape[1], -1, -1)
    return torch.addcmul(images, noise, _per_image(scale, images)).clamp_(0, 1)


def sample_poisson(rate: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw from Poisson distributions of the given rates, of the same shape.

    On a CUDA device `torch.poisson`. On the CPU, where that takes a third of the whole degradation, rates of 16 and
    more are drawn as rate + s z + (z^2 - 1) / 6, rounded, with z standard normal: mean and skewness are a Poisson
    distribution's (Cornish-Fisher expansion), and s^2 = rate - 5/36 makes the variance so, after what the square
    (1/18) and the rounding (1/12) add.
    """
    if rate.device.type != 'cpu':
        return torch.poisson(rate, generator=generator)
    normal = torch.randn(rate.shape, generator=generator)
    count = torch.addcmul(rate, (rate - 5 / 36).clamp_min_(0).sqrt_(), normal)
    count.add_(normal.square_().sub_(1), alpha=1 / 6).round_()
    small = rate < 16
    count[small] = torch.poisson(rate[small], generator=generator)
    return count


def _draw_parameters(
    batch: int, strength_range: list[float], gray_prob: float, streams: RandomStreams
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw each image's strength and whether its noise is grey: two CPU vectors of length `batch`."""
    low, high = strength_range
    strength = torch.rand(batch, generator=streams.torch) * (high - low) + low
    gray = torch.rand(batch, generator=streams.torch) < gray_prob
    return strength, gray


def _per_image(values: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    return values.to(images.device, non_blocking=True).view(-1, 1, 1, 1)


def _shot_noise(images: torch.Tensor, streams: RandomStreams) -> torch.Tensor:
    """Return Poisson(L image) / L - image for the images rounded to 8 bits."""
    levels = (images * 255).round_().clamp_(0, 255)
    rounded = levels / 255
    peak = _per_image(torch.exp2(torch.ceil(torch.log2(count_levels(levels)))), images)
    return sample_poisson(rounded * peak, streams.device).div_(peak).sub_(rounded)


def count_levels(levels: torch.Tensor) -> torch.Tensor:
    """Count the distinct grey levels of each image over all its channels: (B, C, H, W) of 0..255 -> float (B,).

    Example:
        >>> count_levels(torch.tensor([[[[0.0, 7.0, 7.0, 255.0]]]]))
        tensor([3.])
    """
    seen = torch.zeros(len(levels), 256, device=levels.device)
    return seen.scatter_(1, levels.flatten(1).long(), 1.0).sum(1)
