"""One optimisation step as a list of parts: what goes through the network together, and what each image's loss counts.

`concat`, `sequential`, `sampled`, plain losses and gradient accumulation are different lists; `run_step` runs any.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from facesr_plugin.losses.regularized_l1_loss import mean_per_image


@dataclass(frozen=True)
class Part:
    """Images that go through the network together.

    Attributes:
        lq: (n, 3, h, w).
        gt: Their targets, (n, 3, H, W).
        weight: Of each image's loss in the step, (n,); over the step they sum to the weights of its branches.
        is_clean: Which images are of the clean branch, bool (n,).
    """

    lq: torch.Tensor
    gt: torch.Tensor
    weight: torch.Tensor
    is_clean: torch.Tensor


@dataclass(frozen=True)
class Outcome:
    """What a part gave, without a graph and without waiting for the device.

    Attributes:
        loss: Its part of the step's loss, a scalar.
        per_image: Loss of each image, not weighted, (n,).
        psnr: Of each image, dB, (n,).
        is_clean: As in the part.
    """

    loss: torch.Tensor
    per_image: torch.Tensor
    psnr: torch.Tensor
    is_clean: torch.Tensor


def degraded_only(lq: torch.Tensor, gt: torch.Tensor, weight: float) -> list[Part]:
    """The degraded branch alone: plain losses, and the regularised one where the clean branch weighs nothing.

    Args:
        lq: D(I), (B, 3, h, w).
        gt: I, (B, 3, H, W).
        weight: Of the branch.
    """
    return [_one_branch(lq, gt, weight, is_clean=False)]


def concat(lq: torch.Tensor, clean_lq: torch.Tensor, gt: torch.Tensor, weights: tuple[float, float]) -> list[Part]:
    """Both branches in one part of 2B images.

    Args:
        lq: D(I), (B, 3, h, w).
        clean_lq: R(I), (B, 3, h, w).
        gt: I, (B, 3, H, W).
        weights: Of the degraded and the clean branch.
    """
    branches = sequential(lq, clean_lq, gt, weights)
    return [Part(*(torch.cat([getattr(part, name) for part in branches]) for name in Part.__dataclass_fields__))]


def sequential(lq: torch.Tensor, clean_lq: torch.Tensor, gt: torch.Tensor, weights: tuple[float, float]) -> list[Part]:
    """A part for each branch: the gradients of `concat` in half its memory. Arguments as there."""
    degraded, clean = weights
    return [_one_branch(lq, gt, degraded, is_clean=False), _one_branch(clean_lq, gt, clean, is_clean=True)]


def sampled(
    lq: torch.Tensor,
    clean_lq: torch.Tensor,
    gt: torch.Tensor,
    weights: tuple[float, float],
    generator: torch.Generator,
) -> list[Part]:
    """One part of B images, each of one branch, drawn in proportion to the weights.

    The expected loss and gradient are those of `concat`. Arguments as there, and:

    Args:
        lq: D(I).
        clean_lq: R(I).
        gt: I.
        weights: Of the branches.
        generator: Of the draws, on the CPU.
    """
    total = sum(weights)
    drawn = torch.rand(len(lq), generator=generator) < weights[1] / total
    is_clean = drawn.to(lq.device, non_blocking=True)
    mixed = torch.where(is_clean.view(-1, 1, 1, 1), clean_lq, lq)
    return [Part(mixed, gt, lq.new_full((len(lq),), total / len(lq)), is_clean)]


def run_step(
    parts: list[Part],
    net: Callable[[torch.Tensor], torch.Tensor],
    criterion: Callable[[torch.Tensor, Part], tuple[torch.Tensor, torch.Tensor]],
    backward: Callable[[torch.Tensor], None],
    no_sync: Callable[[], AbstractContextManager] = nullcontext,
    further: Callable[[torch.Tensor, Part], torch.Tensor | float] = lambda pred, part: 0.0,
) -> list[Outcome]:
    """Run the parts one after the other; their gradients add up.

    Args:
        parts: At least one.
        net: S, (n, 3, h, w) -> (n, 3, H, W).
        criterion: Takes the network's images and the part; returns the part's loss, a scalar, and each image's, (n,).
        backward: Takes the scalar and adds its gradient to the parameters'.
        no_sync: Holds back the exchange of gradients between processes, for all parts but the last.
        further: Returns what else the gradient is of, from the same arguments as `criterion`; no outcome tells it.
    """
    outcomes = []
    for number, part in enumerate(parts, 1):
        with no_sync() if number < len(parts) else nullcontext():
            pred = net(part.lq)
            loss, per_image = criterion(pred, part)
            backward(loss + further(pred, part))
        outcomes.append(Outcome(loss.detach(), per_image.detach(), _psnr(pred.detach(), part.gt), part.is_clean))
    return outcomes


def _one_branch(lq: torch.Tensor, gt: torch.Tensor, weight: float, is_clean: bool) -> Part:
    count = len(lq)
    return Part(lq, gt, lq.new_full((count,), weight / count), torch.full((count,), is_clean, device=lq.device))


def _psnr(pred: torch.Tensor, gt: torch.Tensor) -> torch.Tensor:
    """Return each image's PSNR in dB, (B,), of (B, C, H, W) in [0, 1], not rounded to 8 bits."""
    mse = mean_per_image((pred.clamp(0, 1) - gt).square_())
    return -10 * torch.log10(mse.clamp_min(1e-12))
