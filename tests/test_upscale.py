"""facesr_plugin/inference.py and upscale_command.py: any picture in, the same kind of picture out."""

import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from tiny import ROOT

from facesr_plugin.archs.face_srresnet_arch import FaceSRResNet
from facesr_plugin.commands import upscale as upscale_command
from facesr_plugin.enlarge.network import (
    DEFAULT_WEIGHTS,
    load_network,
    network_from_weights,
    pick_device,
)
from facesr_plugin.enlarge.pictures import read_picture, write_picture
from facesr_plugin.enlarge.tiles import receptive_radius, upscale_image, upscale_tensor
from facesr_plugin.errors import UserError, run_command
from facesr_plugin.run import checkpoint


def make_net(seed: int = 0, **options: int) -> FaceSRResNet:
    """Return a small network whose residual path is as strong as its skip."""
    torch.manual_seed(seed)
    net = FaceSRResNet(**({'num_feat': 8, 'num_block': 2} | options)).eval()
    for layer in net.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
    return net


def make_image(height: int, width: int, *channels: int, dtype: type = np.uint8) -> np.ndarray:
    rng = np.random.default_rng((height, width))
    return rng.integers(0, np.iinfo(dtype).max, (height, width, *channels), dtype, endpoint=True)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """The current folder, with `net.pth`, a network that is bilinear upsampling, x2."""
    monkeypatch.chdir(tmp_path)
    net = make_net(num_block=1, upscale=2)
    for parameter in net.conv_last.parameters():
        torch.nn.init.zeros_(parameter)
    checkpoint.save('net.pth', {'params': net.state_dict()})
    return tmp_path


def bilinear(image: np.ndarray, scale: int = 2) -> np.ndarray:
    enlarged = cv2.resize(image.astype(np.float64), None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    return np.rint(enlarged)


def run(*options: str) -> int | None:
    return upscale_command.main(['-o', 'out', '--weights', 'net.pth', '--device', 'cpu', *options])


# ------------------------------------------------------------------- networks
@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({'params': None, 'iter': 1}, "net.pth: a state dict of tensors by name expected as 'params'"),
        ({'params': {0: torch.zeros(1)}, 'iter': 1}, "net.pth: a state dict of tensors by name expected as 'params'"),
        ({0: torch.zeros(1)}, 'net.pth: a state dict of tensors by name expected'),
    ],
)
def test_foreign_checkpoints(work, content, message):
    torch.save(content, 'net.pth')
    with pytest.raises(UserError) as error:
        load_network('net.pth')
    assert str(error.value) == message


def test_checkpoint_with_a_psnr_of_another_form(work):
    weights = make_net().state_dict()
    torch.save({'params': weights, 'params_ema': weights, 'psnr': 26.1}, 'net.pth')
    assert checkpoint.load_weights('net.pth')[1] == 'params_ema'


@pytest.mark.parametrize('options', [{'num_block': 3}, {'num_feat': 12}, {'upscale': 2}, {'upscale': 3}])
def test_network_is_known_from_its_weights(options):
    net = make_net(**options)
    other = network_from_weights(net.state_dict())
    image = torch.rand(1, 3, 5, 6)
    with torch.no_grad():
        assert torch.equal(other(image), net(image))
    assert not other.training


def test_key(tmp_path):
    raw, ema = make_net(1).state_dict(), make_net(2).state_dict()
    path = tmp_path / 'net.pth'
    for psnr, better in (({'params': 26.0, 'params_ema': 25.0}, raw), ({'params': 25.0, 'params_ema': 26.0}, ema)):
        checkpoint.save(path, {'params': raw, 'params_ema': ema, 'psnr': psnr})
        assert torch.equal(load_network(path).state_dict()['conv_last.weight'], better['conv_last.weight'])
    assert torch.equal(load_network(path, 'params').state_dict()['conv_last.weight'], raw['conv_last.weight'])


def change(name: str, value: torch.Tensor | None) -> dict[str, torch.Tensor]:
    weights = make_net().state_dict() | ({name: value} if value is not None else {})
    return {key: tensor for key, tensor in weights.items() if tensor is not None and (value is not None or key != name)}


@pytest.mark.parametrize(
    ('weights', 'message'),
    [
        (
            {'layer.weight': torch.zeros(1)},
            'n.pth: weights of a FaceSRResNet (SRResNet without batch norm) expected, no conv_first.weight',
        ),
        (
            change('conv_first.weight', torch.zeros(8, 1, 3, 3)),
            'n.pth: a network for RGB expected, got one for 1 channels',
        ),
        (
            change('conv_hr.bias', None),
            'n.pth: weights that fit network_g (FaceSRResNet) expected: lacks conv_hr.bias',
        ),
        (
            change('conv_last.bias', torch.full((3,), torch.nan)),
            'n.pth: finite weights expected, the training that made them diverged',
        ),
    ],
)
def test_other_weights(weights, message):
    with pytest.raises(UserError) as caught:
        network_from_weights(weights, 'n.pth')
    assert str(caught.value) == message


def test_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: False)
    assert pick_device('auto') == pick_device('cpu') == torch.device('cpu')
    with pytest.raises(UserError, match=r'^device: cuda is not available here, cpu is$'):
        pick_device('cuda')
    with pytest.raises(UserError, match=r'^device: one of auto, cpu, cuda, mps expected, got tpu$'):
        pick_device('tpu')


# --------------------------------------------------------------------- images
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


# -------------------------------------------------------------------- command
@pytest.mark.parametrize('channels', [(), (3,), (4,)])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('kind', ['png', 'tif'])
def test_kinds_stay(work, channels, dtype, kind):
    image = make_image(9, 7, *channels, dtype=dtype)
    write_picture(Path(f'in/sub/a.b.{kind}'), image, 95)
    assert run('-i', 'in', '--format', kind, '--tile', '5') is None
    result = read_picture(Path(f'out/sub/a.b.{kind}'))
    assert (result.shape, result.dtype) == ((18, 14, *channels), dtype)
    colours = (..., slice(0, 3)) if channels == (4,) else ...
    step = np.abs(result[colours] - bilinear(image[colours] if channels else image))
    assert step.max() <= np.iinfo(dtype).max // 255
    if not channels:  # rounding after the mean of three equal channels
        assert Image.open(f'out/sub/a.b.{kind}').mode in ('L', 'I;16')


def test_grey_with_alpha(work):
    grey = make_image(9, 7)
    Image.fromarray(np.dstack([grey, 255 - grey]), 'LA').save('a.png')
    assert run('-i', 'a.png') is None
    result = read_picture(Path('out/a.png'))
    assert result.shape == (18, 14, 4)
    assert (result[..., :1] == result[..., 1:3]).all()


@pytest.mark.parametrize('kind', ['png', 'jpg', 'webp', 'tif'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_orientation(work, kind, orientation):
    image = np.zeros((16, 32, 3), np.uint8)
    image[:8, :16], image[:8, 16:], image[8:, :16] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(image).save(f'a.{kind}', **({'tiffinfo': exif} if kind == 'tif' else {'exif': exif}))
    with Image.open(f'a.{kind}') as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture).convert('RGB'))
    result = read_picture(Path(f'a.{kind}'))
    assert result.shape == expected.shape == ((16, 32, 3) if orientation < 5 else (32, 16, 3))
    assert np.abs(result.astype(int) - expected)[2:6, 2:6].max() < 30


def test_damaged_metadata_is_passed_over(work):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (8, 4)).save('a.webp', exif=exif)
    data = Path('a.webp').read_bytes()
    assert b'MM\0*' in data
    Path('a.webp').write_bytes(data.replace(b'MM\0*', b'M!\0*'))
    assert read_picture(Path('a.webp')).shape == (4, 8, 3)


@pytest.mark.parametrize('kind', ['png', 'jpg', 'webp'])
def test_metadata_cut_short_is_passed_over(work, kind, recwarn):
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = exif.tobytes()
    for length in range(6, len(whole)):
        Image.new('RGB', (8, 4)).save(f'a.{kind}', exif=whole[:length])
        assert read_picture(Path(f'a.{kind}')).shape[2] == 3
    assert not recwarn.list


def test_formats_of_8_bits(work):
    image = make_image(8, 8, 4, dtype=np.uint16)
    image[..., :3] = image[:1, :1, :3]
    image[..., 3] = 0
    image[:, 4:, 3] = 65535
    write_picture(Path('a.png'), image, 95)
    for kind, channels in (('jpg', 3), ('webp', 4)):
        assert run('-i', 'a.png', '--format', kind, '--quality', '100') is None
        result = read_picture(Path(f'out/a.{kind}'))
        assert (result.shape, result.dtype) == ((16, 16, channels), np.uint8)
        assert np.abs(result[:, 12:, :3] - image[0, 0, :3] / 257).max() < 6
    assert (read_picture(Path('out/a.jpg'))[:, :4] > 250).all(), 'transparent is white'
    assert result[:, :4, 3].max() == 0


def test_unreadable_pictures_are_skipped(work, capsys):
    write_picture(Path('in/a.png'), make_image(4, 4, 3), 95)
    data = Path('in/a.png').read_bytes()
    Path('in/b.png').write_bytes(data[: len(data) // 2])
    Path('in/c.jpg').write_bytes(b'')
    cv2.imwrite('in/d.tif', np.zeros((4, 4, 3), np.float32))
    assert run('-i', 'in') == 1
    assert [path.name for path in Path('out').iterdir()] == ['a.png']
    said = capsys.readouterr()
    for line in (
        'skipped: in/b.png: cannot be read as an image (empty, damaged or another file type)',
        'skipped: in/c.jpg: cannot be read as an image (empty, damaged or another file type)',
        'skipped: in/d.tif: pixels of 8 or 16 bits expected, got float32',
        '3 of 4 pictures could not be read',
    ):
        assert f'{line}\n' in said.err
    assert said.out == 'out: 1 written\n'


def test_results_are_kept_unless_told_otherwise(work, capsys):
    for name in 'ab':
        write_picture(Path(f'in/{name}.png'), make_image(4, 4, 3), 95)
    write_picture(Path('out/a.png'), make_image(1, 1, 3), 95)
    assert run('-i', 'in') is None
    assert capsys.readouterr().out == 'out: 1 written, 1 existed (--overwrite replaces them)\n'
    assert read_picture(Path('out/a.png')).shape == (1, 1, 3)
    assert run('-i', 'in', '--overwrite') is None
    assert read_picture(Path('out/a.png')).shape == (8, 8, 3)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['-i', 'none.png'], 'none.png: no such file or folder'),
        (['-i', 'in', 'in/a.png'], 'in/a.png: another name expected, in/a.png becomes out/a.png too'),
        (['-i', 'in', '-o', 'in/out'], 'in/out: an output folder outside the input in expected'),
        (['-i', 'in/a.png', '-o', 'in'], 'in/a.png: another output folder expected, in/a.png is an input'),
        (['-i', 'in', '-o', 'a.png'], '--output a.png: a folder expected, results keep the names of their pictures'),
        (['-i', 'in', '--tile', '0'], f'--tile: 1 to {2**20} expected, got 0'),
        (['-i', 'in', '--quality', '101'], '--quality: 1 to 100 expected, got 101'),
        (['-i', 'in', '--key', 'params_ema'], "net.pth: key 'params_ema' expected, found params"),
    ],
)
def test_errors(work, options, message):
    write_picture(Path('in/a.png'), make_image(4, 4, 3), 95)
    before = Path('in/a.png').read_bytes()
    with pytest.raises(UserError) as caught:
        run(*options)
    assert str(caught.value) == message
    assert Path('in/a.png').read_bytes() == before


def test_a_picture_needs_no_more_than_its_name(work, capsys):
    """The weights and the output folder have defaults."""
    write_picture(Path('a.png'), make_image(4, 5, 3), 95)
    assert upscale_command.main(['-i', 'a.png']) is None
    assert capsys.readouterr().out == 'upscaled: 1 written\n'
    expected = upscale_image(load_network(DEFAULT_WEIGHTS), read_picture(Path('a.png')))
    np.testing.assert_allclose(read_picture(Path('upscaled/a.png')), expected, atol=1)
    assert expected.shape == (16, 20, 3)


def test_script(work):
    write_picture(Path('a.png'), make_image(4, 4, 3), 95)
    command = [sys.executable, str(ROOT / 'scripts' / 'upscale.py'), '-i', 'a.png', '-o', 'out', '--weights', 'net.pth']
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, 'out: 1 written\n'), done.stderr
    assert read_picture(Path('out/a.png')).shape == (8, 8, 3)


def test_too_large_for_the_format(work):
    with pytest.raises(UserError, match=r'^a\.webp: another file type expected, webp cannot hold 20000x1 px$'):
        write_picture(Path('a.webp'), np.zeros((1, 20000, 3), np.uint8), 95)
    assert not Path('a.webp').exists()


@pytest.mark.parametrize('how', ['cuda', 'torch', 'numpy'])
def test_out_of_memory(work, monkeypatch, how):
    def fail(*args, **kwargs):
        if how == 'cuda':
            raise torch.OutOfMemoryError
        torch.empty(2**60) if how == 'torch' else np.empty(2**48)

    write_picture(Path('a.png'), make_image(4, 4, 3), 95)
    monkeypatch.setattr(upscale_command, 'upscale_image', fail)
    with pytest.raises(UserError, match=r'^a\.png: out of memory; a --tile below 256 needs less$'):
        run('-i', 'a.png')


def test_other_errors_are_not_taken_for_it(work, monkeypatch):
    def fail(*args, **kwargs):
        torch.zeros(2) @ torch.zeros(3)

    write_picture(Path('a.png'), make_image(4, 4, 3), 95)
    monkeypatch.setattr(upscale_command, 'upscale_image', fail)
    with pytest.raises(RuntimeError, match='size'):
        run('-i', 'a.png')


def test_status(work):
    write_picture(Path('in/a.png'), make_image(4, 4, 3), 95)
    Path('in/b.png').write_bytes(b'no picture')
    with pytest.raises(SystemExit) as caught:
        run_command(partial(run, '-i', 'in'))
    assert caught.value.code == 1
    with pytest.raises(SystemExit) as caught:
        run_command(partial(run, '-i', 'in/a.png'))
    assert not caught.value.code
