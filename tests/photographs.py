"""Photographs for tests: scenes of the sample faces, and whether the faces in them were found."""

from functools import lru_cache

import numpy as np
from tiny import FACES

from facesr_plugin.data.images import list_images, read_image
from facesr_plugin.faces.align import Alignment, align
from facesr_plugin.faces.detect import Face
from photos.scenes import Scene, compose


@lru_cache(maxsize=1)
def sample_faces() -> tuple[np.ndarray, ...]:
    return tuple(read_image(path) for path in list_images(FACES)[:8])


def scene(sizes: list[float], degrees: list[float], shape: tuple[int, int], seed: int = 0, first: int = 0) -> Scene:
    return compose(sample_faces()[first : first + len(sizes)], sizes, degrees, shape, seed)


def finds(square: Alignment, face: Face) -> bool:
    """Return whether a face is the one in a square: its size, its turn and its middle are right."""
    found = align(face)
    away = abs(found.corner + found.turn * (0.5 + 0.5j) - square.corner - square.turn * (0.5 + 0.5j))
    turned = abs((found.degrees - square.degrees + 180) % 360 - 180)
    return 0.8 < found.size / square.size < 1.25 and away < 0.1 * square.size and turned < 10
