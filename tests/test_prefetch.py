from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from facesr_plugin.data.prefetch import CudaPrefetcher, Prefetcher

BATCHES = [{'gt': torch.full((2,), float(i)), 'gt_path': [str(i)]} for i in range(3)]


class Loader:
    def __init__(self) -> None:
        self.started = 0

    def __iter__(self):
        self.started += 1
        return iter(BATCHES)


def drain(prefetcher: Prefetcher) -> list[dict]:
    prefetcher.reset()
    batches = []
    while (batch := prefetcher.next()) is not None:
        batches.append(batch)
    return batches


def counting(calls: list[int]):
    @contextmanager
    def between() -> Iterator[None]:
        calls.append(1)
        yield

    return between


def test_each_epoch_starts_the_loader_once_and_begins_and_draws_in_between():
    loader, calls = Loader(), []
    prefetcher = Prefetcher(loader, counting(calls))
    assert loader.started == 0
    for epoch in (1, 2):
        assert drain(prefetcher) == BATCHES
        assert loader.started == epoch
        assert len(calls) == epoch * (len(BATCHES) + 2)
    assert prefetcher.next() is None


@pytest.mark.gpu
def test_cuda_prefetcher_gives_the_same_batches_on_the_device():
    calls = []
    prefetcher = CudaPrefetcher(Loader(), counting(calls))
    for _ in range(2):
        batches = drain(prefetcher)
        assert all(batch['gt'].is_cuda for batch in batches)
        assert [batch['gt'].tolist() for batch in batches] == [batch['gt'].tolist() for batch in BATCHES]
        assert [batch['gt_path'] for batch in batches] == [batch['gt_path'] for batch in BATCHES]
    assert len(calls) == 10


def test_processes_are_known_when_the_next_epoch_cannot_begin(monkeypatch):
    """One of those that stay died meanwhile: the error of beginning is about it."""
    monkeypatch.setattr('multiprocessing.active_children', lambda: ['process'])

    class Loader:
        persistent_workers = True
        is_broken = False

        def __iter__(self):
            if self.is_broken:
                raise RuntimeError('exited unexpectedly')
            return iter([])

    prefetcher = Prefetcher(Loader())
    prefetcher.reset()
    prefetcher.loader.is_broken = True
    with pytest.raises(RuntimeError, match='exited unexpectedly'):
        prefetcher.reset()
    assert prefetcher.processes == ['process']
