"""enlarge/tiles.py: arrays and tensors of every kind that is accepted, cut into tiles that leave no seam."""

import os
import platform
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from samples import make_image, make_net
from tiny import ROOT

from facesr_plugin.data.images import list_images, read_image
from facesr_plugin.enlarge import tiles
from facesr_plugin.enlarge.choices import NATURAL_WEIGHTS
from facesr_plugin.enlarge.network import DEFAULT_WEIGHTS, load_dial, load_network
from facesr_plugin.enlarge.tiles import (
    choose_precision,
    default_tile,
    receptive_radius,
    upscale_image,
    upscale_images,
    upscale_tensor,
)
from facesr_plugin.run import memory


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


def test_no_visible_pixel_shows_what_is_under_invisible_ones():
    """A disc on transparent white, magenta or black is as an opaque disc is."""
    net = load_network(DEFAULT_WEIGHTS)
    y, x = np.mgrid[:48, :48] - 23.5
    alpha = np.clip((20 - np.hypot(x, y)) * 255 + 127, 0, 255).astype(np.uint8)
    for under in ((255, 255, 255), (255, 0, 255), (0, 0, 0)):
        image = np.dstack([np.full((48, 48, 3), (150, 60, 40), np.uint8), alpha])
        image[alpha == 0, :3] = under
        result = upscale_image(net, image).astype(int)
        visible = result[..., 3] > 0
        assert visible.sum() > 15_000
        assert np.abs(result[visible][:, :3] - (150, 60, 40)).max() <= 3
    tensor = upscale_tensor(net, torch.from_numpy(image).permute(2, 0, 1))
    assert np.abs(tensor.permute(1, 2, 0).numpy().astype(int) - result).max() <= 1


@pytest.mark.parametrize(('place', 'levels', 'rms'), [(0, 1, 0.08), (0.5, 1, 0.1), (1, 2, 0.16)])
def test_bf16_is_what_fp32_is_but_for_a_level(place, levels, rms):
    """Of small faces and of noisy ones, on which the network does the most; the natural one makes more of them."""
    net = load_dial(DEFAULT_WEIGHTS, NATURAL_WEIGHTS).at(place)
    for path in list_images(ROOT / 'tests' / 'data' / 'faces')[:3]:
        image = cv2.resize(read_image(path), (48, 48), interpolation=cv2.INTER_AREA)
        noise = np.random.default_rng(0).normal(0, 25, image.shape)
        image = np.vstack([image, (image + noise).clip(0, 255).astype(np.uint8)])
        exact = upscale_image(net, image).astype(int)
        difference = upscale_image(net, image, precision='bf16') - exact
        assert 1 <= np.abs(difference).max() <= levels, 'another precision'
        unit = image.astype(np.float32) / 255
        floats = upscale_image(net, unit, precision='bf16') - upscale_image(net, unit)
        assert np.sqrt((floats**2).mean()) * 255 < rms


def test_what_auto_is(monkeypatch):
    monkeypatch.setattr('facesr_plugin.enlarge.tiles.default_precision', lambda device: 'bf16')
    cpu = torch.device('cpu')
    assert choose_precision('auto', cpu, torch.uint8) == 'bf16'
    assert choose_precision('auto', cpu, torch.uint16) == choose_precision('auto', cpu, torch.float32) == 'fp32'
    assert choose_precision('bf16', cpu, torch.float32) == 'bf16'


def test_several_at_once_are_as_each_alone():
    net, images = make_net(), [make_image(9, 7, 4), make_image(9, 7, 4)[::-1], np.full((9, 7, 4), 80, np.uint8)]
    for image, result in zip(images, upscale_images(net, images, tile=5), strict=True):
        assert np.abs(result.astype(int) - upscale_image(net, image, tile=5)).max() <= 1


@pytest.mark.parametrize('scale', [1, 2, 3, 4, 8])
@pytest.mark.parametrize('channels', [1, 3])
def test_bands_give_the_whole_picture(monkeypatch, scale, channels):
    net = make_net(upscale=scale, num_in_ch=channels, num_out_ch=channels)
    image = make_image(13, 11, 4)
    whole = upscale_image(net, image)
    monkeypatch.setattr(tiles, 'CPU_BAND_PIXELS', 22)
    assert np.abs(whole.astype(int) - upscale_image(net, image)).max() <= 1
    monkeypatch.setattr(tiles, 'RECONSTRUCTION_RADIUS', 0)
    assert np.abs(whole.astype(int) - upscale_image(net, image)).max() > 1


@pytest.mark.parametrize(
    ('free', 'side'), [(2**40, 512), (2_300_000_000, 512), (2**31, 256), (2**29, 128), (0, 128), (None, 256)]
)
def test_tiles_are_as_large_as_memory_allows(monkeypatch, free, side):
    """Six maps of 64 features in fp32 of 512 + 86 px a side are 549 MB, a quarter of 2.2 GB."""
    monkeypatch.setattr(tiles, 'free_memory', lambda device: free)
    assert default_tile(load_network(DEFAULT_WEIGHTS), torch.device('cpu')) == side


def test_free_memory(monkeypatch, tmp_path):
    system, group = tmp_path / 'meminfo', tmp_path / 'group'
    monkeypatch.setattr(memory, 'SYSTEM', system)
    monkeypatch.setattr(memory, 'GROUP', group)
    cpu = torch.device('cpu')
    assert memory.free_memory(cpu) is None
    system.write_text('MemTotal: 900 kB\nMemFree: 10 kB\nMemAvailable: 700 kB\n')
    assert memory.free_memory(cpu) == 700 * 1024
    group.mkdir()
    (group / 'memory.max').write_text('max\n')
    assert memory.free_memory(cpu) == 700 * 1024
    (group / 'memory.max').write_text('5000\n')
    (group / 'memory.current').write_text('1000\n')
    assert memory.free_memory(cpu) == 4000
    assert memory.free_memory(torch.device('mps')) is None


FAULTS = """
import resource, torch
from facesr_plugin.run.memory import keep_freed_memory
def faults():  # pages that the system clears for ten tensors of 64 MB, one after the other
    for _ in range(10):
        torch.ones(2**24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults())
keep_freed_memory()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='the C library is another one')
def test_freed_memory_is_kept():
    before, after = map(int, subprocess.check_output([sys.executable, '-c', FAULTS], text=True).split())
    assert before > 10 * 64 / 2  # a huge page is 2 MB
    assert after < before / 10


PEAK = """
import sys, numpy as np, torch
from samples import make_net
from facesr_plugin.enlarge.tiles import upscale_image
net, mark = make_net(num_block=1), lambda: next(
    int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM:')
)
image = np.random.default_rng(0).integers(0, 256, (1000, 1500, 4), np.uint8)
upscale_image(net, image[:300, :300], tile=128)
before = mark()
result = upscale_image(net, image, tile=128)
print((mark() - before) * 1024 / result.nbytes)
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='Linux tells the peak memory of a process')
def test_a_large_picture_needs_little_more_than_its_result():
    """It needed 3.2 times that when the picture was converted, and its alpha enlarged, as a whole."""
    env = os.environ | {'PYTHONPATH': os.pathsep.join([str(ROOT), str(ROOT / 'tests')])}
    done = subprocess.run([sys.executable, '-c', PEAK], capture_output=True, text=True, env=env, check=True)
    assert 0.9 < float(done.stdout) < 2.2
