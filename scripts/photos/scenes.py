"""Photographs composed of generated faces, of which it is known where each face is.

A scene is a function of its faces and a seed: a background of soft colours, blurred shapes and grain, and on it each
face as a square that fades out at its edge, turned, and apart from the others.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from facesr_plugin.faces.align import Alignment, transform, warp

FADE = 0.12  # of a face's side, over which it becomes background
ATTEMPTS, TRIES = 50, 100  # to place all faces; places tried for one


class Scene(NamedTuple):
    """A picture and its faces.

    Attributes:
        pixels: uint8 RGB (H, W, 3).
        squares: Where each face's aligned square is.
    """

    pixels: np.ndarray
    squares: list[Alignment]


def square_at(centre: complex, size: float, degrees: float) -> Alignment:
    """Return an aligned square by its centre, its side in px, and how far it is turned clockwise.

    Example:
        >>> square_at(50 + 50j, 20, 0).corner
        (40+40j)
    """
    turn = size * np.exp(1j * np.radians(degrees))
    return Alignment(complex(turn), complex(centre - turn * (1 + 1j) / 2))


def background(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Return a picture without a face, float32 RGB in [0, 255]: soft colours, blurred shapes, grain."""
    canvas = cv2.resize(
        rng.uniform(40, 215, (3, 4, 3)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
    )
    side = min(height, width)
    for _ in range(24):
        shape = canvas.copy()
        colour = tuple(rng.uniform(20, 235, 3))
        x, y = (int(v) for v in rng.uniform(0, (width, height)))
        half = tuple(int(v) for v in rng.uniform(0.02, 0.2, 2) * side + 1)
        if rng.random() < 0.5:
            cv2.ellipse(shape, (x, y), half, rng.uniform(0, 180), 0, 360, colour, -1)
        else:
            cv2.rectangle(shape, (x - half[0], y - half[1]), (x + half[0], y + half[1]), colour, -1)
        canvas = cv2.GaussianBlur(shape, (0, 0), float(rng.uniform(0.002, 0.01)) * side)
    grain = cv2.GaussianBlur(rng.normal(0, 12, (height, width, 1)).astype(np.float32), (0, 0), 1.5)
    return (canvas + grain[..., None]).clip(0, 255)


def compose(
    faces: Sequence[np.ndarray],
    sizes: Sequence[float],
    degrees: Sequence[float],
    shape: tuple[int, int],
    seed: int,
) -> Scene:
    """Return a scene of faces that do not overlap.

    Args:
        faces: Aligned faces, uint8 RGB, square.
        sizes: Side of each one's square in the scene, px.
        degrees: How far each is turned, clockwise.
        shape: Height and width of the scene.
        seed: Of background and places.

    Raises:
        ValueError: There is no room for them.
    """
    rng = np.random.default_rng(seed)
    canvas = background(*shape, rng)
    squares = _places(sizes, degrees, shape, rng)
    for face, square in zip(faces, squares, strict=True):
        _lay(canvas, face, square)
    return Scene(np.rint(canvas).astype(np.uint8), squares)


def _places(
    sizes: Sequence[float], degrees: Sequence[float], shape: tuple[int, int], rng: np.random.Generator
) -> list[Alignment]:
    """Return places within the scene where no face touches another; begun anew where one finds no room."""
    order = sorted(range(len(sizes)), key=lambda index: -sizes[index])
    for _ in range(ATTEMPTS):
        places: dict[int, Alignment] = {}
        for index in order:
            place = _place(list(places.values()), sizes[index], degrees[index], shape, rng)
            if place is None:
                break
            places[index] = place
        else:
            return [places[index] for index in range(len(sizes))]
    raise ValueError(f'no room for faces of {", ".join(f"{size:g}" for size in sizes)} px in {shape[1]}x{shape[0]} px')


def _place(
    others: list[Alignment], size: float, degrees: float, shape: tuple[int, int], rng: np.random.Generator
) -> Alignment | None:
    square = square_at(0, size, degrees)
    reach = np.abs(square.corners()).max(axis=0)
    low, high = reach, np.array(shape[::-1]) - reach
    for _ in range(TRIES if (high >= low).all() else 0):
        x, y = rng.uniform(low, high)
        placed = square_at(complex(x, y), size, degrees)
        if not any(_touch(placed, other) for other in others):
            return placed
    return None


def _touch(one: Alignment, other: Alignment) -> bool:
    """Return whether two squares have a part in common: no side of either has all of the other beyond it."""
    for square, points in ((one, other.corners()), (other, one.corners())):
        inside = transform(square.inverse(), points)
        if (inside.max(axis=0) <= 0).any() or (inside.min(axis=0) >= 1).any():
            return False
    return True


def _lay(canvas: np.ndarray, face: np.ndarray, square: Alignment) -> None:
    """Lay a face onto a scene, averaged over areas where it becomes smaller."""
    side = len(face)
    if square.size < side:
        side = max(1, round(square.size))
        face = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
    shape, matrix = canvas.shape[:2], square.inverse(side)
    ramp = (np.minimum(np.arange(256) + 0.5, 255.5 - np.arange(256)) / 256 / FADE).clip(0, 1)
    mask = np.outer(ramp, ramp) * np.ones((256, 256))
    mask = mask**2 * (3 - 2 * mask)
    inverse = square.inverse(256)
    inside = cv2.warpAffine(
        mask.astype(np.float32), inverse, shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )[..., None]
    canvas[:] = canvas * (1 - inside) + warp(face.astype(np.float32), matrix, shape) * inside
