"""Steps as lists of parts, in float64 against autograd of the equation."""

import contextlib
import itertools
from collections.abc import Callable, Iterator

import pytest
import torch
from torch.nn import functional as F

from facesr_plugin.archs.face_srresnet_arch import FaceSRResNet
from facesr_plugin.losses.regularized_l1_loss import l1_per_image
from facesr_plugin.models import step
from facesr_plugin.models.step import Outcome, Part

BATCH = 3
WEIGHTS = (0.7, 0.3)
Images = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@pytest.fixture(scope='module')
def net() -> FaceSRResNet:
    torch.manual_seed(0)
    return FaceSRResNet(num_feat=4, num_block=1).double()


@pytest.fixture(scope='module')
def images() -> Images:
    """D(I), R(I) and I."""
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.rand(BATCH, 3, side, side, generator=generator, dtype=torch.float64) for side in (5, 5, 20))


def criterion(pred: torch.Tensor, part: Part) -> tuple[torch.Tensor, torch.Tensor]:
    per_image = l1_per_image(pred, part.gt)
    return (part.weight * per_image).sum(), per_image


def run(net: FaceSRResNet, parts: list[Part], criterion: Callable = criterion) -> tuple[list[Outcome], list]:
    """Return what a step gives, and the gradients that it leaves."""
    net.zero_grad()
    outcomes = step.run_step(parts, net, criterion, torch.Tensor.backward)
    return outcomes, [parameter.grad.clone() for parameter in net.parameters()]


def expected(net: FaceSRResNet, images: Images, weights: tuple[float, float]) -> tuple[torch.Tensor, list]:
    """Return the equation's loss and its gradients."""
    lq, clean_lq, gt = images
    degraded, clean = weights
    loss = degraded * (net(lq) - gt).abs().mean() + clean * (net(clean_lq) - gt).abs().mean()
    return loss.detach(), list(torch.autograd.grad(loss, net.parameters()))


def draw(images: Images, mask: tuple[bool, ...], monkeypatch: pytest.MonkeyPatch) -> list[Part]:
    """Return the parts of `sampled` if it draws `mask`."""
    numbers = torch.where(torch.tensor(mask), 0.0, 0.99)
    monkeypatch.setattr(torch, 'rand', lambda count, generator: numbers)
    return step.sampled(*images, WEIGHTS, torch.Generator())


def assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize('weights', [(1.0, 0.0), WEIGHTS, (0.0, 1.0), (2.0, 5.0)])
@pytest.mark.parametrize('forward', [step.concat, step.sequential])
def test_loss_and_gradient_are_those_of_the_equation(net, images, forward, weights):
    outcomes, gradients = run(net, forward(*images, weights))
    loss, grads = expected(net, images, weights)
    assert_close(sum(outcome.loss for outcome in outcomes), loss)
    assert_close(gradients, grads)


def test_sampled_is_the_equation_in_expectation(net, images, monkeypatch):
    loss, gradients = 0.0, [torch.zeros_like(parameter) for parameter in net.parameters()]
    for mask in itertools.product([False, True], repeat=BATCH):
        probability = WEIGHTS[1] ** sum(mask) * WEIGHTS[0] ** (BATCH - sum(mask))
        (outcome,), found = run(net, draw(images, mask, monkeypatch))
        loss += probability * outcome.loss
        for total, gradient in zip(gradients, found, strict=True):
            total += probability * gradient
    expected_loss, grads = expected(net, images, WEIGHTS)
    assert_close(loss, expected_loss)
    assert_close(gradients, grads)


def test_sampled_draws_in_proportion_to_the_weights():
    image = torch.zeros(40_000, 1, 1, 1)
    parts = [step.sampled(image, image, image, w, torch.Generator().manual_seed(0))[0] for w in ((3, 1), (0.75, 0.25))]
    assert parts[0].is_clean.double().mean().item() == pytest.approx(0.25, abs=0.01)
    assert torch.equal(parts[0].is_clean, parts[1].is_clean)
    assert [part.weight.double().sum().item() for part in parts] == pytest.approx([4, 1], rel=1e-5)


@pytest.mark.parametrize(
    ('parts', 'sums'),
    [
        (lambda images, draw: step.concat(*images, WEIGHTS), WEIGHTS),
        (lambda images, draw: step.sequential(*images, WEIGHTS), WEIGHTS),
        (lambda images, draw: draw(images, (True, False, True)), (1 / 3, 2 / 3)),
        (lambda images, draw: step.degraded_only(images[0], images[2], 0.7), (0.7, 0.0)),
    ],
    ids=['concat', 'sequential', 'sampled', 'degraded_only'],
)
def test_weights_sum_to_those_of_the_branches(images, parts, sums, monkeypatch):
    parts = parts(images, lambda *args: draw(*args, monkeypatch))
    for is_clean, total in zip((False, True), sums, strict=True):
        assert_close(sum(part.weight[part.is_clean == is_clean].sum().item() for part in parts), total)


@pytest.mark.parametrize('mask', list(itertools.product([False, True], repeat=BATCH)))
def test_sampled_takes_each_image_of_its_branch(images, mask, monkeypatch):
    lq, clean_lq, gt = images
    (part,) = draw(images, mask, monkeypatch)
    assert torch.equal(part.lq, torch.stack([(lq, clean_lq)[clean][i] for i, clean in enumerate(mask)]))
    assert torch.equal(part.gt, gt)
    assert part.is_clean.tolist() == list(mask)


@pytest.mark.parametrize(('forward', 'sizes'), [(step.concat, [2 * BATCH]), (step.sequential, [BATCH, BATCH])])
def test_outcomes_are_those_of_both_forwards(net, images, forward, sizes):
    *inputs, gt = images
    outcomes, _ = run(net, forward(*images, WEIGHTS))
    assert [len(outcome.per_image) for outcome in outcomes] == sizes
    loss, psnr, is_clean = (
        torch.cat([getattr(outcome, name) for outcome in outcomes]) for name in ('per_image', 'psnr', 'is_clean')
    )
    with torch.no_grad():
        preds = torch.cat([net(lq) for lq in inputs])
    assert is_clean.tolist() == [False] * BATCH + [True] * BATCH
    assert_close(loss, (preds - gt.repeat(2, 1, 1, 1)).abs().mean((1, 2, 3)))
    mse = (preds.clamp(0, 1) - gt.repeat(2, 1, 1, 1)).square().mean((1, 2, 3))
    assert_close(psnr, 10 * torch.log10(1 / mse))


def test_psnr_by_hand():
    """Off by a tenth everywhere: 20 dB; too bright by any amount: white."""
    gt = torch.tensor([0.5, 1.0]).view(2, 1, 1, 1)
    (part,) = step.degraded_only(gt, gt, 1.0)
    (outcome,) = step.run_step([part], lambda lq: lq + torch.tensor([0.1, 7.0]).view(2, 1, 1, 1), criterion, id)
    assert outcome.psnr.tolist() == pytest.approx([20, 120], abs=1e-4)


@pytest.mark.parametrize('loss', [F.l1_loss, F.mse_loss])
def test_plain_loss(net, images, loss):
    lq, _, gt = images
    parts = step.degraded_only(lq, gt, 1.0)
    (outcome,), gradients = run(net, parts, lambda pred, part: (loss(pred, part.gt), l1_per_image(pred, part.gt)))
    assert_close(outcome.loss, loss(net(lq), gt).detach())
    assert_close(gradients, list(torch.autograd.grad(loss(net(lq), gt), net.parameters())))
    assert not outcome.is_clean.any()


@pytest.mark.parametrize('forward', [step.concat, step.sequential])
def test_what_is_returned_holds_no_graph(net, images, forward):
    outcomes, _ = run(net, forward(*images, WEIGHTS))
    for outcome in outcomes:
        assert not any(getattr(outcome, name).requires_grad for name in Outcome.__dataclass_fields__)


def test_the_exchange_is_held_back_for_all_parts_but_the_last(net, images):
    events = []

    @contextlib.contextmanager
    def no_sync() -> Iterator[None]:
        events.append('hold')
        yield
        events.append('release')

    def forward(lq: torch.Tensor) -> torch.Tensor:
        events.append('forward')
        return net(lq)

    parts = step.sequential(*images, WEIGHTS) + step.degraded_only(images[0], images[2], 1.0)
    step.run_step(parts, forward, criterion, lambda loss: events.append('backward'), no_sync)
    held = ['hold', 'forward', 'backward', 'release']
    assert events == [*held, *held, 'forward', 'backward']
