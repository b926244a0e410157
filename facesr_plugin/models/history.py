"""`history.csv`: one row per validation, what the report's figures 3 to 6 are drawn from.

The `val_` columns are of the EMA weights where a run keeps them, `raw_psnr` is of the others; `residual` is how far the
network is from bilinear upsampling, in 8-bit grey levels (`validation.Scores`).
"""

import csv
import io
from pathlib import Path
from typing import Any

from facesr_plugin.files import write

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

    def restore(self, rows: list[dict[str, Any]]) -> None:
        """Go back to the rows of a training state; later ones in the file go."""
        self.rows = list(rows)
        self._write()

    def _write(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator='\n')
        writer.writeheader()
        writer.writerows({key: _round(value) for key, value in row.items()} for row in self.rows)
        write(self.path, text.getvalue().encode())


def read_history(path: str | Path) -> dict[str, list[float | None]]:
    """Read a `history.csv` as columns; empty cells are None.

    Raises:
        ValueError: The file has other columns.
    """
    with open(path, newline='', encoding='utf-8') as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f'{path}: columns {",".join(COLUMNS)} expected')
        rows = list(reader)
    return {name: [float(row[name]) if row[name] else None for row in rows] for name in COLUMNS}


def _round(value: float | int | None) -> float | int | str | None:
    return f'{value:.8g}' if isinstance(value, float) else value
