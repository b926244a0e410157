"""Feature matching: what a discriminator's layers see of a result and of its original lies close together."""

import torch
from torch import nn
from torch.nn import functional as F


class LayerOutputs:
    """Collects what the layers of a network give while it runs: all its convolutions but the last.

    Args:
        net: Any network of convolutions, not compiled.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 3, 1), nn.Conv2d(3, 1, 1))
        >>> layers = LayerOutputs(net)
        >>> _ = net(torch.zeros(1, 1, 4, 4))
        >>> [output.shape[1] for output in layers.take()]
        [2, 3]
    """

    def __init__(self, net: nn.Module) -> None:
        self._outputs: list[torch.Tensor] = []
        convolutions = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
        for module in convolutions[:-1]:
            module.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        del module, inputs
        self._outputs.append(output)

    def take(self) -> list[torch.Tensor]:
        """Return the outputs since the last call, in the order in which they came, and let go of them."""
        taken, self._outputs = self._outputs, []
        return taken


def feature_matching(fake: list[torch.Tensor], real: list[torch.Tensor]) -> torch.Tensor:
    """Return the mean over layers of the mean absolute difference.

    Source: Wang et al., "High-Resolution Image Synthesis and Semantic Manipulation with Conditional GANs".

    Args:
        fake: Outputs of a discriminator's layers for results, (B, C, H, W) each.
        real: Of the same layers for the originals; no gradient goes there.

    Example:
        >>> feature_matching([torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)], [torch.full((1, 1, 1, 1), 4.0)] * 2)
        tensor(3.5000)
    """
    terms = [F.l1_loss(one.float(), other.detach().float()) for one, other in zip(fake, real, strict=True)]
    return torch.stack(terms).mean()
