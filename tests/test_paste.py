"""A face put back: its place, its colours, no visible box."""

import numpy as np
import pytest

from facesr_plugin.faces.align import crop
from facesr_plugin.faces.paste import FEATHER, paste, ramp, shown, with_colour_of
from photos.scenes import square_at


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width] / 60
    return np.dstack([128 + 90 * np.sin(x + y), 100 + 60 * np.cos(2 * x), 90 + 70 * np.sin(y)]).astype(np.uint8)


@pytest.mark.parametrize('degrees', [0, 25])
@pytest.mark.parametrize('size', [40, 96, 150])
def test_what_was_cut_out_comes_back(size, degrees):
    """At 96 px across, so it shrinks, stays or grows on its way back; the picture is as it was, but for rounding."""
    canvas = smooth(200, 220)
    square = square_at(110 + 95j, size, degrees)
    face, before = crop(canvas, square, 96), canvas.copy()
    paste(canvas, face, square.matrix(96), square.matrix())
    assert np.abs(canvas.astype(int) - before).max() <= 2


def test_only_the_square_changes_and_fades_in():
    canvas, square = np.zeros((100, 120), np.uint8), square_at(60 + 50j, 60, 0)
    paste(canvas, np.full((60, 60), 200, np.uint8), square.matrix(60), square.matrix())
    outside = np.ones_like(canvas, bool)
    outside[20:80, 30:90] = False
    assert (canvas[outside] == 0).all()
    assert canvas[50, 60] == 200
    line = canvas[50, 30:60].astype(int)
    assert (np.diff(line) >= 0).all()
    assert np.diff(line).max() < 1.6 * 200 / (FEATHER * 60)  # the steepest of a smooth step is 1.5 times its mean
    assert line[0] < 5


def test_strength():
    canvas, square = np.full((50, 50, 3), 100, np.uint8), square_at(25 + 25j, 40, 0)
    paste(canvas, np.full((40, 40, 3), 200, np.uint8), square.matrix(40), square.matrix(), strength=0.3)
    assert (canvas[25, 25] == 130).all()
    before = canvas.copy()
    paste(canvas, np.full((40, 40, 3), 200, np.uint8), square.matrix(40), square.matrix(), strength=0)
    np.testing.assert_array_equal(canvas, before)


@pytest.mark.parametrize(('dtype', 'limit'), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1), (np.float64, 1)])
def test_mean_colour_is_that_of_the_input(dtype, limit):
    """Within less than one level of 255, where it shows."""
    rng = np.random.default_rng(0)
    face = (rng.uniform(0.3, 0.6, (32, 32, 3)) * limit).astype(dtype)
    result = ((np.repeat(np.repeat(face, 4, 0), 4, 1) / limit * 0.9 + [0.08, -0.02, 0.1]) * limit).astype(dtype)
    square = square_at(0.5 + 0.5j, 1, 20)
    small, large = (shown(square.inverse() @ np.diag([1 / n, 1 / n, 1]), (n, n)) for n in (32, 128))
    kept = with_colour_of(result, face, large, small)
    assert kept.dtype == dtype
    means = [np.average(p.reshape(-1, 3), axis=0, weights=w.ravel()) for p, w in ((face, small), (kept, large))]
    assert np.abs(means[0] - means[1]).max() < limit / 255
    assert np.abs(np.average(result.reshape(-1, 3), axis=0, weights=large.ravel()) - means[0]).max() > 3 * limit / 255


@pytest.mark.parametrize('centre', [0, 90 + 10j, -200 - 200j, 500])
def test_beyond_the_border(centre):
    canvas, square = smooth(80, 100), square_at(centre, 50, 15)
    before = canvas.copy()
    paste(canvas, crop(before, square, 50), square.matrix(50), square.matrix())
    assert np.abs(canvas.astype(int) - before).max() <= 3


def test_ramp_has_no_kink():
    """Its slope begins and ends with 0."""
    step = 1e-4
    for place in (0, FEATHER):
        assert abs(ramp(np.array([place + step])) - ramp(np.array([place]))) < 1e-4
    np.testing.assert_allclose(ramp(np.array([0.02, 0.1])), ramp(np.array([0.98, 0.9])))
