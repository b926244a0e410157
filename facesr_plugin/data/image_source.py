"""Where images come from: an LMDB or a folder, read alike; and the check that an LR and an HR set belong together."""

from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from facesr_plugin.data.image_lmdb import LmdbImages
from facesr_plugin.errors import UserError
from facesr_plugin.images import list_images, read_image


class FolderImages:
    """The image files below a folder, with the reading side of `LmdbImages`.

    Attributes:
        keys: File paths relative to the folder, sorted.
        shapes: (height, width) of each, px, read from the file headers.

    Raises:
        UserError: No folder, no image in it, or a file that is no image.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        paths = list_images(root)
        self.keys = [str(path.relative_to(root)) for path in paths]
        self.shapes = [_header_shape(path) for path in paths]

    def read(self, key: str) -> np.ndarray:
        """Return the image as uint8 RGB, (H, W, 3)."""
        return read_image(self.root / key)


def open_images(root: Path, backend: Literal['lmdb', 'disk']) -> LmdbImages | FolderImages:
    """Return the images at `root`: their `keys`, their `shapes` (height, width) and `read(key)`.

    Raises:
        UserError: They cannot be found or read.
    """
    return LmdbImages(root) if backend == 'lmdb' else FolderImages(root)


def check_pairs(lr_root: Path, hr_root: Path, backend: Literal['lmdb', 'disk'], template: str, scale: int) -> None:
    """Check that two image sets are the LR and HR sides of the same pictures.

    Args:
        lr_root: LMDB or folder of LR images.
        hr_root: LMDB or folder of HR images.
        backend: Which of them both are.
        template: LR file name for an HR name without suffix, e.g. `{}_x4`; folders only.
        scale: HR size / LR size.

    Raises:
        UserError: An image has no partner, or not `scale` times its partner's size.
    """
    lr, hr = open_images(lr_root, backend), open_images(hr_root, backend)
    shapes = dict(zip(lr.keys, lr.shapes, strict=True))
    for key, (height, width) in zip(hr.keys, hr.shapes, strict=True):
        path = Path(key)
        partner = key if backend == 'lmdb' else str(path.with_name(template.format(path.stem) + path.suffix))
        if partner not in shapes:
            raise UserError(f'{lr_root}: {partner} expected, the LR image of {hr_root}: {key}')
        expected = tuple(scale * side for side in shapes.pop(partner))
        if (height, width) != expected:
            raise UserError(
                f'{hr_root}: {key}: {expected[1]}x{expected[0]} px expected, {scale} times its LR image,'
                f' got {width}x{height}'
            )
    if shapes:
        raise UserError(f'{lr_root}: {min(shapes)} has no HR image in {hr_root}')


def _header_shape(path: Path) -> tuple[int, int]:
    """Return an image file's (height, width) as it is shown, that is after its EXIF rotation."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            rotated = image.getexif().get(0x0112, 1) >= 5
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise UserError(f'{path}: cannot be read as an image (empty, damaged or another file type)') from error
    return (width, height) if rotated else (height, width)
