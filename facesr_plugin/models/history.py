"""`history.csv`: one row per validation, what the report's figures 3 to 6 are drawn from.

The `val_` columns are of the EMA weights where a run keeps them, `raw_psnr` is of the others; `residual` is how far the
network is from bilinear upsampling, in 8-bit grey levels (`validation.Scores`).
"""

import csv
import io
import math
from pathlib import Path
from typing import Any

from facesr_plugin.errors import UserError
from facesr_plugin.files import write

Row = dict[str, float | None]
COLUMNS = (
    'epoch',
    'iter',
    'alpha',
    'lr',
    'train_loss',
    'train_psnr',
    'val_loss',
    'val_psnr',
    'val_ssim',
    'raw_psnr',
    'residual',
    'bilinear_psnr',
    'bicubic_psnr',
)


class History:
    """The rows so far, mirrored in a file that is replaced whole at every row.

    Args:
        path: `history.csv` of the experiment.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []

    def append(self, **values: float | int | None) -> None:
        """Add a row of `COLUMNS`; a value that is None or left out stays empty.

        Raises:
            TypeError: A name is no column.
        """
        if unknown := set(values) - set(COLUMNS):
            raise TypeError(f'no such column: {", ".join(sorted(unknown))}')
        self.rows.append({name: values.get(name) for name in COLUMNS})
        self._write()

    def restore(self, rows: list[dict[str, Any]], is_written: bool = True) -> None:
        """Go back to the rows of a training state; later ones in the file go if it is written."""
        self.rows = list(rows)
        if is_written:
            self._write()

    def _write(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator='\n')
        writer.writeheader()
        writer.writerows({key: _round(value) for key, value in row.items()} for row in self.rows)
        write(self.path, text.getvalue().encode())


def read_rows(path: str | Path) -> tuple[list[Row], list[str]]:
    """Read a `history.csv` as far as it can be read.

    Returns:
        Its whole rows by `COLUMNS`, empty cells None; and a line for each thing that is wrong with the file.
    """
    try:
        text = Path(path).read_text('utf-8', errors='replace')
    except FileNotFoundError:
        return [], [f'{path}: no such file; training writes it after its first validation']
    except OSError as error:
        return [], [f'{path}: {error.strerror}']
    head, *lines = text.splitlines(keepends=True) or ['']
    names = head.strip().split(',')
    if 'iter' not in names:
        return [], [f'{path}: a history.csv written by training expected, it has no column iter']
    absent = [name for name in COLUMNS if name not in names]
    rows, problems = [], [f'{path}: no column {", ".join(absent)}'] if absent else []
    for number, line in enumerate(lines, 2):
        try:
            rows.append(dict.fromkeys(COLUMNS) | _read_row(names, line))
        except ValueError:
            problems.append(f'{path}:{number}: row left out, {len(names)} numbers expected: damaged or cut short')
    return rows, problems


def _read_row(names: list[str], line: str) -> Row:
    """Read a line; ValueError if it is cut short, even within its last number."""
    cells = line.rstrip('\r\n').split(',') if line.endswith('\n') else []
    row = dict(zip(names, [float(cell) if cell else None for cell in cells], strict=True))
    if row['iter'] is None or not math.isfinite(row['iter']):
        raise ValueError('iter')
    return {name: row[name] for name in COLUMNS if name in row}


def read_history(path: str | Path) -> dict[str, list[float | None]]:
    """Read a `history.csv` with nothing wrong as columns; empty cells are None.

    Raises:
        UserError: Something is wrong: a line for each.
    """
    rows, problems = read_rows(path)
    if problems:
        raise UserError('\n'.join(problems))
    return {name: [row[name] for row in rows] for name in COLUMNS}


def _round(value: float | int | None) -> float | int | str | None:
    return f'{value:.8g}' if isinstance(value, float) else value
