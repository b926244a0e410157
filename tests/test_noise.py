import numpy as np
import pytest
import torch
from basicsr.data.degradations import random_add_gaussian_noise_pt, random_add_poisson_noise_pt
from scipy import stats

from facesr_plugin.degradations import RandomStreams, noise
from facesr_plugin.degradations.noise import add_gaussian_noise, add_poisson_noise, count_levels, sample_poisson


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(4, 3, 20, 27, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('gray_prob', [0.0, 0.4, 1.0])
@pytest.mark.parametrize('seed', range(4))
def test_gaussian_is_stock(images, gray_prob, seed):
    streams = RandomStreams(seed)
    torch.manual_seed(seed)
    found = add_gaussian_noise(images, [1, 30], gray_prob, streams)
    expected = random_add_gaussian_noise_pt(images, [1, 30], gray_prob=gray_prob, clip=True, rounds=False)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert torch.equal(torch.rand(3, generator=streams.torch), torch.rand(3))  # in step afterwards


@pytest.mark.parametrize('gray_prob', [0.0, 1.0])
@pytest.mark.parametrize('scale', [0.05, 1.0])
def test_poisson_is_distributed_as_stock(gray_prob, scale):
    """The same mean and spread of the noise, per image: of many levels, of few, and of few in grey only."""
    levels = torch.randint(60, 200, (3, 3, 100, 100), generator=torch.Generator().manual_seed(0))
    levels[1] = 100 + levels[1] % 3
    levels[2, 0], levels[2, 1], levels[2, 2] = 140, 120, 100
    images = levels / 255
    streams = RandomStreams(0)
    torch.manual_seed(0)
    ours, stock = [], []
    for _ in range(10):
        ours.append(add_poisson_noise(images, [scale, scale], gray_prob, streams) - images)
        stock.append(random_add_poisson_noise_pt(images, [scale, scale], gray_prob=gray_prob, clip=True) - images)
    ours, stock = torch.stack(ours), torch.stack(stock)
    dims = (0, 2, 3, 4)
    standard_error = stock.std(dims) / (10 * 100 * 100) ** 0.5
    assert ((ours.mean(dims) - stock.mean(dims)).abs() < 5 * 2**0.5 * standard_error).all()
    torch.testing.assert_close(ours.std(dims), stock.std(dims), rtol=0.02, atol=0)


@pytest.mark.parametrize('rate', [0.3, 5.0, 15.9, 16.0, 17.3, 40.0, 256.0])
def test_poisson_counts_are_scipy(rate):
    """The largest distance between the distribution functions is what 200,000 draws leave to chance."""
    draws = 200_000
    counts = sample_poisson(torch.full((draws,), rate), torch.Generator().manual_seed(0)).double().numpy()
    assert (counts == counts.round()).all()
    assert counts.min() >= 0
    steps = np.arange(int(rate + 12 * rate**0.5) + 10)
    found = np.searchsorted(np.sort(counts), steps, side='right') / draws
    assert np.abs(found - stats.poisson.cdf(steps, rate)).max() < 1.95 / draws**0.5  # chance of more: 0.001


@pytest.mark.parametrize('levels', [1, 2, 100, 256])
def test_count_levels(levels):
    generator = torch.Generator().manual_seed(levels)
    images = torch.randint(0, levels, (3, 3, 9, 31), generator=generator).float()
    images[1] = 255 - images[1]
    expected = [len(torch.unique(image)) for image in images]
    assert count_levels(images).tolist() == expected


def test_gaussian_moments():
    images = torch.full((3, 3, 200, 200), 0.5)
    noise = add_gaussian_noise(images, [20, 20], 0.0, RandomStreams(0)) - 0.5
    assert noise.mean((1, 2, 3)).tolist() == pytest.approx([0] * 3, abs=5 * 20 / 255 / 120_000**0.5)
    assert noise.std((1, 2, 3)).tolist() == pytest.approx([20 / 255] * 3, rel=0.01)


@pytest.mark.parametrize(
    ('levels', 'peak'), [((128,), 1), ((100, 101), 2), ((100, 101, 102), 4), ((90, 91, 92, 93, 94), 8)]
)
def test_poisson_moments(levels, peak):
    """Mean x and variance scale^2 x / L, L the number of levels rounded up to a power of two."""
    scale = 0.05
    image = (
        torch.tensor(levels).repeat(40_000 // len(levels) + 1)[:40_000].view(1, 1, 200, 200).expand(1, 3, -1, -1) / 255
    )
    noise = add_poisson_noise(image, [scale, scale], 0.0, RandomStreams(0)) - image
    variance = scale**2 * image.mean().item() / peak
    assert noise.mean().item() == pytest.approx(0, abs=5 * (variance / 120_000) ** 0.5)
    assert noise.var().item() == pytest.approx(variance, rel=0.03)


@pytest.mark.parametrize('gray_prob', [0.0, 1.0])
def test_poisson_noise_is_relative_to_the_rounded_image(monkeypatch, images, gray_prob):
    """A draw that is its rate adds nothing, whatever the image lost in the rounding; rates are of 8-bit levels."""
    rates = []
    monkeypatch.setattr(noise, 'sample_poisson', lambda rate, generator: rates.append(rate.clone()) or rate)
    found = add_poisson_noise(images, [3, 3], gray_prob, RandomStreams(0))
    torch.testing.assert_close(found, images, rtol=0, atol=1e-7)
    if gray_prob == 0:
        levels = (images * 255).round()
        peak = torch.exp2(torch.ceil(torch.log2(count_levels(levels)))).view(-1, 1, 1, 1)
        torch.testing.assert_close(rates, [levels / 255 * peak])


@pytest.mark.parametrize(('ours', 'strength'), [(add_gaussian_noise, [10, 10]), (add_poisson_noise, [0.1, 0.1])])
def test_gray_noise_is_equal_in_all_channels(ours, strength):
    images = torch.rand(2, 3, 30, 30, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4
    noise = ours(images, strength, 1.0, RandomStreams(0)) - images
    assert noise.std() > 0.005
    torch.testing.assert_close(noise, noise[:, :1].expand_as(noise), rtol=0, atol=1e-6)
    colour = ours(images, strength, 0.0, RandomStreams(0)) - images
    assert (colour[:, 0] - colour[:, 1]).abs().max() > 0.005


@pytest.mark.parametrize(('ours', 'strength'), [(add_gaussian_noise, [200, 200]), (add_poisson_noise, [3, 3])])
def test_clipped(images, ours, strength):
    out = ours(images, strength, 0.4, RandomStreams(0))
    assert (out.min().item(), out.max().item()) == (0, 1)
