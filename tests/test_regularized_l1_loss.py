import pytest
import torch
from basicsr.losses import build_loss
from basicsr.losses.basic_loss import L1Loss

from facesr_plugin.losses.regularized_l1_loss import (
    CLEAN_MODES,
    FORWARDS,
    RegularizedL1Loss,
    l1_per_image,
    regularized_l1_loss,
)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Degraded prediction, clean prediction and target."""
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.rand(2, 3, 5, 4, generator=generator, dtype=torch.float64) for _ in range(3))


@pytest.mark.parametrize('forward', FORWARDS)
@pytest.mark.parametrize('clean_mode', CLEAN_MODES)
def test_smoke(forward, clean_mode, batch):
    loss = RegularizedL1Loss(forward=forward, clean_mode=clean_mode)
    assert (loss.forward_mode, loss.clean_mode) == (forward, clean_mode)
    assert loss(*batch, alpha=0.5) > 0


@pytest.mark.parametrize('shape', [(1, 3, 8, 8), (4, 1, 2, 3), (2, 3, 1, 1)])
def test_cardinality(shape):
    image = torch.ones(shape)
    assert regularized_l1_loss(image, image, image, 0.5).shape == ()
    assert l1_per_image(image, image).shape == shape[:1]


@pytest.mark.parametrize('bad', [0, 1])
def test_exception_shape(bad):
    images = [torch.ones(2, 3, 4, 4) for _ in range(3)]
    images[bad] = torch.ones(2, 3, 4, 5)
    message = r'pred of shape \(2, 3, 4, 4\) expected, as gt, got \(2, 3, 4, 5\)'
    with pytest.raises(ValueError, match=message):
        regularized_l1_loss(*images, alpha=0.5)


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        ({'forward': 'both'}, ValueError, "forward: one of concat, sequential, sampled expected, got 'both'"),
        ({'clean_mode': 'nearest'}, ValueError, "clean_mode: one of bicubic, bilinear, area expected, got 'nearest'"),
        ({'reduction': 'mean'}, TypeError, 'reduction'),
    ],
)
def test_exception_options(options, error, message):
    with pytest.raises(error, match=message):
        RegularizedL1Loss(**options)


def test_gradcheck(batch):
    degraded, clean, gt = batch
    degraded.requires_grad_()
    clean.requires_grad_()
    assert torch.autograd.gradcheck(lambda *pred: regularized_l1_loss(*pred, gt, 0.3), (degraded, clean))


def test_module_equals_function(batch):
    loss = build_loss({'type': 'RegularizedL1Loss', 'loss_weight': 2.5, 'forward': 'sampled'})
    torch.testing.assert_close(loss(*batch, 0.3), 2.5 * regularized_l1_loss(*batch, 0.3))


def test_equals_stock_l1(batch):
    degraded, clean, gt = batch
    expected = L1Loss(loss_weight=0.7)(degraded, gt) + L1Loss(loss_weight=0.3)(clean, gt)
    torch.testing.assert_close(regularized_l1_loss(degraded, clean, gt, 0.3), expected)


def test_by_hand():
    gt = torch.tensor([[[[0.0, 1.0]]], [[[2.0, 3.0]]]])
    degraded = torch.tensor([[[[1.0, 1.0]]], [[[2.0, 0.0]]]])  # |.| = 1, 0, 0, 3: mean 1
    clean = torch.tensor([[[[0.5, 1.5]]], [[[1.0, 3.0]]]])  # |.| = 0.5, 0.5, 1, 0: mean 0.5
    assert l1_per_image(degraded, gt).tolist() == [0.5, 1.5]
    assert regularized_l1_loss(degraded, clean, gt, 0.75).item() == 0.25 * 1 + 0.75 * 0.5


@pytest.mark.parametrize(('alpha', 'branch'), [(0, 0), (1, 1)])
def test_one_branch(alpha, branch, batch):
    torch.testing.assert_close(regularized_l1_loss(*batch, alpha), L1Loss()(batch[branch], batch[2]))


def test_perfect_prediction(batch):
    gt = batch[2]
    assert regularized_l1_loss(gt, gt, gt, 0.3).item() == 0
