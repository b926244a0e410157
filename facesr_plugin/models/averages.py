"""Averages of per-image values between two log lines or validations, kept on the device until they are read."""

import torch
from torch import distributed


class Averages:
    """Sums and counts by name; adding never waits for the device, reading does, once."""

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, values: torch.Tensor) -> None:
        """Add one value per image, (n,); n can be 0."""
        self._sums[name] = self._sums.get(name, 0) + values.detach().double().sum()
        self._counts[name] = self._counts.get(name, 0) + values.numel()

    def take(self) -> dict[str, float]:
        """Return the averages over all processes (nan where nothing was added) and start anew."""
        if not self._sums:
            return {}
        sums = torch.stack(list(self._sums.values()))
        counts = torch.tensor(list(self._counts.values()), dtype=sums.dtype, device=sums.device)
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(sums)
            distributed.all_reduce(counts)
        averages = dict(zip(self._sums, (sums / counts).tolist(), strict=True))
        self._sums, self._counts = {}, {}
        return averages

    def state_dict(self) -> dict:
        """Return sums and counts, for the training state."""
        return {'sums': {name: total.cpu() for name, total in self._sums.items()}, 'counts': dict(self._counts)}

    def load_state_dict(self, state: dict, device: torch.device) -> None:
        """Go on adding where `state` was taken."""
        self._sums = {name: total.to(device) for name, total in state['sums'].items()}
        self._counts = dict(state['counts'])
