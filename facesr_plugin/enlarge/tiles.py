"""A network on a picture of any size, tile by tile, without a seam.

What is accepted, here and by `facesr_plugin.upscale`:

| what | shape | values |
|---|---|---|
| numpy array | grey (H, W), RGB (H, W, 3), RGBA (H, W, 4) | uint8, uint16, float16 to float64 in [0, 1] |
| torch tensor | (C, H, W) or (B, C, H, W), C 1 (grey), 3 (RGB) or 4 (RGBA) | uint8, floating in [0, 1] |

The result has the same type and layout, and is on the same device. Floats are not rounded to 8 bits, but clipped to
[0, 1]; those that come in beyond it are refused and not clipped, since an image in [0, 255] would come out white
without a word. Grey stays grey, and alpha is enlarged bicubically; the colour of invisible pixels (alpha 0) is that of
the nearest visible ones before the network sees it. No gradient is recorded.

The network computes in the `precision` that is asked for: `fp32`, `bf16`, `fp16`, or `auto`, which is bf16 where the
device computes it natively and the pixels have 8 bits, else fp32.

A tile's features see far and are small, so tiles are large. The picture is made of them in bands, since that takes
most memory, and sees only two pixels around. Besides the result itself, a picture of any size needs the memory of one
tile and one band.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch

from facesr_plugin.archs.plain import enlarge
from facesr_plugin.enlarge.other import OVERLAP, Network, OtherNetwork
from facesr_plugin.run.device import can_lay_out
from facesr_plugin.run.memory import free_memory
from facesr_plugin.run.precision import PRECISIONS, default_precision

ARRAY_TYPES = tuple(map(np.dtype, ('uint8', 'uint16', 'float16', 'float32', 'float64')))
Tile = tuple[slice, slice]
Progress = Callable[[list[Tile]], Iterable[Tile]]

TILES = (512, 256, 128)  # sides to choose from, LR pixels
TILE_SHARE, FEATURE_MAPS = 1 / 4, 6  # of the free memory for a tile; how many of its feature maps are held at once
BAND_PIXELS, CPU_BAND_PIXELS = 2**15, 2**13  # of the LR image, made a picture at once; few, to stay in a CPU's cache
RECONSTRUCTION_RADIUS = 2  # see `receptive_radius`


def receptive_radius(net: Network) -> int:
    """Return how far, in LR pixels, an input pixel can be from an output pixel that depends on it.

    One 3x3 convolution before the blocks, two in each, one or two in the upsampling and two after it; those beyond the
    first upsampling reach at most half a pixel each, together no more than two. Of other networks it is not known.
    """
    if isinstance(net, OtherNetwork):
        return OVERLAP
    return 1 + 2 * len(net.body) + RECONSTRUCTION_RADIUS


def default_tile(net: Network, device: torch.device) -> int:
    """Return the largest of `TILES` that a quarter of the free memory is enough for, the smallest where none is.

    256 where nobody tells how much is free, and for other networks, of which it is not known what they need.
    """
    free = free_memory(device)
    if free is None or isinstance(net, OtherNetwork):
        return TILES[1]
    pixel_bytes = FEATURE_MAPS * net.conv_first.out_channels * 4
    sees = 2 * receptive_radius(net)
    return next((side for side in TILES if (side + sees) ** 2 * pixel_bytes <= TILE_SHARE * free), TILES[-1])


def upscale_image(
    net: Network,
    image: np.ndarray,
    tile: int | None = None,
    overlap: int | None = None,
    progress: Progress = iter,
    precision: str = 'fp32',
) -> np.ndarray:
    """Upscale an array of any size.

    Args:
        net: The network, on the device that is to work. Its weights are laid out channels-last, on MPS as they are.
        image: See the table above.
        tile: Side of the squares it is cut into, LR pixels; None takes as many as memory allows.
        overlap: What each tile sees beyond its borders, LR pixels. None takes the network's receptive radius (43 for
            20 blocks): tiles of any size then give what the whole picture gives, but for rounding.
        progress: Wraps the list of tiles, e.g. `tqdm`.
        precision: See above.

    Returns:
        The same type and number of channels, `net.upscale` times the size. The network's RGB is averaged where the
        input's channels are all equal.

    Raises:
        ValueError: Another type, shape or range.
    """
    return upscale_images(net, [image], tile, overlap, progress, precision)[0]


def upscale_images(
    net: Network,
    images: Sequence[np.ndarray],
    tile: int | None = None,
    overlap: int | None = None,
    progress: Progress = iter,
    precision: str = 'fp32',
) -> list[np.ndarray]:
    """Upscale arrays of one shape and type at once; see `upscale_image`."""
    for image in images:
        check_array(image)
    pixels = [image if image.ndim == 3 else image[..., None] for image in images]
    height, width, channels = pixels[0].shape
    results = [np.empty((height * net.upscale, width * net.upscale, channels), image.dtype) for image in images]
    sources = [torch.tensor(np.ascontiguousarray(array)).permute(2, 0, 1) for array in pixels]
    places = [torch.from_numpy(result).permute(2, 0, 1) for result in results]
    _upscale_into(net, sources, places, tile, overlap, progress, precision)
    return [result if image.ndim == 3 else result[..., 0] for image, result in zip(images, results, strict=True)]


def check_array(image: np.ndarray) -> None:
    """Check that an array is a picture; the range of floats is not looked at.

    Raises:
        ValueError: Another type or shape.
    """
    if image.dtype not in ARRAY_TYPES or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,), (4,)):
        raise ValueError(
            'uint8, uint16 or float in [0, 1] of shape (H, W), (H, W, 3) or (H, W, 4) expected, '
            f'got {image.dtype} {image.shape}'
        )


def upscale_tensor(
    net: Network, images: torch.Tensor, tile: int | None = None, precision: str = 'fp32'
) -> torch.Tensor:
    """Upscale a tensor, each image on its own, as `upscale_image` does.

    Args:
        net: The network, on the device that is to work.
        images: See the table above.
        tile: Side of the squares that images are cut into, LR pixels; None takes as many as memory allows.
        precision: See above.

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
        _upscale_into(net, [image], [place], tile, precision=precision)
    return result


@torch.inference_mode()
def _upscale_into(
    net: Network,
    images: Sequence[torch.Tensor],
    results: Sequence[torch.Tensor],
    tile: int | None,
    overlap: int | None = None,
    progress: Progress = iter,
    precision: str = 'fp32',
) -> None:
    """Upscale images (C, H, W) of one shape tile by tile into `results`, (C, scale * H, scale * W) of the same type."""
    first = images[0]
    if not first.numel():
        raise ValueError(f'a picture of 1x1 px or more expected, got {first.shape[2]}x{first.shape[1]} px')
    device, scale, dtype = next(net.parameters()).device, net.upscale, first.dtype
    tile = default_tile(net, device) if tile is None else tile
    if tile < 1:
        raise ValueError(f'tile: 1 or more expected, got {tile}')
    if precision == 'auto' and isinstance(net, OtherNetwork):
        precision = 'fp32'  # what fewer bits would change is not known
    precision = choose_precision(precision, device, dtype)
    is_exact = precision == 'fp32'
    for image in images:
        _check_range(image)
    colours = [_colours(image) for image in images]
    are_grey = [len(image) == 1 or bool((image[:3] == image[:1]).all()) for image in colours]
    layout = torch.channels_last if can_lay_out(device) else torch.contiguous_format
    net.to(memory_format=layout)
    if overlap is None:
        overlap = receptive_radius(net)
    height, width = first.shape[1:]
    tiles = [
        (slice(top, min(top + tile, height)), slice(left, min(left + tile, width)))
        for top in range(0, height, tile)
        for left in range(0, width, tile)
    ]
    for rows, columns in progress(tiles):
        seen = _widen((rows, columns), overlap, (slice(height), slice(width)))
        lq = torch.stack([_to_unit(image[:, *seen]).expand(3, -1, -1) for image in colours]).to(device)
        lq = lq.contiguous(memory_format=layout)
        # the caller may have entered an autocast of its own
        with torch.autocast(device.type, None if is_exact else PRECISIONS[precision], enabled=not is_exact):
            for index, place, out in _run(net, lq, (rows, columns), seen):
                values = out.mean(0, keepdim=True) if are_grey[index] else out
                results[index][:3][:, *place] = _from_unit(values, dtype)
        for image, result in zip(images, results, strict=True):
            if len(image) == 4:
                alpha = enlarge(_to_unit(image[3:, *seen])[None].to(device), scale, 'bicubic')[0]
                values = _from_unit(_cut(alpha, (rows, columns), seen, scale), dtype)
                result[3:, *_scaled((rows, columns), scale)] = values


def _run(net: Network, lq: torch.Tensor, tile: Tile, seen: Tile) -> Iterator[tuple[int, Tile, torch.Tensor]]:
    """Run the network on a tile of several images, its reconstruction in bands.

    Args:
        net: The network.
        lq: What is seen of the images, (B, 3, H, W).
        tile: Its rows and columns in the image.
        seen: Rows and columns of `lq`.

    Yields:
        Which image, where in the result, and the values (3, h, w) there.
    """
    if isinstance(net, OtherNetwork):
        for index, enlarged in enumerate(net(lq).float()):
            yield index, _scaled(tile, net.upscale), _cut(enlarged, tile, seen, net.upscale)
        return
    channels = net.conv_first.in_channels  # one: a network for single channels
    inputs = lq if channels == 3 else lq.reshape(-1, 1, *lq.shape[2:])
    features = net.features(inputs).unflatten(0, (len(lq), -1))
    inputs = inputs.unflatten(0, (len(lq), -1))
    rows, columns = tile
    pixels = CPU_BAND_PIXELS if lq.device.type == 'cpu' else BAND_PIXELS
    step = max(1, pixels // (columns.stop - columns.start))
    for top in range(rows.start, rows.stop, step):
        band = (slice(top, min(top + step, rows.stop)), columns)
        near = _widen(band, RECONSTRUCTION_RADIUS, seen)
        here = tuple(slice(n.start - s.start, n.stop - s.start) for n, s in zip(near, seen, strict=True))
        for index, (one, lq_one) in enumerate(zip(features, inputs, strict=True)):
            out = net.reconstruct(one[..., *here], lq_one[..., *here]).flatten(0, 1).float()
            yield index, _scaled(band, net.upscale), _cut(out, band, near, net.upscale)


def _widen(tile: Tile, by: int, within: Tile) -> Tile:
    """Return a tile with the rows and columns around it that there are."""
    rows, columns = (
        slice(max(part.start - by, whole.start or 0), min(part.stop + by, whole.stop))
        for part, whole in zip(tile, within, strict=True)
    )
    return rows, columns


def _scaled(tile: Tile, scale: int) -> Tile:
    """Return where a tile is in the result."""
    rows, columns = tile
    return slice(rows.start * scale, rows.stop * scale), slice(columns.start * scale, columns.stop * scale)


def _cut(enlarged: torch.Tensor, tile: Tile, seen: Tile, scale: int) -> torch.Tensor:
    """Return the part of enlarged pixels (..., H, W) that is the tile's."""
    rows, columns = (
        slice((part.start - whole.start) * scale, (part.stop - whole.start) * scale)
        for part, whole in zip(tile, seen, strict=True)
    )
    return enlarged[..., rows, columns]


def choose_precision(precision: str, device: torch.device, dtype: torch.dtype) -> str:
    """Return the number format that a network computes in; `auto` is exact where pixels have more than 8 bits.

    Raises:
        ValueError: It is none.
    """
    if precision != 'auto' and precision not in PRECISIONS:
        raise ValueError(f'precision: one of auto, {", ".join(PRECISIONS)} expected, got {precision}')
    if precision != 'auto':
        return precision
    return default_precision(device) if dtype == torch.uint8 else 'fp32'


def _colours(image: torch.Tensor) -> torch.Tensor:
    """Return what the network is to see of grey, RGB or RGBA: one or three channels of the same type."""
    if len(image) < 4 or bool(image[3].all()):
        return image[:3]
    from facesr_plugin.pictures.alpha import fill_invisible

    channels = (image.float() if image.is_floating_point() else image).permute(1, 2, 0).cpu().numpy()
    filled = fill_invisible(channels[..., :3], channels[..., 3])
    return torch.from_numpy(np.ascontiguousarray(filled)).permute(2, 0, 1).to(image.device)


def _check_range(image: torch.Tensor) -> None:
    """Check that floats are in [0, 1].

    Raises:
        ValueError: They are not.
    """
    if not image.is_floating_point():
        return
    low, high = image.min().item(), image.max().item()
    if math.isnan(low):
        raise ValueError('finite pixels expected, got NaN')
    if low < 0 or high > 1:
        raise ValueError(f'floats in [0, 1] expected, got {low:.4g} to {high:.4g}; divide or clip them first')


def _to_unit(image: torch.Tensor) -> torch.Tensor:
    """Convert to float32 in [0, 1]."""
    return image.float() if image.is_floating_point() else image.float() / torch.iinfo(image.dtype).max


def _from_unit(image: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Convert floats to `dtype`, clipped to [0, 1], whole numbers rounded."""
    image = image.clamp(0, 1)
    if image.device.type == 'mps':  # it lacks float64 and uint16
        image = image.cpu()
    return (image if dtype.is_floating_point else (image * torch.iinfo(dtype).max).round_()).to(dtype)
