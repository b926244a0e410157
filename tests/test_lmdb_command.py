"""`facesr lmdb`: folders to LMDBs, and what it says when it cannot."""

import os
from pathlib import Path

import numpy as np
import pytest

from facesr_plugin.commands import lmdb
from facesr_plugin.data.images import read_image, write_image
from facesr_plugin.data.lmdb_images import LmdbImages
from facesr_plugin.errors import run_command

NAMES = ['a.b.png', 'a b.png', 'v1.0/\u4eba.png']


def add(path: Path, height: int, width: int) -> np.ndarray:
    """Write noise of its own to a file and return it."""
    image = np.random.default_rng(list(os.fsencode(path.name))).integers(0, 256, (height, width, 3), np.uint8)
    write_image(path, image)
    return image


@pytest.fixture
def folder(tmp_path) -> Path:
    """hr/ and lr/ of three pairs with odd names, sides 16x24 and 4x6."""
    for name in NAMES:
        add(tmp_path / 'hr' / name, 16, 24)
        add(tmp_path / 'lr' / name, 4, 6)
    return tmp_path


def arguments(folder: Path, *options: str, lr: bool = True) -> list[str]:
    sides = ('hr', 'lr') if lr else ('hr',)
    return [word for side in sides for word in (f'--{side}', f'{folder / side}', f'{folder / side}.lmdb')] + [*options]


def error_of(argv: list[str], capsys: pytest.CaptureFixture) -> list[str]:
    """Run the command as the shell does; return its lines on stderr that are messages, having checked the status."""
    with pytest.raises(SystemExit) as stop:
        run_command(lambda: lmdb.main(argv))
    assert stop.value.code == 2
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith('error: ')]


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in ('hr', 'lr'))


@pytest.mark.parametrize('option', ['--png-level=9', '--raw'])
def test_hr_folder(folder, capsys, option):
    assert not lmdb.main(arguments(folder, option, lr=False))
    images = LmdbImages(folder / 'hr.lmdb')
    assert sorted(images.keys) == ['a%20b', 'a%2Eb', 'v1%2E0/%E4%BA%BA']
    assert images.shapes == [(16, 24)] * 3
    np.testing.assert_array_equal(images.read('a%2Eb'), read_image(folder / 'hr' / 'a.b.png'))
    size = (folder / 'hr.lmdb' / 'data.mdb').stat().st_size / 1e6
    assert capsys.readouterr().out == f'{folder / "hr.lmdb"}: 3 images, {size:.1f} MB\n'


def test_pairs(folder, capsys):
    lmdb.main(arguments(folder))
    hr, lr = LmdbImages(folder / 'hr.lmdb'), LmdbImages(folder / 'lr.lmdb')
    assert hr.keys == lr.keys
    np.testing.assert_array_equal(lr.read('v1%2E0/%E4%BA%BA'), read_image(folder / 'lr' / NAMES[2]))
    assert [line.split(',')[0] for line in capsys.readouterr().out.splitlines()] == [
        f'{folder / side}.lmdb: 3 images' for side in ('hr', 'lr')
    ]


def test_suffixes_of_a_pair_may_differ(folder):
    add(folder / 'hr' / 'c.png', 16, 16)
    add(folder / 'lr' / 'c.bmp', 4, 4)
    lmdb.main(arguments(folder))
    np.testing.assert_array_equal(LmdbImages(folder / 'lr.lmdb').read('c'), read_image(folder / 'lr' / 'c.bmp'))


@pytest.mark.parametrize(('kept', 'missing'), [('hr', 'lr'), ('lr', 'hr')])
def test_image_without_partner(folder, capsys, kept, missing):
    (folder / missing / 'a.b.png').unlink()
    assert error_of(arguments(folder), capsys) == [
        f'error: {folder / kept / "a.b.png"}: an {missing.upper()} image of the same name expected'
        f' in {folder / missing}, there is none'
    ]
    assert left(folder) == []


def test_pair_of_wrong_sizes(folder, capsys):
    add(folder / 'lr' / 'a.b.png', 6, 4)
    assert error_of(arguments(folder), capsys) == [
        f'error: {folder / "hr" / "a.b.png"}, beside {folder / "lr" / "a.b.png"}:'
        ' HR of 16x24 px expected (4 times the LR), got 24x16'
    ]
    assert left(folder) == []


def test_scale_is_an_option(folder, capsys):
    assert len(error_of(arguments(folder, '--scale=2'), capsys)) == 3
    lmdb.main(arguments(folder, '--scale=8', lr=False))
    assert error_of(arguments(folder, '--scale=0'), capsys) == ['error: --scale: 1 or more expected, got 0']


def test_hr_of_any_size_for_training(folder):
    """Only patches are taken of them."""
    add(folder / 'hr' / 'odd.png', 16, 18)
    lmdb.main(arguments(folder, lr=False))
    assert '(16,18,3)' in (folder / 'hr.lmdb' / 'meta_info.txt').read_text()


def test_all_unreadable_files_are_named(folder, capsys):
    whole = (folder / 'hr' / 'a b.png').read_bytes()
    (folder / 'hr' / 'a b.png').write_bytes(whole[: len(whole) // 8])
    (folder / 'lr' / 'a b.png').write_bytes(b'')
    (folder / 'hr' / 'v1.0' / '\u4eba.png').write_text('not an image')
    bad = [folder / 'hr' / 'a b.png', folder / 'lr' / 'a b.png', folder / 'hr' / NAMES[2]]
    assert error_of(arguments(folder), capsys) == [
        f'error: {path}: cannot be read as an image (empty, damaged or another file type)' for path in bad
    ]
    assert left(folder) == []


def test_one_lmdb_for_both_sides(folder, capsys):
    argv = ['--hr', f'{folder / "hr"}', f'{folder / "x.lmdb"}', '--lr', f'{folder / "lr"}', f'{folder / "x.lmdb"}']
    assert error_of(argv, capsys) == [f'error: {folder / "x.lmdb"}: is to be made twice; give each LMDB its own name']
    assert left(folder) == []


@pytest.mark.parametrize('options', [['--png-level', '10'], ['--raw', '--png-level', '2'], []])
def test_bad_usage(folder, options):
    with pytest.raises(SystemExit) as stop:
        lmdb.main(arguments(folder, *options) if options else [])
    assert stop.value.code == 2
