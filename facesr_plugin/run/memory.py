"""How much memory is free."""

import contextlib
from pathlib import Path

import torch

SYSTEM, GROUP = Path('/proc/meminfo'), Path('/sys/fs/cgroup')


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
