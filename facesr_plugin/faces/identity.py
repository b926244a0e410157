"""How alike two pictures of a face are: the distance of dlib's face embeddings. Needs the extra `judge`.

The model files are data of the package `face_recognition_models` (CC0-1.0). It is never imported: it needs
`pkg_resources`, which setuptools has dropped. Both files that are read were made by Davis King, who has put them into
the public domain (https://github.com/davisking/dlib-models); the package's predictor of 68 points, trained on data
that forbid commercial use, is not read.
"""

import math
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from facesr_plugin.errors import UserError

INSTALL = "pip install 'facesr-plugin[judge]', in a checkout pip install -e '.[judge]'"
Box = Any  # dlib's rectangle, or what another embedder takes for one


class Embedder(Protocol):
    """What finds faces and tells them apart."""

    def find(self, image: np.ndarray) -> Box | None:
        """Return the box of the largest face in uint8 RGB (H, W, 3), or None."""

    def embed(self, image: np.ndarray, box: Box) -> np.ndarray:
        """Return the embedding of the face in a box, a vector."""


def what_is_missing() -> str | None:
    """Return a line that says which package is not installed, and how to; None where all are."""
    for name in ('dlib', 'face_recognition_models'):
        if find_spec(name) is None:
            return f'{name} is not installed: {INSTALL}'
    return None


class FaceEmbedder:
    """dlib's frontal face detector, predictor of five points, and recognition network, on the CPU.

    Raises:
        UserError: dlib or the model files are not installed.
    """

    def __init__(self) -> None:
        if line := what_is_missing():
            raise UserError(f'identity: {line}; --no-identity leaves it out')
        import dlib

        models = Path(find_spec('face_recognition_models').submodule_search_locations[0]) / 'models'
        self._detect = dlib.get_frontal_face_detector()
        self._points = dlib.shape_predictor(str(models / 'shape_predictor_5_face_landmarks.dat'))
        self._net = dlib.face_recognition_model_v1(str(models / 'dlib_face_recognition_resnet_model_v1.dat'))

    def find(self, image: np.ndarray) -> Box | None:
        """Return the box of the largest face in uint8 RGB (H, W, 3), or None; smaller ones than 80 px are not seen."""
        return max(self._detect(np.ascontiguousarray(image)), key=lambda box: box.area(), default=None)

    def embed(self, image: np.ndarray, box: Box) -> np.ndarray:
        """Return the embedding of the face in a box, float64 (128,); the five points are found in this very image."""
        image = np.ascontiguousarray(image)
        return np.array(self._net.compute_face_descriptor(image, self._points(image, box)))


def calculate_identity(img: np.ndarray, img2: np.ndarray) -> float:
    """Return how far the face of an image lies from that of another one: a metric for `val.metrics`, less is better.

    0 is the same picture; above 0.6 dlib takes two pictures for two people. NaN where no face is found in the other.

    YAML: `val.metrics.identity: {type: calculate_identity}`

    Args:
        img: uint8 BGR (H, W, 3).
        img2: The original, of the same shape; the face is looked for in it alone.
    """
    embedder, image, original = _embedder(), img[..., ::-1], img2[..., ::-1]
    box = embedder.find(original)
    if box is None:
        return math.nan
    return float(np.linalg.norm(embedder.embed(image, box) - embedder.embed(original, box)))


@lru_cache(maxsize=1)
def _embedder() -> FaceEmbedder:
    return FaceEmbedder()
