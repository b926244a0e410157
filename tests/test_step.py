import contextlib
import itertools
from collections.abc import Callable, Iterator

import pytest
import torch
from torch.nn import functional as F

from facesr_plugin.archs.face_srresnet_arch import FaceSRResNet
from facesr_plugin.models import step as dual_forward

BATCH = 3


@pytest.fixture(scope='module')
def net() -> FaceSRResNet:
    torch.manual_seed(0)
    return FaceSRResNet(num_feat=4, num_block=1).double()


@pytest.fixture(scope='module')
def images() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """D(I), R(I) and I."""
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.rand(BATCH, 3, side, side, generator=generator, dtype=torch.float64) for side in (5, 5, 20))


def run(net: FaceSRResNet, step: Callable[[], dual_forward.Step]) -> tuple[dual_forward.Step, list[torch.Tensor]]:
    """Return what a step returns, and the gradients that it leaves."""
    net.zero_grad()
    result = step()
    return result, [parameter.grad.clone() for parameter in net.parameters()]


def autograd(net: FaceSRResNet, loss: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, net.parameters()))


def l_sr(net: FaceSRResNet, images: tuple[torch.Tensor, ...], alpha: float) -> torch.Tensor:
    lq, clean_lq, gt = images
    return (1 - alpha) * (net(lq) - gt).abs().mean() + alpha * (net(clean_lq) - gt).abs().mean()


def assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize('alpha', [0.0, 0.3, 1.0])
@pytest.mark.parametrize('forward', [dual_forward.concat, dual_forward.sequential])
def test_loss_and_gradient_are_those_of_l_sr(net, images, forward, alpha):
    step, gradients = run(net, lambda: forward(net, *images, alpha, torch.Tensor.backward))
    expected = l_sr(net, images, alpha)
    assert_close(step.loss, expected.detach())
    assert_close(gradients, autograd(net, expected))


def test_concat_and_sequential_agree(net, images):
    concat, gradients = run(net, lambda: dual_forward.concat(net, *images, 0.3, torch.Tensor.backward))
    sequential, others = run(net, lambda: dual_forward.sequential(net, *images, 0.3, torch.Tensor.backward))
    assert_close(gradients, others)
    for branch in ('degraded', 'clean'):
        for field in ('loss', 'pred', 'gt'):
            assert_close(getattr(getattr(concat, branch), field), getattr(getattr(sequential, branch), field))


def test_sampled_is_l_sr_in_expectation(net, images):
    alpha = 0.3
    loss, gradients = 0.0, [torch.zeros_like(parameter) for parameter in net.parameters()]
    for mask in itertools.product([False, True], repeat=BATCH):
        probability = alpha ** sum(mask) * (1 - alpha) ** (BATCH - sum(mask))
        step, found = run(
            net, lambda mask=mask: dual_forward.sampled(net, *images, torch.tensor(mask), torch.Tensor.backward)
        )
        loss += probability * step.loss
        for total, gradient in zip(gradients, found, strict=True):
            total += probability * gradient
    expected = l_sr(net, images, alpha)
    assert_close(loss, expected.detach())
    assert_close(gradients, autograd(net, expected))


@pytest.mark.parametrize('mask', list(itertools.product([False, True], repeat=BATCH)))
def test_sampled_branches(net, images, mask):
    lq, clean_lq, gt = images
    step, _ = run(net, lambda: dual_forward.sampled(net, *images, torch.tensor(mask), torch.Tensor.backward))
    for branch, source, taken in ((step.degraded, lq, False), (step.clean, clean_lq, True)):
        chosen = [i for i in range(BATCH) if mask[i] is taken]
        with torch.no_grad():
            pred = net(source)[chosen]
        assert branch.pred.shape == (len(chosen), 3, 20, 20)
        assert_close(branch.pred, pred)
        assert torch.equal(branch.gt, gt[chosen])
        assert_close(branch.loss, (pred - gt[chosen]).abs().mean((1, 2, 3)))


def test_branches_are_those_of_both_forwards(net, images):
    lq, clean_lq, gt = images
    step, _ = run(net, lambda: dual_forward.concat(net, *images, 0.3, torch.Tensor.backward))
    for branch, source in ((step.degraded, lq), (step.clean, clean_lq)):
        with torch.no_grad():
            pred = net(source)
        assert_close(branch.pred, pred)
        assert_close(branch.loss, (pred - gt).abs().mean((1, 2, 3)))
        assert torch.equal(branch.gt, gt)


@pytest.mark.parametrize('criterion', [F.l1_loss, F.mse_loss])
def test_plain(net, images, criterion):
    lq, _, gt = images
    step, gradients = run(net, lambda: dual_forward.plain(net, lq, gt, criterion, torch.Tensor.backward))
    expected = criterion(net(lq), gt)
    assert_close(step.loss, expected.detach())
    assert_close(gradients, autograd(net, expected))
    assert step.clean is None
    assert_close(step.degraded.loss, (net(lq) - gt).abs().mean((1, 2, 3)).detach())


def test_what_is_returned_holds_no_graph(net, images):
    lq, _, gt = images
    mask = torch.tensor([True, False, True])
    backward = torch.Tensor.backward
    for step in (
        dual_forward.concat(net, *images, 0.3, backward),
        dual_forward.sequential(net, *images, 0.3, backward),
        dual_forward.sampled(net, *images, mask, backward),
        dual_forward.plain(net, lq, gt, F.l1_loss, backward),
    ):
        branches = [branch for branch in (step.degraded, step.clean) if branch]
        tensors = [step.loss, *(getattr(branch, name) for branch in branches for name in ('loss', 'pred'))]
        assert not any(tensor.requires_grad for tensor in tensors)


def test_sequential_holds_back_the_first_exchange_only(net, images):
    events = []

    @contextlib.contextmanager
    def no_sync() -> Iterator[None]:
        events.append('enter')
        yield
        events.append('exit')

    dual_forward.sequential(net, *images, 0.3, lambda loss: events.append('backward'), no_sync)
    assert events == ['enter', 'backward', 'exit', 'backward']
