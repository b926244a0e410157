"""How alike two pictures of a face are: the distance of dlib's face embeddings. Needs the extra `judge`.

The model files are data of the package `face_recognition_models` (CC0-1.0). It is never imported: it needs
`pkg_resources`, which setuptools has dropped. Both files that are read were made by Davis King, who has put them into
the public domain (https://github.com/davisking/dlib-models); the package's predictor of 68 points, trained on data
that forbid commercial use, is not read.
"""

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


class FaceEmbedder:
    """dlib's frontal face detector, predictor of five points, and recognition network, on the CPU.

    Raises:
        UserError: dlib or the model files are not installed.
    """

    def __init__(self) -> None:
        for name in ('dlib', 'face_recognition_models'):
            if find_spec(name) is None:
                raise UserError(f'identity: {name} is not installed: {INSTALL}; --no-identity leaves it out')
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
