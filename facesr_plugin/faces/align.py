"""A face brought upright into a square, as the training pictures of FFHQ are, and where the square is in the picture.

The square's side is 1, its upper left corner (0, 0). Its place in a picture is a similarity: turned, scaled and moved,
never sheared or mirrored.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from facesr_plugin.faces.detect import Face

# Where the five landmarks of a face are in FFHQ's square, for 512 px: eyes, nose, corners of the mouth, as the picture
# shows left and right. Averages over FFHQ, from facexlib's `FaceRestoreHelper` (github.com/xinntao/facexlib).
TEMPLATE_512 = (
    (192.98138, 239.94708),
    (318.90277, 240.1936),
    (256.63416, 314.01935),
    (201.26117, 371.41043),
    (313.08905, 371.15118),
)
TEMPLATE = np.array(TEMPLATE_512) / 512


@dataclass(frozen=True)
class Alignment:
    """The aligned square of a face.

    Attributes:
        turn: A complex number: the square's upper edge in the picture, px; its absolute value is the side.
        corner: Likewise its upper left corner.
        misfit: How far the landmarks are from the template's, root mean square, as part of the side.
    """

    turn: complex
    corner: complex
    misfit: float = 0.0

    @property
    def size(self) -> float:
        """The square's side in the picture, px: the face's native size."""
        return abs(self.turn)

    @property
    def degrees(self) -> float:
        """How far the face is turned, clockwise as the picture shows it, -180 to 180."""
        return math.degrees(math.atan2(self.turn.imag, self.turn.real))

    def matrix(self, side: float = 1) -> np.ndarray:
        """Return the (2, 3) matrix from a square of `side` px to the picture."""
        turn = self.turn / side
        return np.array([[turn.real, -turn.imag, self.corner.real], [turn.imag, turn.real, self.corner.imag]])

    def inverse(self, side: float = 1) -> np.ndarray:
        """Return the (2, 3) matrix from the picture to a square of `side` px."""
        turn, corner = side / self.turn, -self.corner * side / self.turn
        return np.array([[turn.real, -turn.imag, corner.real], [turn.imag, turn.real, corner.imag]])

    def corners(self) -> np.ndarray:
        """Return the square's corners in the picture, (4, 2), clockwise from the upper left."""
        return transform(self.matrix(), np.array([[0, 0], [1, 0], [1, 1], [0, 1]]))

    def widened(self, factor: float) -> 'Alignment':
        """Return the square of `factor` times the side around the same centre."""
        return Alignment(self.turn * factor, self.corner + self.turn * (1 + 1j) * (1 - factor) / 2, self.misfit)


def align(face: Face) -> Alignment:
    """Return the square whose template landmarks come nearest to a face's, by least squares.

    Of points as complex numbers it is a linear fit: Umeyama's similarity (1991) in two dimensions, without mirroring.

    Example:
        >>> moved = tuple((3 + x, 5 + y) for x, y in TEMPLATE_512)
        >>> square = align(Face((0, 0, 1, 1), moved, 1.0))
        >>> round(square.size, 6), np.round(square.corner, 6)
        (512.0, np.complex128(3+5j))
    """
    found, template = (np.asarray(points) @ (1, 1j) for points in (face.landmarks, TEMPLATE))
    centred = template - template.mean()
    turn = np.vdot(centred, found - found.mean()) / np.vdot(centred, centred)
    corner = found.mean() - turn * template.mean()
    misfit = math.sqrt(np.mean(np.abs(turn * template + corner - found) ** 2)) / max(abs(turn), 1e-9)
    return Alignment(complex(turn), complex(corner), misfit)


def transform(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return points (n, 2) moved by a (2, 3) matrix."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def chain(last: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the (2, 3) matrix of doing first one and then the other."""
    return np.column_stack([last[:, :2] @ first[:, :2], last[:, :2] @ first[:, 2] + last[:, 2]])


def inverted(matrix: np.ndarray) -> np.ndarray:
    """Return the (2, 3) matrix of the way back."""
    back = np.linalg.inv(matrix[:, :2])
    return np.column_stack([back, -back @ matrix[:, 2]])


def crop(image: np.ndarray, square: Alignment, side: int) -> np.ndarray:
    """Return a square of a picture as `side` x `side` px, antialiased where that shrinks it.

    What lies beyond the picture is its mirror image. A square that shrinks is cut out at a multiple of `side` of its
    native size or more, and then averaged over areas.

    Args:
        image: (H, W) or (H, W, C); uint8, uint16 or float32.
        square: Where.
        side: px.

    Returns:
        The same type and channels.
    """
    times = max(1, math.ceil(square.size / side - 1e-9))
    corners = square.corners()
    margin = 3  # of the cubic kernel
    height, width = image.shape[:2]
    left, top = (int(v) for v in np.clip(np.floor(corners.min(axis=0)) - margin, 0, (width - 1, height - 1)))
    right, bottom = (
        int(v) for v in np.clip(np.ceil(corners.max(axis=0)) + margin, (left + 1, top + 1), (width, height))
    )
    matrix = square.matrix(side * times)
    matrix[:, 2] -= left, top
    part = np.ascontiguousarray(image[top:bottom, left:right])
    found = warp(part, matrix, (side * times, side * times))
    return found if times == 1 else cv2.resize(found, (side, side), interpolation=cv2.INTER_AREA)


def warp(image: np.ndarray, matrix: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return a picture of `shape` (H, W) whose point p shows the given picture's point `matrix(p)`, bicubically.

    Points are continuous, the first pixel's centre is (0.5, 0.5); OpenCV's are (0, 0) there.
    """
    shifted = matrix.copy()
    shifted[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, shifted, shape[::-1], flags=flags, borderMode=cv2.BORDER_REFLECT)
