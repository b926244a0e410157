"""What `srun` tells the processes that it starts, in the words of torchrun."""

import re
from collections.abc import Mapping

SET_BY_SRUN = ('SLURM_PROCID', 'SLURM_LOCALID', 'SLURM_NTASKS', 'SLURM_JOB_ID')
NODES = ('SLURM_STEP_NODELIST', 'SLURM_NODELIST', 'SLURM_JOB_NODELIST')


def as_torchrun(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that torchrun would set; rank 0's machine is the first of the list.

    Args:
        environment: That of a process that srun started; MASTER_ADDR and MASTER_PORT in it are kept.

    Raises:
        KeyError: srun did not start it: the first variable that is missing.
    """
    rank, local_rank, world_size, job = (environment[name] for name in SET_BY_SRUN)
    nodes = next((environment[name] for name in NODES if name in environment), 'localhost')
    return {
        'RANK': rank,
        'LOCAL_RANK': local_rank,
        'WORLD_SIZE': world_size,
        'MASTER_ADDR': environment.get('MASTER_ADDR') or first_node(nodes),
        'MASTER_PORT': environment.get('MASTER_PORT') or str(20_000 + int(job) % 20_000),
    }


def first_node(nodes: str) -> str:
    """Return the first machine of a list of Slurm's.

    Example:
        >>> first_node('gpu[007-012,20],cpu1'), first_node('a,b'), first_node('rack[1-2]-node[3,4]')
        ('gpu007', 'a', 'rack1-node3')
    """
    first = re.match(r'(?:[^,\[]|\[[^\]]*\])+', nodes)[0]
    return re.sub(r'\[([^\],-]+)[^\]]*\]', r'\1', first)
