"""Photographs composed of generated faces, of which it is known where each face is.

A scene is a function of its faces and a seed: a background of soft colours, blurred shapes and grain, and on it each
face as a square that fades out at its edge, turned, and apart from the others.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from facesr_plugin.faces.align import Alignment, warp

FADE = 0.12  # of a face's side, over which it becomes background
TRIES = 2000  # places tried for a face


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
    height, width = shape
    canvas = background(height, width, rng)
    places: dict[int, Alignment] = {}
    for index in sorted(range(len(faces)), key=lambda i: -sizes[i]):
        places[index] = _place(list(places.values()), sizes[index], degrees[index], shape, rng)
        _lay(canvas, faces[index], places[index])
    return Scene(np.rint(canvas).astype(np.uint8), [places[i] for i in range(len(faces))])


def _place(
    others: list[Alignment], size: float, degrees: float, shape: tuple[int, int], rng: np.random.Generator
) -> Alignment:
    """Return a place within the scene where a face touches no other."""
    reach = np.abs(square_at(0, size, degrees).corners()).max()
    low, high = np.full(2, reach), np.array(shape[::-1]) - reach
    for _ in range(TRIES if (high >= low).all() else 0):
        x, y = rng.uniform(low, high)
        centre = complex(x, y)
        apart = [abs(centre - (o.corner + o.turn * (1 + 1j) / 2)) - (size + o.size) * 0.71 for o in others]
        if all(distance >= 0 for distance in apart):
            return square_at(centre, size, degrees)
    raise ValueError(f'no room for a face of {size:g} px in {shape[1]}x{shape[0]} px; fewer or smaller faces expected')


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
