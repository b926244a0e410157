"""The discriminator of the second stage that a CPU can train: strided convolutions that judge patches."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F


class PatchDiscriminator(nn.Module):
    """Says of each patch of an image whether it looks real.

    Maps RGB (B, C, H, W) in [0, 1] to logits (B, 1, H / 2^n, W / 2^n) with n = `num_layer`: n 4x4 convolutions of
    stride 2, the first of `num_feat` channels and each further one of twice as many up to 8 `num_feat`, and a 3x3
    convolution to the logits. All but the first and the last are normalised per image and channel: with spectral
    normalisation instead the differences of fine structure that it is there for hardly reach the logits, and it learnt
    far more slowly. A logit sees 78 px at n = 4. The image is larger than 2^(n + 1) px.

    YAML: `network_d: {type: PatchDiscriminator, num_feat: 32, num_layer: 4}`

    Source: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", with the instance norm of
    Zhu et al., "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks".

    Args:
        num_in_ch: Channels of the image.
        num_feat: Channels of the first layer.
        num_layer: Strided convolutions.

    Example:
        >>> PatchDiscriminator(num_feat=4)(torch.zeros(2, 3, 64, 48)).shape
        torch.Size([2, 1, 4, 3])
    """

    def __init__(self, num_in_ch: int = 3, num_feat: int = 32, num_layer: int = 4) -> None:
        super().__init__()
        widths = [num_in_ch, *(num_feat * min(2**layer, 8) for layer in range(num_layer))]
        self.layers = nn.ModuleList(  # a bias that is normalised away would have a gradient of rounding errors alone
            nn.Conv2d(a, b, 4, stride=2, padding=1, bias=not number) for number, (a, b) in enumerate(pairwise(widths))
        )
        self.norms = nn.ModuleList(nn.InstanceNorm2d(width, affine=True) for width in widths[2:])
        self.conv_last = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits, larger where the image looks real."""
        x = 2 * x - 1
        for layer, norm in zip(self.layers, [nn.Identity(), *self.norms], strict=True):
            x = F.leaky_relu(norm(layer(x)), 0.2)
        return self.conv_last(x)
