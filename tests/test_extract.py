"""`facesr extract`: photographs in, aligned faces and their table out."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from photographs import sample_faces, scene
from tiny import run as run_script
from tiny import write_options

from facesr_plugin.commands import degrade, extract, lmdb
from facesr_plugin.data.images import read_image, write_image
from facesr_plugin.errors import UserError
from facesr_plugin.faces import detect
from facesr_plugin.faces import extract as faces
from facesr_plugin.faces.align import Alignment


def run(*options: str) -> int | None:
    return extract.main(['-i', 'in', '-o', 'out', '--size', '128', '--min-side', '110', '--workers', '2', *options])


def files() -> list[str]:
    return sorted(str(path.relative_to('out')) for path in Path('out').glob('**/*.*') if '.extract' not in path.parts)


def rows() -> list[dict[str, str]]:
    return list(csv.DictReader(Path('out/faces.csv').read_text().splitlines()))


def contents() -> dict[str, bytes]:
    return {name: (Path('out') / name).read_bytes() for name in files()}


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    """The current folder: two faces in a photograph, another of one that is there twice and of one that is small."""
    monkeypatch.chdir(tmp_path)
    write_image(Path('in/a.png'), scene([180, 150], [10, -25], (256, 512), seed=1).pixels)
    one = scene([160, 80], [0, 0], (256, 400), seed=2, first=2)
    write_image(Path('in/sub/b.png'), one.pixels)
    write_image(Path('in/sub/c.jpg'), one.pixels, (cv2.IMWRITE_JPEG_QUALITY, 80))
    return tmp_path


def test_faces_and_their_table(work, capsys):
    assert run() is None
    assert capsys.readouterr().out == 'out: 3 faces; left out: 1 repeated\n'
    assert files() == ['a_00.png', 'a_01.png', 'faces.csv', 'sub/b_00.png']
    first, second, third = rows()
    assert (first['file'], first['source']) == ('a_00.png', 'in/a.png')
    assert float(first['size']) == pytest.approx(180, rel=0.15)
    assert float(second['degrees']) == pytest.approx(-25, abs=6)
    assert float(third['left']) < float(third['left_eye_x']) < float(third['right_eye_x']) < float(third['right'])
    assert all(float(row['sharpness']) > 2 for row in rows())


def test_aligned_as_the_samples_are(work):
    """Each is the sample it was composed of, which is aligned."""
    run()
    for index in range(2):
        found = read_image(Path(f'out/a_{index:02d}.png'))
        expected = cv2.resize(sample_faces()[index], (128, 128), interpolation=cv2.INTER_AREA)
        inner = (slice(24, -24), slice(24, -24))
        both = (cv2.GaussianBlur(image, (0, 0), 5)[inner].astype(float).ravel() for image in (found, expected))
        assert np.corrcoef(*both)[0, 1] > 0.9


def test_same_result_in_any_order(work):
    run('--workers', '1')
    expected = contents()
    for workers in ('1', '4'):
        for path in Path('out').rglob('*.*'):
            if path.is_file():
                path.unlink()
        run('--workers', workers)
        assert contents() == expected


def test_goes_on_where_it_stopped(work, monkeypatch):
    """What has a record is not looked at again; what is deleted by hand stays so, and out of the table."""
    run()
    expected = contents()
    looked = []
    inner = faces.find_faces
    monkeypatch.setattr(faces, 'find_faces', lambda *args: looked.append(1) or inner(*args))
    run()
    assert (looked, contents()) == ([], expected)
    Path('out/.extract/sub/b.json').write_text('{"key": ')  # as a full disk would leave it
    run()
    assert (looked, contents()) == ([1], expected)
    Path('out/a_01.png').unlink()
    run()
    assert [row['file'] for row in rows()] == ['a_00.png', 'sub/b_00.png']
    run('--sharpness', '2.6')
    assert looked == [1] * 4
    assert contents() == expected


def test_a_repeated_face_comes_back_when_the_first_is_gone(work):
    run()
    Path('in/sub/b.png').unlink()
    run()
    assert [row['file'] for row in rows()] == ['a_00.png', 'a_01.png', 'sub/c_00.png']
    assert Path('out/sub/c_00.png').exists()


def test_left_out(work, capsys):
    """Each for its reason; options that change leave nothing of before."""
    one = scene([160], [0], (256, 256), seed=5, first=5)
    write_image(Path('in/d.png'), cv2.GaussianBlur(one.pixels, (0, 0), 2.5))
    left = int(one.squares[0].corner.real + 0.3 * 160)
    write_image(Path('in/e.png'), np.ascontiguousarray(one.pixels[:, left:]))
    assert run() is None
    assert capsys.readouterr().out == 'out: 3 faces; left out: 1 cut off, 1 blurred, 1 repeated\n'
    assert run('--sharpness', '0') is None
    assert capsys.readouterr().out == 'out: 4 faces; left out: 1 cut off, 1 repeated\n'
    assert run('--min-side', '158', '--sharpness', '0') is None
    assert ' too small' in capsys.readouterr().out
    assert [name for name in files() if name != 'faces.csv'] == [row['file'] for row in rows()]


@pytest.mark.parametrize('side', [512, 128])
def test_sharpness_does_not_depend_on_size_or_contrast(side):
    for image in sample_faces()[:3]:
        sharp = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
        assert 4 < faces.sharpness_of(sharp) < 8
        assert faces.sharpness_of((sharp * 0.5 + 60).astype(np.uint8)) == pytest.approx(
            faces.sharpness_of(sharp), rel=0.1
        )
        assert faces.sharpness_of(cv2.GaussianBlur(sharp, (0, 0), 1)) < 3
        assert faces.sharpness_of(cv2.GaussianBlur(sharp, (0, 0), 2)) < 2.5
    assert faces.sharpness_of(np.full((side, side, 3), 90, np.uint8)) == 0


def test_part_inside():
    assert faces.part_inside(Alignment(40 + 0j, 10 + 10j), (100, 100)) == pytest.approx(1)
    assert faces.part_inside(Alignment(40 + 0j, -20 + 10j), (100, 100)) == pytest.approx(0.5)
    assert faces.part_inside(Alignment(40 + 0j, 200 + 10j), (100, 100)) == 0


def test_native_and_jpg(work):
    assert extract.main(['-i', 'in', '-o', 'out', '--native', '--min-side', '110', '--format', 'jpg']) is None
    names = [name for name in files() if name != 'faces.csv']
    assert names == ['a_00.jpg', 'a_01.jpg', 'sub/b_00.jpg']
    for row in rows():
        height, width = read_image(Path('out') / row['file']).shape[:2]
        assert height == width == int(float(row['size'])) // 4 * 4


def test_a_photograph_that_cannot_be_read(work, capsys):
    Path('in/x.png').write_bytes(b'no picture')
    assert run() == 1
    said = capsys.readouterr()
    assert 'skipped: in/x.png: cannot be read as an image' in said.err
    assert 'out: 3 faces' in said.out


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (['--size', '4'], '--size: 16 to 4096 expected, got 4'),
        (['--quality', '0'], '--quality: 1 to 100 expected, got 0'),
        (['--workers', '0'], '--workers: 1 to 1024 expected, got 0'),
        (['--min-side', '0'], '--min-side: 16 or more expected, got 0'),
        (['-i', '-'], '-: files and folders expected'),
        (['-i', 'nowhere'], 'nowhere: no such file or folder'),
    ],
)
def test_command_lines_that_are_wrong(work, options, words):
    with pytest.raises(UserError, match=words):
        run(*options)
    assert not Path('out').exists()


def test_not_installed(work, monkeypatch):
    monkeypatch.setattr(detect, 'find_spec', lambda name: None)
    detect.load_detector.cache_clear()
    with pytest.raises(UserError, match=r"pip install 'facesr-plugin\[photos\]'"):
        run()
    assert not Path('out').exists()


@pytest.mark.slow
def test_from_photographs_to_a_network(tmp_path, monkeypatch):
    """The five commands of docs/training.md on composed photographs, and a test of what they trained."""
    monkeypatch.chdir(tmp_path)
    for index in range(4):
        kind = 'val' if index == 3 else 'train'
        photograph = scene([200, 170], [20, -15], (300, 560), seed=index, first=2 * index)
        write_image(Path(f'photographs/{kind}/{index}.png'), photograph.pixels)
    assert extract.main(['-i', 'photographs', '-o', 'faces', '--size', '128', '--min-side', '120']) is None
    degrade.main(['-i', 'faces/val', '-o', 'faces/val_lr'])
    lmdb.main(['--raw', '--hr', 'faces/train', 'demo/train_hr.lmdb'])
    lmdb.main(['--hr', 'faces/val', 'demo/val_hr.lmdb', '--lr', 'faces/val_lr', 'demo/val_lr.lmdb'])
    write_options(tmp_path)
    trained = run_script('facesr_plugin/train.py', '-opt', 'demo_exp1.yml', cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert len((tmp_path / 'experiments/demo_exp1/history.csv').read_text().splitlines()) > 1
    tested = run_script('facesr_plugin/test.py', '-opt', 'demo_test.yml', cwd=tmp_path)
    assert tested.returncode == 0, tested.stderr
    assert 'psnr' in (tested.stdout + tested.stderr).lower()
