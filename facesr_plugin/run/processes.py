"""The processes of a distributed run; everything here does nothing in an ordinary one."""

import os

import torch
from torch import distributed

from facesr_plugin.errors import UserError
from facesr_plugin.run import slurm

SET_BY_TORCHRUN = ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')


def join(uses_cuda: bool, launcher: str = 'pytorch') -> None:
    """Join the processes of a launcher: NCCL between CUDA devices, one for each process; Gloo between CPUs.

    Args:
        uses_cuda: Whether each process has a CUDA device.
        launcher: Who started them: `pytorch`, which is torchrun, or `slurm`, which is srun.

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


def leave() -> None:
    """Leave the other processes."""
    if is_distributed():
        distributed.destroy_process_group()


def is_distributed() -> bool:
    """Return whether several processes train together."""
    return distributed.is_available() and distributed.is_initialized()


def sum_over_processes(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return the sum of a tensor over all processes, which is formed on `device`; each of them must call this."""
    if is_distributed():
        values = values.to(device, copy=True)
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
