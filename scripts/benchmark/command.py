"""Time this plugin beside stock BasicSR and Real-ESRGAN: the same images, the same machine, in turns.

    python scripts/benchmark.py --json results/speed.json --markdown results/speed.md
    python scripts/benchmark.py --device cuda --only step iteration --patch 512

A row is the median of repetitions that alternate, stock, ours, stock, ours, and so on, with their least and greatest;
its ratio is the median of stock / ours of the pairs.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
from tqdm import tqdm

from benchmark.cases import GROUPS
from benchmark.models import SCALE, Setup
from benchmark.rows import Row, as_row, format_report
from benchmark.timing import is_possible, measure
from facesr_plugin.command_line import Parser
from facesr_plugin.degradations import DegradationRanges, KernelRanges, smallest_side
from facesr_plugin.errors import UserError
from facesr_plugin.report.machine import ROOT
from facesr_plugin.run.memory import keep_freed_memory

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
    'enlarged': (16, 40),
    'pictures': 3,
}


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = Parser('Print a table of times and memory, ours beside stock BasicSR and Real-ESRGAN.')
    parser.add_argument('--device', choices=SIZES, help='None: both; without a CUDA device its rows are not measured')
    parser.add_argument('--only', nargs='+', choices=list(GROUPS), default=list(GROUPS), help='groups of rows')
    patches = ', '.join(f'{sizes["patch"]} on {device}' for device, sizes in SIZES.items())
    parser.add_argument('--patch', type=int, help=f'HR side of a step, px; None: {patches}')
    parser.add_argument('--repeat', type=int, default=7, help='pairs of repetitions a row')
    parser.add_argument('--faces', type=Path, default=ROOT / 'tests' / 'data' / 'faces', help='folder of HR faces')
    parser.add_argument('--quick', action='store_true', help='tiny sizes: whether it runs, not how fast')
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write the rows there')
    parser.add_argument('--markdown', type=Path, metavar='FILE', help='also write what is printed there')
    return parser


def main(argv: list[str] | None = None) -> None:
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
    for path in filter(None, (args.json, args.markdown)):
        _touch(path)

    devices = [args.device] if args.device else list(SIZES)
    changes = (QUICK if args.quick else {}) | ({'patch': args.patch} if args.patch else {})
    with tempfile.TemporaryDirectory() as folder:
        setups = [Setup(torch.device(name), args.faces, Path(folder), **SIZES[name] | changes) for name in devices]
        for setup in setups:
            if setup.is_here:
                setup.check_faces()
        rows = run(setups, args.only, args.repeat)
    text = format_report(rows, devices)
    print(text)
    for path, content in ((args.json, json.dumps(rows, indent=1)), (args.markdown, text)):
        if path:
            path.write_text(content + '\n', encoding='utf-8')


def run(setups: list[Setup], groups: list[str], repeat: int) -> list[Row]:
    """Measure the rows of the chosen groups, device by device; one that is not here leaves its rows without numbers."""
    torch.backends.cudnn.benchmark = True  # as BasicSR's training sets it
    keep_freed_memory()
    plan = [(setup, case) for setup in setups for group in groups for case in GROUPS[group](setup)]
    rows = []
    for setup, case in (bar := tqdm(plan, unit='row')):
        bar.set_description(case.name)
        pairs = measure(case, setup, repeat) if is_possible(case, setup) else None
        rows.append(as_row(case, setup.device.type, pairs))
    return rows


def _touch(path: Path) -> None:
    """Make a file that is written at the end, so that it cannot fail then."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from error
