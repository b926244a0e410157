"""The generator network S: SRResNet without batch norm, 20 residual blocks deep."""

from contextlib import nullcontext

import torch
from torch import nn
from torch.nn import functional as F


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), two 3x3 convolutions; (B, C, H, W) -> the same shape."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = _conv(num_feat, num_feat), _conv(num_feat, num_feat)
        self.relu = nn.ReLU(inplace=True)
        _initialise(self.conv1, self.conv2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the residual to x."""
        return x + self.conv2(self.relu(self.conv1(x)))


SHUFFLES = {1: (), 2: ('upconv1',), 3: ('upconv1',), 4: ('upconv1', 'upconv2'), 8: ('upconv1', 'upconv2', 'upconv3')}


class FaceSRResNet(nn.Module):
    """BasicSR's `MSRResNet` with the depth of the method; state dicts and first weights are the same.

    It stands on PyTorch alone, so that a trained network runs without BasicSR.

    Maps RGB (B, C, H, W) in [0, 1] to (B, C, upscale * H, upscale * W), not clamped:
    3x3 conv -> `num_block` residual blocks -> pixel shuffle to `upscale` -> 3x3 conv -> 3x3 conv, and the bilinearly
    enlarged input added to the result. So a network whose residual path is zero is bilinear upsampling.

    Scale 8 has one pixel shuffle more, scale 1 none. A network of one channel enlarges each channel by itself.

    YAML: `network_g: {type: FaceSRResNet, num_block: 20, num_feat: 64, upscale: 4}`

    Source: Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network",
    without batch norm as in EDSR.

    Args:
        num_in_ch: Channels of the input.
        num_out_ch: Channels of the output; equal to `num_in_ch`, since the input is added to it.
        num_feat: Channels of the features.
        num_block: Residual blocks; 20 blocks of 64 features have 1,812,995 parameters.
        upscale: Scale factor: 1, 2, 3, 4 or 8.

    Raises:
        ValueError: `upscale` is none of these, or the channel numbers differ.

    Example:
        >>> net = FaceSRResNet(num_block=1, num_feat=4)
        >>> net(torch.zeros(2, 3, 16, 12)).shape
        torch.Size([2, 3, 64, 48])
    """

    def __init__(
        self, num_in_ch: int = 3, num_out_ch: int = 3, num_feat: int = 64, num_block: int = 20, upscale: int = 4
    ) -> None:
        if upscale not in SHUFFLES:
            raise ValueError(f'upscale: {", ".join(map(str, SHUFFLES))} expected, got {upscale}')
        if num_in_ch != num_out_ch:
            raise ValueError(f'num_out_ch: {num_in_ch} expected (= num_in_ch, for the global skip), got {num_out_ch}')
        super().__init__()
        self.upscale = upscale
        factor = 3 if upscale == 3 else 2  # of one pixel shuffle
        self.conv_first = _conv(num_in_ch, num_feat)
        self.body = nn.Sequential(*(ResidualBlock(num_feat) for _ in range(num_block)))
        for name in SHUFFLES[upscale]:
            setattr(self, name, _conv(num_feat, num_feat * factor**2))
        self.pixel_shuffle = nn.PixelShuffle(factor)
        self.conv_hr = _conv(num_feat, num_feat)
        self.conv_last = _conv(num_feat, num_out_ch)
        self.lrelu = nn.LeakyReLU(negative_slope=0.1, inplace=True)
        # In the order in which MSRResNet draws.
        upconvs = [getattr(self, name) for name in SHUFFLES[upscale]]
        _initialise(self.conv_first, *upconvs[:1], self.conv_hr, self.conv_last, *upconvs[1:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute what `MSRResNet` does.

        Under autocast only the convolutions but the first are rounded: the input, what the blocks add up and the
        enlarged input stay in the input's precision. Of a sum bf16 would lose the small contributions; of the input it
        would keep 8 bits at most, which alone was two thirds of the error.
        """
        if x.shape[1] != 1 == self.conv_first.in_channels:
            return self(x.flatten(0, 1).unsqueeze(1)).unflatten(0, x.shape[:2]).squeeze(2)
        return self.reconstruct(self.features(x), x)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Compute (B, num_feat, H, W), which most of the work goes into."""
        kind = x.device.type
        is_autocast = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        with torch.autocast(kind, enabled=False) if is_autocast else nullcontext():
            first = self.conv_first(x.to(self.conv_first.weight.dtype))
        return self.body(self.lrelu(first).to(x.dtype))

    def reconstruct(self, features: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Compute the picture of features and the input; the result depends on two pixels of them around its own."""
        out = features
        for name in SHUFFLES[self.upscale]:
            out = self.lrelu(self.pixel_shuffle(getattr(self, name)(out)))
        out = self.conv_last(self.lrelu(self.conv_hr(out)))
        return out + F.interpolate(x, scale_factor=self.upscale, mode='bilinear', align_corners=False)


def _conv(channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out_channels, 3, padding=1)


@torch.no_grad()
def _initialise(*layers: nn.Conv2d) -> None:
    """Begin with a tenth of He's normal weights and no bias, so that the residual paths are weak at first."""
    if layers[0].weight.is_meta:  # for a draw of nothing PyTorch imports its compiler, which takes two seconds
        return
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight).mul_(0.1)
        nn.init.zeros_(layer.bias)
