"""data/image_source.py: a folder and an LMDB made of it are read alike."""

import numpy as np
import pytest
from samples import noise

from facesr_plugin.data.image_source import FolderImages, open_images
from facesr_plugin.data.images import write_image
from facesr_plugin.data.lmdb_images import LmdbImages
from facesr_plugin.data.packing import pack
from facesr_plugin.errors import UserError

NAMES = ['a.b.png', 'a b.bmp', 'v1.0/a.png', '顔.png']


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(NAMES):
        write_image(tmp_path / 'hr' / name, noise(number, 16, 8 + 4 * number))
    return tmp_path / 'hr'


def test_folder_and_lmdb_are_read_alike(folder):
    path = folder.with_suffix('.lmdb')
    assert pack([folder], [path], scale=4) == 4
    from_folder, from_lmdb = open_images(folder), open_images(path)
    assert (type(from_folder), type(from_lmdb)) == (FolderImages, LmdbImages)
    assert from_folder.keys == from_lmdb.keys == ['a%20b', 'a%2Eb', 'v1%2E0/a', '%E9%A1%94']
    assert from_folder.shapes == from_lmdb.shapes == [(16, 12), (16, 8), (16, 16), (16, 20)]
    for key in from_folder.keys:
        np.testing.assert_array_equal(from_folder.read(key), from_lmdb.read(key))
    for images in (from_folder, from_lmdb):
        with pytest.raises(UserError, match=f'^{images.root}: no image none$'):
            images.read('none')


def test_the_backend_may_be_named(folder):
    assert isinstance(open_images(folder.rename(folder.with_suffix('.lmdb')), 'disk'), FolderImages)
    with pytest.raises(UserError, match='no LMDB there'):
        open_images(folder, 'lmdb')


def test_names_are_those_of_the_files(folder):
    assert open_images(folder).names == sorted(NAMES)


def test_files_that_differ_by_suffix_only_are_two(folder):
    write_image(folder / 'a b.png', noise(9))
    images = open_images(folder)
    assert images.keys == ['a%20b.bmp', 'a%20b.png', 'a%2Eb', 'v1%2E0/a', '%E9%A1%94']
    np.testing.assert_array_equal(images.read('a%20b.png'), noise(9))


def test_all_headers_that_cannot_be_read_are_named(folder):
    for name in NAMES[:2]:
        (folder / name).write_text('no image')
    images = open_images(folder)
    with pytest.raises(UserError) as caught:
        _ = images.shapes
    reason = 'cannot be read as an image (empty, damaged or another file type)'
    assert str(caught.value) == '\n'.join(f'{folder / name}: {reason}' for name in sorted(NAMES[:2]))
    assert images.read('v1%2E0/a').shape == (16, 16, 3)


@pytest.mark.parametrize('is_lmdb', [False, True])
def test_messages_have_names_without_percent_codes(folder, is_lmdb):
    if is_lmdb:
        pack([folder], [folder.with_suffix('.lmdb')], scale=4)
        (folder.with_suffix('.lmdb') / 'meta_info.txt').write_text('%E9%A1%94.png (5,5,3) 1\na%20b.png (16,8,3) 1\n')
    images = open_images(folder.with_suffix('.lmdb') if is_lmdb else folder)
    if is_lmdb:
        assert images.names == ['顔', 'a b']
        with pytest.raises(UserError, match=r'hr\.lmdb: 顔: 5x5 px expected from meta_info'):
            images.read('%E9%A1%94')
    with pytest.raises(UserError, match=r'hr[.lmdb]*: no image J\. Müller$'):
        images.read('J%2E%20M%C3%BCller')
