import dataclasses
import math
from types import SimpleNamespace

import pytest

from facesr_plugin.losses.alpha_schedule import AlphaSchedule, cosine_alpha
from facesr_plugin.models.alpha_realesrnet_model import AlphaRealESRNetModel

ROOT2, ROOT3 = math.sqrt(2), math.sqrt(3)


def alpha_at(current_iter: int, total_iter: int, schedule: AlphaSchedule) -> float:
    model = SimpleNamespace(
        alpha_schedule=schedule, current_iter=current_iter, opt={'train': {'total_iter': total_iter}}
    )
    return AlphaRealESRNetModel.alpha.fget(model)


def test_report():
    images, epochs, batch = 5000, 10, 5
    expected = [
        0.4 + 0.2 * (1 + math.cos(math.pi * (images * epoch + i) / (images * epochs)))
        for epoch in range(epochs)
        for i in range(0, images, batch)
    ]
    total_iter = len(expected)
    assert total_iter == 10_000
    schedule = AlphaSchedule()
    assert [alpha_at(k, total_iter, schedule) for k in range(1, total_iter + 1)] == pytest.approx(expected, abs=1e-12)


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


def test_plain_loss_has_no_alpha():
    assert alpha_at(1, 10, None) is None


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
