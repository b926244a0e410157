"""The processes of a distributed run; everything here does nothing in an ordinary one."""

import atexit
import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import distributed

from facesr_plugin.errors import UserError
from facesr_plugin.run import slurm

Result = TypeVar('Result')
SET_BY_TORCHRUN = ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')
_hosts: distributed.ProcessGroup | None = None  # for what is no tensor on a device; None is the group of all


def join(uses_cuda: bool, launcher: str = 'pytorch') -> None:
    """Join the processes of a launcher: NCCL between CUDA devices, one for each process; Gloo between CPUs.

    Args:
        uses_cuda: Whether each process has a CUDA device.
        launcher: Who started them: `pytorch`, which is torchrun, or `slurm`, which is srun.

    This one leaves them when it ends, after it has said why: they fail as soon as it does.

    Raises:
        UserError: That did not start this process, or started more on this machine than it has CUDA devices.
    """
    if launcher == 'slurm':
        try:
            os.environ |= slurm.as_torchrun(os.environ)
        except KeyError as error:
            raise UserError(f'--launcher slurm: a start by srun expected, {error.args[0]} not set') from error
    if missing := [name for name in SET_BY_TORCHRUN if name not in os.environ]:
        raise UserError(f'--launcher pytorch: a start by torchrun expected, {", ".join(missing)} not set')
    if uses_cuda:
        local_rank, devices = int(os.environ['LOCAL_RANK']), torch.cuda.device_count()
        if local_rank >= devices:
            option = {'slurm': 'srun --ntasks-per-node', 'pytorch': 'torchrun --nproc_per_node'}[launcher]
            raise UserError(f'{option}: at most {devices} expected, the CUDA devices of this machine')
        torch.cuda.set_device(local_rank)
    distributed.init_process_group('nccl' if uses_cuda else 'gloo')
    atexit.register(distributed.destroy_process_group)
    if uses_cuda:
        global _hosts
        _hosts = distributed.new_group(backend='gloo')


def is_distributed() -> bool:
    """Return whether several processes train together."""
    return distributed.is_available() and distributed.is_initialized()


def is_lost_process(error: Exception) -> bool:
    """Return whether an error says that another process of a distributed run cannot be reached any more."""
    return is_distributed() and (isinstance(error, distributed.DistError) or '/gloo/' in str(error))


def sum_over_processes(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return the sum of a tensor over all processes, which is formed on `device`; each of them must call this."""
    if is_distributed():
        values = values.to(device, copy=True)
        distributed.all_reduce(values)
    return values


def most_over_processes(*numbers: int) -> list[int]:
    """Return the largest of each number over all processes, without their devices; each of them must call this."""
    values = torch.tensor(numbers)
    if is_distributed():
        distributed.all_reduce(values, distributed.ReduceOp.MAX, group=_hosts)
    return values.tolist()


def from_first(make: Callable[[], Result]) -> Result:
    """Return what a function makes in rank 0, in every process; each of them must call this.

    Raises:
        UserError: It raised that in rank 0.
    """
    made: list[Any] = [None]
    if not is_distributed() or distributed.get_rank() == 0:
        try:
            made = [make()]
        except UserError as error:
            made = [error]
    if is_distributed():
        distributed.broadcast_object_list(made, group=_hosts)
    if isinstance(made[0], UserError):
        raise made[0]
    return made[0]


def gather(own: Any) -> list[Any]:
    """Return what the processes have, by rank, in rank 0; each of them must call this."""
    if not is_distributed():
        return [own]
    everything = [None] * distributed.get_world_size() if distributed.get_rank() == 0 else None
    distributed.gather_object(own, everything, group=_hosts)
    return everything or []


def hand_out(parts: list[Any]) -> Any:
    """Return this process's part of rank 0's list; each of them must call this."""
    if not is_distributed():
        return parts[0]
    part = [None]
    distributed.scatter_object_list(part, parts or None, group=_hosts)
    return part[0]
