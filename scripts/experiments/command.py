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
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import yaml
from tqdm import tqdm

from experiments.clean import score_clean
from experiments.protocol import Run, check_runs, differences, load_protocol
from facesr_plugin.errors import RunError, UserError, run_command
from facesr_plugin.files import write
from facesr_plugin.models.history import read_history
from facesr_plugin.report.machine import ROOT, commit, cpu_name
from facesr_plugin.report.records import Record, read_record, summarise, write_record, write_table


class _Stopped(Exception):  # noqa: N818  (not an error)
    """The grid was asked to stop."""


class Trainer:
    """Trains runs in processes of their own.

    Args:
        records: Folder of the records.
        threads: Of each run.

    Attributes:
        stopped: The signal that asked the grid to stop, after which no further training is started; 0 for none.
    """

    def __init__(self, records: Path, threads: int) -> None:
        self.records, self.threads = records, threads
        self.commit = commit()
        self.stopped = 0
        self._processes: set[int] = set()

    def stop(self, number: int, _: object = None) -> None:
        """Let the trainings save and end; a handler of signals."""
        self.stopped = number
        for process in tuple(self._processes):
            _ask_to_stop(process)

    def record_path(self, run: Run) -> Path:
        """Return where the record of a run is."""
        return self.records / f'{run.cell}_seed{run.seed}.json'

    def is_done(self, run: Run) -> bool:
        """Return whether a run has its record.

        Raises:
            UserError: The record is damaged, or of a run with other options.
        """
        path = self.record_path(run)
        if not path.exists():
            return False
        if changes := differences(read_record(path)['opt'], run.opt):
            raise UserError(f'{path}: made with other options ({changes[0]}); move it and experiments/{run.name} away')
        return True

    def is_scored(self, run: Run) -> bool:
        """Return whether there is nothing to add to the record of a run: it has its score, or its weights are gone."""
        record = read_record(self.record_path(run))
        folder = _folder(run)
        weights, history = folder / 'models' / 'net_g_latest.pth', folder / 'history.csv'
        is_there = weights.exists() and history.exists() and read_history(history) == record['history']
        return 'clean' in record or not is_there

    def complete(self, run: Run) -> str | None:
        """Do what is missing of a run.

        Returns:
            What went wrong, in one line, or None.
        """
        if not self.is_done(run) and (problem := self.train(run)):
            return problem
        with contextlib.suppress(_Stopped):
            if self.is_done(run) and not self.is_scored(run):
                self.score(run)
        return None

    def score(self, run: Run) -> None:
        """Add to the record of a run how its weights do on faces that are only resized."""
        clean = score_clean(_folder(run), run.opt, self._go_on)
        path = self.record_path(run)
        write_record(path, read_record(path) | {'clean': clean})

    def _go_on(self) -> None:
        if self.stopped:
            raise _Stopped

    def train(self, run: Run) -> str | None:
        """Train a run to its end, from where it was stopped if it was, and write its record.

        Returns:
            What went wrong, in one line, or None.
        """
        if self.stopped:
            return None
        folder = _folder(run)
        began = _newest_state(folder)
        if began >= run.opt['train']['total_iter'] and not _was_stopped(folder):
            return f'{folder}: finished, but without a record in {self.records}; move it away to train again'
        with tempfile.TemporaryDirectory() as scratch:
            options = Path(scratch) / f'{run.name}.yml'
            options.write_text(yaml.safe_dump(run.opt, sort_keys=False), encoding='utf-8')
            output = Path(scratch) / 'output'
            status, seconds, cpu_seconds = self._run(options, output)
            lines = output.read_text(encoding='utf-8', errors='replace').strip().splitlines()
        part = {'from': began, 'to': _newest_state(folder), 'status': status}
        times = _add_time(folder, part | {'seconds': seconds, 'cpu_seconds': cpu_seconds})
        if status != 0:
            if self.stopped:
                return None
            return f'{run.name}: training ended with status {status}: {lines[-1] if lines else "no output"}'
        write_record(self.record_path(run), self._record(run, folder, times))
        return None

    def _run(self, options: Path, output: Path) -> tuple[int, float, float]:
        """Run a training; return its exit status, its duration, and the processor time of it and its children."""
        command = [sys.executable, str(ROOT / 'facesr_plugin' / 'train.py'), '-opt', str(options), '--auto_resume']
        started = time.monotonic()
        with output.open('wb') as file:
            environment = {**os.environ, 'OMP_NUM_THREADS': str(self.threads)}
            # In a session of its own: Ctrl-C in a terminal reaches it through `stop` alone.
            process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
            self._processes.add(process.pid)
            if self.stopped:
                _ask_to_stop(process.pid)
            _, status, usage = os.wait4(process.pid, 0)
            self._processes.discard(process.pid)
        process.returncode = os.waitstatus_to_exitcode(status)
        return process.returncode, time.monotonic() - started, usage.ru_utime + usage.ru_stime

    def _record(self, run: Run, folder: Path, times: list[dict[str, float]]) -> Record:
        batch = run.opt['datasets']['train']['batch_size_per_gpu'] * run.opt['train'].get('accumulate', 1)
        # What another program trained, or a runner that was killed, was not timed.
        known = all(part['from'] <= before for part, before in zip(times, [0, *(t['to'] for t in times)], strict=False))
        return {
            'cell': run.cell,
            'seed': run.seed,
            'option_file': run.option_file,
            'changes': run.changes,
            'commit': self.commit,
            'hardware': torch.cuda.get_device_name() if _uses_gpu(run.opt) else cpu_name(),
            'threads': self.threads,
            'torch': torch.__version__,
            'images': run.opt['train']['total_iter'] * batch,
            'seconds': sum(part['seconds'] for part in times) if known else None,
            'cpu_seconds': sum(part['cpu_seconds'] for part in times) if known else None,
            'history': read_history(folder / 'history.csv'),
            'opt': run.opt,
        }


def _folder(run: Run) -> Path:
    """Return where a run is trained."""
    return Path('experiments') / run.name


def _ask_to_stop(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has just ended
        os.kill(process, signal.SIGTERM)


def _uses_gpu(opt: dict[str, Any]) -> bool:
    return torch.cuda.is_available() and opt.get('num_gpu') != 0


def _newest_state(folder: Path) -> int:
    """Return the iteration from which `--auto_resume` goes on."""
    return max((int(path.stem) for path in (folder / 'training_states').glob('[0-9]*.state')), default=0)


def _read_times(folder: Path) -> list[dict[str, float]]:
    """Return what is known of the parts in which a run was trained.

    Raises:
        UserError: The file of them is damaged.
    """
    path = folder / 'times.json'
    try:
        return json.loads(path.read_text()) if path.exists() else []
    except ValueError as error:
        raise UserError(f'{path}: damaged; remove it, and the time of this run is not known') from error


def _was_stopped(folder: Path) -> bool:
    """Return whether the training of a run was asked to stop, be it after the last state, before its end."""
    return any(part.get('status') for part in _read_times(folder)[-1:])


def _add_time(folder: Path, part: dict[str, float]) -> list[dict[str, float]]:
    """Keep the duration of a part of a run beside it, and return those of all parts; a new run begins anew."""
    parts = [*(_read_times(folder) if part['from'] else []), part]
    if folder.is_dir():
        write(folder / 'times.json', json.dumps(parts).encode())
    return parts


def collect(runs: list[Run], trainer: Trainer, folder: Path) -> int:
    """Write the table over the runs that are done; return how many those are."""
    records: dict[str, list[Record]] = {run.cell: [] for run in runs}
    for run in runs:
        if trainer.is_done(run):
            records[run.cell].append(read_record(trainer.record_path(run)))
    rows = [summarise(of_cell) for of_cell in records.values() if of_cell]
    if rows:
        write_table(folder, rows)
    return sum(map(len, records.values()))


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        description='Train a grid of option files and seeds; what is done is not trained again.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
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
    chosen = load_protocol(args.protocol, args.only, args.seeds)
    trainer = Trainer(args.output / 'records', threads)
    done = {run.name for run in runs if trainer.is_done(run)}
    todo = [] if args.table_only else [run for run in chosen if run.name not in done or not trainer.is_scored(run)]
    check_runs([run for run in todo if run.name not in done])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, trainer.stop)
    failures = 0
    executor = ThreadPoolExecutor(args.jobs, initializer=torch.set_num_threads, initargs=(threads,))
    with executor, tqdm(total=len(todo), unit='run', disable=not todo) as bar:
        for problem in executor.map(trainer.complete, todo):
            bar.update()
            if problem:
                failures += 1
                bar.write(f'error: {problem}', sys.stderr)
            collect(runs, trainer, args.output)
    finished = collect(runs, trainer, args.output)
    print(f'{args.output}: {finished} of {len(runs)} runs done' + (', in table.csv and table.md' if finished else ''))
    if failures:
        raise RunError(f'{failures} of {len(todo)} runs failed, see above')
    return 128 + trainer.stopped if trainer.stopped else None


if __name__ == '__main__':
    run_command(main)
