"""The dual-forward regularised L1 loss: the degraded branch, and the clean branch as its regulariser."""

from typing import Literal, get_args

import torch
from torch import nn
from torch.nn import functional as F

Forward = Literal['concat', 'sequential', 'sampled']
CleanMode = Literal['bicubic', 'bilinear', 'area']
FORWARDS, CLEAN_MODES = get_args(Forward), get_args(CleanMode)


def l1_per_image(pred: torch.Tensor, gt: torch.Tensor) -> torch.Tensor:
    """Return each image's mean absolute error: two (B, C, H, W) of the same shape -> (B,).

    Raises:
        ValueError: The shapes differ.

    Example:
        >>> l1_per_image(torch.zeros(2, 1, 1, 2), torch.tensor([[[[1.0, 3.0]]], [[[0.0, 0.0]]]]))
        tensor([2., 0.])
    """
    if pred.shape != gt.shape:
        raise ValueError(f'pred of shape {tuple(gt.shape)} expected, as gt, got {tuple(pred.shape)}')
    return mean_per_image(F.l1_loss(pred, gt, reduction='none'))


def mean_per_image(images: torch.Tensor) -> torch.Tensor:
    """Return the mean of each image: (B, C, H, W) -> (B,).

    On the CPU what is added up in which order is that of a contiguous image, whatever the layout: runs give the same
    numbers ever since. Elsewhere nothing is copied for that.
    """
    return images.flatten(1).mean(1) if images.device.type == 'cpu' else images.mean((1, 2, 3))


class RegularizedL1Loss(nn.Module):
    """L = (1 - alpha) |S(D(I)) - I|_1 + alpha |S(R(I)) - I|_1, with |.|_1 the mean absolute error over all elements.

    YAML: `train.pixel_opt: {type: RegularizedL1Loss, loss_weight: 1.0, forward: concat, clean_mode: bicubic}`

    `AlphaRealESRNetModel` runs the branches and sums over images what is defined here: `forward` is the loss of each
    image, `branch_weights` the weight of its branch. A subclass that overrides either trains instead, once it is
    registered with BasicSR and named as `type`.

    Args:
        loss_weight: Factor of the loss.
        forward: How the model runs the branches; each has the same expected gradient.
            `concat`: both in one forward of 2B images.
            `sequential`: one after the other, in half the activation memory.
            `sampled`: each image takes the clean branch with probability alpha, one forward of B images.
        clean_mode: How R resizes: `bicubic` or `bilinear`, antialiased, or `area`.

    Raises:
        ValueError: An option has another value.

    Example:
        >>> loss, gt = RegularizedL1Loss(), torch.zeros(1, 1, 1, 2)
        >>> degraded, clean = loss.branch_weights(alpha=0.75)
        >>> degraded * loss(gt + 4, gt) + clean * loss(gt + 1, gt)  # 0.25 * 4 + 0.75 * 1
        tensor([1.7500])
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

    def branch_weights(self, alpha: float) -> tuple[float, float]:
        """Return the weights of the degraded and the clean branch; alpha lies in [0, 1]."""
        return 1 - alpha, alpha

    def forward(self, pred: torch.Tensor, gt: torch.Tensor) -> torch.Tensor:
        """Return the loss of each image, of either branch: two (B, C, H, W) of the same shape -> (B,)."""
        return self.loss_weight * l1_per_image(pred, gt)


def check_alpha(loss: type, has_alpha: bool) -> None:
    """Check that a loss of two branches comes with an alpha, and no other does.

    Args:
        loss: The class: this one, a subclass of it, or another.
        has_alpha: Whether there is an alpha.

    Raises:
        ValueError: It is otherwise.
    """
    if issubclass(loss, RegularizedL1Loss) != has_alpha:
        raise ValueError('expected with pixel_opt type RegularizedL1Loss, and only with it')
