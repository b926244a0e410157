"""How the benchmark measures: stock and ours in turns, and the peak memory of each in a process of its own."""

import gc
import mmap
import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import torch

from benchmark.models import Setup, stock_runs
from facesr_plugin.run.memory import keep_freed_memory

try:
    import resource
except ImportError:  # Windows
    resource = None

Run = Callable[[int], object]  # does the work once; the number, which both sides get alike, seeds what is random in it
Side = Callable[[Setup], Run]  # prepares one side of a comparison
Pairs = tuple[list[float], list[float]]  # what was measured of stock and of ours, pair by pair

WARM_UP = 2  # runs of each side before the first that counts


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
        possible: Whether this machine can do it; else the row stands without numbers.
        warm_up: Runs of each side before the first that counts.
    """

    name: str
    precision: str
    stock: Side
    ours: Side
    runs: int = 1
    images: int | None = None
    threads: int | None = None
    memory: bool = False
    possible: bool = True
    warm_up: int = WARM_UP


def is_possible(case: Case, setup: Setup) -> bool:
    """Return whether a row can be measured here: Windows does not tell the peak memory of a process."""
    knows_memory = resource is not None or setup.device.type == 'cuda'
    return setup.is_here and case.possible and (knows_memory or not case.memory)


def measure(case: Case, setup: Setup, repeat: int) -> Pairs:
    """Measure a row: `repeat` pairs in ms, or one in MiB, for memory does not vary."""
    if case.memory:
        return [peak_memory(case.stock, setup, keeps=False)], [peak_memory(case.ours, setup, keeps=True)]
    with stock_runs(setup), _threads(case.threads):
        return time_pairs(case.stock(setup), case.ours(setup), case.runs, repeat, setup.device, case.warm_up)


def time_pairs(stock: Run, ours: Run, runs: int, repeat: int, device: torch.device, warm_up: int = WARM_UP) -> Pairs:
    """Time stock, ours, stock, ours, ...; return the ms a run of each took, one value per repetition."""
    for side in (stock, ours):
        for number in range(warm_up):
            side(number)
    times: Pairs = [], []
    for repetition in range(repeat):
        for side, values in zip((stock, ours), times, strict=True):
            gc.collect()
            values.append(_time(side, range(warm_up + repetition * runs, warm_up + (repetition + 1) * runs), device))
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


@cache  # a side that stands in several rows is measured once
def peak_memory(side: Side, setup: Setup, keeps: bool) -> float:
    """Return by how many MiB preparing a side and running it takes memory at most.

    On CUDA what PyTorch allocates while it runs once more after `WARM_UP`; on the CPU the growth of a fresh process,
    which keeps freed memory, as our commands do, or not.
    """
    if setup.device.type == 'cuda':
        return _peak_on_cuda(side, setup)
    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as process:
        return process.submit(_peak_of_this_process, side, setup, keeps).result()


def _peak_on_cuda(side: Side, setup: Setup) -> float:
    gc.collect()
    before = torch.cuda.memory_allocated()
    with stock_runs(setup):
        run = side(setup)
        for number in range(WARM_UP):
            run(number)
        torch.cuda.reset_peak_memory_stats()
        run(WARM_UP)
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def _peak_of_this_process(side: Side, setup: Setup, keeps: bool) -> float:
    if keeps:
        keep_freed_memory()
    before = _resident()
    with stock_runs(setup):
        run = side(setup)
        for number in range(WARM_UP):
            run(number)
    return _peak_resident() - before


def _resident() -> float:
    """Return the memory of this process now, MiB; where the system does not tell, its peak."""
    try:
        return int(Path('/proc/self/statm').read_text().split()[1]) * mmap.PAGESIZE / 2**20
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
