"""Train a protocol's grid of option files and seeds, and collect one table.

    python scripts/run_experiments.py options/protocols/small.yml -o results/small
    python scripts/run_experiments.py options/protocols/small.yml -o results/small --table-only

A protocol file names cells, each an option file with some options changed, and seeds. Each run is trained by
`facesr_plugin/train.py` under the current folder, in experiments/PROTOCOL_CELL_seedN; one that was stopped goes on. A
finished run leaves a record in OUTPUT/records, and a run that has one is not trained again. Its weights are then scored
on the validation faces without degradation, too. OUTPUT/table.csv and table.md show mean and standard deviation over
the seeds.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from experiments.protocol import Run, check_runs, choose, load_protocol
from experiments.trainer import Trainer
from facesr_plugin.command_line import Parser
from facesr_plugin.data.workers import STOPPING
from facesr_plugin.errors import RunError, UserError
from facesr_plugin.report.records import Record, summarise, write_table


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = Parser('Train a grid of option files and seeds; what is done is not trained again.')
    parser.add_argument('protocol', type=Path, help='protocol file, YAML')
    parser.add_argument('-o', '--output', type=Path, required=True, help='folder for the records and the table')
    parser.add_argument('--only', nargs='+', metavar='CELL', help='train these cells only')
    parser.add_argument('--seeds', type=int, nargs='+', metavar='SEED', help="train these of the cells' seeds only")
    parser.add_argument('--jobs', type=int, default=1, help='trainings at the same time; they share the cores')
    parser.add_argument('--threads', type=int, help='of each training on the CPU; default: the cores / jobs')
    parser.add_argument('--table-only', action='store_true', help='train nothing, collect what is done')
    return parser


def main(argv: list[str] | None = None) -> int | None:
    """Run the command; the status is 128 and the signal's number where it was stopped by one.

    Raises:
        UserError: The protocol or a record is not as expected.
        RunError: A training failed; the others were finished.
    """
    args = build_parser().parse_args(argv)
    threads = args.threads if args.threads is not None else max(1, (os.cpu_count() or 1) // max(1, args.jobs))
    for name, value in (('jobs', args.jobs), ('threads', threads)):
        if value < 1:
            raise UserError(f'--{name}: 1 or more expected, got {value}')
    runs = load_protocol(args.protocol)
    trainer = Trainer(args.output / 'records', threads)
    records = {run.name: trainer.read(run) for run in runs}
    todo = []
    for run in choose(runs, args.only, args.seeds):
        record = records[run.name]
        if not args.table_only and (record is None or trainer.lacks_score(run, record)):
            todo.append(run)
    check_runs([run for run in todo if records[run.name] is None])
    for number in STOPPING:
        signal.signal(number, trainer.stop)
    failures = train_all(todo, trainer, args.jobs, after_each=partial(collect, runs, trainer, args.output))
    finished = collect(runs, trainer, args.output)
    print(f'{args.output}: {finished} of {len(runs)} runs done' + (', in table.csv and table.md' if finished else ''))
    if failures:
        raise RunError(f'{failures} of {len(todo)} runs failed, see above')
    return 128 + trainer.stopped if trainer.stopped else None


def train_all(runs: list[Run], trainer: Trainer, jobs: int, after_each: Callable[[], object]) -> int:
    """Complete runs, `jobs` at a time; each failure is told in a line. Return how many failed."""

    def problem(run: Run) -> str | None:
        try:
            trainer.complete(run)
        except (RunError, UserError) as error:
            return str(error)
        return None

    failures = 0
    executor = ThreadPoolExecutor(jobs, initializer=torch.set_num_threads, initargs=(trainer.threads,))
    with executor, tqdm(total=len(runs), unit='run', disable=not runs) as bar:
        for line in executor.map(problem, runs):
            bar.update()
            if line:
                failures += 1
                bar.write(f'error: {line}', sys.stderr)
            after_each()
    return failures


def collect(runs: list[Run], trainer: Trainer, folder: Path) -> int:
    """Write the table over the runs that are done; return how many those are."""
    records: dict[str, list[Record]] = {run.cell: [] for run in runs}
    for run in runs:
        if record := trainer.read(run):
            records[run.cell].append(record)
    if rows := [summarise(of_cell) for of_cell in records.values() if of_cell]:
        write_table(folder, rows)
    return sum(map(len, records.values()))
