"""`import facesr_plugin.spandrel` lets any spandrel program in the process load this plugin's weights.

    import facesr_plugin.spandrel
    from spandrel import ModelLoader

    model = ModelLoader().load_from_file('net_g_best.pth')  # or .safetensors

`import facesr_plugin` alone neither needs spandrel nor changes it.
"""

from typing import Any

import torch

from facesr_plugin.archs.face_srresnet_arch import FaceSRResNet
from facesr_plugin.enlarge.network import network_from_weights

try:
    from spandrel import MAIN_REGISTRY, Architecture, ArchRegistry, ArchSupport, ImageModelDescriptor
except ModuleNotFoundError as error:
    if error.name != 'spandrel':
        raise
    raise ImportError("facesr_plugin.spandrel: spandrel expected; pip install -e '.[spandrel]'") from error

__all__ = ['FaceSRResNetArch', 'is_face_srresnet', 'register']

LAYERS = {'conv_first', 'body', 'upconv1', 'conv_hr', 'conv_last'}  # and upconv2 at scale 4


def is_face_srresnet(state_dict: dict[str, Any]) -> bool:
    """Tell whether a state dict is a `FaceSRResNet`'s: it has these layers and no others.

    Example:
        >>> is_face_srresnet(FaceSRResNet(num_feat=4, num_block=1, upscale=2).state_dict())
        True
        >>> is_face_srresnet(torch.nn.Linear(2, 2).state_dict())
        False
    """
    layers = {name.split('.')[0] for name in state_dict}
    return layers - {'upconv2'} == LAYERS and 'body.0.conv2.weight' in state_dict


class FaceSRResNetArch(Architecture[FaceSRResNet]):
    """The entry in spandrel's registry; stock's `MSRResNet` has the same state dict and is loaded too."""

    def __init__(self) -> None:
        super().__init__(id='FaceSRResNet', detect=is_face_srresnet)

    def load(self, state_dict: dict[str, torch.Tensor]) -> ImageModelDescriptor[FaceSRResNet]:
        """Build the network that a state dict is of, and describe it.

        Its purpose is 'SR', not 'FaceSR': that is spandrel's name for networks that take one aligned face of a fixed
        size, whereas this one takes a picture of any size.

        Raises:
            UserError: A ValueError; a shape is wrong, or weights are not finite.
        """
        net = network_from_weights(state_dict)
        num_feat, num_block = net.conv_first.out_channels, len(net.body)
        return ImageModelDescriptor(
            net,
            state_dict,
            architecture=self,
            purpose='SR',
            tags=[f'{num_feat}nf', f'{num_block}nb'],
            supports_half=True,
            supports_bfloat16=True,
            scale=net.upscale,
            input_channels=net.conv_first.in_channels,
            output_channels=net.conv_last.out_channels,
        )


def register(registry: ArchRegistry = MAIN_REGISTRY) -> None:
    """Add the architecture to a registry of spandrel's; where it is already, nothing changes.

    Args:
        registry: The main one, which every `ModelLoader` uses that was not given its own.
    """
    registry.add(ArchSupport.from_architecture(FaceSRResNetArch()), ignore_duplicates=True)


register()
