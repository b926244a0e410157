"""One training at a time in an experiment's folder: a second one would move it aside while the first writes there."""

import errno
import os
from pathlib import Path

from facesr_plugin.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def take(experiment: Path) -> object | None:
    """Lock an experiment until this process ends, however it ends; loader processes do not inherit the lock.

    Args:
        experiment: Its folder, which need not exist. The lock file `.NAME.lock` lies beside it.

    Returns:
        What holds the lock, to be kept; None on a file system without locks.

    Raises:
        UserError: Another process has locked it, or the file cannot be made.
    """
    path = experiment.with_name(f'.{experiment.name}.lock')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _lock(path)
    except (BlockingIOError, TimeoutError) as error:
        raise UserError(f'{experiment}: another name expected, a training is running there ({path})') from error
    except OSError as error:
        if error.errno in UNSUPPORTED:
            return None
        raise UserError(f'{path}: {error.strerror}') from error


def _lock(path: Path) -> object:
    """Lock a file, at once or not at all."""
    if fcntl:  # not `flock`, which filelock takes here: a loader process that outlives a killed run would hold it
        file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666), 'w')  # follows no link
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return file
    import filelock

    lock = filelock.FileLock(path)
    lock.acquire(blocking=False)
    return lock
