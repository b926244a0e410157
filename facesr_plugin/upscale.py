"""Trained networks on pictures of any size: load one from its weights alone, and upscale tile by tile."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch

from facesr_plugin.archs.face_srresnet_arch import FaceSRResNet
from facesr_plugin.errors import UserError
from facesr_plugin.models.checkpoint import check_fit, load_weights
from facesr_plugin.models.validation import enlarge

DEVICES = ('auto', 'cpu', 'cuda', 'mps')
Tile = tuple[slice, slice]


def pick_device(name: str) -> torch.device:
    """Return the device of one of `DEVICES`; `auto` takes CUDA, else MPS, else the CPU.

    Raises:
        UserError: This machine has no such device.
    """
    available = {'cuda': torch.cuda.is_available(), 'mps': torch.backends.mps.is_available(), 'cpu': True}
    if name == 'auto':
        name = next(device for device, there in available.items() if there)
    if not available[name]:
        raise UserError(f'--device {name}: not available here, {", ".join(d for d in available if available[d])} is')
    return torch.device(name)


def network_from_weights(weights: Mapping[str, torch.Tensor], path: str | Path = 'weights') -> FaceSRResNet:
    """Build the network that a state dict is of; depth, width and scale follow from names and shapes.

    Args:
        weights: State dict of a `FaceSRResNet` or of stock's `MSRResNet`.
        path: What an error calls it.

    Returns:
        The network with these weights, on the CPU, in evaluation mode.

    Raises:
        UserError: They are another network's, or not all finite.

    Example:
        >>> net = network_from_weights(FaceSRResNet(num_feat=8, num_block=3, upscale=2).state_dict())
        >>> len(net.body), net.conv_first.out_channels, net.upscale
        (3, 8, 2)
    """
    for name in ('conv_first.weight', 'upconv1.weight'):
        if name not in weights or weights[name].ndim != 4:
            raise UserError(f'{path}: weights of a FaceSRResNet (SRResNet without batch norm) expected, no {name}')
    num_feat, channels = weights['conv_first.weight'].shape[:2]
    if channels != 3:
        raise UserError(f'{path}: a network for RGB expected, got one for {channels} channels')
    upscale = 4 if 'upconv2.weight' in weights else 3 if len(weights['upconv1.weight']) == 9 * num_feat else 2
    num_block = sum(name.startswith('body.') and name.endswith('.conv1.weight') for name in weights)
    with torch.device('meta'):  # nothing is allocated until the shapes are known to be right
        net = FaceSRResNet(num_feat=num_feat, num_block=num_block, upscale=upscale)
    check_fit(path, weights, net)
    if not all(value.isfinite().all() for value in weights.values()):
        raise UserError(f'{path}: finite weights expected, the training that made them diverged')
    net.to_empty(device='cpu').load_state_dict(weights)
    return net.eval()


def load_network(path: str | Path, key: str | None = None) -> FaceSRResNet:
    """Load the network of a checkpoint; see `checkpoint.load_weights` and `network_from_weights`.

    Args:
        path: A `.pth`.
        key: `params` or `params_ema`; None takes the better one.

    Raises:
        UserError: The file cannot be read, lacks the key, or is of another network.
    """
    return network_from_weights(load_weights(path, key)[0], path)


def receptive_radius(net: FaceSRResNet) -> int:
    """Return how far, in LR pixels, an input pixel can be from an output pixel that depends on it.

    One 3x3 convolution before the blocks, two in each, one or two in the upsampling and two after it; those beyond the
    first upsampling reach at most half a pixel each, together no more than two.
    """
    return 2 * len(net.body) + 3


@torch.inference_mode()
def upscale_image(
    net: FaceSRResNet,
    image: np.ndarray,
    tile: int = 256,
    overlap: int | None = None,
    progress: Callable[[list[Tile]], Iterable[Tile]] = iter,
) -> np.ndarray:
    """Upscale a picture of any size; grey stays grey, and an alpha channel is enlarged bicubically.

    Args:
        net: The network, on the device that is to work.
        image: uint8 or uint16, grey (H, W), RGB (H, W, 3) or RGBA (H, W, 4).
        tile: Side of the squares it is cut into, LR pixels.
        overlap: What each tile sees beyond its borders, LR pixels. None takes the network's receptive radius (43 for
            20 blocks): tiles of any size then give what the whole picture gives, but for rounding ties.
        progress: Wraps the list of tiles, e.g. `tqdm`.

    Returns:
        The same type and number of channels, `net.upscale` times the size. The network's RGB is averaged where the
        input's channels are all equal.

    Raises:
        ValueError: Another type or shape.
    """
    if image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,), (4,)):
        raise ValueError(f'uint8 or uint16, (H, W), (H, W, 3) or (H, W, 4) expected, got {image.dtype} {image.shape}')
    if overlap is None:
        overlap = receptive_radius(net)
    device, scale = next(net.parameters()).device, net.upscale
    pixels = image if image.ndim == 3 else np.repeat(image[..., None], 3, 2)
    rgb, alpha = pixels[..., :3], pixels[..., 3:]
    is_grey = bool((rgb == rgb[..., :1]).all())
    height, width, channels = pixels.shape
    result = np.empty((height * scale, width * scale, channels), image.dtype)
    if channels == 4:
        result[..., 3:] = _to_array(enlarge(_to_tensor(alpha, device), scale, 'bicubic'), image.dtype)
    tiles = [
        (slice(top, min(top + tile, height)), slice(left, min(left + tile, width)))
        for top in range(0, height, tile)
        for left in range(0, width, tile)
    ]
    for rows, columns in progress(tiles):
        top, left = max(rows.start - overlap, 0), max(columns.start - overlap, 0)
        out = net(_to_tensor(rgb[top : rows.stop + overlap, left : columns.stop + overlap], device))
        out = out[:, :, (rows.start - top) * scale :, (columns.start - left) * scale :]
        out = out[:, :, : (rows.stop - rows.start) * scale, : (columns.stop - columns.start) * scale]
        if is_grey:
            out = out.mean(1, keepdim=True)
        place = (slice(rows.start * scale, rows.stop * scale), slice(columns.start * scale, columns.stop * scale))
        result[..., :3][place] = _to_array(out, image.dtype)
    return result if image.ndim == 3 else result[..., 0]


def _to_tensor(pixels: np.ndarray, device: torch.device) -> torch.Tensor:
    """Convert whole numbers (H, W, C) to (1, C, H, W) in [0, 1]."""
    scaled = pixels.astype(np.float32) / np.iinfo(pixels.dtype).max
    return torch.from_numpy(scaled.transpose(2, 0, 1)[None]).to(device)


def _to_array(images: torch.Tensor, dtype: np.dtype) -> np.ndarray:
    """Convert (1, C, H, W) in [0, 1] to whole numbers (H, W, C)."""
    levels = (images[0].clamp(0, 1) * np.iinfo(dtype).max).round_()
    return levels.permute(1, 2, 0).cpu().numpy().astype(dtype)
