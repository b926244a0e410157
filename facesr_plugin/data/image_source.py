"""Where images come from: a folder or an LMDB, with the same keys, read alike."""

from collections import Counter
from collections.abc import Sequence
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
        self._shapes: dict[str, tuple[int, int]] = {}

    def shape(self, key: str) -> tuple[int, int]:
        """Return (height, width) of an image, px, read from the header of its file once.

        Raises:
            UserError: The file is no image.
        """
        if key not in self._shapes:
            self._shapes[key] = read_shape(self.root / self._files[key])
        return self._shapes[key]

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(height, width) of each, px.

        Raises:
            UserError: Files that are no image: one line for each.
        """
        return each(self.shape, self.keys)

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
    """

    def __init__(self, parts: Sequence['FolderImages | LmdbImages']) -> None:
        self.parts = parts
        self.keys = [f'{number}/{key}' for number, part in enumerate(parts) for key in part.keys]
        self.names = [f'{part.root}: {name}' for part in parts for name in part.names]

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(height, width) of each, px; as those of the sets."""
        return each(self.shape, self.keys)

    def shape(self, key: str) -> tuple[int, int]:
        """Return (height, width) of an image, px; as that of its set."""
        part, key = self._place(key)
        return part.shape(key)

    def read(self, key: str) -> np.ndarray:
        """Return an image as uint8 RGB, (H, W, 3).

        Raises:
            UserError: Its file cannot be read.
        """
        part, key = self._place(key)
        return part.read(key)

    def _place(self, key: str) -> 'tuple[FolderImages | LmdbImages, str]':
        """Return the set that an image is in, and its key there."""
        number, _, key = key.partition('/')
        return self.parts[int(number)], key


Images = FolderImages | LmdbImages | JoinedImages


def open_images(root: Path, backend: Backend | None = None) -> Images:
    """Return the images at `root`: `keys`, `names` and `shapes` (height, width), `shape(key)` and `read(key)`.

    Args:
        root: A folder or an LMDB.
        backend: Which of them; None tells by the name, `*.lmdb` is one.

    Raises:
        UserError: They cannot be found or read.
    """
    is_lmdb = root.suffix == '.lmdb' if backend is None else backend == 'lmdb'
    return LmdbImages(root) if is_lmdb else FolderImages(root)
