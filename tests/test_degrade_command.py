"""`facesr degrade`: LR pictures that depend on nothing but their HR picture, their name and the seed."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from facesr_plugin.commands import degrade
from facesr_plugin.data.images import list_images, read_image, write_image
from facesr_plugin.degradations import DegradationRanges, KernelRanges, pipeline
from facesr_plugin.degradations.pictures import Degradation
from facesr_plugin.errors import UserError

ROOT = Path(__file__).parents[1]
FACES = ROOT / 'tests' / 'data' / 'faces'
OPTIONS = ROOT / 'options' / 'exp1_lsr.yml'


@pytest.fixture
def hr(tmp_path):
    """Four HR pictures, 80x96 px, one of them in a subfolder."""
    folder = tmp_path / 'hr'
    for index, name in enumerate(('a.png', 'b.jpg', 'c.d.png', 'sub/a.png')):
        face = read_image(FACES / f'face_3_{index:06d}.jpg')
        write_image(folder / name, face[100:196, 100:180])
    return folder


def run(hr: Path, lr: Path, *options: str) -> dict[str, np.ndarray]:
    """Degrade a folder and return the LR pictures by name."""
    assert degrade.main(['-i', str(hr), '-o', str(lr), *options]) is None
    return {path.relative_to(lr).as_posix(): read_image(path) for path in list_images(lr)}


def test_names_and_sizes(hr, tmp_path):
    pictures = run(hr, tmp_path / 'lr')
    assert list(pictures) == ['a.png', 'b.png', 'c.d.png', 'sub/a.png']
    assert all(picture.shape == (24, 20, 3) for picture in pictures.values())
    assert {picture.shape for picture in run(hr, tmp_path / 'x2', '--scale', '2').values()} == {(48, 40, 3)}


def test_lr_is_near_its_hr(hr, tmp_path):
    # Noise and blur are strong, but the mean colour stays.
    for name, picture in run(hr, tmp_path / 'lr').items():
        source = next(hr.glob(f'{name.removesuffix(".png")}.*'))
        assert np.abs(picture.mean((0, 1)) - read_image(source).mean((0, 1))).max() < 12


def test_independent_of_other_pictures(hr, tmp_path):
    pictures = run(hr, tmp_path / 'lr')
    for name in ('a.png', 'b.jpg'):
        (hr / name).unlink()
    rest = run(hr, tmp_path / 'rest')
    assert sorted(rest) == ['c.d.png', 'sub/a.png']
    for name, picture in rest.items():
        np.testing.assert_array_equal(picture, pictures[name])


def test_depends_on_seed_and_name(hr, tmp_path):
    write_image(hr / 'same.png', read_image(hr / 'a.png'))
    first, second = run(hr, tmp_path / '0'), run(hr, tmp_path / '1', '--seed', '1')
    assert all((first[name] != second[name]).any() for name in first)
    assert (first['same.png'] != first['a.png']).any()


def test_clean_only_resizes(hr, tmp_path):
    for name, picture in run(hr, tmp_path / 'lr', '--clean').items():
        source = read_image(next(hr.glob(f'{name.removesuffix(".png")}.*')))
        expected = cv2.resize(source, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        assert np.abs(picture.astype(int) - expected).mean() < 4
    again = run(hr, tmp_path / 'again', '--clean', '--seed', '1')
    assert all((again[name] == read_image(tmp_path / 'lr' / name)).all() for name in again)


def test_ranges_come_from_the_option_file(hr, tmp_path):
    for name in ('a.png', 'b.jpg'):
        (hr / name).unlink()
    default = run(hr, tmp_path / 'default')
    same = run(hr, tmp_path / 'same', '--opt', str(OPTIONS))
    assert all((default[name] == same[name]).all() for name in default)
    text = OPTIONS.read_text(encoding='utf-8')
    for old, new in (('noise_range: [1, 30]', 'noise_range: [90, 90]'), ('blur_sigma: [0.2, 3]', 'blur_sigma: [9, 9]')):
        assert old in text
        other = tmp_path / 'other.yml'
        other.write_text(text.replace(old, new), encoding='utf-8')
        changed = run(hr, tmp_path / 'changed', '--opt', str(other), '--overwrite')
        assert any((changed[name] != default[name]).any() for name in default)


def test_smallest_side_is_the_smallest(monkeypatch):
    monkeypatch.setattr(pipeline, '_draw_factor', lambda probabilities, limits, streams: limits[0])
    degradation = Degradation(DegradationRanges(second_blur_prob=1), KernelRanges(), 1)
    side = degradation.smallest_side
    image = np.full((side, side, 3), 128, np.uint8)
    assert degradation.degraded(image, 'key', 0).shape == image.shape
    with pytest.raises(RuntimeError, match=r'[Pp]adding'):
        degradation.degraded(image[1:], 'key', 0)


def test_preview_alone(hr, tmp_path):
    picture = tmp_path / 'new' / 'preview.png'
    assert (
        degrade.main(['-i', str(hr), '--preview', str(picture), '--faces', '2', '--draws', '3', '--seed', '7']) is None
    )
    assert [path.name for path in tmp_path.iterdir() if path.name != 'hr'] == ['new']
    image = read_image(picture)
    side, gap, line = 256, 6, 29
    assert image.shape == (gap + line + 2 * (side + gap), gap + 5 * (side + gap), 3)
    # First row, fourth column: what `--seed 8` writes of a.png, 20x24 px, enlarged to 213x256 by repeating pixels.
    expected = run(hr, tmp_path / 'lr', '--seed', '8')['a.png']
    left = gap + 3 * (side + gap) + (side - 213) // 2
    cell = image[gap + line : gap + line + side, left : left + 213]
    shown = cv2.resize(cell, (20, 24), interpolation=cv2.INTER_NEAREST_EXACT)
    np.testing.assert_array_equal(shown, expected)


def test_output_folder_is_not_overwritten(hr, tmp_path):
    lr = tmp_path / 'lr'
    write_image(lr / 'a.png', np.zeros((1, 1, 3), np.uint8))
    with pytest.raises(UserError, match=f'^{lr}: an empty or new folder expected; --overwrite writes into this one$'):
        run(hr, lr)
    assert run(hr, lr, '--overwrite')['a.png'].shape == (24, 20, 3)


def test_sizes_are_checked_before_anything_is_written(hr, tmp_path):
    write_image(hr / 'y.png', np.zeros((81, 96, 3), np.uint8))
    write_image(hr / 'z.png', np.zeros((96, 72, 3), np.uint8))
    with pytest.raises(UserError) as caught:
        run(hr, tmp_path / 'lr')
    assert str(caught.value).splitlines() == [
        f'{hr}/y.png: sides divisible by 4 expected, got 96x81 px',
        f'{hr}/z.png: at least 74x74 px expected for these ranges, got 72x96',
    ]
    assert not (tmp_path / 'lr').exists()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ([], '--output or --preview expected, or there is nothing to do'),
        (['-o', 'lr', '--scale', '0'], '--scale: at least 1 expected, got 0'),
        (['-o', 'lr', '--seed', '-1'], '--seed: at least 0 expected, got -1'),
        (['-o', 'lr', '--opt', 'none.yml'], 'none.yml: No such file or directory'),
        (['-o', 'lr', '--opt', 'val.yml'], 'val.yml: options of a training expected, there is no datasets.train'),
        (['-o', 'lr', '--opt', 'bad.yml'], 'bad.yml: sinc_prob: expected less than or equal to 1, got 2.0'),
    ],
)
def test_errors(hr, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    Path('val.yml').write_text('datasets: {val: {}}\n')
    Path('bad.yml').write_text('datasets: {train: {sinc_prob: 2.0}}\n')
    with pytest.raises(UserError) as caught:
        degrade.main(['-i', str(hr), *options])
    assert str(caught.value) == message
