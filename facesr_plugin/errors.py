"""Errors that a user can cause, and how every command shows them: one line on stderr, exit status 2."""

import sys
from collections.abc import Callable


class UserError(ValueError):
    """Wrong input, told in one line: which file or option key, what was expected and what came.

    A DataLoader worker's exception reaches the parent as its whole traceback; only the last line of it is the message.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rsplit(f'{type(self).__name__}: ', 1)[-1].strip())


def run_command(main: Callable[[], int | None]) -> None:
    """Run a command's `main` and exit with its status; a `UserError` becomes one line on stderr and status 2."""
    try:
        sys.exit(main())
    except UserError as error:
        for line in str(error).splitlines():
            print(f'error: {line}', file=sys.stderr)
        sys.exit(2)
