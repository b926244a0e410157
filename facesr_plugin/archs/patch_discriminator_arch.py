"""The discriminator of the second stage that a CPU can train: strided convolutions that judge patches."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm


class PatchDiscriminator(nn.Module):
    """Says of each patch of an image whether it looks real.

    Maps RGB (B, C, H, W) in [0, 1] to logits (B, 1, H / 2^n, W / 2^n) with n = `num_layer`: n 4x4 convolutions of
    stride 2, the first of `num_feat` channels and each further one of twice as many up to 8 `num_feat`, and a 3x3
    convolution to the logits. All but the first and the last are spectrally normalised. A logit sees 78 px at n = 4.

    YAML: `network_d: {type: PatchDiscriminator, num_feat: 32, num_layer: 4}`

    Source: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks"; Miyato et al., "Spectral
    Normalization for Generative Adversarial Networks".

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
        layers = [nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths)]
        self.layers = nn.ModuleList([layers[0], *map(spectral_norm, layers[1:])])
        self.conv_last = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits, larger where the image looks real."""
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
        return self.conv_last(x)
