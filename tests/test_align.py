"""The aligned square: where it is, the way there and back, cutting it out."""

import cv2
import numpy as np
import pytest

from facesr_plugin.faces.align import TEMPLATE, TEMPLATE_512, Alignment, align, crop, transform, warp
from facesr_plugin.faces.detect import Face


def face(points: np.ndarray) -> Face:
    return Face((0, 0, 1, 1), tuple(map(tuple, points.tolist())), 1.0)


@pytest.mark.parametrize('degrees', [-170, -30, 0, 15, 90])
def test_template_comes_back(degrees):
    """Landmarks made by a known rotation, scale and shift."""
    angle = np.radians(degrees)
    turned = 80 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    square = align(face(TEMPLATE @ turned.T + (300, 200)))
    np.testing.assert_allclose(square.matrix(), np.column_stack([turned, (300, 200)]), atol=1e-9)
    assert square.size == pytest.approx(80)
    assert square.degrees == pytest.approx(degrees)
    assert square.misfit == pytest.approx(0, abs=1e-12)


def test_least_squares():
    """numpy's solver finds the same similarity of points that fit no similarity."""
    points = np.random.default_rng(0).normal(size=(5, 2)) * 20 + TEMPLATE * 100
    rows = [[x, -y, 1, 0] for x, y in TEMPLATE] + [[y, x, 0, 1] for x, y in TEMPLATE]
    real, imag, right, down = np.linalg.lstsq(np.array(rows), points.T.ravel(), rcond=None)[0]
    np.testing.assert_allclose(align(face(points)).matrix(), [[real, -imag, right], [imag, real, down]], atol=1e-9)


def test_inverse_is_exact():
    square = Alignment(57 + 31j, 12.3 - 4.5j)
    points = np.random.default_rng(0).uniform(-100, 100, (50, 2))
    np.testing.assert_allclose(transform(square.inverse(512), transform(square.matrix(512), points)), points, atol=1e-9)
    np.testing.assert_allclose(transform(square.matrix(), transform(square.inverse(), points)), points, atol=1e-9)


def test_template_is_ffhqs():
    """Eyes level, the face in the middle, the mouth as wide as 0.22 of the square."""
    (left, right, nose, *mouth), side = TEMPLATE_512, 512
    assert abs(left[1] - right[1]) < 1
    assert abs((left[0] + right[0]) / 2 - side / 2) < 1
    assert abs(nose[0] - side / 2) < 1
    assert 0.2 < (mouth[1][0] - mouth[0][0]) / side < 0.24


def test_widened():
    square = Alignment(40 + 30j, 7 + 9j)
    wide = square.widened(1.5)
    assert wide.size == pytest.approx(75)
    np.testing.assert_allclose(wide.corners().mean(axis=0), square.corners().mean(axis=0))


def test_crop_of_whole_pixels_is_a_slice():
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    np.testing.assert_array_equal(crop(image, Alignment(16 + 0j, 9 + 5j), 16), image[5:21, 9:25])


def test_shrinking_is_antialiased():
    """A checkerboard of single pixels becomes its mean; sampled without a filter it would be black or white."""
    image = (np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)
    for turn in (192 + 0j, 150 + 110j):
        small = crop(image, Alignment(turn, 128 + 128j - turn * (0.5 + 0.5j)), 24)
        assert np.abs(small.astype(float) - 127.5).max() < 16


def test_beyond_the_picture_is_its_mirror_image():
    image = np.random.default_rng(0).integers(0, 256, (20, 20), np.uint8)
    found = crop(image, Alignment(16 + 0j, -8 + 0j), 16)
    np.testing.assert_array_equal(found[:, :8], image[:16, 7::-1])


@pytest.mark.parametrize('shape', [(1, 1), (1, 9, 3), (9, 2, 4)])
def test_tiny_pictures(shape):
    image = np.full(shape, 77, np.uint8)
    assert (crop(image, Alignment(30 + 20j, -5 - 9j), 32) == 77).all()


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_there_and_back(dtype):
    """A smooth picture, cut out turned and laid back, is the same inside."""
    y, x = np.mgrid[:160, :160] / 160
    smooth = 0.5 + 0.4 * np.sin(5 * x) * np.cos(4 * y)
    limit = 1 if dtype == np.float32 else np.iinfo(dtype).max
    image = (smooth * limit).astype(dtype)
    square = Alignment(60 + 35j, 60 + 20j)
    back = warp(crop(image, square, 96), square.inverse(96), image.shape)
    inside = cv2.warpAffine(np.ones((80, 80), np.float32), square.widened(0.8).matrix(80), (160, 160)) > 0.99
    assert inside.sum() > 2000
    assert np.abs(back.astype(float) - image)[inside].max() < 0.01 * limit
