"""Where images come from: a folder or an LMDB, with the same keys, read alike."""

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from facesr_plugin.data.images import list_images, read_image, read_shape
from facesr_plugin.data.lmdb_images import LmdbImages, image_key, name_of
from facesr_plugin.errors import UserError, each

Backend = Literal['lmdb', 'disk']  # `io_backend.type`


class FolderImages:
    """The image files below a folder, with the reading side of `LmdbImages`.

    Args:
        root: The folder.

    Attributes:
        keys: As `lmdb_images.image_key`, in the order of the paths; files that differ by suffix only keep it.
        names: File paths relative to the folder: what messages call the images.

    Raises:
        UserError: No folder, or no image in it.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        paths = [path.relative_to(root) for path in list_images(root)]
        count = Counter(map(image_key, paths))
        self.names = list(map(str, paths))
        self.keys = [key if count[key := image_key(path)] == 1 else key + path.suffix for path in paths]
        self._files = dict(zip(self.keys, paths, strict=True))

    @cached_property
    def shapes(self) -> list[tuple[int, int]]:
        """(height, width) of each, px, read from the file headers.

        Raises:
            UserError: Files that are no image: one line for each.
        """
        return each(lambda name: read_shape(self.root / name), self.names)

    def read(self, key: str) -> np.ndarray:
        """Return an image as uint8 RGB, (H, W, 3).

        Raises:
            UserError: The key is unknown, or its file cannot be read.
        """
        if key not in self._files:
            raise UserError(f'{self.root}: no image {name_of(key)}')
        return read_image(self.root / self._files[key])


class JoinedImages:
    """Several image sets as one, with the reading side of each: their images follow each other.

    Args:
        parts: The sets.

    Attributes:
        keys: Theirs, led by the number of the set.
        names: Theirs, led by the root of the set.
        shapes: (height, width) of each, px.
    """

    def __init__(self, parts: Sequence['FolderImages | LmdbImages']) -> None:
        self.parts = parts
        self.keys = [f'{number}/{key}' for number, part in enumerate(parts) for key in part.keys]
        self.names = [f'{part.root}: {name}' for part in parts for name in part.names]
        self.shapes = [shape for shape_list in each(lambda part: part.shapes, parts) for shape in shape_list]

    def read(self, key: str) -> np.ndarray:
        """Return an image as uint8 RGB, (H, W, 3).

        Raises:
            UserError: Its file cannot be read.
        """
        number, _, key = key.partition('/')
        return self.parts[int(number)].read(key)


Images = FolderImages | LmdbImages | JoinedImages


def open_images(root: Path, backend: Backend | None = None) -> Images:
    """Return the images at `root`: their `keys`, `names` and `shapes` (height, width), and `read(key)`.

    Args:
        root: A folder or an LMDB.
        backend: Which of them; None tells by the name, `*.lmdb` is one.

    Raises:
        UserError: They cannot be found or read.
    """
    is_lmdb = root.suffix == '.lmdb' if backend is None else backend == 'lmdb'
    return LmdbImages(root) if is_lmdb else FolderImages(root)
