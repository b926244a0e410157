"""Pictures with all they hold, where `images.py` has RGB alone: grey, alpha, 16 bits, the side that is up."""

import io
import struct
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from facesr_plugin.data.images import decode, encode, read_file
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


def exif_orientation(data: bytes) -> int:
    """Return an image file's EXIF orientation as far as OpenCV leaves it to us: it turns TIFF by itself.

    It is 1, upright, where the metadata cannot be read: whether the picture can is for OpenCV to say.
    """
    try:
        with warnings.catch_warnings(action='ignore'), Image.open(io.BytesIO(data)) as header:
            return 1 if header.format == 'TIFF' else header.getexif().get(0x0112, 1)
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError):  # EXIF that is none
        return 1


def turn_upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation, 1 to 8: transpose from 5 on, then mirror rows, columns or both."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image


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
