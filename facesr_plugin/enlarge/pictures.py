"""Pictures with all they hold, where `data/images.py` has RGB alone: grey, alpha, 16 bits, the side that is up."""

from pathlib import Path

import cv2
import numpy as np

from facesr_plugin.data.images import decode, encode, exif_orientation, read_file, turn_upright
from facesr_plugin.errors import UserError
from facesr_plugin.files import replace_file

QUALITY_FLAG = {'jpg': cv2.IMWRITE_JPEG_QUALITY, 'webp': cv2.IMWRITE_WEBP_QUALITY}
FORMATS = ('png', 'tif', *QUALITY_FLAG)


def read_picture(path: Path) -> np.ndarray:
    """Read a picture with all it has, turned upright.

    Returns:
        uint8 or uint16, grey (H, W), RGB (H, W, 3) or RGBA (H, W, 4).

    Raises:
        UserError: The file cannot be read, or its pixels are no whole numbers of 8 or 16 bits.
    """
    data = read_file(path)
    image = decode(data, cv2.IMREAD_UNCHANGED, path)
    if image.dtype not in (np.uint8, np.uint16):
        raise UserError(f'{path}: pixels of 8 or 16 bits expected, got {image.dtype}')
    if image.ndim == 3:
        image = image[..., [2, 1, 0, 3][: image.shape[2]]]
    return np.ascontiguousarray(turn_upright(image, exif_orientation(data)))


def write_picture(path: Path, image: np.ndarray, quality: int) -> None:
    """Write a picture as its suffix says, whole or not at all.

    JPEG and WebP hold 8 bits, so 16 are rounded; JPEG holds no alpha, so the picture is laid on white.

    Args:
        path: The file; its folder is made.
        image: As `read_picture` returns it.
        quality: Of JPEG and WebP, 1 to 100.

    Raises:
        UserError: The format cannot hold this size, or the file cannot be written.
    """
    kind = path.suffix[1:]
    if kind in QUALITY_FLAG and image.dtype == np.uint16:
        image = np.rint(image / 257).astype(np.uint8)
    if kind == 'jpg' and image.shape[2:] == (4,):
        alpha = image[..., 3:] / 255
        image = np.rint(image[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    if image.ndim == 3:
        image = image[..., [2, 1, 0, 3][: image.shape[2]]]
    data = encode(image, path, (QUALITY_FLAG[kind], quality) if kind in QUALITY_FLAG else ())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data)
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from error
