"""Folders of images into LMDBs: every image that cannot be used is named, and then nothing is written."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facesr_plugin.data.images import read_image
from facesr_plugin.data.lmdb_writer import image_keys, write_lmdbs
from facesr_plugin.data.sizes import check_pair, lr_shape
from facesr_plugin.errors import UserError


def pack(folders: Sequence[Path], lmdbs: Sequence[Path], scale: int, png_level: int | None = 1) -> int:
    """Pack HR images, or HR images and the LR images of the same names, into an LMDB each.

    Args:
        folders: Of the HR images, or of the HR and of the LR images.
        lmdbs: The LMDBs to make.
        scale: HR size / LR size.
        png_level: As for `write_lmdbs`.

    Returns:
        How many images each holds.

    Raises:
        UserError: An image has no partner; or as `read_images` and `write_lmdbs`.
    """
    sets = [image_keys(folder) for folder in folders]
    if len(sets) == 2:
        _check_partners(*sets, *folders)
    write_lmdbs(lmdbs, list(sets[0]), lambda key: read_images([files[key] for files in sets], scale), png_level)
    return len(sets[0])


def _check_partners(hr_files: dict[str, Path], lr_files: dict[str, Path], hr_folder: Path, lr_folder: Path) -> None:
    """Check that two sets of files have the same keys."""
    for files, others, kind, folder in ((hr_files, lr_files, 'LR', lr_folder), (lr_files, hr_files, 'HR', hr_folder)):
        for key, path in files.items():
            if key not in others:
                raise UserError(f'{path}: an {kind} image of the same name expected in {folder}, there is none')


def read_images(paths: Sequence[Path], scale: int) -> list[np.ndarray]:
    """Read an HR image, and the LR image of it if there is one; each uint8 RGB, shape (H, W, 3).

    Args:
        paths: The HR file, or the HR and the LR file.
        scale: HR size / LR size.

    Raises:
        UserError: A file cannot be read (a line each), or the HR size is not `scale` times the LR size, or without an
            LR image not a multiple of `scale`.
    """
    images, errors = [], []
    for path in paths:
        try:
            images.append(read_image(path))
        except UserError as error:
            errors.append(str(error))
    if errors:
        raise UserError('\n'.join(errors))
    hr, *lr = (image.shape[:2] for image in images)
    if lr:
        check_pair(*lr, hr, scale, f'{paths[0]}, beside {paths[1]}')
    else:
        lr_shape(hr, scale, paths[0])
    return images
