"""How much memory is free, and what becomes of what is freed."""

import contextlib
import ctypes
import sys
from pathlib import Path

import torch

SYSTEM, GROUP = Path('/proc/meminfo'), Path('/sys/fs/cgroup')
LARGEST_KEPT = 2**29  # bytes of a block; larger ones go back to the system
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # in glibc's malloc.h


def free_memory(device: torch.device) -> int | None:
    """Return how many bytes a device has free; None where nobody tells, as outside of Linux.

    On the CPU, the less of what the system has available and what is left of a container's limit.
    """
    if device.type == 'cuda':
        return torch.cuda.mem_get_info(device)[0]
    if device.type != 'cpu':
        return None
    found = []
    with contextlib.suppress(OSError, StopIteration):
        lines = SYSTEM.read_text().splitlines()
        found.append(1024 * next(int(line.split()[1]) for line in lines if line.startswith('MemAvailable:')))
    with contextlib.suppress(OSError, ValueError):  # a limit may be the word max
        limit = int((GROUP / 'memory.max').read_text())
        found.append(max(limit - int((GROUP / 'memory.current').read_text()), 0))
    return min(found, default=None)


def keep_freed_memory() -> None:
    """Let this process keep the memory of freed tensors on the CPU for its next ones, where the C library is glibc.

    Otherwise each large tensor is mapped anew, and the system clears all its pages: a third of the time of enlarging
    a large picture, and up to a fifth of that of a training step.

    Source: mallopt(3) of the Linux manual.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None) if sys.platform == 'linux' else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
