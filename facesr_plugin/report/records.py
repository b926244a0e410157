"""The records of a protocol's runs, and the table over them: one row per cell, mean and deviation over its seeds."""

import csv
import io
import json
import statistics
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from facesr_plugin.errors import UserError
from facesr_plugin.files import write
from facesr_plugin.models.history import COLUMNS
from facesr_plugin.models.validation import BASELINES
from facesr_plugin.report.table import markdown_table

Record = dict[str, Any]
KEYS = {
    *('cell', 'seed', 'option_file', 'changes', 'opt', 'history', 'images', 'seconds', 'cpu_seconds'),
    *('hardware', 'threads', 'torch', 'commit'),
}
NOTES = (
    'PSNR in dB over RGB in 8 bits, no border cropped, of the last iteration: mean and standard deviation over the'
    ' seeds. Gain: over bilinear enlarging of the same pairs. Best: the highest of all validations, which favours runs'
    ' that are validated often. Residual: mean distance from bilinear upsampling but for a constant colour, 8-bit grey'
    ' levels. Clean PSNR: of the same weights on the same faces, only resized by R.',
    'Time is that of the whole training, start and validation included; CPU time is that of all its processes and'
    ' depends less on what else the machine did. -: not known.',
)


def read_record(path: Path) -> Record:
    """Read the record of a run.

    Raises:
        UserError: The file is not one.
    """
    try:
        record = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f'{path}: a record written by run_experiments.py expected ({error})') from error
    history = record.get('history') if isinstance(record, dict) and set(record) >= KEYS else None
    columns = list(history.values()) if isinstance(history, dict) and set(history) >= set(COLUMNS) else [None]
    if not all(isinstance(column, list) and 0 < len(column) == len(columns[0]) for column in columns):
        raise UserError(f'{path}: a record written by run_experiments.py expected')
    return record


def write_record(path: Path, record: Record) -> None:
    """Write the record of a run, whole or not at all; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, (json.dumps(record, indent=1) + '\n').encode())


def summarise(records: list[Record]) -> dict[str, Any]:
    """Return the table's row of the runs of one cell; what is not known or not recorded is None."""
    first = records[0]

    def last(column: str) -> list[float | None]:
        return [record['history'][column][-1] for record in records]

    clean = {name: [record.get('clean', {}).get(name) for record in records] for name in ('network', *BASELINES)}
    gains = [psnr - base for psnr, base in zip(last('val_psnr'), last('bilinear_psnr'), strict=True)]
    return {
        'cell': first['cell'],
        'seeds': ' '.join(str(record['seed']) for record in records),
        'psnr': mean(last('val_psnr')),
        'psnr_std': _deviation(last('val_psnr')),
        'gain': mean(gains),
        'gain_std': _deviation(gains),
        'best_psnr': mean([max(record['history']['val_psnr']) for record in records]),
        'raw_psnr': mean(last('raw_psnr')),
        'ssim': mean(last('val_ssim')),
        'residual': mean(last('residual')),
        'bilinear_psnr': mean(last('bilinear_psnr')),
        'bicubic_psnr': mean(last('bicubic_psnr')),
        **_further(records),
        'clean_psnr': mean(clean['network']),
        'clean_psnr_std': _deviation(clean['network']),
        **{f'clean_{mode}_psnr': mean(clean[mode]) for mode in BASELINES},
        'iterations': last('iter')[0],
        'images': first['images'],
        'seconds': mean([record['seconds'] for record in records]),
        'cpu_seconds': mean([record['cpu_seconds'] for record in records]),
        'hardware': _distinct(f'{record["hardware"]}, threads: {record["threads"]}' for record in records),
        'option_file': first['option_file'],
        'changes': ', '.join(f'{key}={value}' for key, value in first['changes'].items()),
        'commit': _distinct(record['commit'] or '-' for record in records),
    }


def _further(records: list[Record]) -> dict[str, float | None]:
    """Return PSNR and gain on each further validation set, as `psnr@NAME`; records of older runs have none."""
    row = {}
    for name in dict.fromkeys(name for record in records for name in record.get('further', {})):
        scores = [record.get('further', {}).get(name, {}) for record in records]
        psnr = [score.get('val_psnr') for score in scores]
        gains = [score['val_psnr'] - score['bilinear_psnr'] if score else None for score in scores]
        for measure, values in (('psnr', psnr), ('gain', gains)):
            row |= {f'{measure}@{name}': mean(values), f'{measure}@{name}_std': _deviation(values)}
    return row


def write_table(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows, at least one, as table.csv, with all digits, and as table.md into `folder`."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / 'table.csv', text.getvalue().encode())
    write(folder / 'table.md', format_table(rows).encode())


def format_table(rows: list[dict[str, Any]]) -> str:
    """Return the table as Markdown."""
    with_ema = any(row['raw_psnr'] != row['psnr'] for row in rows)
    with_clean = any(row['clean_psnr'] is not None for row in rows)
    sets = dict.fromkeys(key.partition('@')[2] for row in rows for key in row if key.startswith('gain@'))
    further = {
        f'{title} {name}': partial(_spread, name=f'{measure}@{name}', form=form)
        for name in sets
        if not name.endswith('_std')
        for title, measure, form in (('PSNR on', 'psnr', '.3f'), ('gain on', 'gain', '+.3f'))
    }
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        'cell': lambda row: row['cell'],
        'PSNR': lambda row: _spread(row, 'psnr'),
        'gain': lambda row: _spread(row, 'gain', '+.3f'),
        **further,
        'best': lambda row: f'{row["best_psnr"]:.3f}',
        **({'without EMA': lambda row: f'{row["raw_psnr"]:.3f}'} if with_ema else {}),
        'SSIM': lambda row: f'{row["ssim"]:.4f}',
        'residual': lambda row: f'{row["residual"]:.2g}',
        **({'clean PSNR': lambda row: _spread(row, 'clean_psnr')} if with_clean else {}),
        'iterations': lambda row: f'{row["iterations"]:.0f}',
        'images': lambda row: f'{row["images"]:.0f}',
        'time, s': lambda row: _whole(row['seconds']),
        'CPU time, s': lambda row: _whole(row['cpu_seconds']),
        'seeds': lambda row: row['seeds'],
        'option file': lambda row: f'`{row["option_file"]}`',
        'changes in this cell': lambda row: f'`{row["changes"]}`' if row['changes'] else '',
        'commit': lambda row: row['commit'],
    }
    table = markdown_table(list(columns), [[cell(row) for cell in columns.values()] for row in rows])
    baselines = _distinct(f'bilinear {row["bilinear_psnr"]:.3f}, bicubic {row["bicubic_psnr"]:.3f} dB' for row in rows)
    if with_clean:
        clean = _distinct(
            f'bilinear {row["clean_bilinear_psnr"]:.3f}, bicubic {row["clean_bicubic_psnr"]:.3f} dB'
            for row in rows
            if row['clean_psnr'] is not None
        )
        baselines += f'; on clean input {clean}'
    notes = [f'Enlarging scores: {baselines}.', f'Hardware: {_distinct(row["hardware"] for row in rows)}.', *NOTES]
    return '\n\n'.join([table, *notes]) + '\n'


def _spread(row: dict[str, Any], name: str, form: str = '.3f') -> str:
    mean, deviation = row.get(name), row.get(f'{name}_std')
    return '-' if mean is None else f'{mean:{form}}' + (f' ± {deviation:.3f}' if deviation is not None else '')


def _whole(value: float | None) -> str:
    return '-' if value is None else f'{value:.0f}'


def _distinct(texts: Iterable[str]) -> str:
    return '; '.join(dict.fromkeys(texts))


def mean(values: list[float | None]) -> float | None:
    """Return the mean, or None where one of the values is not known."""
    return None if None in values else statistics.fmean(values)


def _deviation(values: list[float | None]) -> float | None:
    """Return the sample's standard deviation; one value has none."""
    return statistics.stdev(values) if len(values) > 1 and None not in values else None
