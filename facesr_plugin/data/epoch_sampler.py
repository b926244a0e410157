"""The order of samples: a function of seed and epoch that a resumed run can enter anywhere."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset, Sampler


class Share(NamedTuple):
    """A part of a data set, which follows the part before it.

    Attributes:
        name: What the log calls it.
        images: How many it has.
        share: Which part of the samples is to be of it; over the parts they sum to 1.
    """

    name: str
    images: int
    share: float


class SampleIndex(int):
    """A data set index that also knows where in the run it stands; to any data set it is a plain `int`.

    Attributes:
        seed: What the sample's own randomness is a function of: the run's seed, and how many samples of the run, over
            all processes, come before it.
    """

    seed: tuple[int, int]

    def __new__(cls, index: int, seed: tuple[int, int]) -> 'SampleIndex':  # noqa: D102  (as the class)
        self = super().__new__(cls, index)
        self.seed = seed
        return self

    def __reduce__(self) -> tuple:
        return SampleIndex, (int(self), self.seed)


class EpochSampler(Sampler):
    """BasicSR's `EnlargedSampler`, with the order depending on the seed too, full batches only, and a way to go on.

    An epoch is as long as BasicSR's training loop counts it, ceil(len * ratio / batch) batches: where that is no whole
    number, the last batch is filled up with samples of another permutation. (Stock drops it but counts it, so a run
    over a small set can end before `total_iter`.)

    Args:
        dataset: What is sampled; only its length is used.
        num_replicas: Processes.
        rank: This process.
        ratio: How often an epoch goes through the data set.
        seed: The order is a function of (seed, epoch).
        batch_size: Samples a batch and process.
        start_iter: Iterations already done, for a resumed run.
        shares: Of parts of the data set that are to be sampled more or less than their images are; each epoch has as
            many samples of each as its share says, but for rounding. None: every image as often as any other.
    """

    def __init__(
        self,
        dataset: Dataset,
        num_replicas: int,
        rank: int,
        ratio: int = 1,
        *,
        seed: int = 0,
        batch_size: int = 1,
        start_iter: int = 0,
        shares: Sequence[Share] | None = None,
    ) -> None:
        self.dataset_size = len(dataset)
        self.num_replicas, self.rank, self.ratio = num_replicas, rank, ratio
        self.seed, self.batch_size, self.start_iter = seed, batch_size, start_iter
        self.shares = shares
        self.iter_per_epoch = math.ceil(self.dataset_size * ratio / (batch_size * num_replicas))
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch, from 0, the next iteration is over."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.iter_per_epoch * self.batch_size

    def __iter__(self) -> Iterator[SampleIndex]:
        total = len(self) * self.num_replicas
        generator = np.random.default_rng([self.seed, self.epoch])
        if self.shares:
            indices = self._draw_shares(total, generator)
        else:
            indices = _permutations(self.dataset_size, total, generator)
        done = max(0, self.start_iter - self.epoch * self.iter_per_epoch) * self.batch_size
        for offset in range(self.rank + done * self.num_replicas, total, self.num_replicas):
            yield SampleIndex(int(indices[offset]), (self.seed, self.epoch * total + offset))

    def _draw_shares(self, total: int, generator: np.random.Generator) -> np.ndarray:
        """Return indices of an epoch, as many of each part as its share says."""
        ends = np.rint(np.cumsum([share.share for share in self.shares]) * total).astype(int)
        counts = np.diff(ends, prepend=0)
        starts = np.cumsum([0, *(share.images for share in self.shares)])
        drawn = [
            start + _permutations(share.images, count, generator)[:count]
            for start, share, count in zip(starts, self.shares, counts, strict=False)
        ]
        return generator.permutation(np.concatenate(drawn))


def _permutations(size: int, least: int, generator: np.random.Generator) -> np.ndarray:
    """Return whole permutations of `size` numbers, at least `least` numbers of them."""
    rounds = max(1, math.ceil(least / size))
    return np.concatenate([generator.permutation(size) for _ in range(rounds)])
