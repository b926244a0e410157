"""How `benchmark.py` measures: stock and ours in turns, and the peak memory of each in a process of its own."""

import gc
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import torch

Run = Callable[[int], object]  # does the work once; the number, which both sides get alike, seeds what is random in it
Side = Callable[[], Run]  # prepares one side of a comparison
Environment = Callable[[], AbstractContextManager]

WARM_UP = 2  # runs of each side before the first that counts


class NotAvailable(Exception):  # noqa: N818  (no error: the row stays without numbers)
    """A side needs what is missing here."""


@dataclass(frozen=True)
class Case:
    """A row to measure.

    Attributes:
        name: What is done, and by which of stock's and our ways.
        precision: Of our network; stock's is always fp32.
        stock: Stock's side.
        ours: Our side of the same work.
        runs: How many runs a repetition takes the mean of.
        images: How many images a run trains on, where images per second are of interest.
        threads: Threads of both sides; None: as many as PyTorch chooses.
        memory: Measure peak memory, not time.
    """

    name: str
    precision: str
    stock: Side
    ours: Side
    runs: int = 1
    images: int | None = None
    threads: int | None = None
    memory: bool = False


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest of some measurements."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: list[float]) -> 'Spread':
        """Summarise at least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Result:
    """Both sides of a row and stock / ours of the pairs, in ms or MiB; the median of ratios, not a ratio of medians.

    Example:
        >>> Result.of([10, 20, 90], [10, 5, 30]).ratio  # of 1, 4 and 3
        Spread(median=3.0, min=1.0, max=4.0)
    """

    stock: Spread
    ours: Spread
    ratio: Spread

    @classmethod
    def of(cls, stock: list[float], ours: list[float]) -> 'Result':
        """Summarise paired measurements."""
        return cls(Spread.of(stock), Spread.of(ours), Spread.of([a / b for a, b in zip(stock, ours, strict=True)]))


def as_row(case: Case, device: str, result: Result | None) -> dict[str, Any]:
    """Return a row of the JSON file; what was not measured is None."""
    row = {'name': case.name, 'device': device, 'precision': case.precision}
    time_, memory = (None, result) if case.memory else (result, None)
    for unit, part, ratio in (('ms', time_, 'speedup'), ('mib', memory, 'memory_ratio')):
        for name, key in (('stock', f'stock_{unit}'), ('ours', f'ours_{unit}'), ('ratio', ratio)):
            spread = getattr(part, name) if part else None
            for suffix, field in (('', 'median'), ('_min', 'min'), ('_max', 'max')):
                row[key + suffix] = getattr(spread, field) if spread else None
    for side in ('stock', 'ours'):
        ms = row[f'{side}_ms']
        row[f'{side}_images_per_s'] = 1000 * case.images / ms if ms and case.images else None
    return row


def measure(case: Case, device: torch.device, repeat: int, environment: Environment) -> Result:
    """Measure a row.

    Args:
        case: The row.
        device: Where both sides work.
        repeat: Pairs of repetitions; memory, which does not vary, is measured once.
        environment: What stock needs to run, entered around both sides.

    Raises:
        NotAvailable: One of the sides cannot be prepared here.
    """
    if case.memory:
        return Result.of([peak_memory(case.stock, device, environment)], [peak_memory(case.ours, device, environment)])
    with environment(), _threads(case.threads):
        return Result.of(*time_pairs(case.stock(), case.ours(), case.runs, repeat, device))


def time_pairs(stock: Run, ours: Run, runs: int, repeat: int, device: torch.device) -> tuple[list[float], list[float]]:
    """Time stock, ours, stock, ours, ...; return the ms a run of each took, one value per repetition."""
    for side in (stock, ours):
        for number in range(WARM_UP):
            side(number)
    times: tuple[list[float], list[float]] = [], []
    for repetition in range(repeat):
        for side, values in zip((stock, ours), times, strict=True):
            gc.collect()
            values.append(_time(side, range(WARM_UP + repetition * runs, WARM_UP + (repetition + 1) * runs), device))
    return times


def _time(run: Run, numbers: range, device: torch.device) -> float:
    """Return the mean ms of some runs: by the device's own clock on CUDA, where work goes on after the call."""
    if device.type == 'cuda':
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        for number in numbers:
            run(number)
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / len(numbers)
    started = time.perf_counter()
    for number in numbers:
        run(number)
    return 1000 * (time.perf_counter() - started) / len(numbers)


@cache
def peak_memory(side: Side, device: torch.device, environment: Environment) -> float:
    """Return by how many MiB preparing a side and running it takes memory at most.

    On CUDA what PyTorch allocates while it runs once more after `WARM_UP`; on the CPU the growth of a fresh process.
    """
    if device.type == 'cuda':
        with environment():
            return _peak_on_cuda(side)
    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as process:
        return process.submit(_peak_of_this_process, side, environment).result()


def _peak_on_cuda(side: Side) -> float:
    gc.collect()
    before = torch.cuda.memory_allocated()
    run = side()
    for number in range(WARM_UP):
        run(number)
    torch.cuda.reset_peak_memory_stats()
    run(WARM_UP)
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def _peak_of_this_process(side: Side, environment: Environment) -> float:
    before = _resident()
    with environment():
        run = side()
        for number in range(WARM_UP):
            run(number)
    return _peak_resident() - before


def _resident() -> float:
    """Return the memory of this process now, MiB; where the system does not tell, its peak."""
    try:
        return int(Path('/proc/self/statm').read_text().split()[1]) * resource.getpagesize() / 2**20
    except OSError:
        return _peak_resident()


def _peak_resident() -> float:
    """Return the peak memory of this process, MiB.

    Linux hands `ru_maxrss` on from the process that started this one, so there its own mark is read.
    """
    try:
        lines = Path('/proc/self/status').read_text().splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes, on macOS
    return next(int(line.split()[1]) for line in lines if line.startswith('VmHWM:')) / 2**10


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Let PyTorch and OpenCV use so many threads."""
    if number is None:
        yield
        return
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(number)
    cv2.setNumThreads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
