"""The processes of a distributed run; everything here does nothing in an ordinary one."""

import torch
from torch import distributed


def is_distributed() -> bool:
    """Return whether several processes train together."""
    return distributed.is_available() and distributed.is_initialized()


def sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    """Return the sum of a tensor over all processes; each of them must call this."""
    if is_distributed():
        distributed.all_reduce(values)
    return values


def same_everywhere(value: int) -> int:
    """Return rank 0's value in every process; each of them must call this."""
    values = [value]
    if is_distributed():
        distributed.broadcast_object_list(values)
    return values[0]


def wait_for_all() -> None:
    """Return once all processes have called this."""
    if is_distributed():
        distributed.barrier()
