import logging
import pickle
from collections import Counter
from functools import partial

import pytest
from basicsr import train as pipeline
from torch.utils.data import DataLoader

from facesr_plugin.data.epoch_sampler import EpochSampler, SampleIndex


def order(epoch: int = 0, size: int = 10, rank: int = 0, num_replicas: int = 1, **options) -> list[SampleIndex]:
    sampler = EpochSampler(range(size), num_replicas, rank, **options)
    sampler.set_epoch(epoch)
    indices = list(sampler)
    if 'start_iter' not in options:
        assert len(indices) == len(sampler)
    return indices


@pytest.mark.parametrize(('size', 'batch', 'ratio'), [(10, 5, 1), (12, 4, 3), (7, 1, 1)])
def test_covers_the_set(size, batch, ratio):
    for epoch in range(3):
        counts = Counter(order(epoch, size, batch_size=batch, ratio=ratio))
        assert counts == dict.fromkeys(range(size), ratio)


@pytest.mark.parametrize(('size', 'batch'), [(10, 4), (10, 7), (3, 5)])
def test_fills_the_last_batch(size, batch):
    """Every image once, then the missing ones of the last batch from another permutation."""
    indices = order(size=size, batch_size=batch)
    assert sorted(indices[:size]) == list(range(size))
    assert len(indices) == -(-size // batch) * batch
    assert max(Counter(indices).values()) <= -(-len(indices) // size)


def test_only_full_batches():
    sampler = EpochSampler(range(10), 1, 0, batch_size=4)
    assert [len(batch) for batch in DataLoader(range(10), batch_size=4, sampler=sampler)] == [4, 4, 4]


def test_function_of_seed_and_epoch():
    orders = [order(epoch, 30, seed=seed) for seed in (0, 1, 2) for epoch in (0, 1, 2)]
    assert len({tuple(indices) for indices in orders}) == 9
    assert order(2, 30, seed=1) == orders[5]


def test_every_index_tells_its_place_in_the_run():
    """`seed` counts on from epoch to epoch, so no two samples of a run share it."""
    places = [index.seed for epoch in range(3) for index in order(epoch, 10, seed=7, batch_size=4)]
    assert places == [(7, position) for position in range(36)]


@pytest.mark.parametrize('start_iter', [0, 1, 2, 3, 4, 7, 9])
def test_goes_on_where_a_run_stopped(start_iter):
    """In the middle of an epoch, at its end, and in later ones."""
    batch, epochs = 4, 3
    whole = [index for epoch in range(epochs) for index in order(epoch, batch_size=batch, seed=5)]
    first_epoch = start_iter // 3  # 3 iterations an epoch; BasicSR counts one that just ended as not yet over
    for resumed_epoch in {first_epoch, max(0, (start_iter - 1) // 3)}:
        rest = [
            index
            for epoch in range(resumed_epoch, epochs)
            for index in order(epoch, batch_size=batch, seed=5, start_iter=start_iter)
        ]
        assert rest == whole[start_iter * batch :]
        assert [index.seed for index in rest] == [index.seed for index in whole[start_iter * batch :]]


@pytest.mark.parametrize(('size', 'batch', 'replicas'), [(12, 2, 3), (10, 2, 2), (5, 4, 2)])
def test_replicas_share_one_order(size, batch, replicas):
    """Taken in turn, the processes' samples are those of one process with batches as large as all of theirs."""
    parts = [order(1, size, rank, replicas, batch_size=batch, seed=3) for rank in range(replicas)]
    merged = [index for row in zip(*parts, strict=True) for index in row]
    alone = order(1, size, batch_size=batch * replicas, seed=3)
    assert merged == alone
    assert [index.seed for index in merged] == [index.seed for index in alone]


def test_replicas_go_on():
    options = {'size': 12, 'num_replicas': 2, 'batch_size': 3, 'seed': 3}
    for rank in range(2):
        assert order(1, rank=rank, start_iter=3, **options) == order(1, rank=rank, **options)[3:]


def test_index_is_a_plain_int_that_pickles():
    index = SampleIndex(3, seed=(1, 47))
    copy = pickle.loads(pickle.dumps(index))
    assert (copy, copy.seed) == (3, (1, 47))
    assert 'abcd'[copy] == 'd'
    assert isinstance(copy, SampleIndex)


@pytest.mark.parametrize(('size', 'batch', 'ratio'), [(10, 4, 1), (10, 5, 1), (7, 4, 3), (3, 5, 1)])
def test_epochs_are_as_long_as_basicsr_counts(size, batch, ratio, monkeypatch):
    """BasicSR's loop ends after ceil(total_iter / its own count) epochs: so many iterations there must be."""
    monkeypatch.setattr(pipeline, 'build_dataset', lambda opt: range(size))
    monkeypatch.setattr(pipeline, 'EnlargedSampler', partial(EpochSampler, batch_size=batch))
    block = {'phase': 'train', 'batch_size_per_gpu': batch, 'num_worker_per_gpu': 0, 'dataset_enlarge_ratio': ratio}

    def epochs(total_iter: int) -> tuple[DataLoader, int]:
        opt = {
            'datasets': {'train': block},
            'world_size': 1,
            'num_gpu': 0,
            'dist': False,
            'manual_seed': 0,
            'rank': 0,
            'train': {'total_iter': total_iter},
        }
        loader, _, _, total_epochs, _ = pipeline.create_train_val_dataloader(opt, logging.getLogger('test'))
        return loader, total_epochs

    loader, _ = epochs(1)
    iterations = len(list(loader))
    assert epochs(iterations)[1] == 1
    assert epochs(iterations + 1)[1] == 2
