"""One optimisation step's forward and backward passes, for each way of running the two branches.

Every function fills in the gradients of the same expected loss and returns what the log needs, without reading a value
back from the device.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from facesr_plugin.losses.regularized_l1_loss import l1_per_image

Network = Callable[[torch.Tensor], torch.Tensor]
Backward = Callable[[torch.Tensor], None]


@dataclass(frozen=True)
class Branch:
    """One branch's part of a batch, detached.

    Attributes:
        loss: Mean absolute error per image, (n,); n can be 0.
        pred: The network's images, (n, C, H, W).
        gt: Their targets, (n, C, H, W).
    """

    loss: torch.Tensor
    pred: torch.Tensor
    gt: torch.Tensor


@dataclass(frozen=True)
class Step:
    """What one step did.

    Attributes:
        loss: The loss, a detached scalar.
        degraded: The degraded branch.
        clean: The clean branch; None if it was not run.
        is_split: Whether each image is in one of the branches; otherwise it is in both.
    """

    loss: torch.Tensor
    degraded: Branch
    clean: Branch | None = None
    is_split: bool = False


def concat(
    net: Network, lq: torch.Tensor, clean_lq: torch.Tensor, gt: torch.Tensor, alpha: float, backward: Backward
) -> Step:
    """Both branches in one forward of 2B images.

    Args:
        net: S, (B, 3, h, w) -> (B, 3, H, W).
        lq: D(I), (B, 3, h, w).
        clean_lq: R(I), (B, 3, h, w).
        gt: I, (B, 3, H, W).
        alpha: Weight of the clean branch, in [0, 1].
        backward: Takes the scalar loss and adds its gradient to the parameters'.
    """
    pred, pred_clean = net(torch.cat([lq, clean_lq])).chunk(2)
    degraded, clean = l1_per_image(pred, gt), l1_per_image(pred_clean, gt)
    loss = (1 - alpha) * degraded.mean() + alpha * clean.mean()
    backward(loss)
    return Step(loss.detach(), _branch(degraded, pred, gt), _branch(clean, pred_clean, gt))


def sequential(
    net: Network,
    lq: torch.Tensor,
    clean_lq: torch.Tensor,
    gt: torch.Tensor,
    alpha: float,
    backward: Backward,
    no_sync: Callable[[], AbstractContextManager] = nullcontext,
) -> Step:
    """Forward and backward of one branch, then of the other: the gradients of `concat` in half its memory.

    Args:
        net: As in `concat`.
        lq: As in `concat`.
        clean_lq: As in `concat`.
        gt: As in `concat`.
        alpha: As in `concat`.
        backward: As in `concat`.
        no_sync: Holds back the exchange of gradients between processes during the first backward.
    """
    branches, losses = [], []
    for image, weight, context in ((lq, 1 - alpha, no_sync), (clean_lq, alpha, nullcontext)):
        with context():
            pred = net(image)
            per_image = l1_per_image(pred, gt)
            loss = weight * per_image.mean()
            backward(loss)
        branches.append(_branch(per_image, pred, gt))
        losses.append(loss.detach())
    return Step(losses[0] + losses[1], *branches)


def sampled(
    net: Network,
    lq: torch.Tensor,
    clean_lq: torch.Tensor,
    gt: torch.Tensor,
    take_clean: torch.Tensor,
    backward: Backward,
) -> Step:
    """Each image in one branch: with P(take_clean) = alpha the expected loss and gradient are those of `concat`.

    Args:
        net: As in `concat`.
        lq: As in `concat`.
        clean_lq: As in `concat`.
        gt: As in `concat`.
        take_clean: Which images take the clean branch, bool (B,), on the CPU.
        backward: As in `concat`.
    """
    mask = take_clean.to(lq.device, non_blocking=True).view(-1, 1, 1, 1)
    pred = net(torch.where(mask, clean_lq, lq))
    per_image = l1_per_image(pred, gt)
    loss = per_image.mean()
    backward(loss)
    branches = []
    for chosen in (~take_clean, take_clean):
        index = chosen.nonzero().flatten().to(lq.device, non_blocking=True)
        branches.append(_branch(per_image[index], pred[index], gt[index]))
    return Step(loss.detach(), *branches, is_split=True)


def plain(net: Network, lq: torch.Tensor, gt: torch.Tensor, criterion: Callable, backward: Backward) -> Step:
    """The degraded branch alone, under any of BasicSR's pixel losses: experiment 2.

    Args:
        net: As in `concat`.
        lq: As in `concat`.
        gt: As in `concat`.
        criterion: `criterion(pred, gt)` -> scalar.
        backward: As in `concat`.
    """
    pred = net(lq)
    loss = criterion(pred, gt)
    backward(loss)
    return Step(loss.detach(), _branch(l1_per_image(pred.detach(), gt), pred, gt))


def _branch(loss: torch.Tensor, pred: torch.Tensor, gt: torch.Tensor) -> Branch:
    return Branch(loss.detach(), pred.detach(), gt)
