"""Train: `python facesr_plugin/train.py -opt options/exp1_lsr.yml [--auto_resume]`, installed as `facesr-train`.

BasicSR's own `train_pipeline` does the work, with the current folder as root. It looks a few names up in its module;
`TrainingRun` stands in for them, here and nowhere else.
"""

import logging
import os
import signal
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

if not __package__:  # run as a script: import the package of this checkout, not its parts by their bare names
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import facesr_plugin  # noqa: F401  (first: it makes BasicSR importable and registers the plugin)

# isort: split
from basicsr import train as pipeline
from basicsr.models import build_model
from basicsr.models.sr_model import SRModel
from basicsr.models.video_base_model import VideoBaseModel
from basicsr.utils import MessageLogger, get_root_logger, set_random_seed

from facesr_plugin.compat import repair_wandb
from facesr_plugin.data import workers
from facesr_plugin.data.epoch_sampler import EpochSampler
from facesr_plugin.data.face_degradation_dataset import FaceDegradationDataset
from facesr_plugin.data.prefetch import CudaPrefetcher, Prefetcher
from facesr_plugin.errors import RunError, UserError, is_full, is_out_of_memory, run_command
from facesr_plugin.files import remove_leftovers, write
from facesr_plugin.options.compare import check_data, data_of, described, differences
from facesr_plugin.options.load import check_outside, copy_option_file, parse_options
from facesr_plugin.options.schedules import told
from facesr_plugin.options.types import RunOptions
from facesr_plugin.run import lock, state
from facesr_plugin.run.archive import Archive
from facesr_plugin.run.memory import keep_freed_memory
from facesr_plugin.run.processes import is_distributed, is_lost_process, most_over_processes

# Seconds after a signal until which it may come again without being a second one: `timeout` sends it to the command and
# to the group, torchrun passes on what it got.
AGAIN_AFTER, AGAIN_AFTER_IN_TORCHRUN = 2.0, 10.0
OUT_OF_MEMORY = (
    'train.precision: bf16, train.pixel_opt.forward: sampled or sequential, or a smaller batch_size_per_gpu with'
    ' train.accumulate needs less'
)
ONE_SET = 'Multiple validation datasets are *only* supported by SRModel.'  # BasicSR says it to that too
ANOTHER_ENDED = 'another process of this run has ended: its own lines say why; go on with --auto_resume'


class Stopped(Exception):  # noqa: N818  (not an error)
    """A signal asked the run to stop; the state is saved.

    Args:
        number: The signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


class TrainingRun:
    """The parts of BasicSR's training loop that the plugin replaces, and what they share.

    The loop ends an iteration where it draws the next one's batch, so that is where a signal stops the run (`between`).
    """

    def __init__(self) -> None:
        self.opt: dict[str, Any] = {}
        self.checked_opt: dict[str, Any] = {}
        self.archive = Archive()
        self.opt_text = ''
        self.run: RunOptions | None = None
        self.may_differ = False  # the training images from those of the state that it goes on from
        self.notices: list[str] = []  # that they do, or that the run is longer than that of the state
        self.found: dict[str, Any] | None = None  # that state
        self.data: dict[str, Any] = {}  # their fingerprint
        self.lock: object | None = None
        self.model: Any = None
        self.tb_logger: Any = None
        self.sampler: EpochSampler | None = None
        self.start_iter = 0
        self.is_between = False  # iterations: the next one's batch is being drawn
        self.signal, self.signalled = 0, 0.0

    def install(self) -> None:
        """Put this run's parts where `train_pipeline` looks them up, and take the signals that stop it."""
        pipeline.parse_options = self.parse_options
        pipeline.load_resume_state = self.load_resume_state
        pipeline.make_exp_dirs = self.make_folders
        pipeline.mkdir_and_rename = lambda path: self.archive.make(Path(path))
        pipeline.copy_opt_file = self.copy_option_file
        pipeline.init_tb_loggers = partial(self.init_tb_loggers, pipeline.init_tb_loggers)
        pipeline.build_dataloader = partial(self.build_dataloader, pipeline.build_dataloader)
        pipeline.EnlargedSampler = self.make_sampler
        pipeline.build_model = self.build_model
        pipeline.MessageLogger = self.make_message_logger
        pipeline.CPUPrefetcher = partial(self.make_prefetcher, Prefetcher)
        pipeline.CUDAPrefetcher = partial(self.make_prefetcher, CudaPrefetcher)
        logging.raiseExceptions = False  # a log that the disk has no room for is no error of the program
        threading.excepthook = partial(hide_full_disk, threading.excepthook)
        for number in workers.STOPPING:
            if number in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(number) != signal.SIG_IGN:  # nohup
                signal.signal(number, self.take_signal)

    # ----------------------------------------- in the order in which train_pipeline calls them
    def parse_options(self, root_path: str, is_train: bool) -> tuple[dict[str, Any], Namespace]:
        """Read and check the option file, lock and tidy the run; a batch of the loader is an iteration's images."""
        self.opt, args = parse_options(root_path, is_train)
        self.may_differ = args.allow_other_data
        if self.opt['rank'] == 0:
            folder = Path(self.opt['path']['experiments_root'])
            self.lock = lock.take(folder)
            if self.lock:
                remove_leftovers(folder)
        self.opt['datasets']['train']['batch_size_per_gpu'] *= self.opt['train']['accumulate']
        self.opt_text, self.run = args.text, args.run
        self.checked_opt = described(args.run) | {'world_size': self.opt['world_size']}
        return self.opt, args

    def load_resume_state(self, opt: dict[str, Any]) -> dict[str, Any] | None:
        """Find the training state to go on from, with the seed that was drawn when its run began if one was."""
        opt['root_path'] = str(Path(opt['path']['experiments_root']).parents[1])  # path.root, if the file names one
        found = state.find(opt)
        if found and (problems := differences(self.checked_opt, found)):
            raise UserError('\n'.join(problems))
        if found:
            then = (found.get('facesr', {}).get('options') or {}).get('train') or {}
            notices = [
                check_data(opt['datasets']['train'], found, self.may_differ),
                told(self.checked_opt['train'], then, found['iter']),
            ]
            self.notices = [line for line in notices if line]
        self.found = found
        self.start_iter = found['iter'] if found else 0
        if (
            found
            and Path(opt['path']['resume_state']).resolve().parent != Path(opt['path']['training_states']).resolve()
        ):
            self.make_folders(opt)  # it goes on from another run, whose best weights it has to beat
            best = Path(opt['path']['pretrain_network_g']).with_name('net_g_best.pth')
            if opt['rank'] == 0 and best.is_file():
                write(Path(opt['path']['models']) / best.name, best.read_bytes())
        if self.checked_opt['manual_seed'] is None:
            saved = found and (found.get('facesr', {}).get('options') or {}).get('manual_seed')
            self.checked_opt['manual_seed'] = opt['manual_seed'] = saved or opt['manual_seed']
            set_random_seed(opt['manual_seed'] + opt['rank'])
        return found

    def make_folders(self, opt: dict[str, Any]) -> None:
        """Make the run's folders; what an earlier run of its name left is moved aside, until it is under way."""
        if not self.found:  # whose weights are read from where they are
            check_outside(self.run, Path(opt['path']['experiments_root']))
        if opt['rank'] == 0:
            self.archive.make(Path(opt['path']['experiments_root']))
            for key in ('models', 'training_states', 'visualization'):
                Path(opt['path'][key]).mkdir()

    def copy_option_file(self, path: str, root: str) -> None:
        """Copy the option file, as it was when it was read."""
        if self.opt['rank'] == 0:
            copy_option_file(self.opt_text, Path(root) / Path(path).name)

    def init_tb_loggers(self, stock: Any, opt: dict[str, Any]) -> Any:
        """Open TensorBoard's file; what another process wrote after the state that this one resumes is void."""
        if (opt['logger'].get('wandb') or {}).get('project') is not None:
            repair_wandb()
        self.tb_logger = stock(opt)
        if self.tb_logger and self.start_iter:
            self.tb_logger.close()
            writer = type(self.tb_logger)
            self.tb_logger = writer(self.tb_logger.log_dir, purge_step=self.start_iter + 1)
        return self.tb_logger

    def make_sampler(self, dataset: Any, num_replicas: int, rank: int, ratio: int) -> EpochSampler:
        """Sample in an order that depends on the seed, from where a resumed run goes on."""
        batch = self.opt['datasets']['train']['batch_size_per_gpu']
        options = {'seed': self.opt['manual_seed'], 'batch_size': batch, 'start_iter': self.start_iter}
        shares = dataset.shares() if isinstance(dataset, FaceDegradationDataset) else []
        if len(shares) > 1:
            for part in shares:
                line = f'Training images of {part.name}: {part.images:,}, {part.share:.1%} of the samples'
                get_root_logger().info(line)
            if dataset.options.weights:
                options['shares'] = shares
        self.sampler = EpochSampler(dataset, num_replicas, rank, ratio, **options)
        self.data = data_of(dataset)
        if self.found:  # the loop asks the state; with another number of images it is another epoch
            self.found['epoch'] = self.start_iter // self.sampler.iter_per_epoch
        return self.sampler

    def build_dataloader(self, stock: Any, dataset: Any, dataset_opt: dict[str, Any], **args: Any) -> Any:
        """Build a loader whose processes end with this one; they stay for all epochs where that changes no sample."""
        if isinstance(dataset, FaceDegradationDataset) and dataset_opt['num_worker_per_gpu']:
            dataset_opt = dataset_opt | {'persistent_workers': True}
        return workers.prepare(stock(dataset, dataset_opt, **args))

    def build_model(self, opt: dict[str, Any]) -> Any:
        """Build the model, and tell it what its history and states say of the run."""
        self.model = build_model(opt)
        self.model.tb_logger, self.model.checked_opt = self.tb_logger, self.checked_opt
        self.model.data = self.data
        for line in self.notices:
            get_root_logger().warning(line)
        self.model.iter_per_epoch = self.sampler.iter_per_epoch
        takes_several = isinstance(self.model, SRModel) and not isinstance(self.model, VideoBaseModel)
        logger = get_root_logger()
        (logger.addFilter if takes_several else logger.removeFilter)(is_not_of_sets)
        return self.model

    def make_message_logger(self, opt: dict[str, Any], start_iter: int, tb_logger: Any) -> MessageLogger:
        """Count the iterations to come rightly: stock's estimate of the time left ends an iteration below zero."""
        message_logger = MessageLogger(opt, start_iter, tb_logger)
        message_logger.max_iters += 1
        return message_logger

    def make_prefetcher(self, kind: type[Prefetcher], loader: Any, opt: dict[str, Any] | None = None) -> Prefetcher:
        """Draw batches between iterations; before each, see whether to stop."""
        del opt  # only stock's CUDAPrefetcher needs it

        @contextmanager
        def between() -> Iterator[None]:
            if not is_distributed():
                self.stop_if_asked()
            self.is_between, failure = True, None
            try:
                yield
            except Exception as error:
                failure = error
            if is_distributed():  # they stop together, or none can save
                self.stop_if_asked(failure)
            if failure:
                if (told := workers.explained(failure, prefetcher.processes)) is failure:
                    raise failure
                raise told from failure
            self.is_between = False

        def next_batch(draw: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
            batch = draw()
            self.archive.keep()  # the run is under way
            return batch

        prefetcher = kind(loader, between)
        prefetcher.next = partial(next_batch, prefetcher.next)
        return prefetcher

    # ------------------------------------------------------------------- stopping
    def take_signal(self, number: int, frame: Any) -> None:
        """Note a signal, and say so; a second one ends the process at once."""
        del frame
        now = time.monotonic()
        patience = AGAIN_AFTER_IN_TORCHRUN if is_distributed() else AGAIN_AFTER
        if not self.signal:
            self.signal, self.signalled = number, now
            line = (
                f'{signal.Signals(number).name}: ending after this iteration; once more in {patience:.0f} s: at once\n'
            )
            with suppress(OSError):  # the terminal may be gone
                os.write(2, line.encode())  # print may have been interrupted
        elif now - self.signalled > patience:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def stop_if_asked(self, failure: Exception | None = None) -> None:
        """Save and stop if this process, or in a distributed run any, was sent a signal or has no next batch.

        Args:
            failure: Why this one has none.

        Raises:
            Stopped: By a signal.
            RunError: Another process has no next batch.
        """
        number, has_failed = most_over_processes(self.signal, failure is not None)
        if number or has_failed:
            self.save()
        if has_failed and not failure:
            raise RunError(ANOTHER_ENDED)
        if number and not failure:
            raise Stopped(number)

    @property
    def iteration(self) -> int:
        """The last iteration that was done, or that the run goes on from; models of other classes do not tell."""
        total = self.opt['train']['total_iter']
        return max(self.start_iter, getattr(self.model, 'current_iter', total))

    def save(self) -> None:
        """Save weights and state of the last finished iteration, unless they are."""
        iteration = self.model.current_iter if self.model else 0
        if iteration <= self.start_iter:
            return
        states = Path(self.opt['path']['training_states'])
        if not self.model.is_state_due and not (states / f'{iteration}.state').exists():
            get_root_logger().info(f'Saving iteration {iteration:,}; go on from it with --auto_resume.')
            self.model.save(self.model.epoch - 1, iteration)
        self.model.finish_iteration()


def is_not_of_sets(record: logging.LogRecord) -> bool:
    """Return whether a line of the log is another than that several validation sets are not supported."""
    return record.msg != ONE_SET


def hide_full_disk(stock: Callable[[Any], None], args: Any) -> None:
    """Say nothing of a disk that is full for TensorBoard's thread: its next call raises the error in ours."""
    if not is_full(args.exc_value):
        stock(args)


def explained(error: Exception) -> Exception:
    """Return what to raise for an error that ends a run: a line where it is not the program's."""
    if isinstance(error, UserError | RunError):
        return error
    if is_lost_process(error):
        return RunError(ANOTHER_ENDED)
    if is_out_of_memory(error):
        return RunError(f'out of memory; {OUT_OF_MEMORY}')
    if is_full(error):
        return RunError(f'{error.filename or "log or curves of the run"}: cannot be written: {error.strerror}')
    return error


def main() -> int | None:
    """Train as the command line says."""
    keep_freed_memory()
    run = TrainingRun()
    run.install()
    try:
        pipeline.train_pipeline(str(Path.cwd()))
    except Stopped as stop:
        print(f'Stopped by {stop}.', file=sys.stderr)
        return stop.status
    except Exception as error:
        if run.is_between and not is_distributed():  # there they have done so together
            run.save()
        if (told := explained(error)) is error:
            raise
        raise told from error
    finally:
        if run.archive.may_undo and run.tb_logger:
            run.tb_logger.close()  # else it would make its file anew
        run.archive.undo()
        workers.end()
    if (done := run.iteration) < (total := run.opt['train']['total_iter']):
        raise RunError(f'train.total_iter: ended at iteration {done:,} of {total:,}, with no batch left')
    return None


def command() -> None:
    """Run as a console command."""
    run_command(main)


if __name__ == '__main__':
    command()
