"""A face put back into the enlarged picture: in its place, its colours kept, faded into what is around it."""

import math

import cv2
import numpy as np

from facesr_plugin.faces.align import chain, inverted, transform, warp

FEATHER = 0.15  # of the square's side, over which a face fades in from its edge


def ramp(places: np.ndarray) -> np.ndarray:
    """Return how much of a face shows at places across its square: 0 at the edges 0 and 1, 1 from `FEATHER` on.

    It rises without a kink, so that no edge shows where it begins or ends.

    Example:
        >>> ramp(np.array([-1, 0, FEATHER / 2, FEATHER, 0.5, 1])).round(6).tolist()
        [0.0, 0.0, 0.5, 1.0, 1.0, 0.0]
    """
    inside = (np.minimum(places, 1 - places) / FEATHER).clip(0, 1)
    return inside * inside * (3 - 2 * inside)


def shown(matrix: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return how much of a face shows at each pixel of a picture; float32 of `shape` (H, W).

    Args:
        matrix: (2, 3), from the picture to the face's square of side 1.
        shape: Height and width.
    """
    x, y = np.arange(shape[1]) + 0.5, (np.arange(shape[0]) + 0.5)[:, None]
    across = ramp(matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2])
    return (across * ramp(matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2])).astype(np.float32)


def with_colour_of(result: np.ndarray, of: np.ndarray, where: np.ndarray, where_of: np.ndarray) -> np.ndarray:
    """Return an enlarged face with the mean colour of what it was made of.

    Args:
        result: (H, W) or (H, W, C), whole numbers or floats in [0, 1].
        of: (h, w) or (h, w, C), of the same type.
        where: (H, W), how much of `result` shows.
        where_of: (h, w), likewise of `of`.

    Returns:
        Like `result`; what would leave the range of the type is clipped.
    """

    def mean(pixels: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return np.tensordot(weights, pixels, ((0, 1), (0, 1))) / max(weights.sum(dtype=np.float64), 1e-9)

    return to_type(result + (mean(of, where_of) - mean(result, where)).astype(np.float32), result.dtype)


def to_type(pixels: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return floats as another type, rounded and clipped to the range that pixels of it have."""
    if np.issubdtype(dtype, np.floating):
        return pixels.clip(0, 1).astype(dtype)
    return np.rint(pixels).clip(0, np.iinfo(dtype).max).astype(dtype)


def paste(canvas: np.ndarray, face: np.ndarray, place: np.ndarray, square: np.ndarray, strength: float = 1) -> None:
    """Lay a face into a picture, in place; where it becomes smaller it is averaged over areas.

    Args:
        canvas: (H, W) or (H, W, C); uint8, uint16 or float in [0, 1].
        face: (h, w) or (h, w, C), of the same type: the face's square, or what has it in it.
        place: (2, 3), from px of `face` to px of the picture.
        square: (2, 3), from the face's square of side 1 to px of the picture.
        strength: How much of the face shows where it shows most, 0 to 1.
    """
    corners, limits = transform(square, np.array([[0, 0], [1, 0], [1, 1], [0, 1]])), canvas.shape[1::-1]
    left, top = (int(v) for v in np.clip(np.floor(corners.min(axis=0)), 0, limits))
    right, bottom = (int(v) for v in np.clip(np.ceil(corners.max(axis=0)), 0, limits))
    if right <= left or bottom <= top:
        return
    scale = math.sqrt(abs(np.linalg.det(place[:, :2])))
    if scale < 1:
        height, width = face.shape[:2]
        smaller = tuple(max(1, math.ceil(side * scale - 1e-6)) for side in (width, height))
        face = cv2.resize(face, smaller, interpolation=cv2.INTER_AREA)
        place = place @ np.diag([width / smaller[0], height / smaller[1], 1])
    shape, here = (bottom - top, right - left), np.array([[1, 0, left], [0, 1, top]])
    laid = warp(face.astype(np.float32), chain(inverted(place), here), shape)
    mask = np.float32(strength) * shown(chain(inverted(square), here), shape)
    part = canvas[top:bottom, left:right]
    part[:] = to_type(part + (mask if canvas.ndim == 2 else mask[..., None]) * (laid - part), canvas.dtype)
