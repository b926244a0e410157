import math
import random
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from realesrgan.models import realesrnet_model
from stock import seed_globals, stock_model
from torch.nn import functional as F

from facesr_plugin.degradations import (
    DegradationRanges,
    KernelRanges,
    RandomStreams,
    degrade,
    noise,
    resize_clean,
    sample_kernels,
    smallest_side,
)
from facesr_plugin.errors import UserError
from facesr_plugin.models.pair_pool import PairPool

SIZES = [(128, 128), (140, 140), (192, 160), (100, 148)]  # 140, 100 and 148 are no multiples of 16


def make_batch(seed: int, batch: int, height: int, width: int) -> dict[str, torch.Tensor]:
    """Return 8-bit images, smooth with some detail, and their kernels, as the stock model is fed."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, height // 8, width // 8, generator=generator)
    detail = 0.03 * torch.randn(batch, 3, height, width, generator=generator)
    gt = (F.interpolate(coarse, size=(height, width), mode='bicubic') + detail).clamp(0, 1)
    streams = RandomStreams(seed + 1000)
    kernels = [sample_kernels(KernelRanges(), streams.python, streams.numpy) for _ in range(batch)]
    names = ('kernel1', 'kernel2', 'sinc_kernel')
    stacked = (torch.from_numpy(np.stack(column)) for column in zip(*kernels, strict=True))
    return {'gt': (gt * 255).round() / 255, **dict(zip(names, stacked, strict=True))}


def degrade_batch(data: dict[str, torch.Tensor], streams: RandomStreams, scale: int = 4, **changes) -> torch.Tensor:
    return degrade(*data.values(), DegradationRanges.parse(changes), scale, streams)


@pytest.fixture
def stock(monkeypatch):
    """Return a function that makes a stock model which does not crop, and whose Poisson noise is drawn as ours.

    Poisson noise agrees with stock's in distribution only (see test_noise.py); all else, draw by draw.
    """
    both = SimpleNamespace(torch=torch.default_generator, device=torch.default_generator)

    def add_poisson_noise(img, scale_range, gray_prob, clip, rounds):
        return noise.add_poisson_noise(img, scale_range, gray_prob, both)

    monkeypatch.setattr(realesrnet_model, 'paired_random_crop', lambda gt, lq, *_: (gt, lq))
    monkeypatch.setattr(realesrnet_model, 'random_add_poisson_noise_pt', add_poisson_noise)

    def make(queue_size: int, scale: int = 4, **changes) -> realesrnet_model.RealESRNetModel:
        return stock_model(monkeypatch, DegradationRanges.parse(changes), 0, queue_size, scale=scale)

    return make


def assert_in_step(streams: RandomStreams) -> None:
    assert streams.python.random() == random.random()
    assert streams.numpy.random_sample() == np.random.random_sample()
    assert torch.equal(torch.rand(4, generator=streams.torch), torch.rand(4))


def assert_equal_but_for_ties(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Return which part of the 8-bit values differs.

    A JPEG coefficient halfway between two multiples may be rounded either way, which moves its block by a few grey
    levels: in a small image that is some per cent of the values, where another draw would move nearly all of them.
    """
    apart = ((ours - theirs) * 255).round().abs()
    differing = (apart > 0).float().mean().item()
    assert differing < 0.1
    assert apart.max() <= 8
    return differing


# ------------------------------------------------------------------ D against stock
def test_stock(stock):
    """Every draw is stock's, and so is every 8-bit value but for what follows from rounding ties."""
    differing = []
    for seed in range(16):
        data = make_batch(seed, 2, *SIZES[seed % len(SIZES)])
        model = stock(queue_size=2)
        seed_globals(seed)
        model.feed_data({**data})
        streams = RandomStreams(seed)
        lq = degrade_batch(data, streams)
        assert_in_step(streams)
        differing.append(assert_equal_but_for_ties(lq, model.lq))
    assert differing.count(0) >= 10
    assert sum(differing) / len(differing) < 0.01


@pytest.mark.parametrize(
    'changes',
    [
        {'gaussian_noise_prob': 1.0, 'gaussian_noise_prob2': 0.0, 'second_blur_prob': 0.0},
        {'gaussian_noise_prob': 0.0, 'gaussian_noise_prob2': 1.0, 'gray_noise_prob': 1.0, 'gray_noise_prob2': 0.0},
        {'gaussian_noise_prob': 1.0, 'gaussian_noise_prob2': 0.0, 'gray_noise_prob': 1.0, 'gray_noise_prob2': 0.0},
        {'gaussian_noise_prob': 1.0, 'gaussian_noise_prob2': 0.0, 'gray_noise_prob': 0.0, 'gray_noise_prob2': 1.0},
        {'gaussian_noise_prob': 0.0, 'gaussian_noise_prob2': 1.0, 'gray_noise_prob': 0.0, 'gray_noise_prob2': 1.0},
        {'resize_prob': [1.0, 0.0, 0.0], 'resize_prob2': [0.0, 1.0, 0.0], 'jpeg_range': [10, 20]},
        {'resize_prob': [0.0, 0.0, 1.0], 'resize_prob2': [0.0, 0.0, 1.0], 'jpeg_range2': [40, 40]},
    ],
)
def test_stock_with_other_ranges(stock, changes):
    for seed in range(4):
        data = make_batch(seed, 2, 100, 100)
        model = stock(queue_size=2, **changes)
        seed_globals(seed)
        model.feed_data({**data})
        streams = RandomStreams(seed)
        assert_equal_but_for_ties(degrade_batch(data, streams, **changes), model.lq)
        assert_in_step(streams)


@pytest.mark.parametrize('scale', [2, 3])
def test_stock_at_other_scales(stock, scale):
    data = make_batch(0, 2, 96, 120)
    model = stock(queue_size=2, scale=scale)
    seed_globals(0)
    model.feed_data({**data})
    lq = degrade_batch(data, RandomStreams(0), scale)
    assert lq.shape == (2, 3, 96 // scale, 120 // scale)
    assert_equal_but_for_ties(lq, model.lq)


def test_stock_through_the_pair_pool(stock):
    """The pool's draws interleave with the degradation's as in stock."""
    model, streams = stock(queue_size=4), RandomStreams(0)
    pool = PairPool(4, streams.torch)
    seed_globals(0)
    mixed = 0
    for iteration in range(8):
        data = make_batch(iteration, 2, 100, 100)
        model.feed_data({**data})
        lq, gt = pool.exchange(degrade_batch(data, streams), data['gt'])
        assert torch.equal(gt, model.gt)
        assert_equal_but_for_ties(lq, model.lq)
        mixed += int(not torch.equal(gt, data['gt']))
    assert mixed == 6  # all but the two that filled the pool
    assert_in_step(streams)


# ---------------------------------------------------------------------- D by itself
def test_contract():
    data = make_batch(0, 2, 104, 88)
    copies = {name: value.clone() for name, value in data.items()}
    for seed in range(6):
        lq = degrade_batch(data, RandomStreams(seed))
        assert lq.shape == (2, 3, 26, 22)
        assert torch.equal((lq * 255).round() / 255, lq)
        assert 0 <= lq.min() <= lq.max() <= 1
    for name, value in data.items():
        assert torch.equal(value, copies[name])


def test_function_of_the_streams():
    data = make_batch(0, 2, 100, 100)
    first = degrade_batch(data, RandomStreams(4))
    torch.rand(100), np.random.rand(), random.random()
    assert torch.equal(degrade_batch(data, RandomStreams(4)), first)
    assert not torch.equal(degrade_batch(data, RandomStreams(5)), first)


def test_flat_images_stay_flat():
    """Without blur and noise, at high quality: within a grey level, so the mean grey survives every stage."""
    kernel = torch.zeros(2, 21, 21)
    kernel[:, 10, 10] = 1
    ranges = DegradationRanges.parse(
        {
            'resize_prob': [0.0, 0.0, 1.0],
            'resize_prob2': [0.0, 0.0, 1.0],
            'gaussian_noise_prob': 1.0,
            'gaussian_noise_prob2': 1.0,
            'noise_range': [0, 0],
            'noise_range2': [0, 0],
            'jpeg_range': [97, 97],
            'jpeg_range2': [97, 97],
        }
    )
    gt = torch.tensor([0.2, 0.6]).view(2, 1, 1, 1).expand(2, 3, 64, 64)
    for seed in range(4):
        lq = degrade(gt, kernel, kernel, kernel, ranges, 4, RandomStreams(seed))
        torch.testing.assert_close(lq, gt[:, :, ::4, ::4], rtol=0, atol=1.01 / 255)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'resize_prob': [0.5, 0.5]}, r'^resize_prob: .*at least 3 items.*, got \[0\.5, 0\.5\]$'),
        ({'resize_prob2': [0.5, 0.5, 0.5]}, r'^resize_prob2: expected probabilities that sum to 1, got .*0\.5\]$'),
        ({'jpeg_range': [95, 30]}, r'^jpeg_range: expected \[low, high\] with low <= high, got \[95, 30\]$'),
        ({'gray_noise_prob': -0.1}, r'^gray_noise_prob: expected greater than or equal to 0, got -0\.1$'),
        ({'noise_range3': [1, 2]}, r"^noise_range3: unknown option, did you mean 'noise_range'\?$"),
    ],
)
def test_exception(changes, message):
    with pytest.raises(UserError, match=message):
        DegradationRanges.parse(changes)


@pytest.mark.parametrize('lowest', [0.1, 0.15, 0.22, 0.3, 0.55, 1.0])
@pytest.mark.parametrize(('kernel', 'kernel2'), [(21, 21), (13, 9), (7, 15)])
def test_smallest_side(lowest, kernel, kernel2):
    """The least side at which the strongest shrinking leaves each filter half its kernel and a pixel."""
    ranges = DegradationRanges.parse({'resize_prob': [0.0, 1.0, 0.0], 'resize_range': [lowest, 1.5]})
    kernels = KernelRanges.parse({'blur_kernel_size': kernel, 'blur_kernel_size2': kernel2})

    def enough(side: int) -> bool:
        return math.floor(side * lowest) > kernel2 // 2 and side // 4 > kernel // 2

    side = smallest_side(ranges, kernels, 4)
    assert enough(side)
    assert not enough(side - 1)

    streams = RandomStreams(0)
    streams.numpy = SimpleNamespace(uniform=lambda low=0.0, high=1.0: low)  # the least of everything
    first, second = torch.full((1, kernel, kernel), kernel**-2), torch.full((1, kernel2, kernel2), kernel2**-2)
    gt = torch.full((1, 3, side, side), 0.5)
    assert degrade(gt, first, second, first, ranges, 4, streams).shape == (1, 3, side // 4, side // 4)
    with pytest.raises(RuntimeError, match='Padding size should be less than'):
        degrade(gt[:, :, 1:, 1:], first, second, first, ranges, 4, streams)


# ------------------------------------------------------------------------------- R
def test_clean_area_is_block_mean():
    gt = torch.rand(2, 3, 12, 20, generator=torch.Generator().manual_seed(0))
    expected = gt.view(2, 3, 3, 4, 5, 4).mean((3, 5))
    torch.testing.assert_close(resize_clean(gt, 4, 'area'), expected)


@pytest.mark.parametrize(
    ('mode', 'filter_'), [('bicubic', Image.Resampling.BICUBIC), ('bilinear', Image.Resampling.BILINEAR)]
)
@pytest.mark.parametrize('scale', [2, 4])
def test_clean_is_antialiased_as_in_pillow(mode, filter_, scale):
    plane = np.random.default_rng(0).random((40, 56), np.float32)
    expected = np.asarray(Image.fromarray(plane).resize((56 // scale, 40 // scale), filter_))
    out = resize_clean(torch.from_numpy(plane)[None, None], scale, mode)[0, 0]
    np.testing.assert_allclose(out.numpy(), expected, atol=2e-6)


def test_clean_is_bicubic_and_not_rounded():
    gt = make_batch(0, 1, 64, 64)['gt']
    assert torch.equal(resize_clean(gt, 4), resize_clean(gt, 4, 'bicubic'))
    assert not torch.equal((resize_clean(gt, 4) * 255).round() / 255, resize_clean(gt, 4))


# --------------------------------------------------------------------------- on CUDA
@pytest.fixture
def no_sync() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode('default')


@pytest.mark.gpu
def test_never_waits_for_the_device(no_sync):
    data = {name: value.cuda() for name, value in make_batch(0, 4, 128, 128).items()}
    streams = RandomStreams(0, 'cuda')
    for _ in range(20):
        degrade_batch(data, streams)
    torch.cuda.set_sync_debug_mode('error')
    for _ in range(20):
        degrade_batch(data, streams)


@pytest.mark.gpu
@pytest.mark.parametrize('gaussian', [0.0, 1.0])
@pytest.mark.parametrize('gray', [0.0, 1.0])
def test_statistics_are_those_of_the_cpu(gaussian, gray):
    """Noise of a known strength on the same images: the same mean and spread, whatever device draws it."""
    data = make_batch(0, 8, 128, 128)
    ranges = {
        'resize_prob': [0.0, 0.0, 1.0],
        'resize_prob2': [0.0, 0.0, 1.0],
        'gaussian_noise_prob': gaussian,
        'gaussian_noise_prob2': gaussian,
        'gray_noise_prob': gray,
        'gray_noise_prob2': gray,
        'noise_range': [20, 20],
        'noise_range2': [20, 20],
        'poisson_scale_range': [1, 1],
        'poisson_scale_range2': [1, 1],
        'jpeg_range': [80, 80],
        'jpeg_range2': [80, 80],
    }
    moments = []
    for device in ('cpu', 'cuda'):
        streams = RandomStreams(0, device)
        batch = {name: value.to(device) for name, value in data.items()}
        lqs = torch.stack([degrade_batch(batch, streams, **ranges) for _ in range(40)]).cpu()
        moments.append((lqs.mean((0, 2, 3, 4)), lqs.std(0).mean((1, 2, 3))))
    (cpu_mean, cpu_std), (cuda_mean, cuda_std) = moments
    torch.testing.assert_close(cuda_mean, cpu_mean, rtol=0, atol=0.01)
    torch.testing.assert_close(cuda_std, cpu_std, rtol=0.15, atol=0)
