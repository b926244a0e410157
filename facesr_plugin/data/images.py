"""Image files: find, read, write. In memory an image is uint8 RGB, shape (H, W, 3), turned as its EXIF says.

`pictures/` reads what else a file holds, by the same decoding.
"""

import os
from pathlib import Path

import cv2
import numpy as np

from facesr_plugin.errors import UserError
from facesr_plugin.files import replace_file
from facesr_plugin.pictures.read import decode_rgb, read_file, read_shape

EXTENSIONS = ('.png', '.jpg', '.jpeg', '.bmp', '.webp', '.tif', '.tiff')
__all__ = ['EXTENSIONS', 'decode_image', 'list_images', 'read_image', 'read_shape', 'write_image']


def list_images(folder: str | Path) -> list[Path]:
    """Return the image files below `folder`, hidden ones left out, sorted by relative path.

    Subfolders are included, linked ones too, each folder once: a link to one that is there anyway adds nothing, so that
    links cannot lead in circles.

    Raises:
        UserError: `folder` is not a folder or holds no image file, or a folder below it cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f'{folder}: no such folder')
    files: list[Path] = []
    seen: set[tuple[int, int]] = set()
    folders, linked = [folder], []
    while folders or linked:  # the folders themselves first: a link to one of them does not rename its images
        current = folders.pop() if folders else linked.pop(0)
        status = current.stat()
        if (identity := (status.st_dev, status.st_ino)) in seen:
            continue
        seen.add(identity)
        for entry in _entries(current):
            path = current / entry.name
            if entry.is_dir():
                (linked if entry.is_symlink() else folders).append(path)
            elif path.suffix.lower() in EXTENSIONS:
                if entry.is_file() or entry.is_symlink():  # one to nothing is named when it is read
                    files.append(path)
            elif entry.is_symlink() and not path.suffix and not path.exists():  # e.g. to a disk that is not mounted
                raise UserError(f'{path}: a link to nothing; remove it, or mend what it points to')
    if not files:
        raise UserError(f'{folder}: holds no image ({", ".join(EXTENSIONS)})')
    return sorted(files)


def _entries(folder: Path) -> list[os.DirEntry]:
    """Return what is in a folder, hidden entries left out, in order."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if entry.name[0] != '.'), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f'{folder}: {error.strerror}') from error


def decode_image(data: bytes | memoryview, name: str | Path) -> np.ndarray:
    """Decode an image file's bytes to uint8 RGB, shape (H, W, 3); grey is repeated, alpha dropped, 16 bit reduced.

    Args:
        data: The encoded file.
        name: What an error calls it.

    Raises:
        UserError: The bytes are not an image that can be read.
    """
    return decode_rgb(data, name)


def read_image(path: str | Path) -> np.ndarray:
    """Read an image file as uint8 RGB, shape (H, W, 3); see `decode_image`.

    Raises:
        UserError: The file is missing, not readable or not an image.
    """
    return decode_image(read_file(path), path)


def encode(image: np.ndarray, path: Path, params: tuple[int, ...] = ()) -> bytes:
    """Encode an image as the suffix of its path says.

    Args:
        image: As cv2 takes it: grey (H, W), BGR (H, W, 3) or BGRA (H, W, 4).
        path: What an error calls it; nothing is written.
        params: cv2's encoder flags, e.g. `(cv2.IMWRITE_JPEG_QUALITY, 95)`.

    Raises:
        UserError: The file type cannot hold an image of this size.
    """
    try:
        encoded, data = cv2.imencode(path.suffix, image, params)
    except cv2.error:
        encoded = False
    if not encoded:
        height, width = image.shape[:2]
        raise UserError(f'{path}: another file type expected, {path.suffix[1:]} cannot hold {width}x{height} px')
    return data.tobytes()


def write_image(path: str | Path, image: np.ndarray, params: tuple[int, ...] = ()) -> None:
    """Write uint8 RGB, shape (H, W, 3), or uint8 grey, shape (H, W); the file type is that of the suffix.

    Args:
        path: The file; its folder is made.
        image: The picture.
        params: cv2's encoder flags, e.g. `(cv2.IMWRITE_JPEG_QUALITY, 95)`.

    Raises:
        UserError: The suffix is no image type or one that cannot hold this size, or the file cannot be written.
        ValueError: The array has another type or shape.
    """
    path = Path(path)
    if path.suffix.lower() not in EXTENSIONS:
        raise UserError(f'{path}: image file name expected ({", ".join(EXTENSIONS)})')
    if image.dtype != np.uint8 or image.shape[2:] not in ((), (3,)):
        raise ValueError(f'uint8 (H, W) or (H, W, 3) expected, got {image.dtype} {image.shape}')
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    if path.suffix.lower() in ('.jpg', '.jpeg') and not params:
        params = (cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    data = encode(bgr, path, params)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data)
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from error
