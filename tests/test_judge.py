"""facesr judge: its scores are those of BasicSR and dlib, and what it cannot judge is told and left out."""

import csv
import math
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_niqe, calculate_psnr, calculate_ssim

from facesr_plugin.archs.face_srresnet_arch import FaceSRResNet
from facesr_plugin.commands import judge
from facesr_plugin.data.images import read_image, write_image
from facesr_plugin.data.lmdb_writer import write_lmdbs
from facesr_plugin.errors import UserError, run_command
from facesr_plugin.faces.identity import FaceEmbedder
from facesr_plugin.models.validation import measure
from facesr_plugin.run import checkpoint

FACES = Path(__file__).parent / 'data' / 'faces'
NAMES = ('a', 'b', 'c')


class MeanColour:
    """An embedder whose embedding is the mean colour in the box, and to which all but black pictures are faces."""

    def find(self, image: np.ndarray) -> slice | None:
        return slice(10, 90) if image.max() > 40 else None

    def embed(self, image: np.ndarray, box: slice) -> np.ndarray:
        return image[box, box].mean((0, 1))


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    """hr/, lr/ and sr/ (HR, blurred) of three faces, 192 px; a network that is bilinear enlarging; the current folder.

    Faces are embedded by their colour.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(judge, 'FaceEmbedder', MeanColour)
    for index, name in enumerate(NAMES):
        hr = cv2.resize(read_image(FACES / f'face_3_{index:06d}.jpg'), (192, 192), interpolation=cv2.INTER_AREA)
        write_image(f'hr/{name}.png', hr)
        write_image(f'lr/{name}.png', cv2.resize(hr, (48, 48), interpolation=cv2.INTER_AREA))
        write_image(f'sr/{name}.png', cv2.GaussianBlur(hr, (0, 0), 2))
    net = FaceSRResNet(num_feat=8, num_block=1)
    torch.nn.init.zeros_(net.conv_last.weight)
    torch.nn.init.zeros_(net.conv_last.bias)
    checkpoint.save('zero.pth', {'params': net.state_dict()})
    return tmp_path


def run(*options: str) -> tuple[int | None, dict[tuple[str, str], dict[str, str]]]:
    """Run the command on the CPU; return its status and the rows of pictures.csv by picture and candidate."""
    status = judge.main(['--hr', 'hr', '-o', 'out', '--device', 'cpu', *options])
    return status, rows('pictures', 'picture', 'candidate')


def rows(table: str, *keys: str) -> dict[tuple[str, ...], dict[str, str]]:
    with open(f'out/{table}.csv', newline='') as file:
        return {tuple(row[key] for key in keys): row for row in csv.DictReader(file)}


def bgr(name: str) -> np.ndarray:
    return read_image(name)[..., ::-1]


def test_scores_are_those_of_basicsr(work):
    status, found = run('--sr', 'blurred=sr')
    assert status is None
    for name in NAMES:
        pair, row = (bgr(f'sr/{name}.png'), bgr(f'hr/{name}.png')), found[name, 'blurred']
        assert float(row['psnr']) == calculate_psnr(*pair, crop_border=0)
        assert float(row['ssim']) == pytest.approx(calculate_ssim(*pair, crop_border=0), abs=1e-9)
        assert float(row['niqe']) == calculate_niqe(pair[0], crop_border=0)
        assert float(found[name, 'HR']['niqe']) == calculate_niqe(pair[1], crop_border=0)
        sr, hr = (read_image(f'{side}/{name}.png')[10:90, 10:90].mean((0, 1)) for side in ('sr', 'hr'))
        assert float(row['identity']) == pytest.approx(np.linalg.norm(sr - hr))
        assert float(found[name, 'HR']['identity']) == 0
        assert row['gain_bilinear'] == ''


def test_means_gains_and_differences_by_hand(work):
    _, found = run('--lr', 'lr', '--sr', 'blurred=sr', '--weights', 'zero=zero.pth')
    psnr = {name: [float(found[key, name]['psnr']) for key in NAMES] for name in ('zero', 'blurred', 'bilinear')}
    assert psnr['zero'] == pytest.approx(psnr['bilinear'], abs=1e-3)
    means = rows('table', 'candidate')
    assert list(means) == [('bilinear',), ('bicubic',), ('zero',), ('blurred',), ('HR',)]
    assert float(means['blurred',]['psnr']) == pytest.approx(np.mean(psnr['blurred']))
    gains = np.subtract(psnr['blurred'], psnr['bilinear'])
    assert float(means['blurred',]['gain_bilinear']) == pytest.approx(gains.mean())
    values = np.subtract(psnr['zero'], psnr['blurred'])  # networks come first
    row = rows('differences', 'candidate', 'measure')['blurred', 'psnr']
    half = 4.302652729911275 * values.std(ddof=1) / math.sqrt(3)  # Student's t of two degrees of freedom
    assert [float(row[key]) for key in ('mean', 'low', 'high')] == pytest.approx(
        [values.mean(), values.mean() - half, values.mean() + half]
    )
    text = Path('out/judge.md').read_text()
    assert 'Faces found: in 3 of 3 HR pictures.' in text
    assert f'{values.mean():+.3f} ({values.mean() - half:+.3f} to {values.mean() + half:+.3f}), n = 3' in text


def test_lmdbs_and_a_template(work):
    _, expected = run('--lr', 'lr', '--sr', 'blurred=sr')
    write_lmdbs(
        [Path('lr.lmdb'), Path('hr.lmdb')],
        NAMES,
        lambda key: [read_image(f'{side}/{key}.png') for side in ('lr', 'hr')],
    )
    for name in NAMES:
        Path(f'sr/{name}.png').rename(f'sr/{name}_v1.0.png')
    options = ('--lr', 'lr.lmdb', '--hr', 'hr.lmdb', '--template', '{}_v1.0')
    assert run('--sr', 'blurred=sr', *options) == (None, expected)


def test_what_cannot_be_judged_is_told_and_the_rest_kept(work, capsys):
    write_image('sr/a.png', read_image('sr/a.png')[:100])
    Path('sr/b.png').unlink()
    write_image('sr/stranger.png', read_image('sr/c.png'))
    Path('lr/a.png').unlink()
    write_image('lr/b.png', read_image('lr/b.png')[:40])
    status, found = run('--lr', 'lr', '--sr', 'blurred=sr', '--weights', 'zero=zero.pth')
    assert status == 1
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith('error')] == [
        'error: sr: 1 pictures of no HR picture are left out, as stranger',
        'error: lr: no image a',
        'error: blurred: a: 192x192 px expected, the size of HR, got 192x100',
        'error: lr: b: HR of 192x160 px expected (4 times the LR), got 192x192',
        'error: blurred: sr: no image b',
    ]
    everything = ['bilinear', 'bicubic', 'zero', 'blurred', 'HR']
    assert list(found) == [('a', 'HR'), ('b', 'HR'), *(('c', name) for name in everything)]
    text = Path('out/judge.md').read_text()
    assert 'not over the same pictures' in text
    assert '- blurred: sr: no image b\n' in text


def test_no_face_and_a_damaged_picture(work, capsys):
    write_image('hr/a.png', read_image('hr/a.png') // 8)
    Path('hr/b.png').write_bytes(b'no picture')
    status, found = run('--sr', 'blurred=sr')
    assert status == 1
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith('error')] == [
        'error: hr: a: no face found, so no identity',
        'error: hr/b.png: cannot be read as an image (empty, damaged or another file type)',
    ]
    assert found['a', 'blurred']['identity'] == '' != found['a', 'blurred']['psnr']
    assert 'Faces found: in 1 of 2 HR pictures.' in Path('out/judge.md').read_text()


def test_pictures_without_niqe(work, capsys):
    for side in ('hr', 'sr'):
        write_image(f'{side}/a.png', read_image(f'{side}/a.png')[:95])
        write_image(f'{side}/b.png', np.full((192, 192, 3), 128, np.uint8))
    status, found = run('--sr', 'blurred=sr', '--no-identity')
    assert status == 1
    assert capsys.readouterr().err.count('no NIQE, two squares of 96 px with something in them expected\n') == 4
    assert [found[name, 'blurred']['niqe'] == '' for name in NAMES] == [True, True, False]
    assert 'identity' not in Path('out/judge.md').read_text().split('\n')[0]


def test_one_picture_has_no_interval(work, capsys):
    assert run('--lr', 'lr', '--sr', 'blurred=sr', '--count', '1')[0] is None
    row = rows('differences', 'candidate', 'measure')['bilinear', 'psnr']
    assert (row['pictures'], row['low'], row['high']) == ('1', '', '')
    assert 'One picture alone has no interval.' in Path('out/judge.md').read_text()


def test_what_is_done_is_kept_when_it_is_stopped(work, monkeypatch):
    class Stops(MeanColour):
        def find(self, image: np.ndarray) -> slice | None:
            if np.array_equal(image, read_image('hr/b.png')):
                raise KeyboardInterrupt
            return super().find(image)

    monkeypatch.setattr(judge, 'FaceEmbedder', Stops)
    with pytest.raises(KeyboardInterrupt):
        run('--sr', 'blurred=sr')
    assert list(rows('pictures', 'picture', 'candidate')) == [('a', 'blurred'), ('a', 'HR')]


def test_the_dial_between_two_stages(work):
    """Both stages are linear in what lies between them, and so is the picture."""
    net = FaceSRResNet(num_feat=8, num_block=1)
    torch.nn.init.zeros_(net.conv_last.weight)
    torch.nn.init.constant_(net.conv_last.bias, -0.2)
    checkpoint.save('natural.pth', {'params': net.state_dict()})
    options = ['--lr', 'lr', '--weights', 'ours=zero.pth', '--natural-weights', 'natural.pth']
    status, scores = run(*options, '--sr', 'blurred=sr')
    assert status is None
    names = [name for picture, name in scores if picture == 'a']
    between = ['natural 0.25', 'natural 0.5', 'natural 0.75', 'natural 1']
    assert names == ['bilinear', 'bicubic', 'ours', *between, 'blurred', 'HR']
    colours = [float(scores['a', name]['identity']) for name in ('ours', *between)]
    assert sorted(colours) == colours
    picture = cv2.imread('out/dial.png')
    assert picture.shape == (570, 1800, 3)
    assert picture.std() > 10


def test_no_dial_where_nothing_could_be_enlarged(work, capsys):
    for name in NAMES:
        write_image(f'lr/{name}.png', np.zeros((48, 47, 3), np.uint8))
    with pytest.raises(SystemExit):
        run_command(lambda: run('--lr', 'lr', '--weights', 'ours=zero.pth', '--natural-weights', 'zero.pth'))
    assert capsys.readouterr().err.splitlines()[-1] == 'error: ours: none of its pictures could be judged'


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ([], '--sr or --weights: at least one expected, there is nothing to judge'),
        (['--weights', 'n=zero.pth'], '--weights: --lr expected with it, the pictures to enlarge'),
        (
            ['--sr', 'n=sr', '--natural-weights', 'zero.pth'],
            '--natural-weights: --weights expected with it, the first stage',
        ),
        (['--sr', 'sr'], '--sr sr: NAME=PATH expected'),
        (['--sr', 'HR=sr'], '--sr HR=sr: another name expected, there is a HR already'),
        (['--sr', 'n=sr', '--sr', 'n=sr'], '--sr n=sr: another name expected, there is a n already'),
        (['--sr', 'n=none'], 'none: no such folder'),
        (['--sr', 'n=lr', '--count', '0'], '--count: at least 1 expected, got 0'),
        (['--sr', 'n=sr', '--template', 'x'], '--template x: one {} expected, where the HR name goes'),
        (['--sr', 'n=lr'], 'n: none of its pictures could be judged'),
    ],
)
def test_bad_input(work, capsys, options, message):
    with pytest.raises(SystemExit) as stop:
        run_command(lambda: run(*options))
    assert stop.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == f'error: {message}'


def test_without_the_extra(monkeypatch):
    monkeypatch.setattr('facesr_plugin.faces.identity.find_spec', lambda name: None)
    with pytest.raises(UserError, match=r'^identity: dlib is not installed: pip install .*--no-identity'):
        FaceEmbedder()


@pytest.mark.slow  # make test-all installs the extra `judge`, 110 MB
def test_identity_by_dlib():
    embedder = FaceEmbedder()
    first, second = (read_image(FACES / f'face_3_{index:06d}.jpg') for index in (0, 1))
    box = embedder.find(first)
    face = embedder.embed(first, box)
    assert face.shape == (128,)
    assert np.array_equal(face, embedder.embed(first.copy(), box))
    blurred = np.linalg.norm(face - embedder.embed(cv2.GaussianBlur(first, (0, 0), 2), box))
    other = np.linalg.norm(face - embedder.embed(second, embedder.find(second)))
    assert 0 < blurred < 0.4 < other
    assert embedder.find(np.zeros_like(first)) is None


@pytest.mark.slow
def test_identity_in_validation():
    """What `val.metrics` names is what is judged; NaN where HR shows no face."""
    hr = read_image(FACES / 'face_3_000000.jpg')
    blurred, embedder = cv2.GaussianBlur(hr, (0, 0), 4), FaceEmbedder()
    box = embedder.find(hr)
    expected = np.linalg.norm(embedder.embed(blurred, box) - embedder.embed(hr, box))
    options = {'type': 'calculate_identity'}
    assert measure({'img': blurred[..., ::-1], 'img2': hr[..., ::-1]}, options) == pytest.approx(expected)
    assert measure({'img': hr[..., ::-1], 'img2': hr[..., ::-1]}, options) == 0
    assert math.isnan(measure({'img': hr[..., ::-1], 'img2': np.zeros_like(hr)}, options))


def test_names_are_shown_without_percent_codes(work, capsys):
    for folder in ('hr', 'lr', 'sr'):
        Path(folder, 'a.png').rename(Path(folder, 'Jörg 1.png'))
    write_image('sr/Jörg 1.png', np.zeros((20, 20, 3), np.uint8))
    write_image('sr/é.png', np.zeros((20, 20, 3), np.uint8))
    write_image('hr/ö.png', np.zeros((192, 192, 3), np.uint8))
    status, found = run('--sr', 'blurred=sr', '--lr', 'lr')
    assert status == 1
    assert ('Jörg 1', 'HR') in found
    told = capsys.readouterr().err
    assert 'blurred: Jörg 1: 192x192 px expected, the size of HR, got 20x20\n' in told
    assert 'sr: 1 pictures of no HR picture are left out, as é\n' in told
    assert 'hr: ö: no face found' in told
    assert 'lr: no image ö\n' in told
    assert not re.search('%[0-9A-F]{2}', told + ''.join(path.read_text('utf-8') for path in Path('out').iterdir()))
