"""A row of the benchmark: as the JSON file has it, and as the table shows it."""

import statistics
from typing import Any

import torch

from benchmark.timing import Case, Pairs
from facesr_plugin.report.machine import commit, cpu_name
from facesr_plugin.report.table import markdown_table

Row = dict[str, Any]
MEASURED = ('stock_ms', 'ours_ms', 'speedup', 'stock_mib', 'ours_mib', 'memory_ratio')
COLUMNS = ('what', 'precision', 'stock', 'ours', 'stock / ours')
NOTES = (
    'Batches of 5. A value is the median of repetitions, stock and ours in turns, with (least-greatest);'
    ' stock / ours is the median over the pairs. More than 1: ours is faster or smaller.',
    'Stock runs as released, in fp32; where it needs CUDA and there is none, `.cuda()` does nothing and images are made'
    ' contiguous before `filter2D`. `cudnn.benchmark` is on, as in its training. Where time is measured'
    ' stock, too, keeps freed memory on the CPU, which our commands see to and which makes it faster.',
    'Precision is that of our network, laid out channels-last; our loss and degradation are fp32.',
    'Stock dual loss: `RealESRNetModel` with two forwards and one backward. A patch above 400 px also replaces the crop'
    ' of 400 px in the code of `RealESRGANDataset`.',
    'Enlarging: the same weights, in `MSRResNet` for stock. BasicSR: the whole picture, as its `test.py` runs it.'
    ' RealESRGANer: tiles of 256 px, fp16 on CUDA, where that is its default. Ours computes in what `auto` picks.'
    ' Many pictures are read from PNG and written to it. Start-up is a process of its own.',
    "Ceiling: stock / ours is the part of the matrix product's rate that our step reaches.",
)


def as_row(case: Case, device: str, pairs: Pairs | None) -> Row:
    """Return a row of the JSON file: of each of `MEASURED` median, least and greatest; None for what was not measured.

    The ratio is the median of the pairs' ratios, not a ratio of medians.
    """
    measured: dict[str, list[float]] = {}
    if pairs is not None:
        keys = MEASURED[3:] if case.memory else MEASURED[:3]
        measured = dict(zip(keys, (*pairs, [a / b for a, b in zip(*pairs, strict=True)]), strict=True))
    row: Row = {'name': case.name, 'device': device, 'precision': case.precision}
    for key in MEASURED:
        for suffix, summary in (('', statistics.median), ('_min', min), ('_max', max)):
            row[key + suffix] = summary(measured[key]) if key in measured else None
    for side in ('stock', 'ours'):
        ms = row[f'{side}_ms']
        row[f'{side}_images_per_s'] = 1000 * case.images / ms if ms and case.images else None
    return row


def format_report(rows: list[Row], devices: list[str]) -> str:
    """Return what the numbers hold for, a table for each device, and notes, as Markdown."""
    version = commit()
    parts = [f'PyTorch {torch.__version__}' + (f', commit {version}' if version else '')]
    for device in devices:
        parts += [_describe(device), format_table([row for row in rows if row['device'] == device])]
    return '\n\n'.join([*parts, '\n'.join(f'- {note}' for note in NOTES)])


def format_table(rows: list[Row]) -> str:
    """Return a table that is read as well where it is not rendered."""
    return markdown_table(COLUMNS, map(_cells, rows), pad=True)


def _describe(device: str) -> str:
    if device == 'cpu':
        return f'CPU: {cpu_name()}, {torch.get_num_threads()} threads'
    return f'CUDA: {torch.cuda.get_device_name() if torch.cuda.is_available() else "no device here"}'


def _cells(row: Row) -> tuple[str, ...]:
    unit, ratio = ('MiB', 'memory_ratio') if row['stock_ms'] is None else ('ms', 'speedup')
    if row[ratio] is None:
        return row['name'], row['precision'], 'not measured', 'not measured', '-'
    sides = [
        f'{_spread(row, f"{side}_{unit.lower()}")} {unit}' + (f', {rate:.3g} images/s' if rate else '')
        for side in ('stock', 'ours')
        for rate in [row[f'{side}_images_per_s']]
    ]
    return row['name'], row['precision'], *sides, _spread(row, ratio)


def _spread(row: Row, key: str) -> str:
    """Return a value with its least and greatest, if they differ: three digits are more than a machine repeats."""
    value, low, high = (_digits(row[key + suffix]) for suffix in ('', '_min', '_max'))
    return value if row[key + '_min'] == row[key + '_max'] else f'{value} ({low}-{high})'


def _digits(value: float) -> str:
    return f'{value:.0f}' if value >= 100 else f'{value:.3g}'
