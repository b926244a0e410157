"""Networks that are not ours, so that what enlarges pictures can use them as it uses ours."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from facesr_plugin.archs.face_srresnet_arch import FaceSRResNet
from facesr_plugin.errors import UserError
from facesr_plugin.run.checkpoint import check_finite, check_fit

MULTIPLES = (1, 2, 4, 8, 16, 32, 64)  # of the sides of a picture that networks may ask for, px
OVERLAP = 64  # of tiles, LR px: how far such a network sees is not known


class OtherNetwork(nn.Module):
    """A network with its weights, for RGB pictures of any size, which are filled up to what it asks for.

    Args:
        net: The network.
        scale: HR size / LR size.

    Attributes:
        upscale: HR size / LR size.
        multiple: What the sides of its pictures must be multiples of.

    Raises:
        UserError: It does not enlarge RGB pictures by `scale`.
    """

    def __init__(self, net: nn.Module, scale: int) -> None:
        super().__init__()
        self.net, self.upscale = net, scale
        self.multiple = _multiple(net, scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Enlarge (B, 3, H, W) to (B, 3, scale * H, scale * W)."""
        if self.multiple == 1:
            return self.net(x)
        height, width = x.shape[2:]
        filled = F.pad(x, (0, -width % self.multiple, 0, -height % self.multiple), mode='replicate')
        return self.net(filled)[..., : height * self.upscale, : width * self.upscale]

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        """Return the network's own, without a prefix."""
        return self.net.state_dict(*args, **kwargs)


Network = FaceSRResNet | OtherNetwork


@torch.no_grad()
def _multiple(net: nn.Module, scale: int) -> int:
    """Return the least of `MULTIPLES` with which a network runs and enlarges as it should."""
    failure = None
    for multiple in MULTIPLES:
        count = max(3, 20 // multiple | 1)  # odd: no multiple of the next one
        height, width = multiple * count, multiple * (count + 2)
        try:
            out = net(torch.zeros(1, 3, height, width))
        except Exception as error:
            failure = failure or f'it does not run: {" ".join(str(error).split()) or type(error).__name__}'
            continue
        if isinstance(out, torch.Tensor) and out.shape == (1, 3, height * scale, width * scale):
            return multiple
        made = 'x'.join(map(str, out.shape[:1:-1])) if isinstance(out, torch.Tensor) else type(out).__name__
        failure = failure or f'it makes {made} of {width}x{height} px'
    name = type(net).__name__
    raise UserError(f'network_g: a network that enlarges RGB {scale} times expected (scale), {name}: {failure}')


def with_weights(
    net: nn.Module, scale: int, weights: Mapping[str, torch.Tensor], path: str | Path = 'weights'
) -> OtherNetwork:
    """Return a network with its weights, on the CPU, in evaluation mode.

    Args:
        net: As built; it is changed.
        scale: HR size / LR size.
        weights: State dict.
        path: What an error calls them.

    Raises:
        UserError: They do not fit, are not all finite, or the network does not enlarge RGB pictures by `scale`.
    """
    check_fit(path, weights, net)
    check_finite(path, weights)
    net.load_state_dict(weights)
    return OtherNetwork(net.eval(), scale).eval()
