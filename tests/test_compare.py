"""facesr compare: the pictures it lays side by side, their PSNR, and what it refuses."""

import math
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from facesr_plugin.archs.face_srresnet_arch import FaceSRResNet
from facesr_plugin.commands.compare import main
from facesr_plugin.data.images import read_image, write_image
from facesr_plugin.data.lmdb_writer import write_lmdbs
from facesr_plugin.errors import UserError, run_command
from facesr_plugin.report.grid import Cell, draw_grid
from facesr_plugin.run import checkpoint

FACES = Path(__file__).parent / 'data' / 'faces'


@pytest.fixture
def work(tmp_path, monkeypatch):
    """Three LR-HR pairs as folders and as LMDBs, and three checkpoints; the current folder."""
    monkeypatch.chdir(tmp_path)
    hr, lr = {}, {}
    for index, key in enumerate(('a', 'b%2Ec', 'sub/d')):
        hr[key] = read_image(FACES / f'face_3_{index:06d}.jpg')[100:196, 100:180]
        lr[key] = cv2.resize(hr[key], (20, 24), interpolation=cv2.INTER_AREA)
        name = key.replace('%2E', '.')
        write_image(f'hr/{name}.png', hr[key])
        write_image(f'lr/{name}.png', lr[key])
    write_lmdbs([Path('lr.lmdb'), Path('hr.lmdb')], list(hr), lambda key: (lr[key], hr[key]))
    for name, options in {'zero': {}, 'random': {}, 'x2': {'upscale': 2}}.items():
        torch.manual_seed(0)
        net = FaceSRResNet(num_feat=8, num_block=1, **options)
        if name == 'zero':  # the residual path does nothing, so the network is bilinear upsampling
            torch.nn.init.zeros_(net.conv_last.weight)
        checkpoint.save(f'{name}.pth', {'params': net.state_dict()})
    return tmp_path


def run(*options: str, lr: str = 'lr', hr: str = 'hr') -> np.ndarray:
    """Run the command on the CPU and return the picture."""
    assert main(['--lr', lr, '--hr', hr, '-o', 'out.png', '--device', 'cpu', *options]) is None
    return read_image('out.png')


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """PSNR by its definition, of 8-bit RGB."""
    return 10 * math.log10(255**2 / np.square(image.astype(float) - reference).mean())


def enlarge(image: np.ndarray, interpolation: int) -> np.ndarray:
    enlarged = cv2.resize(image.astype(np.float32), None, fx=4, fy=4, interpolation=interpolation)
    return np.rint(enlarged.clip(0, 255))


def test_psnr(work, capsys):
    run('--weights', 'zero=zero.pth', '--weights', 'random=random.pth', '--count', '9')
    said = dict(re.findall(r'(\w+) (\d+\.\d+) dB', capsys.readouterr().out))
    names = ('a', 'b.c', 'sub/d')
    pairs = [(read_image(f'lr/{name}.png'), read_image(f'hr/{name}.png')) for name in names]
    for name, interpolation in (('bicubic', cv2.INTER_CUBIC), ('zero', cv2.INTER_LINEAR)):
        expected = np.mean([psnr(enlarge(lr, interpolation), hr) for lr, hr in pairs])
        assert float(said[name]) == pytest.approx(expected, abs=0.011)
    assert list(said) == ['bicubic', 'zero', 'random']


def test_layout(work):
    image = run('--weights', 'zero=zero.pth', '--count', '2', '--side', '96')
    gap, line, row = 6, 17, 96 + 17 + 6
    assert image.shape == (gap + line + 2 * row, gap + 4 * (96 + gap), 3)
    for index, name in enumerate(('a', 'b.c')):  # 0 and 3 // 2 of three
        top = gap + line + index * row
        left = gap + 3 * (96 + gap) + (96 - 80) // 2
        np.testing.assert_array_equal(image[top : top + 96, left : left + 80], read_image(f'hr/{name}.png'))
        assert (image[top + 96 : top + row] < 128).any(), 'no caption'


def test_crop(work):
    image = run('--weights', 'zero=zero.pth', '--count', '1', '--side', '64', '--crop', '16', '32', '16')
    gap, line = 6, 17
    hr, lr = read_image('hr/a.png'), read_image('lr/a.png')

    def cell(column: int) -> np.ndarray:
        left = gap + column * (64 + gap)
        return image[gap + line : gap + line + 64, left : left + 64]

    np.testing.assert_array_equal(cell(1), lr[8:12, 4:8].repeat(16, 0).repeat(16, 1))
    np.testing.assert_array_equal(cell(4), hr[32:48, 16:32].repeat(4, 0).repeat(4, 1))
    red, green, blue = cell(0)[20:33, 15:25].reshape(-1, 3).astype(int).T  # the frame in the whole picture
    assert ((red - green > 80) & (red - blue > 150)).any()


def test_folders_and_lmdbs_pair_with_each_other(work):
    options = ('--weights', 'zero=zero.pth')
    expected = run(*options)
    for lr, hr in (('lr.lmdb', 'hr.lmdb'), ('lr', 'hr.lmdb'), ('lr.lmdb', 'hr')):
        np.testing.assert_array_equal(run(*options, lr=lr, hr=hr), expected)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--weights', 'zero.pth'], '--weights zero.pth: NAME=PATH expected'),
        (['--weights', 'n=none.pth'], 'none.pth: No such file or directory'),
        (
            ['--weights', 'n=zero.pth', '--weights', 'n=random.pth'],
            '--weights n=random.pth: another name expected, there is a n already',
        ),
        (
            ['--weights', 'bicubic=zero.pth'],
            '--weights bicubic=zero.pth: another name expected, there is a bicubic already',
        ),
        (
            ['--weights', 'n=zero.pth', '--weights', 'm=x2.pth'],
            '--weights: networks of one scale expected, got 2, 4',
        ),
        (['--weights', 'n=x2.pth'], 'lr: a: HR of 40x48 px expected (2 times the LR), got 80x96'),
        (['--weights', 'n=zero.pth', '--count', '0'], '--count: at least 1 expected, got 0'),
        (
            ['--weights', 'n=zero.pth', '--crop', '2', '0', '16'],
            '--crop: multiples of the scale 4 expected, SIDE above 0, got 2 0 16',
        ),
        (['--weights', 'n=zero.pth', '--crop', '72', '0', '16'], '--crop: a square within a, 80x96 px, expected'),
    ],
)
def test_errors(work, options, message):
    with pytest.raises(UserError) as caught:
        run(*options)
    assert str(caught.value) == message
    assert not Path('out.png').exists()


def test_missing_partner(work, capsys):
    Path('lr/b.c.png').unlink()
    with pytest.raises(SystemExit) as caught:
        run_command(lambda: run('--weights', 'n=zero.pth'))
    assert caught.value.code == 2
    assert 'error: lr: b.c expected, the partner of an HR image\n' in capsys.readouterr().err


def test_grid_shrinks_and_cuts_long_titles():
    cell = Cell(np.full((8, 8, 3), 128, np.uint8))
    image = draw_grid(['a title far wider than its column ' * 3, ''], [[cell, cell]], 96)
    title = image[:23]
    assert (title[:, 6:102] < 128).any()
    assert (title[:, 102:] == 255).all()
    assert (image[23:119, 6:102] == 128).all()
