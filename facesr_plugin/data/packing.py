"""Folders of images into LMDBs: every image that cannot be used is named, and then nothing is written."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facesr_plugin.data.images import read_image
from facesr_plugin.data.lmdb_writer import image_keys, write_lmdbs
from facesr_plugin.data.sizes import check_pair
from facesr_plugin.errors import each, raise_all


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
    raise_all(
        f'{path}: an {kind} image of the same name expected in {folder}, there is none'
        for files, others, folder, kind in zip(sets, sets[::-1], folders[::-1], ('LR', 'HR'), strict=False)
        for key, path in files.items()
        if key not in others
    )
    write_lmdbs(lmdbs, list(sets[0]), lambda key: read_images([files[key] for files in sets], scale), png_level)
    return len(sets[0])


def read_images(paths: Sequence[Path], scale: int) -> list[np.ndarray]:
    """Read an HR image, and the LR image of it if there is one; each uint8 RGB, shape (H, W, 3).

    Args:
        paths: The HR file, or the HR and the LR file.
        scale: HR size / LR size.

    Raises:
        UserError: A file cannot be read (a line each), or the HR size is not `scale` times the LR size.
    """
    images = each(read_image, paths)
    hr, *lr = (image.shape[:2] for image in images)
    if lr:
        check_pair(*lr, hr, scale, f'{paths[0]}, beside {paths[1]}')
    return images
