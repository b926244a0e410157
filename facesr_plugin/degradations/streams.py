"""The random streams that the degradation draws from: private, and part of the training state."""

import random
from typing import Any

import numpy as np
import torch


class RandomStreams:
    """One generator of each library that stock Real-ESRNet draws from, seeded alike.

    With seed s the streams equal those of `random.seed(s)`, `np.random.seed(s)` and `torch.manual_seed(s)`, so that
    on CPU every draw can be compared with stock's; but no other code can disturb them.

    Attributes:
        python: Choices of resize direction and mode, crop positions.
        numpy: Scale factors and branch decisions.
        torch: Per-image parameters, drawn on the CPU so that reading one never waits for the device.
        device: Noise fields, drawn where the images are; on the CPU this is `torch` itself.
    """

    def __init__(self, seed: int, device: torch.device | str = 'cpu') -> None:
        device = torch.device(device)
        self.python = random.Random(seed)
        self.numpy = np.random.RandomState(seed)
        self.torch = torch.Generator().manual_seed(seed)
        self.device = self.torch if device.type == 'cpu' else torch.Generator(device).manual_seed(seed)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors and plain Python values, which `torch.load(weights_only=True)` reads."""
        name, keys, *rest = self.numpy.get_state()
        return {
            'python': self.python.getstate(),
            'numpy': [name, keys.tolist(), *rest],
            'torch': self.torch.get_state(),
            'device': self.device.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken; the noise stream of another kind of device cannot be continued.

        Raises:
            ValueError: The state was taken on another kind of device.
        """
        if state['device'].numel() != self.device.get_state().numel():
            raise ValueError(f'random state of another device type, cannot go on with it on {self.device.device}')
        version, keys, gauss = state['python']
        self.python.setstate((version, tuple(keys), gauss))
        name, keys, *rest = state['numpy']
        self.numpy.set_state((name, np.array(keys, np.uint32), *rest))
        self.torch.set_state(state['torch'].cpu())
        self.device.set_state(state['device'].cpu())
