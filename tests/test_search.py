"""Every face of a photograph is found, whatever its size, turn and kind of pixels; and nothing else."""

import numpy as np
import pytest
from photographs import finds, sample_faces, scene

from facesr_plugin.faces.align import TEMPLATE, align
from facesr_plugin.faces.detect import Face
from facesr_plugin.faces.search import SECOND_SIDE, TILE, find_faces


@pytest.mark.parametrize('seed', [0, 1])
def test_faces_of_64_px_and_more_turned_up_to_30_degrees(seed):
    sizes, degrees = [64, 64, 64, 90, 128, 200, 300], [30, -30, 0, -22, 30, -30, 12]
    photograph = scene(sizes, degrees, (640, 900), seed)
    faces = find_faces(photograph.pixels)
    assert [align(face).size for face in faces] == sorted((align(face).size for face in faces), reverse=True)
    assert len(faces) == len(sizes)
    assert all(sum(finds(square, face) for face in faces) == 1 for square in photograph.squares)


def test_a_face_across_tiles():
    """Faces where tiles meet, in a picture of several tiles, are found once each."""
    photograph = scene([80, 400], [10, -20], (700, TILE + 500), seed=4)
    for left in (0, 60, 130):
        shown = np.ascontiguousarray(np.pad(photograph.pixels, ((0, 0), (left, 0), (0, 0)), mode='edge'))
        assert len(find_faces(shown)) == 2


def test_kinds_of_pixels():
    """The same face in all of them, where a picture of another depth is the same picture."""
    image = np.ascontiguousarray(sample_faces()[1][::3, ::3])
    (face,) = find_faces(image)
    rgba = np.dstack([image, np.full(image.shape[:2], 200, np.uint8)])
    for other in (rgba, image.astype(np.uint16) * 257, (image / 255).astype(np.float32), image / 255):
        assert find_faces(other) == [face]
    (grey,) = find_faces(image[..., 1])
    assert finds(align(face), grey)


def test_invisible_pixels_hold_no_face():
    image = np.ascontiguousarray(sample_faces()[1][::4, ::4])
    alpha = np.zeros(image.shape[:2], np.uint8)
    alpha[:, :4] = 255
    assert find_faces(np.dstack([image, alpha])) == []


@pytest.mark.parametrize('shape', [(1, 1, 3), (1, 1), (3, 700, 3), (40, 2, 4)])
def test_tiny_pictures(shape):
    assert find_faces(np.full(shape, 90, np.uint8), min_face=16) == []


def test_noise():
    assert find_faces(np.random.default_rng(0).integers(0, 256, (400, 600, 3), np.uint8), min_face=24) == []


def test_smaller_and_larger_than_asked():
    photograph = scene([64, 160], [0, 0], (300, 400), seed=2)
    assert len(find_faces(photograph.pixels, min_face=100)) == 1
    assert find_faces(photograph.pixels, min_face=5000) == []


@pytest.mark.parametrize('side', ['left', 'top', 'right', 'bottom'])
def test_cut_by_the_border(side):
    """A quarter of the head is beyond the picture: the square reaches beyond it too."""
    image = np.ascontiguousarray(sample_faces()[2][::2, ::2])
    rows, columns = {
        'left': (slice(None), slice(64, None)),
        'right': (slice(None), slice(-64)),
        'top': (slice(64, None), slice(None)),
        'bottom': (slice(-64), slice(None)),
    }[side]
    (face,) = find_faces(np.ascontiguousarray(image[rows, columns]))
    assert 200 < align(face).size < 310


def test_upside_down():
    """A large face is found as it stands, on its head."""
    photograph = scene([256], [180], (400, 400))
    (face,) = find_faces(photograph.pixels)
    assert finds(photograph.squares[0], face)


def test_another_detector():
    """Any function of a picture serves: here it sees a face of 128 px in the middle of what is not small."""

    def look(image: np.ndarray) -> list[Face]:
        height, width = image.shape[:2]
        if width < SECOND_SIDE:
            return []
        points = (TEMPLATE - 0.5) * height * 0.64 + (width / 2, height / 2)
        return [
            Face((width / 2 - 40, height / 2 - 40, width / 2 + 40, height / 2 + 40), tuple(map(tuple, points)), 0.9)
        ]

    faces = find_faces(np.zeros((200, 200, 3), np.uint8), min_face=64, detector=look)
    assert len(faces) == 1
    assert align(faces[0]).size == pytest.approx(
        123, rel=0.01
    )  # 0.64 of the second look, which shows 1.5 of the first's 128 px
