"""LMDBs of images: what is written is what is read, by this package and by stock BasicSR."""

import multiprocessing
import os
import pickle
from pathlib import Path
from urllib.parse import unquote

import cv2
import lmdb
import numpy as np
import pytest
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.utils.file_client import FileClient
from samples import noise, write_lmdb

from facesr_plugin.data.images import write_image
from facesr_plugin.data.lmdb_images import LmdbImages, SharedLmdbBackend, image_key
from facesr_plugin.data.lmdb_writer import image_keys, write_lmdbs
from facesr_plugin.errors import UserError


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


# ------------------------------------------------------------------ written and read


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


# ------------------------------------------------------------------ damaged LMDBs


def damage(path: Path, key: str, value: bytes | None) -> None:
    """Replace or delete a value, from outside."""
    with lmdb.open(str(path), map_size=2**20) as environment, environment.begin(write=True) as txn:
        if value is None:
            txn.delete(key.encode())
        else:
            txn.put(key.encode(), value)


def test_empty_meta_info(tmp_path, images):
    path = write_lmdb(tmp_path / 'x.lmdb', images)
    (path / 'meta_info.txt').write_text('')
    with pytest.raises(UserError, match=r'meta_info\.txt: lists no image$'):
        LmdbImages(path)


def test_odd_meta_info_line(tmp_path, images):
    path = write_lmdb(tmp_path / 'x.lmdb', images)
    (path / 'meta_info.txt').write_text('b.png (16,12,3) 1\nc.png\n')
    with pytest.raises(UserError) as caught:
        LmdbImages(path)
    assert str(caught.value) == (
        f'{path / "meta_info.txt"}, line 2: "key.png (height,width,channels) level" expected, got "c.png"'
    )


@pytest.mark.parametrize('kept', [0, 100, 4096, 8192, 20000, -4096])
def test_data_cut_short(tmp_path, kept):
    path = write_lmdb(tmp_path / 'x.lmdb', {str(i): noise(i, 64, 64) for i in range(4)})
    data = (path / 'data.mdb').read_bytes()
    (path / 'data.mdb').write_bytes(data[:kept])
    message = f'data.mdb is cut short: {len(data)} bytes' if kept >= 8192 or kept < 0 else 'cannot be opened as an LMDB'
    with pytest.raises(UserError, match=rf'x\.lmdb: {message}'):
        LmdbImages(path)


def test_unknown_key(tmp_path, images):
    path = write_lmdb(tmp_path / 'x.lmdb', images)
    with pytest.raises(UserError) as caught:
        LmdbImages(path).read('d')
    assert str(caught.value) == f'{path}: no image d'


def test_raw_value_of_another_size(tmp_path, images):
    path = write_lmdb(tmp_path / 'x.lmdb', images, None)
    damage(path, 'c', b'12345')
    with pytest.raises(UserError) as caught:
        LmdbImages(path).read('c')
    assert str(caught.value) == f'{path}: c: 576 raw bytes expected, got 5'


def test_meta_info_gives_another_size(tmp_path, images):
    path = write_lmdb(tmp_path / 'x.lmdb', images)
    (path / 'meta_info.txt').write_text('b.png (12,16,3) 1\n')
    with pytest.raises(UserError) as caught:
        LmdbImages(path).read('b')
    assert str(caught.value) == f'{path}: b: 16x12 px expected from meta_info.txt, got 12x16'


# ------------------------------------------------------------------ one environment per process


def test_same_lmdb_twice_and_by_another_name(tmp_path, images):
    path = write_lmdb(tmp_path / 'x.lmdb', images)
    (tmp_path / 'link.lmdb').symlink_to(path)
    readers = [LmdbImages(path), LmdbImages(path), LmdbImages(tmp_path / 'link.lmdb')]
    for reader in readers:
        np.testing.assert_array_equal(reader.read('c'), images['c'])


def test_lmdb_replaced_under_its_name_is_read_anew(tmp_path, images):
    path = write_lmdb(tmp_path / 'x.lmdb', images)
    assert LmdbImages(path).keys == list(images)
    path.rename(tmp_path / 'old.lmdb')
    write_lmdb(path, {'new': noise(9)})
    np.testing.assert_array_equal(LmdbImages(path).read('new'), noise(9))


@pytest.mark.parametrize('method', ['fork', 'spawn'])
def test_workers_read_what_the_parent_has_open(tmp_path, images, method):
    reader = LmdbImages(write_lmdb(tmp_path / 'x.lmdb', images))
    reader.read('c')
    with multiprocessing.get_context(method).Pool(2) as pool:
        for read, image in zip(pool.map(reader.read, list(images)), images.values(), strict=True):
            np.testing.assert_array_equal(read, image)
        pool.close()
        pool.join()
    np.testing.assert_array_equal(reader.read('c'), images['c'])  # the parent reads on


def test_pickle_holds_no_environment(tmp_path, images):
    reader = LmdbImages(write_lmdb(tmp_path / 'x.lmdb', images))
    copy = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(copy.read('b'), images['b'])


def test_file_client_opens_an_lmdb_twice(tmp_path, images):
    path = write_lmdb(tmp_path / 'x.lmdb', images)
    clients = [FileClient('lmdb', db_paths=[str(path)], client_keys=['gt']) for _ in range(2)]
    assert isinstance(clients[0].client, SharedLmdbBackend)
    values = [client.get('c', 'gt') for client in clients]
    assert values[0] == values[1]
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(values[0], np.uint8), 1)[:, :, ::-1], images['c'])


def test_file_client_names_a_missing_key(tmp_path, images):
    path = write_lmdb(tmp_path / 'x.lmdb', images)
    with pytest.raises(UserError) as caught:
        FileClient('lmdb', db_paths=str(path)).get('a.b')
    assert str(caught.value) == f'{path}: no image a.b'


def test_cut_short_while_it_is_open(tmp_path):
    """As during a training: touching a page that is gone would kill the process."""
    write_lmdbs([tmp_path / 'x.lmdb'], ['a', 'b'], lambda key: [np.zeros((64, 64, 3), np.uint8)], None)
    images = LmdbImages(tmp_path / 'x.lmdb')
    images.read('a')
    os.truncate(tmp_path / 'x.lmdb' / 'data.mdb', 8192)
    with pytest.raises(UserError, match=r'x\.lmdb: data\.mdb is cut short: \d+ bytes expected, got 8192$'):
        images.read('b')
