"""Processes that `srun` starts."""

import pytest
import torch

from facesr_plugin.errors import UserError
from facesr_plugin.run import processes, slurm

SRUN = {
    'SLURM_PROCID': '5',
    'SLURM_LOCALID': '1',
    'SLURM_NTASKS': '8',
    'SLURM_JOB_ID': '123456',
    'SLURM_STEP_NODELIST': 'gpu[07-08]',
}


def test_in_the_words_of_torchrun():
    expected = {'RANK': '5', 'LOCAL_RANK': '1', 'WORLD_SIZE': '8', 'MASTER_ADDR': 'gpu07', 'MASTER_PORT': '23456'}
    assert slurm.as_torchrun(SRUN) == expected
    own = {'MASTER_ADDR': '10.0.0.1', 'MASTER_PORT': '29500'}
    assert slurm.as_torchrun(SRUN | own) == expected | own


def test_one_process_joins(monkeypatch):
    for name, value in (SRUN | {'SLURM_PROCID': '0', 'SLURM_LOCALID': '0', 'SLURM_NTASKS': '1'}).items():
        monkeypatch.setenv(name, value)
    for name in processes.SET_BY_TORCHRUN:
        monkeypatch.setenv(name, '')  # put back afterwards
        monkeypatch.delenv(name)
    monkeypatch.setenv('MASTER_ADDR', '127.0.0.1')
    monkeypatch.setattr(processes.atexit, 'register', lambda function: None)  # the test leaves itself
    processes.join(False, 'slurm')
    try:
        assert (torch.distributed.get_rank(), torch.distributed.get_world_size()) == (0, 1)
    finally:
        torch.distributed.destroy_process_group()


def test_not_by_srun(monkeypatch):
    for name in SRUN:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=r'^--launcher slurm: a start by srun expected, SLURM_PROCID not set$'):
        processes.join(False, 'slurm')
