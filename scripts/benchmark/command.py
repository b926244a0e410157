"""Time this plugin beside stock BasicSR and Real-ESRGAN: the same images, the same machine, in turns.

    python scripts/benchmark.py --json results/speed.json --markdown results/speed.md
    python scripts/benchmark.py --device cuda --only step iteration --patch 512

A row is the median of repetitions that alternate, stock, ours, stock, ours, and so on, with their least and greatest;
its ratio is the median of stock / ours of the pairs.
"""

import argparse
import contextlib
import json
import tempfile
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmark.cases import GROUPS
from benchmark.models import SCALE, STOCK_CROP, Setup, stock_runs
from benchmark.timing import Case, NotAvailable, as_row, measure
from facesr_plugin.data.image_source import FolderImages
from facesr_plugin.degradations import DegradationRanges, KernelRanges, smallest_side
from facesr_plugin.errors import UserError, run_command
from facesr_plugin.report.machine import ROOT, commit, cpu_name

DEVICES = ('cpu', 'cuda')
SIZES = {
    'cpu': {'patch': 128},
    'cuda': {'patch': 512, 'workers': 4, 'steps': 10, 'iterations': 10},
}
QUICK = {
    'patch': 96,
    'blocks': 1,
    'features': 8,
    'degraded': (96,),
    'pool_size': 10,
    'pool_side': 96,
    'validated': 64,
    'items': 5,
    'batches': 1,
    'steps': 1,
    'iterations': 1,
}
NOTES = (
    'Batches of 5. A value is the median of repetitions, stock and ours in turns, with (least-greatest);'
    ' stock / ours is the median over the pairs. More than 1: ours is faster or smaller.',
    'Stock runs as released, in fp32; where it needs CUDA and there is none, `.cuda()` does nothing and images are made'
    ' contiguous before `filter2D`. `cudnn.benchmark` is on, as in its training.',
    'Precision is that of our network, laid out channels-last; our loss and degradation are fp32.',
    'Stock dual loss: `RealESRNetModel` with two forwards and one backward. A patch above 400 px also replaces the crop'
    ' of 400 px in the code of `RealESRGANDataset`.',
    "Ceiling: stock / ours is the part of the matrix product's rate that our step reaches.",
)
COLUMNS = ('what', 'precision', 'stock', 'ours', 'stock / ours')


def check_faces(folder: Path, side: int) -> None:
    """Check that there are faces large enough.

    Raises:
        UserError: No image there, or one that is smaller than `side` px.
    """
    images = FolderImages(folder)
    for name, (height, width) in zip(images.names, images.shapes, strict=True):
        if min(height, width) < side:
            raise UserError(f'{folder / name}: at least {side}x{side} px expected, got {width}x{height}')


def plan(setups: list[Setup], groups: list[str]) -> Iterator[tuple[Setup, Case]]:
    """Yield the rows of the chosen groups, device by device."""
    for setup in setups:
        for group in groups:
            for case in GROUPS[group](setup):
                yield setup, case


def describe_software() -> str:
    """Return the versions that the numbers hold for."""
    version = commit()
    return f'PyTorch {torch.__version__}' + (f', commit {version}' if version else '')


def describe_device(device: str) -> str:
    """Return the hardware that the numbers hold for."""
    if device == 'cpu':
        return f'CPU: {cpu_name()}, {torch.get_num_threads()} threads'
    return f'CUDA: {torch.cuda.get_device_name() if torch.cuda.is_available() else "no device here"}'


def format_row(row: dict[str, Any]) -> tuple[str, ...]:
    """Return a row's cells, as in `COLUMNS`."""
    name, precision = row['name'], row['precision']
    unit, ratio = ('MiB', 'memory_ratio') if row['stock_ms'] is None else ('ms', 'speedup')
    if row[ratio] is None:
        return name, precision, 'not measured', 'not measured', '-'
    cells = []
    for side in ('stock', 'ours'):
        text = f'{_spread(row, f"{side}_{unit.lower()}")} {unit}'
        rate = row[f'{side}_images_per_s']
        cells.append(f'{text}, {rate:.3g} images/s' if rate else text)
    return name, precision, *cells, _spread(row, ratio)


def _spread(row: dict[str, Any], key: str) -> str:
    """Return a value with its least and greatest, if they differ: three digits are more than a machine repeats."""
    value, low, high = (row[key + suffix] for suffix in ('', '_min', '_max'))
    return _digits(value) if low == high else f'{_digits(value)} ({_digits(low)}-{_digits(high)})'


def _digits(value: float) -> str:
    return f'{value:.0f}' if value >= 100 else f'{value:.3g}'


def format_table(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table, padded so that it is read as well where it is not rendered."""
    cells = [COLUMNS, *map(format_row, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ['| ' + ' | '.join(map(str.ljust, line, widths)) + ' |' for line in cells]
    return '\n'.join([lines[0], '|' + '|'.join('-' * (width + 2) for width in widths) + '|', *lines[1:]])


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        description='Print a table of times and memory, ours beside stock BasicSR and Real-ESRGAN.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('--device', choices=DEVICES, help='None: both; without a CUDA device its rows are not measured')
    parser.add_argument('--only', nargs='+', choices=list(GROUPS), default=list(GROUPS), help='groups of rows')
    patches = ', '.join(f'{sizes["patch"]} on {device}' for device, sizes in SIZES.items())
    parser.add_argument('--patch', type=int, help=f'HR side of a step, px; None: {patches}')
    parser.add_argument('--repeat', type=int, default=7, help='pairs of repetitions a row')
    parser.add_argument('--faces', type=Path, default=ROOT / 'tests' / 'data' / 'faces', help='folder of HR faces')
    parser.add_argument('--quick', action='store_true', help='tiny sizes: whether it runs, not how fast')
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write the rows there')
    parser.add_argument('--markdown', type=Path, metavar='FILE', help='also write what is printed there')
    return parser


def main(argv: list[str] | None = None) -> int | None:
    """Run the command.

    Raises:
        UserError: An option or the faces cannot be used, or a file cannot be written.
    """
    args = build_parser().parse_args(argv)
    if args.repeat < 1:
        raise UserError(f'--repeat: at least 1 expected, got {args.repeat}')
    least = smallest_side(DegradationRanges(), KernelRanges(), SCALE)
    if args.patch is not None and (args.patch < least or args.patch % SCALE):
        raise UserError(f'--patch: a multiple of the scale {SCALE}, at least {least}, expected, got {args.patch}')
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise UserError('--device cuda: no CUDA device here')
    devices = [args.device] if args.device else list(DEVICES)
    present = [device for device in devices if device == 'cpu' or torch.cuda.is_available()]

    for path in filter(None, (args.json, args.markdown)):
        _touch(path)

    with tempfile.TemporaryDirectory() as folder:
        setups = []
        for device in devices:
            sizes = SIZES[device] | (QUICK if args.quick else {}) | ({'patch': args.patch} if args.patch else {})
            setups.append(Setup(torch.device(device), args.faces, Path(folder), **sizes))
        largest = max(max(s.crop, s.pool_side, s.validated, *s.degraded) for s in setups if s.device.type in present)
        check_faces(args.faces, max(largest, STOCK_CROP))
        if {'dataset', 'iteration'} & set(args.only):
            for name in ('stock', 'png', 'raw'):  # now, not between the rows
                setups[0].lmdb(name)
        rows = run(list(plan(setups, args.only)), present, args.repeat)

    parts = [describe_software()]
    for device in devices:
        parts += [describe_device(device), format_table([row for row in rows if row['device'] == device])]
    text = '\n\n'.join([*parts, '\n'.join(f'- {note}' for note in NOTES)])
    print(text)
    for path, content in ((args.json, json.dumps(rows, indent=1)), (args.markdown, text)):
        if path:
            path.write_text(content + '\n', encoding='utf-8')
    return None


def run(cases: list[tuple[Setup, Case]], present: list[str], repeat: int) -> list[dict[str, Any]]:
    """Measure the rows whose device is present; return all, as in the JSON file."""
    torch.backends.cudnn.benchmark = True  # as BasicSR's training sets it
    rows = []
    for setup, case in (bar := tqdm(cases, unit='row')):
        bar.set_description(case.name)
        result = None
        if setup.device.type in present:
            with contextlib.suppress(NotAvailable):
                result = measure(case, setup.device, repeat, stock_environment(setup))
        rows.append(as_row(case, setup.device.type, result))
    return rows


@cache
def stock_environment(setup: Setup) -> partial:
    """Return what lets stock run."""
    return partial(stock_runs, setup)


def _touch(path: Path) -> None:
    """Make a file that is written at the end, so that it cannot fail then."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from error


if __name__ == '__main__':
    run_command(main)
