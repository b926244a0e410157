"""The iterator that BasicSR's training loop pulls batches from."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any


class Prefetcher:
    """BasicSR's `CPUPrefetcher`, starting the loader's workers once an epoch.

    Stock starts them when it is made and again at the first `reset`, and leaves the first ones running into the data.

    Args:
        loader: The training loader.
        before_next: Called before each batch, that is when the iteration before it is done.
    """

    def __init__(self, loader: Iterable[dict[str, Any]], before_next: Callable[[], None] = lambda: None) -> None:
        self.loader = loader
        self.before_next = before_next
        self.batches: Iterator[dict[str, Any]] = iter(())

    def reset(self) -> None:
        """Begin the next epoch."""
        self.batches = iter(self.loader)

    def next(self) -> dict[str, Any] | None:
        """Return the next batch, or None at the end of the epoch."""
        self.before_next()
        return next(self.batches, None)
