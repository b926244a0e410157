"""Files of a run: written whole or not at all."""

import contextlib
import os
import threading
from collections.abc import Iterable
from pathlib import Path

from facesr_plugin.errors import RunError

IS_WINDOWS = os.name == 'nt'


def replace_file(path: str | Path, data: bytes | memoryview | Iterable[bytes]) -> None:
    """Write `data`, whole or in parts, to a temporary file beside `path`, sync it, and rename it over `path`.

    Whatever happens meanwhile, `path` holds its old content or its new one.

    Raises:
        OSError: The file cannot be written, e.g. the disk is full; `path` is as it was, the temporary file is gone.
    """
    path = Path(path)
    temporary = path.with_name(f'.{os.getpid()}.{threading.get_ident()}.tmp')  # short: names may be as long as they can
    try:
        with open(temporary, 'wb') as file:
            file.writelines([data] if isinstance(data, bytes | memoryview) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    sync(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed while they wrote have left in a folder and below; none may be writing."""
    for path in folder.rglob('.*[0-9].tmp'):
        path.unlink(missing_ok=True)


def sync(path: str | Path) -> None:
    """Have the disk keep what was written to a file, or the names in a folder.

    Windows opens no folder, and syncs no file that is open for reading only.
    """
    if IS_WINDOWS and os.path.isdir(path):
        return
    descriptor = os.open(path, os.O_RDWR if IS_WINDOWS else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(path: str | Path, data: bytes | memoryview) -> None:
    """Write a file of the run, whole or not at all.

    Raises:
        RunError: It cannot be written; the line says how much room it needs.
    """
    try:
        replace_file(path, data)
    except OSError as error:
        raise RunError(f'{path}: cannot be written: {error.strerror}; {len(data) / 1e6:.1f} MB needed') from error
