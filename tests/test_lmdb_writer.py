"""data/lmdb_writer.py: LMDBs are written whole, read back and compared, all of them or none."""

import os
import subprocess
import sys

import lmdb
import numpy as np
import pytest
from samples import noise, write_lmdb

from facesr_plugin.data import lmdb_writer
from facesr_plugin.data.images import write_image
from facesr_plugin.data.lmdb_images import LmdbImages
from facesr_plugin.data.lmdb_writer import image_keys, write_lmdbs
from facesr_plugin.errors import UserError


@pytest.fixture
def images() -> dict[str, np.ndarray]:
    return {'b': noise(0), 'sub/a%2Eb': noise(1, 20, 8), 'c': noise(2)}


# ------------------------------------------------------------------ keys
def test_names_that_differ_by_suffix_only_collide(tmp_path):
    for name in ('a.jpg', 'a.png'):
        write_image(tmp_path / name, noise(0))
    with pytest.raises(UserError) as caught:
        image_keys(tmp_path)
    assert str(caught.value) == (
        f'{tmp_path / "a.png"}: differs from {tmp_path / "a.jpg"} by its suffix only, and a key has none: rename one'
    )


def test_name_too_long_for_a_key(tmp_path):
    name = '\u4eba' * 60  # 9 bytes each, encoded
    write_image(tmp_path / f'{name}.png', noise(0))
    with pytest.raises(UserError, match=r'a key of at most 511 bytes expected, this name needs 540$'):
        image_keys(tmp_path)


# ------------------------------------------------------------------ written and read
@pytest.mark.parametrize('png_level', [0, 1, 9, None])
def test_pixels_come_back(tmp_path, images, png_level):
    lmdb_images = LmdbImages(write_lmdb(tmp_path / 'x.lmdb', images, png_level))
    assert lmdb_images.keys == list(images)
    assert lmdb_images.shapes == [(16, 12), (20, 8), (16, 12)]
    for key, image in images.items():
        read = lmdb_images.read(key)
        np.testing.assert_array_equal(read, image)
        assert read.dtype == np.uint8
        read += 1  # writable, and not the file
        np.testing.assert_array_equal(lmdb_images.read(key), image)


def test_layout_is_basicsr_s(tmp_path, images):
    path = write_lmdb(tmp_path / 'x.lmdb', images, 3)
    assert sorted(os.listdir(path)) == ['data.mdb', 'lock.mdb', 'meta_info.txt']
    assert (path / 'meta_info.txt').read_text() == 'b.png (16,12,3) 3\nsub/a%2Eb.png (20,8,3) 3\nc.png (16,12,3) 3\n'
    raw = write_lmdb(tmp_path / 'raw.lmdb', images, None)
    assert (raw / 'meta_info.txt').read_text().splitlines()[1] == 'sub/a%2Eb.raw (20,8,3) 0'


def test_map_grows_until_all_fits(monkeypatch, tmp_path):
    monkeypatch.setattr(lmdb_writer, 'MAP_SIZE', 2**14)
    images = {str(i): noise(i, 64, 64) for i in range(2 * lmdb_writer.BATCH + 1)}  # 12 KiB each, more than one batch
    path = write_lmdb(tmp_path / 'x.lmdb', images, None)
    assert (path / 'data.mdb').stat().st_size > 65 * 64 * 64 * 3
    read = LmdbImages(path)
    assert all(np.array_equal(read.read(key), image) for key, image in images.items())


# ------------------------------------------------------------------ all or none


def test_existing_path_is_refused_and_kept(tmp_path, images):
    path = write_lmdb(tmp_path / 'x.lmdb', images)
    with pytest.raises(UserError) as caught:
        write_lmdb(path, {'new': noise(9)})
    assert str(caught.value) == f'{path}: exists already; remove it or choose another name'
    assert LmdbImages(path).keys == list(images)


def test_name_without_suffix_is_refused(tmp_path, images):
    with pytest.raises(UserError, match=r'x: a name that ends in \.lmdb expected$'):
        write_lmdb(tmp_path / 'x', images)


def test_folder_that_cannot_be_made(tmp_path, images):
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match=r'x\.lmdb: cannot be written \(.*Not a directory'):
        write_lmdb(tmp_path / 'file' / 'x.lmdb', images)


def test_failing_images_are_all_named_and_nothing_is_left(tmp_path):
    def load(key: str) -> list[np.ndarray]:
        if int(key) % 40 == 3:
            raise UserError(f'{key}: bad')
        return [noise(int(key)), noise(int(key))]

    with pytest.raises(UserError) as caught:
        write_lmdbs([tmp_path / 'a.lmdb', tmp_path / 'b.lmdb'], [str(i) for i in range(100)], load)
    assert str(caught.value) == '3: bad\n43: bad\n83: bad'
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('error', [KeyboardInterrupt, RuntimeError])
def test_stopped_write_leaves_nothing(monkeypatch, tmp_path, images, error):
    def stop(*args: object) -> None:
        raise error

    monkeypatch.setattr(lmdb_writer, '_verify', stop)
    with pytest.raises(error):
        write_lmdb(tmp_path / 'x.lmdb', images)
    assert list(tmp_path.iterdir()) == []


def test_killed_write_leaves_nothing_under_the_name(tmp_path):
    code = (
        'import os, signal, sys, numpy as np; from pathlib import Path\n'
        'from facesr_plugin.data.lmdb_writer import write_lmdbs\n'
        'def load(key):\n'
        '    if key == "40": os.kill(os.getpid(), signal.SIGKILL)\n'
        '    return [np.zeros((8, 8, 3), np.uint8)]\n'
        'write_lmdbs([Path(sys.argv[1])], [str(i) for i in range(100)], load)\n'
    )
    done = subprocess.run([sys.executable, '-c', code, tmp_path / 'x.lmdb'], capture_output=True, check=False)
    assert done.returncode == -9
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith('.')] == []
    write_lmdb(tmp_path / 'x.lmdb', {'a': noise(0)})  # and the next run is not in its way


def test_what_the_disk_garbles_is_noticed(monkeypatch, tmp_path, images):
    put = lmdb_writer._put

    def garble(environment: lmdb.Environment, values: dict[str, bytes]) -> None:
        put(environment, values | {'c': bytes([values['c'][0] ^ 1]) + values['c'][1:]})

    monkeypatch.setattr(lmdb_writer, '_put', garble)
    with pytest.raises(UserError, match=r'x\.lmdb: c: not read back as it was written'):
        write_lmdb(tmp_path / 'x.lmdb', images, None)
    assert list(tmp_path.iterdir()) == []
