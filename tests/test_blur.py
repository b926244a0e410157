import cv2
import numpy as np
import pytest
import torch
from basicsr.utils import USMSharp
from basicsr.utils.img_process_util import filter2D, usm_sharp
from scipy import ndimage

from facesr_plugin.degradations.blur import filter_batch, usm_sharpen


def rand(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize(('batch', 'channels', 'side'), [(1, 3, 21), (3, 3, 21), (2, 1, 7), (4, 3, 1)])
def test_filter_is_stock(batch, channels, side):
    images, kernels = rand(batch, channels, 24, 33), rand(batch, side, side) / side**2
    torch.testing.assert_close(filter_batch(images, kernels), filter2D(images, kernels))


def test_filter_is_scipy():
    """Correlation, not convolution: the kernels are not symmetric; and every image has its own."""
    images, kernels = rand(3, 2, 18, 15, dtype=torch.float64), rand(3, 9, 9, dtype=torch.float64)
    out = filter_batch(images, kernels)
    for image, kernel, found in zip(images.numpy(), kernels.numpy(), out.numpy(), strict=True):
        expected = [ndimage.correlate(plane, kernel, mode='mirror') for plane in image]
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_filter_takes_channels_last():
    """Stock stops with `view size is not compatible` there."""
    images, kernels = rand(2, 3, 24, 33), rand(2, 21, 21)
    out = filter_batch(images.contiguous(memory_format=torch.channels_last), kernels)
    assert out.is_contiguous()
    assert torch.equal(out, filter_batch(images, kernels))


def test_filter_exception():
    with pytest.raises(ValueError, match='odd kernel side expected, got 20'):
        filter_batch(rand(1, 3, 24, 24), rand(1, 20, 20))


@pytest.fixture
def picture() -> torch.Tensor:
    """Two images with flat areas, soft gradients and hard edges, (2, 3, 70, 90)."""
    soft = torch.nn.functional.interpolate(rand(2, 3, 7, 9), size=(70, 90), mode='bicubic').clamp(0, 1)
    soft[:, :, 20:40, 30:60] = 0.1
    soft[:, :, 50:, :25] += 0.3
    return soft.clamp(0, 1)


def test_usm_is_stock(picture):
    sharp = usm_sharpen(picture)
    torch.testing.assert_close(sharp, USMSharp()(picture), rtol=0, atol=2e-6)
    assert (sharp - picture).abs().max() > 0.05  # it did sharpen


def test_usm_is_opencv(picture):
    for image, sharp in zip(picture, usm_sharpen(picture, weight=0.8, radius=31, threshold=20 / 255), strict=True):
        expected = usm_sharp(image.permute(1, 2, 0).numpy(), weight=0.8, radius=31, threshold=20)
        np.testing.assert_allclose(sharp.permute(1, 2, 0).numpy(), expected, atol=2e-6)


def test_usm_keeps_flat_areas():
    flat = torch.full((1, 3, 60, 60), 0.4)
    torch.testing.assert_close(usm_sharpen(flat), flat)


def test_usm_sigma_is_opencv():
    """The blur inside is OpenCV's Gaussian of that side: a threshold below 0 leaves I + weight (I - blur(I))."""
    image = rand(1, 3, 60, 64) * 0.2 + 0.4
    plane = image[0].permute(1, 2, 0).numpy()
    expected = plane + 0.5 * (plane - cv2.GaussianBlur(plane, (51, 51), 0))
    out = usm_sharpen(image, threshold=-1.0)[0].permute(1, 2, 0)
    np.testing.assert_allclose(out.numpy(), expected, atol=1e-6)
