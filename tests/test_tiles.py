"""enlarge/tiles.py: arrays and tensors of every kind that is accepted, cut into tiles that leave no seam."""

import re

import cv2
import numpy as np
import pytest
import torch
from samples import make_image, make_net

from facesr_plugin.enlarge.tiles import receptive_radius, upscale_image, upscale_tensor


@pytest.mark.parametrize('scale', [2, 3, 4])
@pytest.mark.parametrize('tile', [5, 8, 16])
def test_tiles_give_the_whole_picture(scale, tile):
    net = make_net(upscale=scale)
    image = make_image(29, 23, 3)
    whole = upscale_image(net, image, tile=29)
    tiled = upscale_image(net, image, tile)
    assert np.abs(whole.astype(int) - tiled).max() <= 1
    assert np.abs(whole.astype(int) - upscale_image(net, image, tile, overlap=1)).max() > 1


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_receptive_radius(scale):
    net = make_net(upscale=scale).double()
    net.requires_grad_(False)
    lq = torch.rand(1, 3, 41, 41, dtype=torch.float64, requires_grad=True)
    start = 20 * scale
    net(lq)[:, :, start : start + scale, start : start + scale].sum().backward()
    rows = lq.grad.abs().sum((0, 1, 3)).nonzero()
    assert 20 - receptive_radius(net) <= rows.min() <= rows.max() <= 20 + receptive_radius(net)
    assert rows.max() - rows.min() >= 2 * (receptive_radius(net) - 1)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_depth(dtype):
    net = make_net()
    image = make_image(9, 7, 3, dtype=dtype)
    result = upscale_image(net, image)
    peak = np.iinfo(dtype).max
    with torch.no_grad():
        expected = net(torch.from_numpy(image.astype(np.float32) / peak).permute(2, 0, 1)[None])[0].clamp(0, 1) * peak
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, expected.permute(1, 2, 0).round().numpy())
    assert len(np.unique(result)) > 200


def test_grey():
    net = make_net()
    grey = make_image(9, 7)
    result = upscale_image(net, grey)
    assert result.shape == (36, 28)
    equal = upscale_image(net, np.repeat(grey[..., None], 3, 2))
    np.testing.assert_array_equal(equal, np.repeat(result[..., None], 3, 2))


def test_alpha():
    image = make_image(9, 7, 4)
    image[2:7, 2:5, 3] = 255
    result = upscale_image(make_net(), image, tile=4)
    np.testing.assert_array_equal(result[..., :3], upscale_image(make_net(), image[..., :3], tile=4))
    expected = cv2.resize(image[..., 3].astype(np.float32), None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    assert np.abs(result[..., 3] - expected.clip(0, 255)).max() <= 0.51


def test_one_pixel():
    assert upscale_image(make_net(), make_image(1, 1, 3)).shape == (4, 4, 3)


@pytest.mark.parametrize('dtype', ['float16', 'float32', 'float64'])
@pytest.mark.parametrize('channels', [(), (3,), (4,)])
def test_floats_are_not_rounded_to_8_bits(dtype, channels):
    net = make_net()
    image = (make_image(9, 7, *channels) / 255).astype(dtype)
    result = upscale_image(net, image, tile=5)
    assert (result.shape, result.dtype) == ((36, 28, *channels), dtype)
    rgb = np.repeat(image[..., None], 3, 2) if not channels else image[..., :3]
    with torch.no_grad():
        expected = net(torch.from_numpy(rgb.astype(np.float32)).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    expected = expected.mean(2) if not channels else expected
    tolerance = {'float16': 5e-4}.get(dtype, 1e-5)
    np.testing.assert_allclose(result[..., :3] if channels else result, expected.clip(0, 1), atol=tolerance)
    assert len(np.unique(result)) > 256


@pytest.mark.parametrize('channels', [1, 3, 4])
@pytest.mark.parametrize('dtype', [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_are_images_of_another_layout(channels, dtype):
    net = make_net()
    images = [make_image(9, 7, channels), make_image(9, 7, channels)[::-1]]
    batch = torch.tensor(np.stack(images)).permute(0, 3, 1, 2)
    if dtype != torch.uint8:
        batch = batch.to(dtype) / 255
    result = upscale_tensor(net, batch, tile=5)
    assert (result.shape, result.dtype) == ((2, channels, 36, 28), dtype)
    tolerance = {torch.uint8: 0, torch.bfloat16: 1 / 256}.get(dtype, 1e-3)
    for tensor, values in zip(batch, result, strict=True):
        assert torch.equal(upscale_tensor(net, tensor, tile=5), values)
        image = tensor.to(values.dtype if dtype != torch.bfloat16 else torch.float32).permute(1, 2, 0).numpy()
        expected = upscale_image(net, image[..., 0] if channels == 1 else image, tile=5).reshape(36, 28, channels)
        np.testing.assert_allclose(values.permute(1, 2, 0).float(), expected.astype(np.float32), atol=tolerance)


def test_arrays_of_any_memory_layout():
    net, image = make_net(), make_image(9, 7, 3)
    image.flags.writeable = False
    flipped = image[::-1, ::-1]
    np.testing.assert_array_equal(upscale_image(net, flipped), upscale_image(net, flipped.copy()))
    planar = np.asfortranarray(image)
    np.testing.assert_array_equal(upscale_image(net, planar), upscale_image(net, image))


@pytest.mark.parametrize(
    'image',
    [
        np.zeros((4, 4, 3), np.int64),
        np.zeros((4, 4, 3), bool),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((3, 4, 5), np.float32),
        np.zeros(4, np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
    ],
    ids=lambda image: f'{image.dtype} {image.shape}',
)
def test_other_arrays(image):
    message = (
        'uint8, uint16 or float in [0, 1] of shape (H, W), (H, W, 3) or (H, W, 4) expected, '
        f'got {image.dtype} {image.shape}'
    )
    with pytest.raises(ValueError, match=f'^{re.escape(message)}$'):
        upscale_image(make_net(), image)


@pytest.mark.parametrize(
    'images',
    [torch.zeros(3, 4, 4, dtype=torch.int64), torch.zeros(4, 4), torch.zeros(1, 5, 4, 3), torch.zeros(1, 1, 3, 4, 4)],
    ids=lambda images: f'{images.dtype} {tuple(images.shape)}',
)
def test_other_tensors(images):
    message = (
        'uint8 or float in [0, 1] of shape (C, H, W) or (B, C, H, W), C 1, 3 or 4, expected, '
        f'got {images.dtype} {tuple(images.shape)}'
    )
    with pytest.raises(ValueError, match=f'^{re.escape(message)}$'):
        upscale_tensor(make_net(), images)


@pytest.mark.parametrize(
    ('value', 'message'),
    [
        (np.nan, 'finite pixels expected, got NaN'),
        (1.5, 'floats in [0, 1] expected, got 0 to 1.5; divide or clip them first'),
        (-0.25, 'floats in [0, 1] expected, got -0.25 to 0; divide or clip them first'),
        (np.inf, 'floats in [0, 1] expected, got 0 to inf; divide or clip them first'),
    ],
)
@pytest.mark.parametrize('channel', [0, 3])
def test_other_values(value, message, channel):
    image = np.zeros((4, 4, 4), np.float32)
    image[2, 2, channel] = value
    with pytest.raises(ValueError, match=f'^{re.escape(message)}$'):
        upscale_image(make_net(), image)
    with pytest.raises(ValueError, match=f'^{re.escape(message)}$'):
        upscale_tensor(make_net(), torch.from_numpy(image).permute(2, 0, 1))


def test_no_pixels_and_no_tiles():
    with pytest.raises(ValueError, match=r'^a picture of 1x1 px or more expected, got 4x0 px$'):
        upscale_image(make_net(), np.zeros((0, 4, 3), np.uint8))
    with pytest.raises(ValueError, match=r'^tile: 1 or more expected, got -1$'):
        upscale_image(make_net(), np.zeros((4, 4, 3), np.uint8), tile=-1)
