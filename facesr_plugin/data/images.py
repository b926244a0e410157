"""Image files: find, read, write. In memory an image is uint8 RGB, shape (H, W, 3), turned as its EXIF says.

`enlarge/pictures.py` keeps what else a file holds.
"""

import io
import os
import struct
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from facesr_plugin.errors import UserError

EXTENSIONS = ('.png', '.jpg', '.jpeg', '.bmp', '.webp', '.tif', '.tiff')
ORIENTATION, TRANSPOSED = 0x0112, (5, 6, 7, 8)  # the EXIF tag; of its values, those that swap width and height
NO_EXIF = (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError)  # what Pillow raises then
NO_IMAGE = 'cannot be read as an image'
NO_IMAGE_BYTES = f'{NO_IMAGE} (empty, damaged or another file type)'


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


def read_file(path: str | Path) -> bytes:
    """Read a file.

    Raises:
        UserError: It is missing or not readable.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from error


def decode(data: bytes | memoryview, flags: int, name: str | Path) -> np.ndarray:
    """Decode an image file's bytes.

    Args:
        data: The encoded file.
        flags: cv2's, e.g. `cv2.IMREAD_COLOR`.
        name: What an error calls it.

    Returns:
        As cv2 does: grey (H, W), BGR (H, W, 3) or BGRA (H, W, 4).

    Raises:
        UserError: The bytes are not an image that OpenCV reads.
    """
    buffer = np.frombuffer(data, np.uint8)
    try:
        image = cv2.imdecode(buffer, flags) if buffer.size and not _is_cut_short(data) else None
    except cv2.error as error:  # e.g. a header that claims more pixels than OpenCV allows
        raise UserError(f'{name}: {NO_IMAGE} ({error.err})') from error
    if image is None:
        raise UserError(f'{name}: {NO_IMAGE_BYTES}')
    return image


def _is_cut_short(data: bytes | memoryview) -> bool:
    """Return whether a JPEG's last scan does not end; OpenCV 4 fills the rest of such an image with grey."""
    if bytes(data[:3]) != b'\xff\xd8\xff':
        return False
    data = bytes(data)
    return data.rfind(b'\xff\xd9') < data.rfind(b'\xff\xda')


def exif_orientation(data: bytes) -> int:
    """Return an image file's EXIF orientation as far as OpenCV leaves it to us: it turns TIFF by itself.

    It is 1, upright, where the metadata cannot be read: whether the picture can is for OpenCV to say.
    """
    try:
        with warnings.catch_warnings(action='ignore'), Image.open(io.BytesIO(data)) as header:
            return 1 if header.format == 'TIFF' else header.getexif().get(ORIENTATION, 1)
    except NO_EXIF:
        return 1


def turn_upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation, 1 to 8: transpose from 5 on, then mirror rows, columns or both."""
    if orientation in TRANSPOSED:
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image


def read_shape(path: Path) -> tuple[int, int]:
    """Return an image's (height, width) as it is shown, from the header of its file.

    Raises:
        UserError: The file is missing, not readable or not an image.
    """
    try:
        with Image.open(path) as header:
            (width, height), orientation = header.size, header.getexif().get(ORIENTATION, 1)
            if header.format == 'TIFF':  # whose size newer versions of Pillow have turned already
                width, height = header.tag_v2[256], header.tag_v2[257]
    except Image.DecompressionBombError as error:
        raise UserError(f'{path}: {NO_IMAGE}: its header claims too many pixels ({error})') from error
    except NO_EXIF as error:
        if isinstance(error, OSError) and error.strerror:  # the file system's, not Pillow's
            raise UserError(f'{path}: {error.strerror}') from error
        raise UserError(f'{path}: {NO_IMAGE_BYTES}') from error
    return (width, height) if orientation in TRANSPOSED else (height, width)


def decode_image(data: bytes | memoryview, name: str | Path) -> np.ndarray:
    """Decode an image file's bytes to uint8 RGB, shape (H, W, 3); grey is repeated, alpha dropped, 16 bit reduced.

    Args:
        data: The encoded file.
        name: What an error calls it.

    Raises:
        UserError: The bytes are not an image that OpenCV reads.
    """
    return cv2.cvtColor(decode(data, cv2.IMREAD_COLOR, name), cv2.COLOR_BGR2RGB)


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
    data = encode(bgr, path, params)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from error
