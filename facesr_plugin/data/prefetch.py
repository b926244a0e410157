"""The iterator that BasicSR's training loop pulls batches from."""

from collections.abc import Iterable, Iterator
from typing import Any


class Prefetcher:
    """BasicSR's `CPUPrefetcher`, starting the loader's workers once an epoch.

    Stock starts them when it is made and again at the first `reset`, and leaves the first ones running into the data.

    Args:
        loader: The training loader.
    """

    def __init__(self, loader: Iterable[dict[str, Any]]) -> None:
        self.loader = loader
        self.batches: Iterator[dict[str, Any]] = iter(())

    def reset(self) -> None:
        """Begin the next epoch."""
        self.batches = iter(self.loader)

    def next(self) -> dict[str, Any] | None:
        """Return the next batch, or None at the end of the epoch."""
        return next(self.batches, None)
