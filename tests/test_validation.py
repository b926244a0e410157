import logging
import math

import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_metric
from basicsr.utils import tensor2img
from torch import nn

from facesr_plugin.errors import UserError
from facesr_plugin.models import validation
from facesr_plugin.models.validation import STANDARD_METRICS, Scores, enlarge, evaluate, evaluate_baselines, ssim

CPU = torch.device('cpu')


def pair(value_lq: float = 0.5, value_gt: float = 0.5, size: int = 16, scale: int = 4, **change) -> dict:
    lq, gt = torch.full((1, 3, size, size), value_lq), torch.full((1, 3, size * scale, size * scale), value_gt)
    return {'lq': lq, 'gt': gt, 'lq_path': ['face.png'], **change}


@pytest.mark.parametrize('shape', [(64, 48, 3), (11, 30, 3), (40, 40, 3)])
def test_ssim_equals_basicsr(shape):
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, shape, np.uint8)
    for noise in (0, 5, 60):
        other = np.clip(image + generator.normal(0, noise, shape), 0, 255).astype(np.uint8)
        expected = calculate_metric({'img': image, 'img2': other}, STANDARD_METRICS['ssim'])
        assert ssim(image, other) == pytest.approx(expected, abs=1e-9)


def test_averages_by_hand():
    """A network that is off by 51/255 on one pair and right on the other: MSE 51^2, so 20 log10(5) dB."""
    net = {'params': lambda lq: enlarge(lq, 4, 'bilinear') + 0.2}
    scores = evaluate(net, [pair(0.4, 0.4)], 4, STANDARD_METRICS, CPU)['params']
    assert scores.metrics['psnr'] == pytest.approx(20 * np.log10(5))
    assert scores.loss == pytest.approx(0.2)
    assert scores.residual == pytest.approx(0, abs=1e-3)  # it adds but a constant colour
    over = evaluate({'params': lambda lq: enlarge(lq, 4, 'bilinear') + 0.8}, [pair(0.4, 0.4)], 4, STANDARD_METRICS, CPU)
    assert over['params'].loss == pytest.approx(0.8)  # of the output as it is, while PSNR clamps it: 0.6 too bright
    assert over['params'].metrics['psnr'] == pytest.approx(20 * np.log10(1 / 0.6))
    both = evaluate(net, [pair(0.4, 0.4), pair(0.2, 0.4)], 4, {'psnr': STANDARD_METRICS['psnr']}, CPU)['params']
    assert both.metrics['psnr'] == float('inf')
    assert both.loss == pytest.approx(0.1, abs=1e-6)


def test_residual_by_hand():
    """A checkerboard of +-0.1 is 25.5 grey levels away from the enlarged image everywhere."""
    board = 0.1 * (1 - 2 * (torch.arange(64).view(-1, 1) + torch.arange(64)).remainder(2).float())
    net = {'params': lambda lq: enlarge(lq, 4, 'bilinear') + board}
    assert evaluate(net, [pair()], 4, {}, CPU)['params'].residual == pytest.approx(25.5, rel=1e-4)


def test_images_are_handed_over_as_8_bit_bgr():
    seen = []
    net = {'params': lambda lq: torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1).repeat(1, 1, 64, 64)}
    evaluate(net, [pair()], 4, {}, CPU, lambda name, path, image: seen.append((name, path, image)))
    assert seen[0][:2] == ('params', 'face.png')
    assert seen[0][2][0, 0].tolist() == [0, 128, 255]


def test_baselines_of_a_flat_pair():
    baselines, _ = evaluate_baselines([pair(0.4, 0.6)], 4, STANDARD_METRICS['psnr'], CPU)
    assert baselines == pytest.approx(dict.fromkeys(('bilinear', 'bicubic'), 20 * np.log10(5)))


def test_fingerprint_of_pairs():
    """It changes with any pixel of either side, and with the number of pairs, but not with their order."""

    def of(*pairs: dict) -> dict[str, int]:
        return evaluate_baselines(pairs, 4, STANDARD_METRICS['psnr'], CPU)[1]

    first, second = pair(0.4, 0.6), pair(0.2, 0.3)
    assert of(first, second) == of(second, first)
    assert of(first)['images'] == 1
    other = pair(0.4, 0.6)
    other['gt'][0, 0, 5, 5] = 0.7
    third = pair(0.4, 0.6)
    third['lq'][0, 2, 5, 5] = 0.7
    found = [of(*pairs) for pairs in ((first,), (other,), (third,), (first, first), (first, second))]
    assert all(found.count(value) == 1 for value in found)


@pytest.mark.parametrize(('residual', 'collapsed'), [(0.0, True), (0.09, True), (0.11, False), (5.0, False)])
def test_collapse(residual, collapsed):
    assert Scores(residual=residual).collapsed == collapsed


def test_without_hr_only_what_needs_none_is_measured():
    lone = {**pair(), 'lq': torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))}
    del lone['gt']
    net = nn.Upsample(scale_factor=4)
    metrics = STANDARD_METRICS | {'niqe': {'type': 'calculate_niqe', 'crop_border': 0}}
    image = tensor2img(net(lone['lq']))
    expected = calculate_metric({'img': image}, metrics['niqe'])
    assert evaluate({'params': net}, [lone], 4, metrics, CPU)['params'].metrics == {'niqe': pytest.approx(expected)}
    assert evaluate({'params': net}, [lone], 4, STANDARD_METRICS, CPU)['params'].metrics == {}


@pytest.mark.parametrize('side', [24, 48])
def test_niqe_has_no_value_of_small_or_flat_images(side, caplog, monkeypatch):
    """BasicSR ends in a traceback of the linear algebra; and one of them does not take the others their mean."""
    lone = {**pair(), 'lq': torch.full((1, 3, side, side), 0.5)}
    metrics = STANDARD_METRICS | {'niqe': {'type': 'calculate_niqe', 'crop_border': 0}}
    with pytest.raises(np.linalg.LinAlgError):
        calculate_metric({'img': np.full((4 * side, 4 * side, 3), 128, np.uint8)}, metrics['niqe'])
    del lone['gt']
    monkeypatch.setattr(validation, 'get_root_logger', lambda: logging.getLogger('test'))
    validation._warn_of_no_value.cache_clear()
    with caplog.at_level('WARNING', 'test'):
        scores = evaluate({'params': nn.Upsample(scale_factor=4)}, [lone, lone], 4, metrics, CPU)
    assert math.isnan(scores['params'].metrics['niqe'])
    (line,) = {record.message for record in caplog.records}
    assert line == f'{lone["lq_path"][0]}: calculate_niqe has no value: two squares of 96 px that are not flat expected'
    rich = {**lone, 'lq': torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))}
    alone, among = (
        evaluate({'params': nn.Upsample(scale_factor=4)}, pairs, 4, metrics, CPU)['params'].metrics['niqe']
        for pairs in ([rich], [lone, rich, lone])
    )
    assert among == alone > 0, 'the mean is that of the images that have a value'


@pytest.mark.parametrize('here', [0, 1])
def test_shares_of_two_processes(monkeypatch, here):
    """More processes than images: one of them has none, and still takes part in the sums."""
    net, pairs = {'params': lambda lq: enlarge(lq, 4, 'bilinear') + 0.2}, [pair(0.4, 0.4)]
    whole = evaluate(net, pairs, 4, STANDARD_METRICS, CPU)
    baselines = evaluate_baselines(pairs, 4, STANDARD_METRICS['psnr'], CPU)
    shares = (pairs, [])
    sent = []
    monkeypatch.setattr(validation, 'sum_over_processes', lambda values, device: sent.append(values) or values + 1)
    evaluate(net, shares[1 - here], 4, STANDARD_METRICS, CPU)
    evaluate_baselines(shares[1 - here], 4, STANDARD_METRICS['psnr'], CPU)
    others = iter(sent)
    monkeypatch.setattr(validation, 'sum_over_processes', lambda values, device: values + next(others))
    assert evaluate(net, shares[here], 4, STANDARD_METRICS, CPU) == whole
    assert evaluate_baselines(shares[here], 4, STANDARD_METRICS['psnr'], CPU) == baselines


def test_sizes_that_do_not_match():
    with pytest.raises(UserError, match=r'^face\.png: HR of 64x64 px expected \(4 times the LR\), got 32x32$'):
        evaluate({'params': nn.Identity()}, [pair(gt=torch.zeros(1, 3, 32, 32))], 4, {}, CPU)
