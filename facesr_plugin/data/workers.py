"""The loader's processes: what they must not hear, with whom they end, and what is said of one that died."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess

from torch.utils.data import DataLoader

from facesr_plugin.errors import RunError

STOPPING = [getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGHUP') if hasattr(signal, name)]
BUS_ERROR = getattr(signal, 'SIGBUS', 7)
PRELOADED = ['facesr_plugin.train']  # what a script of ours imports; its processes are then forked with it
SMALL_SHARED_MEMORY = (
    'shared memory (/dev/shm) is too small for the batches of the loader: give the container more (docker run'
    ' --shm-size=2g), or set datasets.train.num_worker_per_gpu lower, to 0 at the least'
)


def prepare(loader: DataLoader) -> DataLoader:
    """Let a loader's processes end with this one, whichever way it ends and whoever started them."""
    if 'forkserver' in multiprocessing.get_all_start_methods():
        multiprocessing.set_forkserver_preload(PRELOADED)
    loader.worker_init_fn = _Begin(loader.worker_init_fn)
    return loader


@dataclass
class _Begin:
    """What a process of the loader does first.

    PyTorch's own watch asks for the parent's id. A fork server is the parent of its processes, and lives as long as
    they do, so both would stay for ever.
    """

    then: Callable[[int], None] | None

    def __call__(self, number: int) -> None:
        threading.Thread(target=_end_with_parent, daemon=True).start()
        if self.then:
            self.then(number)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


@contextmanager
def starting() -> Iterator[list[BaseProcess]]:
    """Start processes in this context; it gives the list of them, complete at its end.

    They inherit that the signals which stop a run are blocked, and so does a fork server: a signal to the whole group
    is for the training process, which needs them until its step is done. It comes at the end of the context.

    PyTorch's handler of SIGCHLD would raise an error in the middle of a step; at the next batch is soon enough.
    """
    processes: list[BaseProcess] = []
    with _blocked() if hasattr(signal, 'pthread_sigmask') else nullcontext():  # Windows has no such signals
        yield processes
        processes += multiprocessing.active_children()


@contextmanager
def _blocked() -> Iterator[None]:
    if multiprocessing.get_start_method() != 'fork':
        resource_tracker.ensure_running()  # up to Python 3.12 its start unblocks them
    at_child = signal.getsignal(signal.SIGCHLD)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, at_child)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def end() -> None:
    """End the processes that are left; they hold nothing but copies, and hear no other signal."""
    for process in multiprocessing.active_children():
        process.kill()
        process.join()


def explained(error: Exception, processes: list[BaseProcess]) -> Exception:
    """Return what to raise for an error of drawing a batch: a line if it is one of the loader's processes.

    Args:
        error: What was raised.
        processes: Those of the loader.
    """
    codes = [process.exitcode for process in processes if process.exitcode]
    text = str(error)
    if -BUS_ERROR in codes or ('unable to' in text and '/torch_' in text):
        return RunError(SMALL_SHARED_MEMORY)
    if codes:
        how = f'was killed by {signal.Signals(-codes[0]).name}' if codes[0] < 0 else f'ended with status {codes[0]}'
        advice = 'most often memory has run out: fewer datasets.train.num_worker_per_gpu need less'
        return RunError(f'a process of the loader {how}; {advice}')
    if isinstance(error, EOFError | ConnectionError):
        return RunError('the processes of the loader could not be started: what starts them has ended')
    return error
