"""A photograph of three faces before and after, for people to look at."""

from collections.abc import Sequence

import cv2
import numpy as np

from facesr_plugin.degradations.pictures import Degradation
from facesr_plugin.enlarge.other import Network
from facesr_plugin.enlarge.photograph import upscale_photograph
from photos.scenes import compose

CHOSEN, SIZES, DEGREES, SHAPE, SEED = (8, 17, 26), (440, 380, 330), (-12, 15, -24), (640, 1440), 4
DAMAGE, WIDTH = 6, 1000  # seed of the degradation; px of the picture


def before_and_after(net: Network, faces: Sequence[np.ndarray], degradation: Degradation) -> np.ndarray:
    """Return a composed photograph, damaged: enlarged bicubically, and below it with its faces by the network."""
    scene = compose([faces[i % len(faces)] for i in CHOSEN], SIZES, DEGREES, SHAPE, SEED)
    small = degradation.degraded(scene.pixels, 'photo', DAMAGE)
    result, _ = upscale_photograph(net, small, precision='auto')
    plain = cv2.resize(small, result.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    both = np.concatenate([plain, np.full((12, plain.shape[1], 3), 255, np.uint8), result])
    return cv2.resize(both, (WIDTH, round(len(both) * WIDTH / both.shape[1])), interpolation=cv2.INTER_AREA)
