"""How the network is run: number format, memory format, compilation. Degradation and loss stay in fp32."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from basicsr.utils import get_root_logger
from torch import nn

from facesr_plugin.run.device import can_lay_out
from facesr_plugin.run.precision import PRECISIONS, default_precision


def can_compile(device: torch.device) -> bool:
    """Return whether `torch.compile` works on a device, tried on a ReLU; if not, the log says why."""
    try:
        torch.compile(nn.ReLU())(torch.zeros(8, device=device))
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        get_root_logger().warning(f'train.compile: torch.compile does not work here, going on without: {reason}')
        return False
    return True


@dataclass(frozen=True)
class Execution:
    """The number and memory format of a network on a device.

    Attributes:
        device: Where it runs.
        precision: `fp32`, or autocast to `bf16` or `fp16`; weights and output are fp32 all the same. On CUDA PyTorch
            computes the convolutions of fp32 in TF32 unless `torch.backends.cudnn.allow_tf32` is turned off.
        channels_last: Whether images and weights lie channels-last in memory.
        compile: Whether `torch.compile` is used.
    """

    device: torch.device
    precision: Literal['fp32', 'bf16', 'fp16']
    channels_last: bool
    compile: bool

    @classmethod
    def from_options(cls, train: dict[str, Any], device: torch.device) -> 'Execution':
        """Take `train.precision`, `train.channels_last` and `train.compile`, each with a default for the device."""
        return cls(
            device=device,
            precision=train.get('precision') or default_precision(device),
            channels_last=train.get('channels_last', True) and can_lay_out(device),
            compile=train.get('compile', False),
        )

    def lay_out(self, net: nn.Module) -> None:
        """Lay the weights out in memory."""
        if self.channels_last:
            net.to(memory_format=torch.channels_last)

    def prepare(self, net: nn.Module) -> None:
        """Lay the weights out, and compile the forward pass if asked to; state dict keys stay as they are.

        A network that cannot be compiled here, e.g. for want of a C++ compiler, runs uncompiled, and the log says so.
        """
        self.lay_out(net)
        if self.compile and can_compile(self.device):
            net.compile()

    def run(self, net: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """Return `net(images)` in fp32."""
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        if self.precision == 'fp32':
            return net(images)
        with torch.autocast(self.device.type, PRECISIONS[self.precision]):
            return net(images).float()

    @contextmanager
    def exact(self) -> Iterator[None]:
        """Have convolutions in fp32 be that in this context: elsewhere PyTorch computes them in TF32 on CUDA."""
        allowed = torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = False
        try:
            yield
        finally:
            torch.backends.cudnn.allow_tf32 = allowed

    def scaler(self) -> torch.amp.GradScaler:
        """Return the loss scaler that fp16 needs; it does nothing in the other formats."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == 'fp16')
