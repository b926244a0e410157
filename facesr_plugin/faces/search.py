"""Every face of a picture, by looking several times: small ones at a fine scale, large ones at coarse scales.

Each face that is found is looked at again, upright and at the size that suits the detector. That makes its landmarks
exact, whatever its size and turn in the picture, and a find that is no face does not pass it.
"""

import math
from collections.abc import Iterator

import cv2
import numpy as np

from facesr_plugin.faces.align import Alignment, align, crop, transform
from facesr_plugin.faces.detect import Detector, Face, distinct, load_detector
from facesr_plugin.pictures.alpha import fill_invisible

MIN_FACE = 48  # px across the aligned square
LEAST, LARGEST = 80, 2.0  # px that the smallest face is brought to; but no picture is enlarged more than so many times
LARGE, LEAST_IN_LARGE = 2**23, 48  # px of a picture so enlarged from which on it is less enlarged; px of a face in it
STEP = 3  # from one scale to the next
TILE, TILE_OVERLAP = 1024, 192  # px of what is looked at at once
SECOND_SIDE, WIDER = 192, 1.5  # of the second look: px, and how much more than the aligned square it shows
OVERLAP = 0.3  # intersection over union from which two finds are one face
SURE = 0.35  # least score of the second look; pictures that are noisy have no more
MISFIT = 0.12  # of the landmarks, as part of the aligned square: beyond it they are no face's


def find_faces(image: np.ndarray, min_face: float = MIN_FACE, detector: str | Detector = 'centerface') -> list[Face]:
    """Return the faces of a picture, the largest first.

    Args:
        image: Grey (H, W), RGB (H, W, 3) or RGBA (H, W, 4); uint8, uint16 or float in [0, 1].
        min_face: Least size of a face, px across its aligned square (`align(face).size`), which shows the whole head:
            about twice the width of the face. Smaller values take longer.
        detector: A name of `detect.DETECTORS`, or a detector.

    Returns:
        Faces in px of the picture; empty where there is none.

    Raises:
        UserError: The detector is not there.
    """
    look = load_detector(detector) if isinstance(detector, str) else detector
    pixels = to_rgb(image)
    if min_face > 2 * max(pixels.shape[:2]):
        return []
    found = [face for scale in _scales(pixels.shape, min_face) for face in _look_at_scale(look, pixels, scale)]
    found.sort(key=lambda face: -face.score)
    found = [found[i] for i in distinct(_boxes(found), OVERLAP)]
    faces = [again for face in found if (again := _look_again(look, pixels, face))]
    faces.sort(key=lambda face: -face.score)
    faces = [faces[i] for i in distinct(_boxes(faces), OVERLAP)]
    return sorted((f for f in faces if align(f).size >= min_face), key=lambda face: -align(face).size)


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Return what a detector looks at: uint8 RGB, invisible pixels filled with the nearest visible ones."""
    if image.ndim == 3 and image.shape[2] == 4:
        image = fill_invisible(image[..., :3], image[..., 3])
    if image.dtype == np.uint16:
        image = np.rint(image / np.float32(257))
    elif image.dtype != np.uint8:
        image = np.rint(image.astype(np.float32) * 255)
    image = image.clip(0, 255).astype(np.uint8)
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else np.ascontiguousarray(image)


def _scales(shape: tuple[int, ...], min_face: float) -> Iterator[float]:
    """Yield the scales to look at, the finest first; at the last the picture is about as large as a face should be."""
    bounded = max(math.sqrt(LARGE / (shape[0] * shape[1])), LEAST_IN_LARGE / min_face)
    scale = min(LEAST / min_face, LARGEST, bounded)
    yield scale
    while max(shape[:2]) * scale > SECOND_SIDE:
        scale /= STEP
        yield scale


def _look_at_scale(look: Detector, pixels: np.ndarray, scale: float) -> Iterator[Face]:
    """Yield the faces of a picture at a scale, tile by tile; the same one may come from two tiles."""
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    scaled = (
        pixels if (height, width) == pixels.shape[:2] else cv2.resize(pixels, (width, height), interpolation=method)
    )
    across, down = pixels.shape[1] / width, pixels.shape[0] / height
    for top in _starts(height):
        for left in _starts(width):
            tile = np.ascontiguousarray(scaled[top : top + TILE, left : left + TILE])
            yield from (
                _moved(face, np.array([[across, 0, left * across], [0, down, top * down]])) for face in look(tile)
            )


def _starts(length: int) -> range:
    """Return where tiles begin."""
    return range(0, max(1, length - TILE_OVERLAP), TILE - TILE_OVERLAP)


def _look_again(look: Detector, pixels: np.ndarray, face: Face) -> Face | None:
    """Return a face as a second look shows it, upright and at the detector's favourite size; None where it is none."""
    square = align(face)
    if not 4 <= square.size < math.inf:
        return None
    wide = square.widened(WIDER)
    seen = [_moved(each, wide.matrix(SECOND_SIDE)) for each in look(crop(pixels, wide, SECOND_SIDE))]
    centre = square.corner + square.turn * (1 + 1j) / 2
    for again in sorted(seen, key=lambda each: abs(_centre(align(each)) - centre)):
        fitted = align(again)
        is_same = abs(_centre(fitted) - centre) < 0.3 * square.size and 0.6 < fitted.size / square.size < 1.6
        return again if is_same and fitted.misfit < MISFIT and again.score >= SURE else None
    return None


def _centre(square: Alignment) -> complex:
    return square.corner + square.turn * (1 + 1j) / 2


def _moved(face: Face, matrix: np.ndarray) -> Face:
    """Return a face in another picture's px; the box is the upright one around the moved box."""
    left, top, right, bottom = face.box
    corners = transform(matrix, np.array([[left, top], [right, top], [right, bottom], [left, bottom]]))
    points = transform(matrix, np.array(face.landmarks))
    box = (*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist())
    return Face(box, tuple(map(tuple, points.tolist())), face.score)


def _boxes(faces: list[Face]) -> np.ndarray:
    return np.array([face.box for face in faces]).reshape(-1, 4)
