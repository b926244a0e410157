"""enlarge/api.py: `facesr_plugin.upscale` on arrays, tensors and PIL images, and which network it uses."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from samples import make_image, make_net

from facesr_plugin import upscale
from facesr_plugin.enlarge import api, tiles
from facesr_plugin.enlarge.api import upscale_faces
from facesr_plugin.enlarge.choices import NATURAL_WEIGHTS
from facesr_plugin.enlarge.network import DEFAULT_WEIGHTS, load_dial, load_network
from facesr_plugin.enlarge.photograph import FaceOptions
from facesr_plugin.enlarge.tiles import upscale_image, upscale_tensor
from facesr_plugin.errors import UserError
from facesr_plugin.run import checkpoint


@pytest.fixture(autouse=True)
def _exact(monkeypatch):
    """`auto` is fp32 on any machine, so that results can be compared."""
    monkeypatch.setattr(tiles, 'default_precision', lambda device: 'fp32')


@pytest.fixture
def net():
    return make_net()


@pytest.fixture
def weights(tmp_path, net) -> Path:
    checkpoint.save(tmp_path / 'net.pth', {'params': net.state_dict()})
    return tmp_path / 'net.pth'


# ------------------------------------------------------------ arrays and tensors
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize('channels', [(), (3,), (4,)])
def test_arrays(weights, net, channels, dtype):
    image = make_image(9, 7, *channels) if dtype != np.uint16 else make_image(9, 7, *channels, dtype=dtype)
    if dtype == np.float32:
        image = (image / 255).astype(dtype)
    result = upscale(image, weights, 'cpu', tile=5)
    assert (result.shape, result.dtype) == ((36, 28, *channels), dtype)
    np.testing.assert_array_equal(result, upscale_image(net, image, tile=5))


def test_tensors(weights, net):
    for image in (torch.rand(1, 9, 7, dtype=torch.float64), torch.randint(256, (2, 4, 9, 7), dtype=torch.uint8)):
        result = upscale(image, str(weights), tile=5)
        assert (result.dtype, result.device) == (image.dtype, image.device)
        assert torch.equal(result, upscale_tensor(net, image, tile=5))


def test_tensors_stay_out_of_the_graph_and_may_enter_another(weights):
    result = upscale(torch.rand(3, 4, 4, requires_grad=True), weights)
    assert not result.requires_grad
    factor = torch.ones(1, requires_grad=True)
    (result * factor).sum().backward()
    assert factor.grad == pytest.approx(result.sum().item())


@pytest.mark.gpu
def test_where_the_network_runs(weights):
    image = torch.rand(3, 20, 20)
    expected = upscale(image, weights, 'cpu')
    for result in (upscale(image.cuda(), weights), upscale(image, weights, 'cuda')):
        torch.testing.assert_close(result.cpu(), expected, atol=1e-2, rtol=0)  # convolutions may use TF32
    assert upscale(image.cuda(), weights, 'cpu').device == image.cuda().device


# -------------------------------------------------------------------- PIL images
@pytest.mark.parametrize(
    ('mode', 'becomes'),
    [('1', 'L'), ('L', 'L'), ('LA', 'LA'), ('P', 'RGB'), ('RGB', 'RGB'), ('RGBA', 'RGBA')],
)
def test_pil_modes(weights, net, mode, becomes):
    image = Image.fromarray(make_image(9, 7, 4)).convert('RGB' if mode == 'P' else 'RGBA').convert(mode)
    result = upscale(image, weights)
    assert (result.mode, result.size) == (becomes, (28, 36))
    plain = np.asarray(image.convert({'LA': 'RGBA'}.get(becomes, becomes)))
    expected = upscale_image(net, plain)
    np.testing.assert_array_equal(np.asarray(result), expected[..., ::3] if becomes == 'LA' else expected)


def test_pil_16_bits(weights, net):
    pixels = make_image(9, 7, dtype=np.uint16)
    result = upscale(Image.fromarray(pixels), weights)
    assert result.mode == 'I;16'
    np.testing.assert_array_equal(np.asarray(result), upscale_image(net, pixels))


@pytest.mark.parametrize(('mode', 'becomes'), [('P', 'RGBA'), ('RGB', 'RGBA'), ('L', 'LA')])
def test_pil_transparent_colour(tmp_path, weights, mode, becomes):
    """The left half has the colour that the file calls transparent."""
    pixels = np.full((8, 8), 200, np.uint8)
    pixels[:, :4] = 30
    image = Image.fromarray(pixels).convert(mode)
    colour = image.getpixel((0, 0))
    image.save(tmp_path / 'a.png', transparency=colour)
    with Image.open(tmp_path / 'a.png') as opened:
        assert opened.mode == mode
        result = upscale(opened, weights)
    assert (result.mode, result.size) == (becomes, (32, 32))
    alpha = np.asarray(result)[..., -1]
    assert (alpha[:, :8] == 0).all()
    assert (alpha[:, -8:] == 255).all()


def test_other_pil_modes(weights):
    message = r'^a PIL image of mode 1, L, LA, P, RGB, RGBA, I;16 expected, got CMYK; convert it first$'
    with pytest.raises(ValueError, match=message):
        upscale(Image.new('CMYK', (4, 4)), weights)


# ------------------------------------------------------------------ what is refused
def test_other_kinds():
    with pytest.raises(ValueError, match=r'^a numpy array, torch tensor or PIL image expected, got list$'):
        upscale([[0, 1], [1, 0]])


def test_other_weights(tmp_path):
    with pytest.raises(UserError, match=r'none\.pth: No such file or directory$'):
        upscale(np.zeros((4, 4), np.uint8), tmp_path / 'none.pth')
    with pytest.raises(UserError, match=r'^device: one of auto, cpu, cuda, mps or e.g. cuda:1 expected, got gpu$'):
        upscale(np.zeros((4, 4), np.uint8), device='gpu')


# ------------------------------------------------------------------------- networks
def test_the_default_network_is_the_one_that_comes_with_the_plugin():
    image = make_image(9, 7, 3)
    net = load_network(DEFAULT_WEIGHTS)
    assert (len(net.body), net.conv_first.out_channels, net.upscale) == (20, 64, 4)
    np.testing.assert_array_equal(upscale(image, device='cpu'), upscale_image(net, image))


def test_between_the_two_stages(weights, net, tmp_path):
    image, other = make_image(9, 7, 3), make_net(seed=1)
    checkpoint.save(tmp_path / 'other.pth', {'params': other.state_dict()})
    for natural in (0, 0.5, 1):
        options = {'natural_weights': tmp_path / 'other.pth', 'natural': natural}
        between = load_dial(weights, tmp_path / 'other.pth').at(natural)
        np.testing.assert_array_equal(upscale(image, weights, 'cpu', **options), upscale_image(between, image))
        faces, _ = upscale_faces(image, FaceOptions(background='network'), weights=weights, device='cpu', **options)
        np.testing.assert_array_equal(faces, upscale_image(between, image))
    own = upscale_image(load_dial(DEFAULT_WEIGHTS, NATURAL_WEIGHTS).at(0.5), image)
    np.testing.assert_array_equal(upscale(image, device='cpu', natural=0.5), own)
    assert (own != upscale(image, device='cpu')).any()
    relative = os.path.relpath(DEFAULT_WEIGHTS)  # the same file under another name
    np.testing.assert_array_equal(upscale(image, relative, 'cpu', natural=0.5), own)
    with pytest.raises(ValueError, match=r'^natural: natural_weights expected with it'):
        upscale(image, weights, natural=0.5)
    with pytest.raises(ValueError, match=r'^natural: 0 to 1 expected, got 1.5$'):
        upscale(image, weights, natural=1.5)


def test_threads_that_come_first_load_once(weights, net, monkeypatch):
    loaded, results, started = [], [], threading.Barrier(4)
    monkeypatch.setattr(api, 'load_dial', lambda path, *args, **kw: loaded.append(path) or load_dial(path, *args, **kw))
    image = make_image(9, 7, 3)

    def work():
        started.wait()
        results.append(upscale(image, weights, 'cpu'))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loaded == [weights]
    np.testing.assert_array_equal(results, [upscale_image(net, image)] * 4)


def test_a_changed_checkpoint_is_loaded_again(weights):
    """E.g. the best weights of a training that goes on."""
    image = make_image(9, 7, 3)
    first = upscale(image, weights)
    other = make_net(seed=1)
    checkpoint.save(weights, {'params': other.state_dict()})
    os.utime(weights, ns=(0, 1))
    second = upscale(image, weights)
    assert (first != second).any()
    np.testing.assert_array_equal(second, upscale_image(other, image))


def test_device_may_be_torchs_own(weights):
    image = make_image(4, 4, 3)
    same = upscale(image, weights, device=torch.device('cpu'))
    np.testing.assert_array_equal(same, upscale(image, weights, device='cpu'))


def test_the_callers_autocast_changes_nothing(weights):
    image = torch.rand(3, 8, 8)
    with torch.autocast('cpu', torch.bfloat16):
        under = upscale(image, weights)
    assert torch.equal(under, upscale(image, weights))


@pytest.mark.parametrize('orientation', [1, 6])
def test_pil_orientation_and_profile(weights, net, orientation):
    image = Image.fromarray(make_image(9, 7, 3))
    image.getexif()[0x0112] = orientation
    image.info.update(icc_profile=b'profile', dpi=(300, 300))
    result = upscale(image, weights)
    upright = np.asarray(image) if orientation == 1 else np.rot90(np.asarray(image), -1)
    np.testing.assert_array_equal(np.asarray(result), upscale_image(net, upright))
    assert (result.info['icc_profile'], result.info['dpi']) == (b'profile', (300, 300))
    assert result.getexif().get(0x0112, 1) == 1


def test_device_objects(weights, net):
    image = make_image(9, 7, 3)
    np.testing.assert_array_equal(upscale(image, weights, torch.device('cpu')), upscale(image, weights, 'cpu'))


def test_precision(weights):
    with pytest.raises(ValueError, match=r'^precision: one of auto, fp32, bf16, fp16 expected, got int8$'):
        upscale(make_image(4, 4, 3), weights, 'cpu', precision='int8')
