import cv2
import numpy as np
import pytest
import torch
from basicsr.utils import DiffJPEG
from torch.nn import functional as F

from facesr_plugin.degradations.jpeg import jpeg


def pictures(batch: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Smooth images with some detail, (B, 3, H, W) in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, height // 12 + 2, width // 12 + 2, generator=generator)
    smooth = F.interpolate(coarse, size=(height, width), mode='bicubic')
    return (smooth + 0.05 * torch.randn(batch, 3, height, width, generator=generator)).clamp(0, 1)


@pytest.mark.parametrize('size', [(64, 64), (48, 80), (50, 70), (33, 17), (15, 16), (7, 100), (1, 1)])
def test_stock(size):
    images, quality = pictures(5, *size), torch.tensor([10.0, 30.0, 49.99, 50.0, 95.0])
    expected = DiffJPEG(differentiable=False)(images, quality.clone()).detach()
    distance = (jpeg(images, quality) - expected).abs()
    # A coefficient halfway between two multiples may be rounded either way, which changes its block a little.
    assert (distance > 1e-5).float().mean() < 0.002
    assert distance.max() < 0.05


def test_takes_channels_last():
    images, quality = pictures(2, 40, 56), torch.tensor([30.0, 80.0])
    out = jpeg(images.contiguous(memory_format=torch.channels_last), quality)
    assert out.is_contiguous()
    torch.testing.assert_close(out, jpeg(images, quality))


def test_every_image_has_its_own_quality():
    images, quality = pictures(3, 37, 45), torch.tensor([20.0, 60.0, 90.0])
    together = jpeg(images, quality)
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], jpeg(images[i : i + 1], quality[i : i + 1]))


@pytest.mark.parametrize('seed', range(3))
def test_equals_a_real_file(seed):
    """Of the transposed picture: stock's quantisation table, which is ours, is the standard's transposed.

    At quality 50 encoders use the tables as they stand; what is left is the file's rounding to 8 bits.
    """
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 1, 12, 16, generator=generator)
    gray = (F.interpolate(coarse, size=(96, 128), mode='bicubic').clamp(0, 1) * 255).round()
    transposed = np.ascontiguousarray(gray[0, 0].numpy().astype(np.uint8).T)
    _, file = cv2.imencode('.jpg', transposed, [cv2.IMWRITE_JPEG_QUALITY, 50])
    expected = cv2.imdecode(file, cv2.IMREAD_GRAYSCALE).T.astype(np.float32)
    found = jpeg(gray.expand(-1, 3, -1, -1) / 255, torch.tensor([50.0]))[0].numpy() * 255
    assert np.abs(found - expected).mean() < 0.5
    assert np.abs(gray[0, 0].numpy() - expected).mean() > 1.5  # the file is not lossless


def test_error_falls_with_quality():
    images = pictures(1, 64, 64).expand(7, -1, -1, -1)
    quality = torch.tensor([5.0, 15.0, 30.0, 50.0, 70.0, 85.0, 97.0])
    error = (jpeg(images, quality) - images).square().mean((1, 2, 3)).tolist()
    assert error == sorted(error, reverse=True)
    assert error[0] > 4 * error[-1]


def test_flat_blocks_survive():
    """At quality 50 luma's constant coefficient is a multiple of 16: 8 * (y - 128), so y in steps of 2."""
    gray = torch.tensor([128.0, 130.0, 131.0 - 1e-3, 131.0 + 1e-3]).view(4, 1, 1, 1).expand(4, 3, 16, 16) / 255
    out = jpeg(gray, torch.full((4,), 50.0)) * 255
    assert out.mean((1, 2, 3)).tolist() == pytest.approx([128, 130, 130, 132], abs=1e-3)
    assert (out.amax((1, 2, 3)) - out.amin((1, 2, 3))).max() < 1e-3


def test_arguments_are_left_alone():
    """Stock overwrites the qualities that it is given."""
    images, quality = pictures(2, 20, 20), torch.tensor([30.0, 80.0])
    copies = images.clone(), quality.clone()
    jpeg(images, quality)
    assert torch.equal(images, copies[0])
    assert torch.equal(quality, copies[1])
