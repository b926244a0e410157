"""LMDBs of images: what is written is what is read, by this package and by stock BasicSR."""

import multiprocessing
import os
import pickle
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import cv2
import lmdb
import numpy as np
import pytest
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.utils.file_client import FileClient

from facesr_plugin.data import lmdb_images as image_lmdb
from facesr_plugin.data.images import write_image
from facesr_plugin.data.lmdb_images import LmdbImages, SharedLmdbBackend, image_key
from facesr_plugin.data.lmdb_writer import image_keys, write_lmdbs
from facesr_plugin.errors import UserError


def noise(seed: int, height: int = 16, width: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def write(path: Path, images: dict[str, np.ndarray], png_level: int | None = 1) -> Path:
    write_lmdbs([path], list(images), lambda key: [images[key]], png_level)
    return path


@pytest.fixture
def images() -> dict[str, np.ndarray]:
    return {'b': noise(0), 'sub/a%2Eb': noise(1, 20, 8), 'c': noise(2)}


# ------------------------------------------------------------------ keys


@pytest.mark.parametrize(
    ('name', 'key'),
    [
        ('face_1-2~.png', 'face_1-2~'),
        ('a.b.png', 'a%2Eb'),
        ('v1.0/x.jpg', 'v1%2E0/x'),
        ('a b%2E.png', 'a%20b%252E'),
        ('\u00e9.png', '%C3%A9'),
    ],
)
def test_key_is_reversible(name, key):
    assert image_key(name) == key
    assert unquote(key) == str(Path(name).with_suffix(''))


def test_names_alike_have_keys_of_their_own(tmp_path):
    names = ['a.b.png', 'a%2Eb.png', 'a_b.png', 'a/b.png', 'a b.png', '\u4eba.png']
    for name in names:
        write_image(tmp_path / name, noise(0))
    files = image_keys(tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in files.values()) == sorted(names)


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
    lmdb_images = LmdbImages(write(tmp_path / 'x.lmdb', images, png_level))
    assert lmdb_images.keys == list(images)
    assert lmdb_images.shapes == [(16, 12), (20, 8), (16, 12)]
    for key, image in images.items():
        read = lmdb_images.read(key)
        np.testing.assert_array_equal(read, image)
        assert read.dtype == np.uint8
        read += 1  # writable, and not the file
        np.testing.assert_array_equal(lmdb_images.read(key), image)


def test_layout_is_basicsr_s(tmp_path, images):
    path = write(tmp_path / 'x.lmdb', images, 3)
    assert sorted(os.listdir(path)) == ['data.mdb', 'lock.mdb', 'meta_info.txt']
    assert (path / 'meta_info.txt').read_text() == 'b.png (16,12,3) 3\nsub/a%2Eb.png (20,8,3) 3\nc.png (16,12,3) 3\n'
    raw = write(tmp_path / 'raw.lmdb', images, None)
    assert (raw / 'meta_info.txt').read_text().splitlines()[1] == 'sub/a%2Eb.raw (20,8,3) 0'


def test_stock_dataset_reads_odd_names(tmp_path):
    names = ['a.b.png', 'a_b.png', 'v1.0/a b.png', '\u00e9.png']
    for i, name in enumerate(names):
        write_image(tmp_path / 'hr' / name, noise(i, 32, 24))
        write_image(tmp_path / 'lr' / name, noise(i + 10, 8, 6))
    hr, lr = image_keys(tmp_path / 'hr'), image_keys(tmp_path / 'lr')
    paths = [tmp_path / 'hr.lmdb', tmp_path / 'lr.lmdb']
    write_lmdbs(paths, list(hr), lambda key: [cv2.imread(str(f))[:, :, ::-1] for f in (hr[key], lr[key])])

    dataset = PairedImageDataset(
        {
            'dataroot_gt': str(paths[0]),
            'dataroot_lq': str(paths[1]),
            'io_backend': {'type': 'lmdb'},
            'scale': 4,
            'phase': 'val',
        }
    )
    assert len(dataset) == len(names)
    for item in dataset:
        i = names.index(unquote(item['gt_path']) + '.png')
        assert item['lq_path'] == item['gt_path']
        for side, image in (('gt', noise(i, 32, 24)), ('lq', noise(i + 10, 8, 6))):
            pixels = (item[side].numpy().transpose(1, 2, 0) * 255).round().astype(np.uint8)
            np.testing.assert_array_equal(pixels, image)


def test_lmdb_made_by_stock_is_read(tmp_path):
    from basicsr.utils.lmdb_util import make_lmdb_from_imgs

    image = np.full((300, 200, 3), 7, np.uint8)
    image[:, :100, 0] = 200
    write_image(tmp_path / 'hr' / 'my face.1.png', image)
    make_lmdb_from_imgs(
        str(tmp_path / 'hr'), str(tmp_path / 'x.lmdb'), ['my face.1.png'], ['my face.1'], map_size=2**20
    )
    images = LmdbImages(tmp_path / 'x.lmdb')
    assert images.keys == ['my face.1']
    np.testing.assert_array_equal(images.read('my face.1'), image)


def test_map_grows_until_all_fits(monkeypatch, tmp_path):
    monkeypatch.setattr(image_lmdb, 'MAP_SIZE', 2**14)
    images = {str(i): noise(i, 64, 64) for i in range(2 * image_lmdb.BATCH + 1)}  # 12 KiB each, more than one batch
    path = write(tmp_path / 'x.lmdb', images, None)
    assert (path / 'data.mdb').stat().st_size > 65 * 64 * 64 * 3
    read = LmdbImages(path)
    assert all(np.array_equal(read.read(key), image) for key, image in images.items())


# ------------------------------------------------------------------ all or none


def test_existing_path_is_refused_and_kept(tmp_path, images):
    path = write(tmp_path / 'x.lmdb', images)
    with pytest.raises(UserError) as caught:
        write(path, {'new': noise(9)})
    assert str(caught.value) == f'{path}: exists already; remove it or choose another name'
    assert LmdbImages(path).keys == list(images)


def test_name_without_suffix_is_refused(tmp_path, images):
    with pytest.raises(UserError, match=r'x: a name that ends in \.lmdb expected$'):
        write(tmp_path / 'x', images)


def test_folder_that_cannot_be_made(tmp_path, images):
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match=r'x\.lmdb: cannot be written \(.*Not a directory'):
        write(tmp_path / 'file' / 'x.lmdb', images)


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

    monkeypatch.setattr(image_lmdb, '_verify', stop)
    with pytest.raises(error):
        write(tmp_path / 'x.lmdb', images)
    assert list(tmp_path.iterdir()) == []


def test_killed_write_leaves_nothing_under_the_name(tmp_path):
    code = (
        'import os, signal, sys, numpy as np; from pathlib import Path\n'
        'from facesr_plugin.data.lmdb_images import write_lmdbs\n'
        'def load(key):\n'
        '    if key == "40": os.kill(os.getpid(), signal.SIGKILL)\n'
        '    return [np.zeros((8, 8, 3), np.uint8)]\n'
        'write_lmdbs([Path(sys.argv[1])], [str(i) for i in range(100)], load)\n'
    )
    done = subprocess.run([sys.executable, '-c', code, tmp_path / 'x.lmdb'], capture_output=True, check=False)
    assert done.returncode == -9
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith('.')] == []
    write(tmp_path / 'x.lmdb', {'a': noise(0)})  # and the next run is not in its way


def test_what_the_disk_garbles_is_noticed(monkeypatch, tmp_path, images):
    put = image_lmdb._put

    def garble(environment: lmdb.Environment, values: dict[str, bytes]) -> None:
        put(environment, values | {'c': bytes([values['c'][0] ^ 1]) + values['c'][1:]})

    monkeypatch.setattr(image_lmdb, '_put', garble)
    with pytest.raises(UserError, match=r'x\.lmdb: c: not read back as it was written'):
        write(tmp_path / 'x.lmdb', images, None)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------ damaged LMDBs


def damage(path: Path, key: str, value: bytes | None) -> None:
    """Replace or delete a value, from outside."""
    with lmdb.open(str(path), map_size=2**20) as environment, environment.begin(write=True) as txn:
        if value is None:
            txn.delete(key.encode())
        else:
            txn.put(key.encode(), value)


def test_missing_folder(tmp_path):
    with pytest.raises(UserError) as caught:
        LmdbImages(tmp_path / 'x.lmdb')
    assert str(caught.value) == f'{tmp_path / "x.lmdb"}: no LMDB there (data.mdb: No such file or directory)'


def test_missing_meta_info(tmp_path, images):
    path = write(tmp_path / 'x.lmdb', images)
    (path / 'meta_info.txt').unlink()
    with pytest.raises(UserError) as caught:
        LmdbImages(path)
    assert str(caught.value) == f'{path / "meta_info.txt"}: No such file or directory'


def test_empty_meta_info(tmp_path, images):
    path = write(tmp_path / 'x.lmdb', images)
    (path / 'meta_info.txt').write_text('')
    with pytest.raises(UserError, match=r'meta_info\.txt: lists no image$'):
        LmdbImages(path)


def test_odd_meta_info_line(tmp_path, images):
    path = write(tmp_path / 'x.lmdb', images)
    (path / 'meta_info.txt').write_text('b.png (16,12,3) 1\nc.png\n')
    with pytest.raises(UserError) as caught:
        LmdbImages(path)
    assert str(caught.value) == (
        f'{path / "meta_info.txt"}, line 2: "key.png (height,width,channels) level" expected, got "c.png"'
    )


@pytest.mark.parametrize('kept', [0, 100, 4096, 8192, 20000, -4096])
def test_data_cut_short(tmp_path, kept):
    path = write(tmp_path / 'x.lmdb', {str(i): noise(i, 64, 64) for i in range(4)})
    data = (path / 'data.mdb').read_bytes()
    (path / 'data.mdb').write_bytes(data[:kept])
    message = f'data.mdb is cut short: {len(data)} bytes' if kept >= 8192 or kept < 0 else 'cannot be opened as an LMDB'
    with pytest.raises(UserError, match=rf'x\.lmdb: {message}'):
        LmdbImages(path)


def test_key_of_meta_info_is_missing(tmp_path, images):
    path = write(tmp_path / 'x.lmdb', images)
    damage(path, 'c', None)
    with pytest.raises(UserError) as caught:
        LmdbImages(path)
    assert str(caught.value) == f'{path}: no image c'


def test_unknown_key(tmp_path, images):
    path = write(tmp_path / 'x.lmdb', images)
    with pytest.raises(UserError) as caught:
        LmdbImages(path).read('d')
    assert str(caught.value) == f'{path}: no image d'


def test_value_is_no_image(tmp_path, images):
    path = write(tmp_path / 'x.lmdb', images)
    damage(path, 'c', b'no image')
    with pytest.raises(UserError, match=r'x\.lmdb: c: cannot be read as an image'):
        LmdbImages(path).read('c')


def test_raw_value_of_another_size(tmp_path, images):
    path = write(tmp_path / 'x.lmdb', images, None)
    damage(path, 'c', b'12345')
    with pytest.raises(UserError) as caught:
        LmdbImages(path).read('c')
    assert str(caught.value) == f'{path}: c: 576 raw bytes expected, got 5'


def test_meta_info_gives_another_size(tmp_path, images):
    path = write(tmp_path / 'x.lmdb', images)
    (path / 'meta_info.txt').write_text('b.png (12,16,3) 1\n')
    with pytest.raises(UserError) as caught:
        LmdbImages(path).read('b')
    assert str(caught.value) == f'{path}: b: 16x12 px expected from meta_info.txt, got 12x16'


# ------------------------------------------------------------------ one environment per process


def test_same_lmdb_twice_and_by_another_name(tmp_path, images):
    path = write(tmp_path / 'x.lmdb', images)
    (tmp_path / 'link.lmdb').symlink_to(path)
    readers = [LmdbImages(path), LmdbImages(path), LmdbImages(tmp_path / 'link.lmdb')]
    for reader in readers:
        np.testing.assert_array_equal(reader.read('c'), images['c'])


def test_lmdb_replaced_under_its_name_is_read_anew(tmp_path, images):
    path = write(tmp_path / 'x.lmdb', images)
    assert LmdbImages(path).keys == list(images)
    path.rename(tmp_path / 'old.lmdb')
    write(path, {'new': noise(9)})
    np.testing.assert_array_equal(LmdbImages(path).read('new'), noise(9))


@pytest.mark.parametrize('method', ['fork', 'spawn'])
def test_workers_read_what_the_parent_has_open(tmp_path, images, method):
    reader = LmdbImages(write(tmp_path / 'x.lmdb', images))
    reader.read('c')
    with multiprocessing.get_context(method).Pool(2) as pool:
        for read, image in zip(pool.map(reader.read, list(images)), images.values(), strict=True):
            np.testing.assert_array_equal(read, image)
    np.testing.assert_array_equal(reader.read('c'), images['c'])  # the parent reads on


def test_pickle_holds_no_environment(tmp_path, images):
    reader = LmdbImages(write(tmp_path / 'x.lmdb', images))
    copy = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(copy.read('b'), images['b'])


def test_file_client_opens_an_lmdb_twice(tmp_path, images):
    path = write(tmp_path / 'x.lmdb', images)
    clients = [FileClient('lmdb', db_paths=[str(path)], client_keys=['gt']) for _ in range(2)]
    assert isinstance(clients[0].client, SharedLmdbBackend)
    values = [client.get('c', 'gt') for client in clients]
    assert values[0] == values[1]
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(values[0], np.uint8), 1)[:, :, ::-1], images['c'])


def test_file_client_names_a_missing_key(tmp_path, images):
    path = write(tmp_path / 'x.lmdb', images)
    with pytest.raises(UserError) as caught:
        FileClient('lmdb', db_paths=str(path)).get('a.b')
    assert str(caught.value) == f'{path}: no image a.b'
