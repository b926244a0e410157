"""Trained networks: ours is built from its weights alone, another one is given."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

import torch

from facesr_plugin.archs.face_srresnet_arch import FaceSRResNet
from facesr_plugin.enlarge.choices import DEFAULT_WEIGHTS, DEVICES, is_device
from facesr_plugin.enlarge.other import Network, OtherNetwork, with_weights
from facesr_plugin.errors import UserError
from facesr_plugin.run.checkpoint import check_finite, check_fit, load_weights

__all__ = [
    'DEFAULT_WEIGHTS',
    'DEVICES',
    'Dial',
    'blend',
    'load_dial',
    'load_network',
    'network_from_weights',
    'pick_device',
]


def pick_device(name: str | torch.device) -> torch.device:
    """Return the device of one of `DEVICES`, or of one with a number (`cuda:1`); `auto` takes CUDA, MPS or the CPU.

    Raises:
        UserError: It is none of these, or this machine has no such device.
    """
    name = str(name)
    if not is_device(name):
        raise UserError(f'device: one of {", ".join(DEVICES)} or e.g. cuda:1 expected, got {name}')
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    count = {'cuda': gpus, 'mps': int(torch.backends.mps.is_available()), 'cpu': 1}
    if name == 'auto':
        name = next(device for device, number in count.items() if number)
    kind, _, index = name.partition(':')
    if int(index or 0) >= count[kind]:
        raise UserError(f'device: {name} is not available here, {", ".join(d for d in count if count[d])} is')
    return torch.device(name)


def network_from_weights(weights: Mapping[str, torch.Tensor], path: str | Path = 'weights') -> FaceSRResNet:
    """Build the network that a state dict is of; depth, width and scale follow from names and shapes.

    Args:
        weights: State dict of a `FaceSRResNet` or of stock's `MSRResNet`.
        path: What an error calls it.

    Returns:
        The network with these weights, on the CPU, in evaluation mode.

    Raises:
        UserError: They are another network's, or not all finite.

    Example:
        >>> net = network_from_weights(FaceSRResNet(num_feat=8, num_block=3, upscale=2).state_dict())
        >>> len(net.body), net.conv_first.out_channels, net.upscale
        (3, 8, 2)
    """
    for name in ('conv_first.weight', 'conv_hr.weight'):
        if name not in weights or weights[name].ndim != 4:
            raise UserError(f'{path}: weights of a FaceSRResNet (SRResNet without batch norm) expected, no {name}')
    num_feat, channels = weights['conv_first.weight'].shape[:2]
    if channels not in (1, 3):
        raise UserError(f'{path}: a network for RGB or single channels expected, got one for {channels} channels')
    shuffles = [name for name in ('upconv1', 'upconv2', 'upconv3') if f'{name}.weight' in weights]
    is_3 = len(shuffles) == 1 and len(weights['upconv1.weight']) == 9 * num_feat
    upscale = 3 if is_3 else 2 ** len(shuffles)
    num_block = sum(name.startswith('body.') and name.endswith('.conv1.weight') for name in weights)
    with torch.device('meta'):  # nothing is allocated until the shapes are known to be right
        net = FaceSRResNet(channels, channels, num_feat=num_feat, num_block=num_block, upscale=upscale)
    check_fit(path, weights, net)
    check_finite(path, weights)
    own = {name: value.to('cpu', torch.float32, copy=True) for name, value in weights.items()}
    net.load_state_dict(own, assign=True)  # `to_empty` would import sympy
    return net.eval()


def blend(
    weights: Mapping[str, torch.Tensor], others: Mapping[str, torch.Tensor], part: float
) -> dict[str, torch.Tensor]:
    """Return (1 - part) weights + part others: a network between one and what it became by further training.

    Source: network interpolation of Wang et al., "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks".

    Args:
        weights: State dict.
        others: State dict of the same network.
        part: In [0, 1]; at the ends the result is one of the two, exactly.

    Example:
        >>> blend({'bias': torch.zeros(2)}, {'bias': torch.ones(2)}, 0.25)
        {'bias': tensor([0.2500, 0.2500])}
    """
    return {name: torch.lerp(value.float(), others[name].float(), part) for name, value in weights.items()}


class Dial:
    """A network at every place between the weights of two stages.

    Args:
        net: The first stage's, which is faithful: at 0.
        natural: State dict of the second stage: at 1. None: there is no other place than 0.
    """

    def __init__(self, net: Network, natural: Mapping[str, torch.Tensor] | None = None) -> None:
        self.net, self.natural = net, natural

    def at(self, part: float) -> Network:
        """Return the network at a place, 0 to 1, on the device of the first stage's."""
        if self.natural is None or part == 0:
            return self.net
        net = deepcopy(self.net)
        _inner(net).load_state_dict(blend(net.state_dict(), self.natural, part))
        return net


def _inner(net: Network) -> torch.nn.Module:
    return net.net if isinstance(net, OtherNetwork) else net


def load_network(path: str | Path, key: str | None = None, named: tuple[torch.nn.Module, int] | None = None) -> Network:
    """Load the network of a checkpoint; see `checkpoint.load_weights` and `network_from_weights`.

    Args:
        path: A `.pth` or `.safetensors`.
        key: Which of its entries, e.g. `params_ema`; None takes the better one.
        named: The network and its scale where the weights do not tell, as `options/named.py` returns them.

    Raises:
        UserError: The file cannot be read, lacks the key, or is of another network.
    """
    weights, _ = load_weights(path, key)
    return network_from_weights(weights, path) if named is None else with_weights(*named, weights, path)


def load_dial(
    path: str | Path,
    natural_weights: str | Path | None,
    key: str | None = None,
    named: tuple[torch.nn.Module, int] | None = None,
    device: torch.device | str = 'cpu',
) -> Dial:
    """Load the networks of both stages; see `load_network`.

    Args:
        path: Checkpoint of the first stage.
        natural_weights: That of the second, which began with it; None: there is none.
        key: Of the first; see `load_network`.
        named: See there.
        device: Where the network is to work.

    Raises:
        UserError: See there; the second network is another one.
    """
    net = load_network(path, key, named)
    if natural_weights is None:
        return Dial(net.to(device))
    natural, _ = load_weights(natural_weights)
    check_fit(natural_weights, natural, _inner(net))
    check_finite(natural_weights, natural)
    return Dial(net.to(device), {name: value.to(device) for name, value in natural.items()})
