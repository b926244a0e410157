"""The generator network S: SRResNet without batch norm, 20 residual blocks deep."""

import torch
from basicsr.archs.srresnet_arch import MSRResNet
from basicsr.utils.registry import ARCH_REGISTRY
from torch.nn import functional as F


@ARCH_REGISTRY.register()
class FaceSRResNet(MSRResNet):
    """BasicSR's `MSRResNet` with the depth of the method; state dicts are interchangeable.

    Maps RGB (B, C, H, W) in [0, 1] to (B, C, upscale * H, upscale * W), not clamped:
    3x3 conv -> `num_block` residual blocks -> pixel shuffle to `upscale` -> 3x3 conv -> 3x3 conv, and the bilinearly
    enlarged input added to the result. So a network whose residual path is zero is bilinear upsampling.

    YAML: `network_g: {type: FaceSRResNet, num_block: 20, num_feat: 64, upscale: 4}`

    Source: Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network",
    without batch norm as in EDSR.

    Args:
        num_in_ch: Channels of the input.
        num_out_ch: Channels of the output; equal to `num_in_ch`, since the input is added to it.
        num_feat: Channels of the features.
        num_block: Residual blocks; 20 blocks of 64 features have 1,812,995 parameters.
        upscale: Scale factor: 2, 3 or 4.

    Raises:
        ValueError: `upscale` is not 2, 3 or 4, or the channel numbers differ.

    Example:
        >>> net = FaceSRResNet(num_block=1, num_feat=4)
        >>> net(torch.zeros(2, 3, 16, 12)).shape
        torch.Size([2, 3, 64, 48])
    """

    def __init__(
        self, num_in_ch: int = 3, num_out_ch: int = 3, num_feat: int = 64, num_block: int = 20, upscale: int = 4
    ) -> None:
        if upscale not in (2, 3, 4):
            raise ValueError(f'upscale: 2, 3 or 4 expected, got {upscale}')
        if num_in_ch != num_out_ch:
            raise ValueError(f'num_out_ch: {num_in_ch} expected (= num_in_ch, for the global skip), got {num_out_ch}')
        super().__init__(num_in_ch, num_out_ch, num_feat, num_block, upscale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute what `MSRResNet` does.

        Under autocast only the convolutions are rounded: what the blocks add up, and the enlarged input, stay in the
        input's precision, of which bf16 would lose the small contributions.
        """
        out = self.body(self.lrelu(self.conv_first(x)).to(x.dtype))
        out = self.lrelu(self.pixel_shuffle(self.upconv1(out)))
        if self.upscale == 4:
            out = self.lrelu(self.pixel_shuffle(self.upconv2(out)))
        out = self.conv_last(self.lrelu(self.conv_hr(out)))
        return out + F.interpolate(x, scale_factor=self.upscale, mode='bilinear', align_corners=False)
