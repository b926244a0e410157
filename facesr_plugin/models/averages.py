"""Averages of per-image values between two log lines or validations, kept on the device until they are read."""

import torch

from facesr_plugin.run.processes import sum_over_processes


class Averages:
    """Sums and counts by name; adding never waits for the device, reading does, once."""

    def __init__(self) -> None:
        self._totals: dict[str, torch.Tensor] = {}  # by name: sum and count, float64 (2,)

    def add(self, name: str, values: torch.Tensor) -> None:
        """Add one value per image, (n,); n can be 0. Values that are not finite, of a skipped step, do not count."""
        finite = torch.isfinite(values)
        total = torch.stack([torch.where(finite, values, 0).double().sum(), finite.double().sum()])
        self._totals[name] = self._totals[name] + total if name in self._totals else total

    def take(self) -> dict[str, float]:
        """Return the averages over all processes and start anew; what has no value is left out."""
        if not self._totals:
            return {}
        totals = torch.stack(list(self._totals.values()))
        totals = sum_over_processes(totals, totals.device).tolist()
        averages = {name: total / count for name, (total, count) in zip(self._totals, totals, strict=True) if count}
        self._totals = {}
        return averages

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return sums and counts, for the training state."""
        return {name: total.cpu() for name, total in self._totals.items()}

    def load_state_dict(self, state: dict[str, torch.Tensor], device: torch.device) -> None:
        """Go on adding where `state` was taken."""
        self._totals = {name: total.to(device) for name, total in state.items()}
