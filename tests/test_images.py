from pathlib import Path

import cv2
import numpy as np
import pytest

from facesr_plugin.data.images import list_images, read_image, write_image
from facesr_plugin.errors import UserError

RED = np.broadcast_to(np.array([255, 0, 0], np.uint8), (4, 6, 3))


def test_round_trip_is_rgb(tmp_path):
    write_image(tmp_path / 'a.png', RED)
    assert np.array_equal(read_image(tmp_path / 'a.png'), RED)
    assert cv2.imread(str(tmp_path / 'a.png'))[0, 0].tolist() == [0, 0, 255]  # cv2 reads BGR


def test_list_is_sorted_recursive_and_leaves_out_hidden(tmp_path):
    for name in ('b.png', 'a.jpg', 'sub/c.PNG', '.hidden.png', '.folder/d.png', 'note.txt'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b'')
    assert [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)] == ['a.jpg', 'b.png', 'sub/c.PNG']


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in list_images(folder)]


def test_linked_folders_are_followed(tmp_path):
    """A data set of a few images of its own and many on another disk, which is linked; at any depth."""
    for name in ('faces/a.png', 'disk/more/b.png', 'elsewhere/c.png'):
        write_image(tmp_path / name, RED)
    (tmp_path / 'faces' / 'linked').symlink_to(tmp_path / 'disk')
    (tmp_path / 'disk' / 'more' / 'deeper').symlink_to(tmp_path / 'elsewhere')
    assert names(tmp_path / 'faces') == ['a.png', 'linked/more/b.png', 'linked/more/deeper/c.png']
    (tmp_path / 'root').symlink_to(tmp_path / 'faces')
    assert names(tmp_path / 'root') == names(tmp_path / 'faces')


def test_links_in_circles(tmp_path):
    """Each folder counts once, under its own name if it is below anyway."""
    write_image(tmp_path / 'b' / 'a.png', RED)
    write_image(tmp_path / 'c' / 'a.png', RED)
    for link, target in (('b/itself', '.'), ('b/up', '..'), ('a', 'b'), ('b/c', '../c'), ('c/b', '../b')):
        (tmp_path / link).symlink_to(target)
    assert names(tmp_path) == ['b/a.png', 'c/a.png']


def test_links_to_nothing_are_named(tmp_path):
    """That of an image when it is read, as any other that cannot be; a folder's at once."""
    write_image(tmp_path / 'a.png', RED)
    (tmp_path / 'b.png').symlink_to(tmp_path / 'gone.png')
    assert names(tmp_path) == ['a.png', 'b.png']
    with pytest.raises(UserError, match=r'b\.png: No such file'):
        read_image(tmp_path / 'b.png')
    (tmp_path / 'disk').symlink_to(tmp_path / 'not mounted')
    with pytest.raises(UserError, match=r'disk: a link to nothing; remove it, or mend what it points to$'):
        list_images(tmp_path)


@pytest.mark.parametrize(
    ('array', 'expected'),
    [
        (np.full((2, 2), 7, np.uint8), [7, 7, 7]),
        (np.full((2, 2, 4), (1, 2, 3, 9), np.uint8), [3, 2, 1]),
        (np.full((2, 2, 3), (256, 512, 768), np.uint16), [3, 2, 1]),
    ],
    ids=['grey', 'alpha', '16 bit'],
)
def test_other_pixel_types_become_8_bit_rgb(tmp_path, array, expected):
    cv2.imwrite(str(tmp_path / 'a.png'), array)
    image = read_image(tmp_path / 'a.png')
    assert image.dtype == np.uint8
    assert image[0, 0].tolist() == expected


@pytest.mark.parametrize('name', ['a.webp', 'a.jpg'])
def test_too_large_for_the_file_type(tmp_path, name):
    with pytest.raises(UserError, match=rf'{name}: another file type expected, {name[2:]} cannot hold 70000x1 px$'):
        write_image(tmp_path / name, np.zeros((1, 70_000, 3), np.uint8))
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize('content', [b'', b'text, no picture', b'\x89PNG\r\n\x1a\n'])
def test_no_image(tmp_path, content):
    path = tmp_path / 'a.png'
    path.write_bytes(content)
    with pytest.raises(UserError, match=r'a\.png: cannot be read as an image'):
        read_image(path)


def test_missing(tmp_path):
    with pytest.raises(UserError, match=r'a\.png: No such file'):
        read_image(tmp_path / 'a.png')
    with pytest.raises(UserError, match='none: no such folder'):
        list_images(tmp_path / 'none')
    with pytest.raises(UserError, match='holds no image'):
        list_images(tmp_path)


def test_unknown_suffix(tmp_path):
    with pytest.raises(UserError, match=r'a\.xyz: image file name expected'):
        write_image(tmp_path / 'a.xyz', RED)
