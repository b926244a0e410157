"""JPEG's loss (chroma subsampling and quantised 8x8 cosine transforms) on a batch, one quality per image."""

import math
from functools import cache

import torch
from torch.nn import functional as F

# ITU-T T.871: full-range RGB to YCbCr and back.
_TO_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


@torch.no_grad()
def jpeg(images: torch.Tensor, quality: torch.Tensor) -> torch.Tensor:
    """Compress and decompress every image at its own quality.

    Computes what BasicSR's `DiffJPEG(differentiable=False)` computes, with the transform as products by an 8x8 matrix.

    Args:
        images: RGB (B, 3, H, W) in [0, 1], any H and W.
        quality: (B,), 1 (worst) to 100 (best), need not be whole.

    Returns:
        (B, 3, H, W) in [0, 1], contiguous.
    """
    height, width = images.shape[2:]
    padded = F.pad(images, (0, -width % 16, 0, -height % 16))
    factor = (
        (torch.where(quality < 50, 5000 / quality, 200 - 2 * quality) / 100).clamp(min=1e-4).view(-1, 1, 1, 1, 1, 1)
    )
    factor = factor.to(images.device, non_blocking=True)
    luma_table, chroma_table, transform, to_ycbcr, to_rgb = _constants(images.device)

    ycbcr = _mix_channels(padded * 255, to_ycbcr)  # chroma without its offset of 128, which the transform takes off
    luma = _quantise(ycbcr[:, :1] - 128, luma_table * factor, transform) + 128
    chroma = _quantise(F.avg_pool2d(ycbcr[:, 1:], 2), chroma_table * factor, transform)
    chroma = F.interpolate(chroma, scale_factor=2, mode='nearest')
    rgb = _mix_channels(torch.cat([luma, chroma], 1), to_rgb)
    return rgb[:, :, :height, :width].clamp(0, 255).div_(255)


def _quantise(planes: torch.Tensor, table: torch.Tensor, transform: torch.Tensor) -> torch.Tensor:
    """Round the cosine coefficients of each 8x8 block to multiples of `table`: (B, C, H, W), H and W multiples of 8.

    With T the transform of one axis, a block X becomes T^T round(T X T^T / table) table T.
    """
    batch, channels, height, width = planes.shape
    blocks = (batch, channels, height // 8, 8, width // 8, 8)
    coefficients = transform @ planes.reshape(-1, 8, width)
    coefficients = (coefficients.view(-1, 8) @ transform.T).view(blocks)
    coefficients = (coefficients / table).round_().mul_(table)
    pixels = transform.T @ coefficients.view(-1, 8, width)
    return (pixels.view(-1, 8) @ transform).view(batch, channels, height, width)


def _mix_channels(images: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    return (matrix @ images.flatten(2)).view(images.shape)


@cache
def _constants(device: torch.device) -> tuple[torch.Tensor, ...]:
    """Return the quantisation tables, the cosine transform of 8 samples and the colour matrices on `device`."""
    from basicsr.utils.diffjpeg import c_table, y_table

    tables = [table.detach().view(1, 1, 1, 8, 1, 8) for table in (y_table, c_table)]
    position, frequency = torch.arange(8.0, dtype=torch.float64), torch.arange(8.0, dtype=torch.float64).view(-1, 1)
    transform = torch.cos((2 * position + 1) * frequency * math.pi / 16) / 2
    transform[0] /= math.sqrt(2)
    colours = [torch.tensor(matrix) for matrix in (_TO_YCBCR, _TO_RGB)]
    return tuple(tensor.to(device, torch.float32) for tensor in (*tables, transform, *colours))
