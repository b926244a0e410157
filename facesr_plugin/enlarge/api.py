"""`facesr_plugin.upscale`: the trained network on whatever holds a picture in Python."""

import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps

from facesr_plugin.enlarge.choices import second_stage
from facesr_plugin.enlarge.network import DEFAULT_WEIGHTS, load_dial, pick_device
from facesr_plugin.enlarge.other import Network
from facesr_plugin.enlarge.photograph import EnlargedFace, FaceOptions, upscale_photograph
from facesr_plugin.enlarge.tiles import upscale_image, upscale_tensor
from facesr_plugin.pictures.metadata import NO_EXIF

Picture = TypeVar('Picture', np.ndarray, Image.Image, torch.Tensor)

GREY_MODES, COLOUR_MODES = ('1', 'L', 'LA'), ('P', 'RGB', 'RGBA')
_loading = threading.Lock()


def upscale(
    image: Picture,
    weights: str | Path | None = None,
    device: str | torch.device = 'auto',
    tile: int | None = None,
    precision: str = 'auto',
    faces: bool = False,
    natural: float = 0.0,
    natural_weights: str | Path | None = None,
) -> Picture:
    """Enlarge a picture four times with the trained network that comes with the plugin, or with another one.

    It takes the numpy arrays and torch tensors that `facesr_plugin.enlarge.tiles` lists, and PIL images of mode 1, L,
    LA, P, RGB, RGBA and I;16; the result is of the same kind. Of PIL images 1 becomes L, P becomes RGB or RGBA, and L
    and RGB with a transparent colour become LA and RGBA. A PIL image is turned as its EXIF orientation says, or a
    phone's picture would come out sideways; colours stay in the image's own space, and its profile and pixel density
    stand in the result's `info` (`icc_profile`, `dpi`): give the profile to `save`, which not every format takes from
    there. The network stays loaded for the next call, also from other threads.

    Args:
        image: The picture; floats are in [0, 1].
        weights: A `.pth` or `.safetensors` of a `FaceSRResNet` of any size or scale; None takes the one that comes
            with the plugin.
        device: Where the network runs: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`, or a `torch.device`. `auto` takes the
            device of a tensor, and for the rest CUDA, else MPS, else the CPU.
        tile: Side of the squares that large pictures are cut into, pixels of the input; less needs less memory and
            gives the same picture. None takes what memory allows.
        precision: What the network computes in: `fp32`, `bf16` or `fp16`. `auto` is bf16 for pixels of 8 bits where
            the device computes it natively, which changes a result by one level of 255 at most, or two at `natural` 1,
            and fp32 otherwise.
        faces: Whether only the faces of a photograph are enlarged by the network, the rest bicubically; see
            `upscale_faces`, which has options for it.
        natural: From 0, faithful, to 1, which looks more natural and makes more up: the network is a mean of `weights`
            and of those of the second stage.
        natural_weights: The second stage's; None takes those that come with the plugin, which belong to its own.

    Returns:
        The enlarged picture.

    Raises:
        ValueError: Another kind, type, shape, mode or range.
        UserError: A ValueError too: the checkpoint cannot be used, or the device is not there.

    Example:
        >>> upscale(np.zeros((2, 3, 3), np.uint8)).shape
        (8, 12, 3)
        >>> upscale(Image.new('L', (3, 2))).size
        (12, 8)
        >>> upscale(torch.zeros(5, 3, 2, 3)).shape
        torch.Size([5, 3, 8, 12])
    """
    if not isinstance(image, np.ndarray | torch.Tensor | Image.Image):
        raise ValueError(f'a numpy array, torch tensor or PIL image expected, got {type(image).__name__}')
    if faces:
        return upscale_faces(image, None, None, weights, device, tile, precision, natural, natural_weights)[0]
    if isinstance(image, torch.Tensor):
        where = image.device if device == 'auto' else pick_device(device)
        return upscale_tensor(_network(weights, where, natural, natural_weights), image, tile, precision)
    net = _network(weights, pick_device(device), natural, natural_weights)
    if isinstance(image, Image.Image):
        return _by_array(image, lambda pixels: upscale_image(net, pixels, tile, precision=precision))
    return upscale_image(net, image, tile, precision=precision)


def upscale_faces(
    image: Picture,
    options: FaceOptions | None = None,
    outscale: float | None = None,
    weights: str | Path | None = None,
    device: str | torch.device = 'auto',
    tile: int | None = None,
    precision: str = 'auto',
    natural: float = 0.0,
    natural_weights: str | Path | None = None,
) -> tuple[Picture, list[EnlargedFace]]:
    """Enlarge a photograph and each face in it on its own; needs the extra `photos`.

    Args:
        image: As `upscale` takes them; of tensors one picture, (C, H, W).
        options: Which faces, how much of them, what of the rest.
        outscale: How much larger the result is, from 1 to what the network makes; None for that.
        weights: As in `upscale`.
        device: Likewise.
        tile: Likewise.
        precision: Likewise.
        natural: Likewise.
        natural_weights: Likewise.

    Returns:
        The enlarged photograph, of the same kind, and its faces, the largest first, each with its place, what the
        network saw and what it made of it (arrays).

    Raises:
        ValueError: Another kind, type, shape, mode or range.
        UserError: A ValueError too: the detector is not installed, besides what `upscale` raises.

    Example:
        >>> result, faces = upscale_faces(np.full((40, 50, 3), 128, np.uint8), outscale=2)
        >>> result.shape, faces
        ((80, 100, 3), [])
    """
    found: list[EnlargedFace] = []
    where = image.device if device == 'auto' and isinstance(image, torch.Tensor) else pick_device(device)
    net = _network(weights, where, natural, natural_weights)

    def enlarge(pixels: np.ndarray) -> np.ndarray:
        result, faces = upscale_photograph(net, pixels, options, outscale, tile, precision=precision)
        found.extend(faces)
        return result

    if isinstance(image, Image.Image):
        return _by_array(image, enlarge), found
    if isinstance(image, torch.Tensor):
        if image.ndim != 3 or len(image) not in (1, 3, 4):
            raise ValueError(f'one picture (C, H, W) expected, C 1, 3 or 4, got {tuple(image.shape)}')
        plain = image.float() if image.dtype == torch.bfloat16 else image
        pixels = plain.permute(1, 2, 0).cpu().numpy()
        result = enlarge(np.ascontiguousarray(pixels[..., 0] if len(image) == 1 else pixels))
        return torch.from_numpy(result).view(*result.shape[:2], -1).permute(2, 0, 1).to(image), found
    return enlarge(image), found


def _network(
    weights: str | Path | None, device: torch.device, natural: float, natural_weights: str | Path | None
) -> Network:
    """Return the network of one or two checkpoints on a device, loaded once and again when a file has changed."""
    if not 0 <= natural <= 1:
        raise ValueError(f'natural: 0 to 1 expected, got {natural}')
    weights = weights or DEFAULT_WEIGHTS
    second = second_stage(weights, natural_weights) if natural else None
    if natural and second is None:
        raise ValueError('natural: natural_weights expected with it, the second stage of weights')
    files = tuple(Path(path).resolve() for path in (weights, second) if path is not None)
    changed = tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in files)
    with _loading:
        return _load(files, changed, device, natural)


@lru_cache(maxsize=4)
def _load(files: tuple[Path, ...], changed: tuple[int, ...], device: torch.device, natural: float) -> Network:
    del changed  # only a key of the cache
    return load_dial(files[0], files[1] if natural else None, device=device).at(natural)


def _by_array(image: Image.Image, enlarge: Callable[[np.ndarray], np.ndarray]) -> Image.Image:
    """Enlarge a PIL image by way of an array; orientation, palettes and transparent colours are resolved first."""
    image = _upright(image)
    if image.mode.startswith('I;16'):
        pixels = np.asarray(image).astype(np.uint16)
    elif image.mode in GREY_MODES + COLOUR_MODES:
        plain = 'L' if image.mode in GREY_MODES else 'RGB'
        pixels = np.asarray(image.convert('RGBA' if image.has_transparency_data else plain))
    else:
        expected = ', '.join((*GREY_MODES, *COLOUR_MODES, 'I;16'))
        raise ValueError(f'a PIL image of mode {expected} expected, got {image.mode}; convert it first')
    result = Image.fromarray(enlarge(pixels))
    if image.mode in GREY_MODES and result.mode == 'RGBA':
        result = result.convert('LA')
    result.info.update({key: image.info[key] for key in ('icc_profile', 'dpi') if image.info.get(key)})
    return result


def _upright(image: Image.Image) -> Image.Image:
    """Return an image turned as its EXIF says; as it is where that cannot be read."""
    try:
        return ImageOps.exif_transpose(image)
    except NO_EXIF:
        return image
