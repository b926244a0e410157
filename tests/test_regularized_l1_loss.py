import pytest
import torch
from basicsr.losses import build_loss
from basicsr.losses.basic_loss import L1Loss

from facesr_plugin.losses.regularized_l1_loss import (
    CLEAN_MODES,
    FORWARDS,
    RegularizedL1Loss,
    check_alpha,
    l1_per_image,
)


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Prediction and target."""
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.rand(2, 3, 5, 4, generator=generator, dtype=torch.float64) for _ in range(2))


@pytest.mark.parametrize('forward', FORWARDS)
@pytest.mark.parametrize('clean_mode', CLEAN_MODES)
def test_smoke(forward, clean_mode, pair):
    loss = RegularizedL1Loss(forward=forward, clean_mode=clean_mode)
    assert (loss.forward_mode, loss.clean_mode) == (forward, clean_mode)
    assert (loss(*pair) > 0).all()


@pytest.mark.parametrize('shape', [(1, 3, 8, 8), (4, 1, 2, 3), (2, 3, 1, 1)])
def test_cardinality(shape):
    image = torch.ones(shape)
    assert RegularizedL1Loss()(image, image).tolist() == [0] * shape[0]


def test_exception_shape():
    message = r'pred of shape \(2, 3, 4, 4\) expected, as gt, got \(2, 3, 4, 5\)'
    with pytest.raises(ValueError, match=message):
        RegularizedL1Loss()(torch.ones(2, 3, 4, 5), torch.ones(2, 3, 4, 4))


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


def test_gradcheck(pair):
    pred, gt = pair
    assert torch.autograd.gradcheck(lambda pred: RegularizedL1Loss(loss_weight=2.0)(pred, gt), pred.requires_grad_())


def test_module_equals_function(pair):
    loss = build_loss({'type': 'RegularizedL1Loss', 'loss_weight': 2.5, 'forward': 'sampled'})
    torch.testing.assert_close(loss(*pair), 2.5 * l1_per_image(*pair))


def test_mean_equals_stock_l1(pair):
    torch.testing.assert_close(RegularizedL1Loss(loss_weight=0.7)(*pair).mean(), L1Loss(loss_weight=0.7)(*pair))


def test_by_hand():
    gt = torch.tensor([[[[0.0, 1.0]]], [[[2.0, 3.0]]]])
    pred = torch.tensor([[[[1.0, 1.0]]], [[[2.0, 0.0]]]])  # |.| = 1, 0 and 0, 3
    assert RegularizedL1Loss()(pred, gt).tolist() == [0.5, 1.5]


@pytest.mark.parametrize('alpha', [0.0, 0.25, 1.0])
def test_branch_weights(alpha):
    """The factor of the loss is in `forward`, not here."""
    assert RegularizedL1Loss(loss_weight=3.0).branch_weights(alpha) == (1 - alpha, alpha)


@pytest.mark.parametrize(('loss', 'has_alpha'), [(L1Loss, True), (RegularizedL1Loss, False)])
def test_alpha_goes_with_its_loss(loss, has_alpha):
    check_alpha(loss, not has_alpha)
    with pytest.raises(ValueError, match='expected with pixel_opt type RegularizedL1Loss, and only with it'):
        check_alpha(loss, has_alpha)
