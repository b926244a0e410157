"""The trainer: it trains the runs of a protocol, each in a process of its own, and writes their records."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import yaml

from experiments.clean import score_clean
from experiments.folder import Folder
from experiments.protocol import Run, differences
from facesr_plugin.errors import RunError, UserError
from facesr_plugin.report.machine import ROOT, commit, cpu_name
from facesr_plugin.report.records import Record, read_record, write_record

TRAIN = ROOT / 'facesr_plugin' / 'train.py'


class Stopped(Exception):  # noqa: N818  (not an error)
    """The trainer was asked to stop."""


class Trainer:
    """Trains runs; `complete` may be called from several threads.

    Args:
        records: Folder of the records.
        threads: Of each run.

    Attributes:
        stopped: The signal that asked to stop, after which no further training is started; 0 for none.
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

    def read(self, run: Run) -> Record | None:
        """Return the record of a run, if it has one.

        Raises:
            UserError: The record is damaged, or of a run with other options.
        """
        path = self._path(run)
        if not path.exists():
            return None
        record = read_record(path)
        if changes := differences(record['opt'], run.opt):
            raise UserError(f'{path}: made with other options ({changes[0]}); move it and experiments/{run.name} away')
        return record

    def lacks_score(self, run: Run, record: Record) -> bool:
        """Return whether a record has no clean score, and the weights that it is of are there."""
        folder = _folder(run)
        return 'clean' not in record and folder.weights.exists() and folder.history() == record['history']

    def complete(self, run: Run) -> None:
        """Do what is missing of a run, as long as nobody asks to stop: its training and record, and its clean score.

        Raises:
            RunError: Its training failed.
            UserError: A file of the run cannot be used.
        """
        with contextlib.suppress(Stopped):
            record = self.read(run) or self.train(run)
            if self.lacks_score(run, record):
                clean = score_clean(_folder(run).weights, run.options, self._go_on)
                write_record(self._path(run), record | {'clean': clean})

    def train(self, run: Run) -> Record:
        """Train a run to its end, from where it was stopped if it was, and write its record.

        Raises:
            RunError: Training failed, or had ended before this.
            Stopped: The trainer was asked to stop.
        """
        self._go_on()
        folder = _folder(run)
        began = folder.newest_state()
        was_stopped = any(part.get('status') for part in folder.parts()[-1:])  # be it after the last state
        if began >= run.options.train.total_iter and not was_stopped:
            raise RunError(
                f'{folder.path}: finished, but without a record in {self.records}; move it away to train again'
            )
        with tempfile.TemporaryDirectory() as scratch:
            options, output = Path(scratch) / f'{run.name}.yml', Path(scratch) / 'output'
            options.write_text(yaml.safe_dump(run.opt, sort_keys=False), encoding='utf-8')
            status, seconds, cpu_seconds = self._run(options, output)
            lines = output.read_text(encoding='utf-8', errors='replace').strip().splitlines()
        part = {'from': began, 'to': folder.newest_state(), 'status': status}
        folder.add_part(part | {'seconds': seconds, 'cpu_seconds': cpu_seconds})
        if status:
            self._go_on()
            raise RunError(f'{run.name}: training ended with status {status}: {lines[-1] if lines else "no output"}')
        record = self._record(run, folder)
        write_record(self._path(run), record)
        return record

    def _path(self, run: Run) -> Path:
        return self.records / f'{run.cell}_seed{run.seed}.json'

    def _go_on(self) -> None:
        if self.stopped:
            raise Stopped

    def _run(self, options: Path, output: Path) -> tuple[int, float, float | None]:
        """Run a training; return its exit status, its duration, and the processor time of it and its children.

        Windows does not tell the last: None.
        """
        command = [sys.executable, str(TRAIN), '-opt', str(options), '--auto_resume']
        environment = {**os.environ, 'OMP_NUM_THREADS': str(self.threads)}
        started = time.monotonic()
        with output.open('wb') as file:
            # In a session of its own: Ctrl-C in a terminal reaches it through `stop` alone.
            process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
        self._processes.add(process.pid)
        if self.stopped:
            _ask_to_stop(process.pid)
        cpu_seconds = None
        if hasattr(os, 'wait4'):
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            cpu_seconds = usage.ru_utime + usage.ru_stime
        self._processes.discard(process.pid)
        return process.wait(), time.monotonic() - started, cpu_seconds

    def _record(self, run: Run, folder: Folder) -> Record:
        train = run.options.train
        uses_gpu = torch.cuda.is_available() and run.options.num_gpu != 0
        return {
            'cell': run.cell,
            'seed': run.seed,
            'option_file': run.option_file,
            'changes': run.changes,
            'commit': self.commit,
            'hardware': torch.cuda.get_device_name() if uses_gpu else cpu_name(),
            'threads': self.threads,
            'torch': torch.__version__,
            'images': train.total_iter * run.options.datasets.train.batch_size_per_gpu * train.accumulate,
            'seconds': folder.time('seconds'),
            'cpu_seconds': folder.time('cpu_seconds'),
            'history': folder.history(),
            'further': folder.further(),
            'opt': run.opt,
        }


def _folder(run: Run) -> Folder:
    return Folder(Path('experiments') / run.name)


def _ask_to_stop(process: int) -> None:
    with contextlib.suppress(OSError):  # it has just ended
        os.kill(process, signal.SIGTERM)
