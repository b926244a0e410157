"""Where images come from: an LMDB or a folder, read alike; and the check of the sets that BasicSR's classes read."""

from collections.abc import Iterable
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from facesr_plugin.data.images import list_images, read_image
from facesr_plugin.data.lmdb_images import LmdbImages
from facesr_plugin.errors import UserError


class FolderImages:
    """The image files below a folder, with the reading side of `LmdbImages`.

    Attributes:
        keys: File paths relative to the folder, sorted.
        shapes: (height, width) of each, px, read from the file headers.

    Raises:
        UserError: No folder, no image in it, or files that are no image: one line for each.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        paths = list_images(root)
        self.keys = [str(path.relative_to(root)) for path in paths]
        self.shapes, problems = [], []
        for path in paths:
            try:
                self.shapes.append(_header_shape(path))
            except UserError as error:
                problems.append(str(error))
        if problems:
            raise UserError('\n'.join(problems))

    def read(self, key: str) -> np.ndarray:
        """Return the image as uint8 RGB, (H, W, 3)."""
        return read_image(self.root / key)


def open_images(root: Path, backend: Literal['lmdb', 'disk']) -> LmdbImages | FolderImages:
    """Return the images at `root`: their `keys`, their `shapes` (height, width) and `read(key)`.

    Raises:
        UserError: They cannot be found or read.
    """
    return LmdbImages(root) if backend == 'lmdb' else FolderImages(root)


def check_pairs(
    lr_root: Path,
    hr_root: Path,
    backend: Literal['lmdb', 'disk'],
    template: str,
    scale: int,
    listed: Path | None = None,
) -> None:
    """Check that `PairedImageDataset` can read two image sets, and that they are LR and HR sides of the same pictures.

    Args:
        lr_root: LMDB or folder of LR images.
        hr_root: LMDB or folder of HR images.
        backend: Which of them both are.
        template: LR file name for an HR name without suffix, e.g. `{}_x4`; folders only.
        scale: HR size / LR size.
        listed: Text file whose lines begin with an HR name: only these are used; folders only.

    Raises:
        UserError: An image has no partner, or not `scale` times its partner's size; or as `check_images`.
    """
    lr, hr = _open_plain(lr_root, backend), _open_plain(hr_root, backend)
    shapes, hr_shapes = (dict(zip(images.keys, images.shapes, strict=True)) for images in (lr, hr))
    names = hr.keys if listed is None or backend == 'lmdb' else _listed_names(listed, hr_root, hr_shapes)
    partners = []
    for key in names:
        path = Path(key)
        partner = key if backend == 'lmdb' else str(path.with_name(template.format(path.stem) + path.suffix))
        if partner not in shapes:
            raise UserError(f'{lr_root}: {partner} expected, the LR image of {hr_root}: {key}')
        partners.append(partner)
        (height, width), expected = hr_shapes[key], tuple(scale * side for side in shapes[partner])
        if (height, width) != expected:
            raise UserError(
                f'{hr_root}: {key}: {expected[1]}x{expected[0]} px expected, {scale} times its LR image,'
                f' got {width}x{height}'
            )
    if len(names) == len(hr.keys) and (unused := shapes.keys() - set(partners)):
        raise UserError(f'{lr_root}: {min(unused)} has no HR image in {hr_root}')
    _read_all([(hr, key) for key in names] + [(lr, key) for key in partners])


def check_images(root: Path, backend: Literal['lmdb', 'disk']) -> None:
    """Check that BasicSR's classes can read an image set.

    Raises:
        UserError: It is laid out otherwise than they read it, or images cannot be read: one line for each.
    """
    images = _open_plain(root, backend)
    _read_all([(images, key) for key in images.keys])


def _open_plain(root: Path, backend: Literal['lmdb', 'disk']) -> LmdbImages | FolderImages:
    """Open an image set that is laid out as BasicSR's own classes read it, which is less than what we read."""
    images = open_images(root, backend)
    if isinstance(images, LmdbImages):
        if images.has_raw:
            raise UserError(f'{root}: PNG values expected, raw pixels are for training only: make it without --raw')
        if dotted := [key for key in images.keys if '.' in key]:
            raise UserError(f'{root}: {dotted[0]}: a key without a dot expected, where BasicSR cuts it')
        return images
    if nested := [key for key in images.keys if Path(key).name != key]:
        raise UserError(f'{root}: {nested[0]}: no images in subfolders expected, BasicSR does not see them here')
    others = {path.name for path in root.iterdir() if path.is_file() and path.name[0] != '.'} - set(images.keys)
    if others:
        raise UserError(f'{root}: {min(others)}: only images expected, BasicSR reads every file here')
    return images


def _listed_names(listed: Path, hr_root: Path, known: Iterable[str]) -> list[str]:
    names = [line.strip().split(' ')[0] for line in listed.read_text('utf-8', errors='replace').splitlines()]
    if missing := [name for name in names if name not in known]:
        raise UserError(f'{listed}: names of images in {hr_root} expected, got {missing[0]!r}')
    return names


def _read_all(images: list[tuple[LmdbImages | FolderImages, str]]) -> None:
    """Read images side by side; a UserError with a line for each that cannot be read."""

    def problem(image: tuple[LmdbImages | FolderImages, str]) -> str | None:
        source, key = image
        try:
            source.read(key)
        except UserError as error:
            return str(error)
        return None

    with ThreadPool() as pool:
        problems = [line for line in pool.imap(problem, images) if line]
    if problems:
        raise UserError('\n'.join(problems))


def _header_shape(path: Path) -> tuple[int, int]:
    """Return an image file's (height, width) as it is shown, that is after its EXIF rotation."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            rotated = image.getexif().get(0x0112, 1) >= 5
    except Image.DecompressionBombError as error:
        raise UserError(f'{path}: cannot be read as an image: its header claims too many pixels ({error})') from error
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError) as error:
        if isinstance(error, OSError) and error.strerror:  # the file system's, not Pillow's
            raise UserError(f'{path}: {error.strerror}') from error
        raise UserError(f'{path}: cannot be read as an image (empty, damaged or another file type)') from error
    return (width, height) if rotated else (height, width)
