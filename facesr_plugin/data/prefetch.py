"""The iterators that BasicSR's training loop pulls batches from."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from facesr_plugin.data import workers


class Prefetcher:
    """BasicSR's `CPUPrefetcher`, starting the loader's processes once an epoch, or once if they are persistent.

    Stock starts them when it is made and again at the first `reset`, and leaves the first ones running into the data.

    Args:
        loader: The training loader.
        between: Makes the context in which an epoch begins and each batch is drawn, when the iteration before is done.

    Attributes:
        processes: Those of the loader.
    """

    def __init__(
        self, loader: Iterable[dict[str, Any]], between: Callable[[], AbstractContextManager] = nullcontext
    ) -> None:
        self.loader = loader
        self.between = between
        self.batches: Iterator[dict[str, Any]] = iter(())
        self.processes: list[BaseProcess] = []

    def reset(self) -> None:
        """Begin the next epoch."""
        with self.between():
            self._begin()

    def _begin(self) -> None:
        before = self.processes if getattr(self.loader, 'persistent_workers', False) else []
        with workers.starting() as started:
            self.batches = iter(self.loader)  # which asks persistent ones: if that fails, they are still known
        self.processes = started + [process for process in before if process not in started]

    def next(self) -> dict[str, Any] | None:
        """Return the next batch, or None at the end of the epoch."""
        with self.between():
            return self._draw()

    def _draw(self) -> dict[str, Any] | None:
        return next(self.batches, None)


class CudaPrefetcher(Prefetcher):
    """BasicSR's `CUDAPrefetcher`: the next batch is copied to the device while the current one is worked on.

    Args:
        loader: The training loader, with pinned memory.
        between: As for `Prefetcher`.
    """

    def __init__(
        self, loader: Iterable[dict[str, Any]], between: Callable[[], AbstractContextManager] = nullcontext
    ) -> None:
        super().__init__(loader, between)
        self.stream = torch.cuda.Stream()
        self.ahead: dict[str, Any] | None = None

    def _begin(self) -> None:
        super()._begin()
        self.ahead = self._copy_next()

    def _draw(self) -> dict[str, Any] | None:
        """Return the next batch, its tensors on the device, or None at the end of the epoch."""
        if self.ahead is None:
            return None
        current, batch = torch.cuda.current_stream(), self.ahead
        current.wait_stream(self.stream)
        for value in batch.values():
            if isinstance(value, torch.Tensor):
                value.record_stream(current)  # its memory is free again when this stream is done with it
        self.ahead = self._copy_next()
        return batch

    def _copy_next(self) -> dict[str, Any] | None:
        batch = next(self.batches, None)
        if batch is None:
            return None
        with torch.cuda.stream(self.stream):
            return {
                key: value.to('cuda', non_blocking=True) if isinstance(value, torch.Tensor) else value
                for key, value in batch.items()
            }
