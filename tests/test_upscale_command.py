"""`facesr upscale`: any picture in, the same kind of picture out."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from samples import make_image, make_net

from facesr_plugin.commands import upscale
from facesr_plugin.enlarge import files
from facesr_plugin.enlarge.network import DEFAULT_WEIGHTS, load_network
from facesr_plugin.enlarge.tiles import upscale_image
from facesr_plugin.errors import UserError
from facesr_plugin.pictures.picture import Picture
from facesr_plugin.pictures.read import read_picture
from facesr_plugin.pictures.write import write_picture
from facesr_plugin.run import checkpoint


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


def read(path: Path) -> np.ndarray:
    return read_picture(path).pixels


def write(path: Path, image: np.ndarray) -> None:
    write_picture(path, Picture([image]))


def run(*options: str) -> int | None:
    return upscale.main(['-o', 'out', '--weights', 'net.pth', '--device', 'cpu', *options])


@pytest.mark.parametrize('channels', [(), (3,), (4,)])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('kind', ['png', 'tif'])
def test_kinds_stay(work, channels, dtype, kind):
    image = make_image(9, 7, *channels, dtype=dtype)
    write(Path(f'in/sub/a.b.{kind}'), image)
    assert run('-i', 'in', '--format', kind, '--tile', '5') is None
    result = read(Path(f'out/sub/a.b.{kind}'))
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
    result = read(Path('out/a.png'))
    assert result.shape == (18, 14, 4)
    assert (result[..., :1] == result[..., 1:3]).all()


def test_formats_of_8_bits(work):
    image = make_image(8, 8, 4, dtype=np.uint16)
    image[..., :3] = image[:1, :1, :3]
    image[..., 3] = 0
    image[:, 4:, 3] = 65535
    write(Path('a.png'), image)
    for kind, channels in (('jpg', 3), ('webp', 4)):
        assert run('-i', 'a.png', '--format', kind, '--quality', '100') is None
        result = read(Path(f'out/a.{kind}'))
        assert (result.shape, result.dtype) == ((16, 16, channels), np.uint8)
        assert np.abs(result[:, 12:, :3] - image[0, 0, :3] / 257).max() < 6
    assert (read(Path('out/a.jpg'))[:, :4] > 250).all(), 'transparent is white'
    assert result[:, :4, 3].max() == 0


def test_unreadable_pictures_are_skipped(work, capsys):
    write(Path('in/a.png'), make_image(4, 4, 3))
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
        '3 of 4 pictures were skipped',
    ):
        assert f'{line}\n' in said.err
    assert said.out == 'out: 1 written\n'


def test_results_are_kept_unless_told_otherwise(work, capsys):
    for name in 'ab':
        write(Path(f'in/{name}.png'), make_image(4, 4, 3))
    write(Path('out/a.png'), make_image(1, 1, 3))
    assert run('-i', 'in') is None
    assert capsys.readouterr().out == 'out: 1 written, 1 existed (--overwrite replaces them)\n'
    assert read(Path('out/a.png')).shape == (1, 1, 3)
    assert run('-i', 'in', '--overwrite') is None
    assert read(Path('out/a.png')).shape == (8, 8, 3)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['-i', 'none.png'], 'none.png: no such file or folder'),
        (['-i', 'in', '-o', 'in'], 'in: another output folder than the input in expected'),
        (['-i', 'in/a.png', '-o', 'in'], 'in/a.png: another output folder expected, in/a.png is an input'),
        (['-i', 'in', '-o', 'a.png'], '--output a.png: a folder expected, results keep the names of their pictures'),
        (['-i', 'in', '--tile', '0'], f'--tile: 1 to {2**20} expected, got 0'),
        (['-i', 'in', '--quality', '101'], '--quality: 1 to 100 expected, got 101'),
        (['-i', 'in', '--key', 'params_ema'], "net.pth: key 'params_ema' expected, found params"),
    ],
)
def test_errors(work, options, message):
    write(Path('in/a.png'), make_image(4, 4, 3))
    before = Path('in/a.png').read_bytes()
    with pytest.raises(UserError) as caught:
        run(*options)
    assert str(caught.value) == message
    assert Path('in/a.png').read_bytes() == before


def test_a_picture_needs_no_more_than_its_name(work, capsys):
    """The weights and the output folder have defaults."""
    write(Path('a.png'), make_image(4, 5, 3))
    assert upscale.main(['-i', 'a.png']) is None
    assert capsys.readouterr().out == 'upscaled: 1 written\n'
    expected = upscale_image(load_network(DEFAULT_WEIGHTS), read(Path('a.png')))
    np.testing.assert_allclose(read(Path('upscaled/a.png')), expected, atol=1)
    assert expected.shape == (16, 20, 3)


@pytest.mark.parametrize('how', ['cuda', 'torch', 'numpy'])
def test_out_of_memory(work, monkeypatch, capsys, how):
    def fail(*args, **kwargs):
        if how == 'cuda':
            raise torch.OutOfMemoryError
        torch.empty(2**60) if how == 'torch' else np.empty(2**48)

    write(Path('a.png'), make_image(4, 4, 3))
    monkeypatch.setattr(files, 'upscale_image', fail)
    assert run('-i', 'a.png') == 1
    assert 'skipped: a.png: out of memory; a --tile below 256 needs less\n' in capsys.readouterr().err


def test_other_errors_are_not_taken_for_it(work, monkeypatch):
    def fail(*args, **kwargs):
        torch.zeros(2) @ torch.zeros(3)

    write(Path('a.png'), make_image(4, 4, 3))
    monkeypatch.setattr(files, 'upscale_image', fail)
    with pytest.raises(RuntimeError, match='size'):
        run('-i', 'a.png')
