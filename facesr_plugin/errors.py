"""Errors that are told in one line on stderr instead of a traceback, and the exit status that goes with each."""

import errno
import io
import signal
import sys
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

_FULL = {getattr(errno, name) for name in ('ENOSPC', 'EDQUOT', 'EFBIG') if hasattr(errno, name)}


class UserError(ValueError):
    """Wrong input, exit status 2: which file or option key, what was expected and what came.

    A DataLoader worker's exception reaches the parent as its whole traceback; only the last line of it is the message.
    """

    status = 2

    def __init__(self, message: str) -> None:
        super().__init__(message.rsplit(f'{type(self).__name__}: ', 1)[-1].strip())


SHOWN = 20  # problems of one kind, named one by one


def one_line(text: str) -> str:
    r"""Return a text with its control characters written out, so that it stays one line.

    Example:
        >>> one_line('no such file: C:' + chr(10) + 'ew')
        'no such file: C:\\new'
    """
    return ''.join(repr(c)[1:-1] if unicodedata.category(c) in ('Cc', 'Zl', 'Zp') else c for c in text)


def raise_all(problems: Iterable[str]) -> None:
    """Raise what is wrong, if anything is: the first of the problems, and how many more there are.

    Raises:
        UserError: There are problems; a line for each.
    """
    lines = list(problems)
    if len(lines) > SHOWN:
        lines = [*lines[:SHOWN], f'and {len(lines) - SHOWN} more like these']
    if lines:
        raise UserError('\n'.join(lines))


def each(function: Callable[[Any], Any], items: Iterable[Any], spread: Callable[..., Iterable[Any]] = map) -> list[Any]:
    """Return what a function makes of each item; `spread` is `map` or that of a pool of threads.

    Raises:
        UserError: The function raised some: the lines of the first items, and how many more there are.
    """
    results = attempts(function, items, spread)
    raise_all(lines_of(results))
    return results


def attempts(
    function: Callable[[Any], Any], items: Iterable[Any], spread: Callable[..., Iterable[Any]] = map
) -> list[Any]:
    """Return what a function makes of each item, or the `UserError` that it raised; `spread` as for `each`."""

    def attempt(item: Any) -> Any:
        try:
            return function(item)
        except UserError as error:
            return error

    return list(spread(attempt, items))


def lines_of(results: Iterable[Any]) -> list[str]:
    """Return the lines of the errors among results of `attempts`."""
    return [line for result in results if isinstance(result, UserError) for line in str(result).splitlines()]


class RunError(RuntimeError):
    """A run that cannot go on though its input was right, exit status 1: a full disk, a loss that is not finite."""

    status = 1


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error says that memory ran out; PyTorch has no type of its own for that on the CPU."""
    torch = sys.modules.get('torch')
    kinds = (MemoryError, torch.OutOfMemoryError) if torch else MemoryError
    is_refused = isinstance(error, OSError) and error.errno == errno.ENOMEM  # a process could not be started
    return isinstance(error, kinds) or is_refused or "can't allocate memory" in str(error)


def is_full(error: BaseException | None) -> bool:
    """Return whether an error says that a file may not grow: the disk is full, or a quota is."""
    return isinstance(error, OSError) and error.errno in _FULL


def run_command(main: Callable[[], int | None]) -> None:
    """Run a command's `main` and exit with its status, 130 after Ctrl-C.

    Of a `UserError` or `RunError` each line is shown, no more.
    """
    for stream in (sys.stdout, sys.stderr):  # what a terminal cannot show is no reason to fail
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='backslashreplace')
    try:
        sys.exit(main())
    except (UserError, RunError) as error:
        for line in str(error).splitlines():
            print(f'error: {line}', file=sys.stderr)
        sys.exit(error.status)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
