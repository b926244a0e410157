import dataclasses
import math

import pytest

from facesr_plugin.losses.alpha_schedule import AlphaSchedule, cosine_alpha

ROOT2, ROOT3 = math.sqrt(2), math.sqrt(3)


def test_report():
    images, epochs, batch = 5000, 10, 5
    expected = [
        0.4 + 0.2 * (1 + math.cos(math.pi * (images * epoch + i) / (images * epochs)))
        for epoch in range(epochs)
        for i in range(0, images, batch)
    ]
    total_iter = len(expected)
    assert total_iter == 10_000
    found = [AlphaSchedule().at(current_iter, total_iter) for current_iter in range(1, total_iter + 1)]
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ('progress', 'alpha'),
    [
        (1 / 12, 0.6 + 0.2 * (ROOT3 + 1) / (2 * ROOT2)),  # 0.7932; a line gives 0.7667
        (1 / 6, 0.6 + 0.1 * ROOT3),  # 0.7732; a quarter of a cosine gives 0.7864
        (1 / 4, 0.6 + 0.1 * ROOT2),  # 0.7414; a line gives 0.7
        (1 / 3, 0.7),  # a line gives 0.6667
        (2 / 3, 0.5),  # an exponential fall gives 0.504
        (5 / 6, 0.6 - 0.1 * ROOT3),  # 0.4268; rising instead of falling gives 0.7732
    ],
)
def test_golden(progress, alpha):
    assert cosine_alpha(progress) == pytest.approx(alpha, abs=1e-12)
    assert AlphaSchedule()(progress) == pytest.approx(alpha, abs=1e-12)


def test_own_ends():
    # cos(pi / 3) = 1/2: three quarters of the way back from end to start.
    assert AlphaSchedule(start=0.1, end=0.9)(1 / 3) == pytest.approx(0.9 - 0.8 * 0.75, abs=1e-12)


def test_constant():
    assert AlphaSchedule(start=0.3, end=0.3)(0.2) == pytest.approx(0.3, abs=1e-15)


@pytest.mark.parametrize(('current_iter', 'alpha'), [(-3, 0.8), (0, 0.8), (1, 0.8), (11, 0.4), (15, 0.4)])
def test_outside_the_run_it_is_that_of_its_ends(current_iter, alpha):
    assert AlphaSchedule().at(current_iter, total_iter=10) == pytest.approx(alpha, abs=1e-12)


@pytest.mark.parametrize('total_iter', [3, 9, 100])
def test_periods(total_iter):
    """Each cycle is a run of its own, whatever the length of the run; after the last one it stays."""
    schedule, short, long = AlphaSchedule(periods=[3, 6]), AlphaSchedule(), AlphaSchedule()
    found = [schedule.at(iteration, total_iter) for iteration in range(12)]
    expected = [short.at(iteration, 3) for iteration in range(4)] + [long.at(iteration, 6) for iteration in range(1, 7)]
    assert found == [*expected, 0.4, 0.4]
    assert found[3] == pytest.approx(0.5)  # two thirds of the way
    assert found[4] == 0.8


@pytest.mark.parametrize('progress', [-1e-9, 1 + 1e-9, math.nan])
def test_exception_progress(progress):
    with pytest.raises(ValueError, match=rf'progress in \[0, 1\] expected, got {progress}'):
        cosine_alpha(progress)


@pytest.mark.parametrize(('key', 'value'), [('start', 1.5), ('end', -0.1), ('start', math.nan)])
def test_exception_ends(key, value):
    with pytest.raises(ValueError, match=rf'{key}: a number in \[0, 1\] expected, got {value}'):
        AlphaSchedule(**{key: value})


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError, match='start'):
        AlphaSchedule().start = 0.5
