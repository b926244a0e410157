"""The dual-forward regularised L1 loss: the degraded branch, and the clean branch as its regulariser."""

from typing import Literal, get_args

import torch
from basicsr.utils.registry import LOSS_REGISTRY
from torch import nn
from torch.nn import functional as F

Forward = Literal['concat', 'sequential', 'sampled']
CleanMode = Literal['bicubic', 'bilinear', 'area']
FORWARDS, CLEAN_MODES = get_args(Forward), get_args(CleanMode)


def l1_per_image(pred: torch.Tensor, gt: torch.Tensor) -> torch.Tensor:
    """Return each image's mean absolute error: two (B, C, H, W) of the same shape -> (B,).

    Example:
        >>> l1_per_image(torch.zeros(2, 1, 1, 2), torch.tensor([[[[1.0, 3.0]]], [[[0.0, 0.0]]]]))
        tensor([2., 0.])
    """
    if pred.shape != gt.shape:
        raise ValueError(f'pred of shape {tuple(gt.shape)} expected, as gt, got {tuple(pred.shape)}')
    return F.l1_loss(pred, gt, reduction='none').flatten(1).mean(1)


def regularized_l1_loss(
    pred_degraded: torch.Tensor, pred_clean: torch.Tensor, gt: torch.Tensor, alpha: float
) -> torch.Tensor:
    """Return L = (1 - alpha) |S(D(I)) - I|_1 + alpha |S(R(I)) - I|_1, a scalar.

    |.|_1 is the mean absolute error over all elements.

    Args:
        pred_degraded: S(D(I)), the network on the degraded image, (B, C, H, W).
        pred_clean: S(R(I)), the network on the resized image, (B, C, H, W).
        gt: I, (B, C, H, W).
        alpha: Weight of the clean branch, in [0, 1].

    Raises:
        ValueError: The shapes differ.

    Example:
        >>> gt = torch.zeros(1, 1, 1, 2)
        >>> regularized_l1_loss(gt + 4, gt + 1, gt, alpha=0.75)  # 0.25 * 4 + 0.75 * 1
        tensor(1.7500)
    """
    degraded, clean = l1_per_image(pred_degraded, gt), l1_per_image(pred_clean, gt)
    return (1 - alpha) * degraded.mean() + alpha * clean.mean()


@LOSS_REGISTRY.register()
class RegularizedL1Loss(nn.Module):
    """`regularized_l1_loss` with its options; `AlphaRealESRNetModel` supplies both branches and alpha.

    YAML: `train.pixel_opt: {type: RegularizedL1Loss, loss_weight: 1.0, forward: concat, clean_mode: bicubic}`

    Args:
        loss_weight: Factor of the loss.
        forward: How the model runs the branches; each has the same expected gradient.
            `concat`: both in one forward of 2B images.
            `sequential`: one after the other, in half the activation memory.
            `sampled`: each image takes the clean branch with probability alpha, one forward of B images.
        clean_mode: How R resizes: `bicubic` or `bilinear`, antialiased, or `area`.

    Raises:
        ValueError: An option has another value.
    """

    def __init__(
        self, loss_weight: float = 1.0, forward: Forward = 'concat', clean_mode: CleanMode = 'bicubic'
    ) -> None:
        super().__init__()
        if forward not in FORWARDS:
            raise ValueError(f'forward: one of {", ".join(FORWARDS)} expected, got {forward!r}')
        if clean_mode not in CLEAN_MODES:
            raise ValueError(f'clean_mode: one of {", ".join(CLEAN_MODES)} expected, got {clean_mode!r}')
        self.loss_weight = loss_weight
        self.forward_mode = forward
        self.clean_mode = clean_mode

    def forward(
        self, pred_degraded: torch.Tensor, pred_clean: torch.Tensor, gt: torch.Tensor, alpha: float
    ) -> torch.Tensor:
        """Return the weighted loss, a scalar; arguments as in `regularized_l1_loss`."""
        return self.loss_weight * regularized_l1_loss(pred_degraded, pred_clean, gt, alpha)
