"""A network on a picture of any size, tile by tile, without a seam.

What is accepted, here and by `facesr_plugin.upscale`:

| what | shape | values |
|---|---|---|
| numpy array | grey (H, W), RGB (H, W, 3), RGBA (H, W, 4) | uint8, uint16, float16 to float64 in [0, 1] |
| torch tensor | (C, H, W) or (B, C, H, W), C 1 (grey), 3 (RGB) or 4 (RGBA) | uint8, floating in [0, 1] |

The result has the same type and layout, and is on the same device. Floats are not rounded to 8 bits, but clipped to
[0, 1]; those that come in beyond it are refused and not clipped, since an image in [0, 255] would come out white
without a word. Grey stays grey, and alpha is enlarged bicubically. The network computes in float32; no gradient is
recorded.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch

from facesr_plugin.archs.face_srresnet_arch import FaceSRResNet
from facesr_plugin.archs.plain import enlarge

ARRAY_TYPES = tuple(map(np.dtype, ('uint8', 'uint16', 'float16', 'float32', 'float64')))
Tile = tuple[slice, slice]
Progress = Callable[[list[Tile]], Iterable[Tile]]


def receptive_radius(net: FaceSRResNet) -> int:
    """Return how far, in LR pixels, an input pixel can be from an output pixel that depends on it.

    One 3x3 convolution before the blocks, two in each, one or two in the upsampling and two after it; those beyond the
    first upsampling reach at most half a pixel each, together no more than two.
    """
    return 2 * len(net.body) + 3


def upscale_image(
    net: FaceSRResNet, image: np.ndarray, tile: int = 256, overlap: int | None = None, progress: Progress = iter
) -> np.ndarray:
    """Upscale an array of any size.

    Args:
        net: The network, on the device that is to work.
        image: See the table above.
        tile: Side of the squares it is cut into, LR pixels.
        overlap: What each tile sees beyond its borders, LR pixels. None takes the network's receptive radius (43 for
            20 blocks): tiles of any size then give what the whole picture gives, but for rounding.
        progress: Wraps the list of tiles, e.g. `tqdm`.

    Returns:
        The same type and number of channels, `net.upscale` times the size. The network's RGB is averaged where the
        input's channels are all equal.

    Raises:
        ValueError: Another type, shape or range.
    """
    if image.dtype not in ARRAY_TYPES or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,), (4,)):
        raise ValueError(
            'uint8, uint16 or float in [0, 1] of shape (H, W), (H, W, 3) or (H, W, 4) expected, '
            f'got {image.dtype} {image.shape}'
        )
    pixels = image if image.ndim == 3 else image[..., None]
    height, width, channels = pixels.shape
    result = np.empty((height * net.upscale, width * net.upscale, channels), image.dtype)
    source = torch.tensor(np.ascontiguousarray(pixels))
    _upscale_into(net, source.permute(2, 0, 1), torch.from_numpy(result).permute(2, 0, 1), tile, overlap, progress)
    return result if image.ndim == 3 else result[..., 0]


def upscale_tensor(net: FaceSRResNet, images: torch.Tensor, tile: int = 256) -> torch.Tensor:
    """Upscale a tensor, each image on its own, as `upscale_image` does.

    Args:
        net: The network, on the device that is to work.
        images: See the table above.
        tile: Side of the squares that images are cut into, LR pixels.

    Returns:
        The same type, device and dimensions, H and W `net.upscale` times as large.

    Raises:
        ValueError: Another type, shape or range.
    """
    is_known = images.dtype == torch.uint8 or images.is_floating_point()
    if not is_known or images.ndim not in (3, 4) or images.shape[-3] not in (1, 3, 4):
        raise ValueError(
            'uint8 or float in [0, 1] of shape (C, H, W) or (B, C, H, W), C 1, 3 or 4, expected, '
            f'got {images.dtype} {tuple(images.shape)}'
        )
    *first, height, width = images.shape
    result = images.new_empty(*first, height * net.upscale, width * net.upscale)
    batch = (images, result) if images.ndim == 4 else (images[None], result[None])
    for image, place in zip(*batch, strict=True):
        _upscale_into(net, image, place, tile)
    return result


@torch.inference_mode()
def _upscale_into(
    net: FaceSRResNet,
    image: torch.Tensor,
    result: torch.Tensor,
    tile: int,
    overlap: int | None = None,
    progress: Progress = iter,
) -> None:
    """Upscale (C, H, W) tile by tile into `result`, (C, scale * H, scale * W) of the same type."""
    if not image.numel():
        raise ValueError(f'a picture of 1x1 px or more expected, got {image.shape[2]}x{image.shape[1]} px')
    if tile < 1:
        raise ValueError(f'tile: 1 or more expected, got {tile}')
    pixels = _to_unit(image)
    rgb = pixels[:3].expand(3, -1, -1)
    is_grey = bool((rgb == rgb[:1]).all())
    device, scale = next(net.parameters()).device, net.upscale
    if overlap is None:
        overlap = receptive_radius(net)
    if len(pixels) == 4:
        result[3:] = _from_unit(enlarge(pixels[None, 3:].to(device), scale, 'bicubic')[0], image.dtype)
    height, width = image.shape[1:]
    tiles = [
        (slice(top, min(top + tile, height)), slice(left, min(left + tile, width)))
        for top in range(0, height, tile)
        for left in range(0, width, tile)
    ]
    for rows, columns in progress(tiles):
        top, left = max(rows.start - overlap, 0), max(columns.start - overlap, 0)
        with torch.autocast(device.type, enabled=False):  # the caller may have entered one
            out = net(rgb[None, :, top : rows.stop + overlap, left : columns.stop + overlap].to(device))[0]
        out = out[:, (rows.start - top) * scale :, (columns.start - left) * scale :]
        out = out[:, : (rows.stop - rows.start) * scale, : (columns.stop - columns.start) * scale]
        if is_grey:
            out = out.mean(0, keepdim=True)
        place = (slice(rows.start * scale, rows.stop * scale), slice(columns.start * scale, columns.stop * scale))
        result[:3][:, *place] = _from_unit(out, image.dtype)


def _to_unit(image: torch.Tensor) -> torch.Tensor:
    """Convert to float32 in [0, 1]; ValueError for floats beyond it."""
    if not image.is_floating_point():
        return image.float() / torch.iinfo(image.dtype).max
    low, high = image.min().item(), image.max().item()
    if math.isnan(low):
        raise ValueError('finite pixels expected, got NaN')
    if low < 0 or high > 1:
        raise ValueError(f'floats in [0, 1] expected, got {low:.4g} to {high:.4g}; divide or clip them first')
    return image.float()


def _from_unit(image: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Convert floats to `dtype`, clipped to [0, 1], whole numbers rounded."""
    image = image.clamp(0, 1)
    if image.device.type == 'mps':  # it lacks float64 and uint16
        image = image.cpu()
    return (image if dtype.is_floating_point else (image * torch.iinfo(dtype).max).round_()).to(dtype)
