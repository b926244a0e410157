"""Photographs enlarged with their faces, from Python and by `facesr upscale --faces`."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from photographs import finds, sample_faces, scene
from PIL import Image

import facesr_plugin
from facesr_plugin import FaceOptions, upscale, upscale_faces
from facesr_plugin.commands import upscale as command
from facesr_plugin.degradations import DegradationRanges, KernelRanges
from facesr_plugin.degradations.pictures import Degradation
from facesr_plugin.enlarge import photograph
from facesr_plugin.enlarge.network import DEFAULT_WEIGHTS, load_network
from facesr_plugin.errors import UserError
from facesr_plugin.faces import detect
from facesr_plugin.faces.align import Alignment, crop
from facesr_plugin.pictures.picture import Metadata, Picture
from facesr_plugin.pictures.read import read_picture
from facesr_plugin.pictures.write import write_picture


def bicubic(image: np.ndarray, scale: float) -> np.ndarray:
    height, width = (round(side * scale) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return 10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2))


@pytest.fixture(scope='module')
def small() -> tuple[np.ndarray, list]:
    """A photograph of 150x110 px with two faces, 64 px straight and 48 px turned, and their squares."""
    large = scene([256, 220], [0, -20], (440, 600), seed=1)
    return cv2.resize(large.pixels, (150, 110), interpolation=cv2.INTER_AREA), large.squares


@pytest.mark.parametrize('seeds', [(7, 9), ()], ids=['degraded', 'clean'])
def test_better_than_bicubic_inside_faces(seeds):
    """Every face of 64 px and more, turned up to 30 degrees, is found in a scene of 4 times the size, made smaller.

    Of faces that are little damaged single ones come out worse; together they gain.
    """
    large = scene([256, 280, 400], [30, -30, 15], (704, 1152), seed=11, first=1)
    degradation, gains = Degradation(DegradationRanges(), KernelRanges(), 4), []
    for seed in seeds or (None,):
        lq = degradation.clean(large.pixels) if seed is None else degradation.degraded(large.pixels, 'scene', seed)
        result, faces = upscale_faces(lq)
        plain = bicubic(lq, 4)
        assert len(faces) == len(large.squares)
        for square in large.squares:
            (face,) = [each for each in faces if finds(square, moved(each.face, 4))]
            inside = square.widened(0.7)
            hr, ours, theirs = (crop(image, inside, 160) for image in (large.pixels, result, plain))
            gains.append(psnr(ours, hr) - psnr(theirs, hr))
            shown = square.widened(0.9)
            means = [crop(image, shown, 90).mean(axis=(0, 1)) for image in (result, plain)]
            assert np.abs(means[0] - means[1]).max() < 1
            assert face.result.shape == (*(4 * side for side in face.crop.shape[:2]), 3)
            there = Alignment(face.square.turn * 4, face.square.corner * 4)
            assert psnr(face.result, crop(large.pixels, there, len(face.result))) > 22
    assert np.mean(gains) > (0.3 if seeds else 1.5), gains
    assert min(gains) > (-0.5 if seeds else 1), gains


def moved(face: detect.Face, scale: float) -> detect.Face:
    points = tuple((x * scale, y * scale) for x, y in face.landmarks)
    return detect.Face(tuple(v * scale for v in face.box), points, face.score)


def test_faces_are_what_the_network_makes_of_the_photograph(small):
    """In its own pixels, with all that the network sees around it: as the whole picture by the network."""
    image, _ = small
    result, faces = upscale_faces(image, precision='fp32')
    whole = upscale(image, precision='fp32')
    for face in faces:
        square = face.square.widened(0.6)
        inside = type(square)(square.turn * 4, square.corner * 4)
        assert np.abs(crop(result, inside, 100).astype(int) - crop(whole, inside, 100)).max() <= 3  # colours kept
        assert np.abs(crop(result, inside, 100).astype(int) - crop(bicubic(image, 4), inside, 100)).max() > 6


def test_the_rest_is_plain(small):
    image, _ = small
    result, faces = upscale_faces(image)
    rest = np.ones(result.shape[:2], np.uint8)
    for face in faces:
        cv2.fillConvexPoly(rest, np.rint(face.square.widened(1.05).corners() * 4).astype(int), 0)
    assert 0.2 < rest.mean() < 0.9
    np.testing.assert_array_equal(result[rest == 1], bicubic(image, 4)[rest == 1])
    by_network, _ = upscale_faces(image, FaceOptions(background='network'))
    np.testing.assert_array_equal(by_network[rest == 1], upscale(image)[rest == 1])


def test_largest_and_strength(small):
    image, _ = small
    assert len(upscale_faces(image)[1]) == 2
    _, (largest,) = upscale_faces(image, FaceOptions(largest=True))
    assert largest.square.size > 55
    plain, faces = upscale_faces(image, FaceOptions(strength=0))
    assert len(faces) == 2
    np.testing.assert_array_equal(plain, bicubic(image, 4))
    half, full = (upscale_faces(image, FaceOptions(strength=s))[0].astype(float) for s in (0.5, 1))
    assert np.abs(half - (full + plain) / 2).max() <= 1


@pytest.mark.parametrize('outscale', [1, 1.5, 2, 3])
def test_outscale(small, outscale):
    """The faces are where those of the photograph are: a smooth picture of both differs little."""
    image, _ = small
    result, faces = upscale_faces(image, outscale=outscale)
    assert result.shape == (round(110 * outscale), round(150 * outscale), 3)
    assert len(faces) == 2
    blurred = [cv2.GaussianBlur(p.astype(np.float32), (0, 0), 2 * outscale) for p in (result, bicubic(image, outscale))]
    assert np.abs(blurred[0] - blurred[1]).max() < 5


def test_upright(small):
    """By a network of the user's that wants it: turned, at native size, put back."""
    image, _ = small
    result, faces = upscale_faces(image, FaceOptions(upright=True))
    plain = bicubic(image, 4)
    assert len(faces) == 2
    assert np.abs(result.astype(int) - plain).max() > 6
    assert psnr(cv2.GaussianBlur(result, (0, 0), 6), cv2.GaussianBlur(plain, (0, 0), 6)) > 40


def test_kinds_of_pixels(small):
    image, _ = small
    expected, _ = upscale_faces(image, precision='fp32')
    alpha = np.full(image.shape[:2], 255, np.uint8)
    alpha[:, :20] = 0
    rgba, faces = upscale_faces(np.dstack([image, alpha]), precision='fp32')
    assert len(faces) == 2
    assert rgba.shape == (440, 600, 4)
    assert np.abs(rgba[:, 200:, :3].astype(int) - expected[:, 200:]).max() <= 4  # the detector saw a little else
    assert rgba[0, 0, 3] == 0
    assert rgba[0, -1, 3] == 255
    deep, _ = upscale_faces(image.astype(np.uint16) * 257)
    assert deep.dtype == np.uint16
    assert np.abs(deep / 257 - expected).max() < 1.5
    for dtype in (np.float16, np.float32, np.float64):
        floats, _ = upscale_faces((image / 255).astype(dtype))
        assert floats.dtype == dtype
        assert np.abs(floats.astype(np.float64) * 255 - expected).max() < 2
    grey, found = upscale_faces(image[..., 1])
    assert grey.shape == (440, 600)
    assert len(found) == 2
    assert found[0].result.ndim == 2
    tensor, _ = upscale_faces(torch.from_numpy(image).permute(2, 0, 1), precision='fp32')
    np.testing.assert_array_equal(tensor.permute(1, 2, 0), expected)
    picture = Image.fromarray(image)
    assert upscale(picture, faces=True).size == (600, 440)


def test_batch_of_tensors_is_refused():
    with pytest.raises(ValueError, match=r'one picture \(C, H, W\) expected'):
        upscale_faces(torch.zeros(2, 3, 8, 8))


@pytest.mark.parametrize('background', ['bicubic', 'network'])
@pytest.mark.parametrize('shape', [(1, 1, 3), (1, 1), (1, 1, 4), (2, 90, 3)])
def test_tiny(shape, background):
    result, faces = upscale_faces(np.full(shape, 90, np.uint8), FaceOptions(background=background))
    assert faces == []
    assert result.shape == (4 * shape[0], 4 * shape[1], *shape[2:])


def test_cut_by_the_border():
    image = np.ascontiguousarray(sample_faces()[2][::4, 32::4])
    result, faces = upscale_faces(image)
    assert len(faces) == 1
    assert result.shape == (512, 480, 3)


def test_many_faces():
    """A crowd: a face in front of each other's square, at the border too; each is there, and in order of size."""
    tile = cv2.resize(sample_faces()[3], (64, 64), interpolation=cv2.INTER_AREA)
    crowd = np.tile(tile, (4, 6, 1))
    _, faces = upscale_faces(crowd)
    assert len(faces) == 24
    sizes = [face.square.size for face in faces]
    assert sizes == sorted(sizes, reverse=True)


def test_once_for_all_where_faces_fill_the_picture(monkeypatch):
    """The network does not see the same pixels again and again."""
    calls = []
    inner = photograph.upscale_image
    monkeypatch.setattr(
        photograph, 'upscale_image', lambda net, image, *a, **k: calls.append(image.shape) or inner(net, image, *a, **k)
    )
    tile = cv2.resize(sample_faces()[3], (64, 64), interpolation=cv2.INTER_AREA)
    upscale_faces(np.tile(tile, (2, 2, 1)))
    assert calls == [(128, 128, 3)]


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'min_face': 3}, 'min_face: 16 or more expected, got 3'),
        ({'strength': 2}, 'strength: 0 to 1 expected, got 2'),
        ({'strength': float('nan')}, 'strength: 0 to 1 expected, got nan'),
        ({'background': 'black'}, 'background: bicubic or network expected, got black'),
    ],
)
def test_options_that_are_wrong(options, words):
    with pytest.raises(UserError, match=words):
        FaceOptions(**options)


def test_wrong_calls():
    with pytest.raises(UserError, match='outscale: 1 to 4 expected'):
        upscale_faces(np.zeros((8, 8, 3), np.uint8), outscale=0.5)
    with pytest.raises(ValueError, match=r'floats in \[0, 1\] expected, got 0 to 255'):
        upscale_faces(np.array([[0.0, 255.0]]))
    with pytest.raises(ValueError, match='a picture of 1x1 px or more expected'):
        upscale_faces(np.zeros((0, 8, 3), np.uint8))
    with pytest.raises(UserError, match='detector: one of centerface expected, got other'):
        upscale_faces(np.zeros((8, 8, 3), np.uint8), FaceOptions(detector='other'))


# ---------------------------------------------------------------------------- the command
@pytest.fixture
def work(small, tmp_path, monkeypatch) -> Path:
    """The current folder, with photographs of two faces, of none, and of one."""
    monkeypatch.chdir(tmp_path)
    about = Metadata(dpi=(300.0, 300.0), text={'Author': 'nobody'})
    write_picture(Path('in/two.png'), Picture([small[0]], metadata=about))
    write_picture(Path('in/sub/none.png'), Picture([np.full((40, 50, 4), 90, np.uint8)]))
    write_picture(Path('in/sub/two.png'), Picture([small[0].astype(np.uint16) * 257]))
    return tmp_path


def run(*options: str) -> int | None:
    return command.main(['-i', 'in', '-o', 'out', '--device', 'cpu', *options])


def test_command(work, capsys):
    assert run('--faces', '--save-faces', 'faces', '--outscale', '2') is None
    said = capsys.readouterr().err
    assert 'in/two.png: 2 faces, 5' in said
    assert 'in/sub/none.png: no face of 48 px or more found, enlarged plainly' in said
    result = read_picture(Path('out/two.png'))
    assert result.pixels.shape == (220, 300, 3)
    assert result.metadata.dpi == pytest.approx((300, 300), abs=0.1)
    assert result.metadata.text == {'Author': 'nobody'}
    assert read_picture(Path('out/sub/two.png')).pixels.dtype == np.uint16
    assert read_picture(Path('out/sub/none.png')).pixels.shape == (80, 100, 4)
    names = sorted(str(path) for path in Path('faces').rglob('*.png'))
    kinds = ('cmp', 'cropped_faces', 'restored_faces')
    assert names == [
        f'faces/{kind}/{name}_{i:02d}.png' for kind in kinds for name in ('sub/two', 'two') for i in range(2)
    ]
    seen, made, both = (read_picture(Path(f'faces/{kind}/two_00.png')).pixels for kind in kinds[1:] + kinds[:1])
    assert made.shape == (4 * len(seen), 4 * len(seen), 3)
    np.testing.assert_array_equal(both[:, len(made) :], made)


def test_command_is_the_call(work, small):
    run('--faces', '--min-face', '60', '--strength', '0.5', '--background', 'network')
    options = FaceOptions(min_face=60, strength=0.5, background='network')
    expected, faces = upscale_faces(small[0], options, device='cpu')
    assert len(faces) == 1
    np.testing.assert_array_equal(read_picture(Path('out/two.png')).pixels, expected)


def test_larger_than_the_picture(work, capsys):
    assert run('--faces', '--min-face', '5000', '--quiet') is None
    assert capsys.readouterr().err == ''
    np.testing.assert_array_equal(
        read_picture(Path('out/two.png')).pixels, bicubic(read_picture(Path('in/two.png')).pixels, 4)
    )


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (['--largest'], '--largest: --faces expected with it'),
        (['--strength', '0'], '--strength: --faces expected with it'),
        (['--save-faces', 'x'], '--save-faces: --faces expected with it'),
        (['--faces', '--strength', '-1'], '--strength: 0 to 1 expected, got -1'),
        (['--faces', '--min-face', '2'], '--min-face: 16 or more expected, got 2'),
        (['--faces', '--outscale', '0.5'], '--outscale: 1 to 4 expected with --faces, got 0.5'),
    ],
)
def test_command_lines_that_are_wrong(work, options, words):
    with pytest.raises(UserError, match=words):
        run(*options)
    assert not Path('out').exists()


def test_not_installed(work, monkeypatch):
    """Said before any picture is done, and only where faces are asked for."""
    monkeypatch.setattr(detect, 'find_spec', lambda name: None)
    detect.load_detector.cache_clear()
    with pytest.raises(UserError, match=r"pip install 'facesr-plugin\[photos\]'"):
        run('--faces')
    assert not Path('out').exists()
    assert run() is None


def test_exported():
    assert {'upscale_faces', 'FaceOptions'} <= set(facesr_plugin.__all__)
    assert load_network(DEFAULT_WEIGHTS).upscale == 4
