"""The trained network that comes with the plugin: its size, and that it does more than plain enlarging."""

import numpy as np
import pytest
import torch
from tiny import FACES

from facesr_plugin import upscale
from facesr_plugin.archs.plain import enlarge
from facesr_plugin.data.images import list_images, read_image
from facesr_plugin.degradations import DegradationRanges, KernelRanges
from facesr_plugin.degradations.pictures import Degradation
from facesr_plugin.enlarge.network import DEFAULT_WEIGHTS

SCALE = 4


def psnr(image: np.ndarray, gt: np.ndarray) -> float:
    """10 log10(255^2 / MSE) over RGB in 8 bits."""
    return 10 * np.log10(255**2 / np.square(image.astype(float) - gt).mean())


def bilinear(lq: np.ndarray) -> np.ndarray:
    enlarged = enlarge(torch.from_numpy(lq).permute(2, 0, 1)[None].float(), SCALE, 'bilinear')
    return enlarged[0].permute(1, 2, 0).round().numpy()


def test_it_is_small():
    assert DEFAULT_WEIGHTS.stat().st_size < 8e6


@pytest.mark.parametrize('kind', ['clean', 'degraded'])
def test_it_beats_bilinear_enlarging(kind):
    """In mean PSNR over sample faces, only resized (R) and degraded as in training (D)."""
    degradation = Degradation(DegradationRanges(), KernelRanges(), SCALE)
    gain = []
    for path in list_images(FACES)[:6]:
        gt = read_image(path)
        lq = degradation.clean(gt) if kind == 'clean' else degradation.degraded(gt, path.stem, seed=0)
        gain.append(psnr(upscale(lq, device='cpu'), gt) - psnr(bilinear(lq), gt))
    assert np.mean(gain) > 1, gain
