"""The loader's processes under every start method: same weights, signals to the whole group, deaths, none left over."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
from tiny import BREAK, make_project

from facesr_plugin.data import workers
from facesr_plugin.errors import RunError

OPTIONS = ['train:total_iter=12', 'train:scheduler:periods=[12]', 'val:val_freq=4', 'train:ema_decay=0.9']
SPAWNED = ['forkserver', 'spawn']
METHODS = ['fork', 'forkserver', pytest.param('spawn', marks=pytest.mark.slow)]
START_METHODS = pytest.mark.parametrize('method', METHODS)
LEFT = 300  # seconds, many times as long as it takes: helpers that are left hold stderr open


@pytest.fixture(scope='module')
def project(tmp_path_factory) -> Path:
    """Return a project with the run `plain`, whole and without loader processes."""
    root = make_project(tmp_path_factory.mktemp('project'))
    assert start(root, 'plain', 'fork', ('none', 1, 9), count=0).returncode == 0
    return root


def start(
    project: Path,
    name: str,
    method: str,
    breaking: tuple[str, int, int | str] = ('none', 1, 9),
    count: int = 2,
    preexec_fn: Callable | None = None,
    prefix: Sequence[str] = (),
) -> subprocess.CompletedProcess:
    """Run, in a process group of its own, and wait until all processes of it have ended."""
    args = ['-opt', 'demo_exp1.yml', '--auto_resume', '--force_yml', f'name={name}', *OPTIONS]
    args.append(f'datasets:train:num_worker_per_gpu={count}')
    return subprocess.run(
        [*prefix, sys.executable, BREAK, *map('{}'.format, breaking), *args],
        capture_output=True,
        text=True,
        cwd=project,
        check=False,
        start_new_session=True,
        env=os.environ | {'FACESR_START_METHOD': method},
        timeout=LEFT,
        preexec_fn=preexec_fn,
    )


def states(project: Path, name: str) -> list[int]:
    folder = project / 'experiments' / name / 'training_states'
    return sorted(int(path.stem) for path in folder.glob('*.state'))


def goes_on_as_plain(project: Path, name: str, method: str) -> None:
    """Go on with a run: it ends as the unbroken one without loader processes did."""
    done = start(project, name, method)
    assert done.returncode == 0, done.stderr
    assert 'Traceback' not in done.stderr
    plain, other = (project / 'experiments' / run for run in ('plain', name))
    one, two = (torch.load(run / 'models' / 'net_g_latest.pth', weights_only=True) for run in (plain, other))
    assert all(torch.equal(one[kind][key], two[kind][key]) for kind in one for key in one[kind])
    assert (plain / 'history.csv').read_bytes() == (other / 'history.csv').read_bytes()


@START_METHODS
def test_signal_to_the_group_saves_and_the_run_goes_on_exactly(project, method):
    name = f'group_{method}'
    done = start(project, name, method, ('step', 5, -signal.SIGTERM))
    assert done.returncode == 143, done.stderr
    assert done.stderr.endswith('Stopped by SIGTERM.\n')
    assert 'Traceback' not in done.stderr
    assert states(project, name) == [3, 5]
    goes_on_as_plain(project, name, method)


@pytest.mark.parametrize('method', METHODS[1:])
def test_signal_to_the_group_while_the_processes_start(project, method):
    done = start(project, f'early_{method}', method, ('workers', 1, -signal.SIGTERM))
    assert done.returncode == 143, done.stderr
    assert done.stderr.endswith('Stopped by SIGTERM.\n')
    assert 'Traceback' not in done.stderr
    assert states(project, f'early_{method}') == []


@START_METHODS
def test_nothing_is_left_of_a_run_that_was_killed(project, method):
    done = start(project, f'killed_{method}', method, ('step', 5, signal.SIGKILL))
    assert done.returncode == -signal.SIGKILL
    assert 'Traceback' not in done.stderr


@pytest.mark.parametrize('method', ['fork', *(pytest.param(method, marks=pytest.mark.slow) for method in SPAWNED)])
def test_killed_process_of_the_loader_is_told_and_what_is_done_is_saved(project, method):
    name = f'lost_{method}'
    done = start(project, name, method, ('loader', 4, signal.SIGKILL))
    assert done.returncode == 1, done.stderr
    expected = 'error: a process of the loader was killed by SIGKILL; most often memory has run out: fewer'
    assert done.stderr.splitlines()[-1].startswith(expected)
    assert 'Traceback' not in done.stderr
    assert max(states(project, name)) > 3
    goes_on_as_plain(project, name, method)


def test_bus_error_is_told_as_shared_memory(project):
    done = start(project, 'bus_error', 'fork', ('loader', 4, signal.SIGBUS))
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1] == f'error: {workers.SMALL_SHARED_MEMORY}'
    assert 'Traceback' not in done.stderr


SMALL = ['unshare', '-Urm', 'sh', '-c', 'mount -t tmpfs -o size=150k tmpfs /dev/shm && "$@"', 'sh']


def can_make_it_small() -> bool:
    return bool(shutil.which('unshare')) and subprocess.run([*SMALL, 'true'], capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not can_make_it_small(), reason="no mounts of one's own here")
def test_shared_memory_that_is_too_small(project):
    done = start(project, 'small', 'fork', prefix=SMALL)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1] == f'error: {workers.SMALL_SHARED_MEMORY}'
    assert 'Traceback' not in done.stderr
    assert states(project, 'small')


@pytest.mark.parametrize(
    'text',
    [
        'unable to open shared memory object </torch_7_1_0> in read-write mode: No space left on device (28)',
        'unable to write to file </torch_7_1_0>: No space left on device (28)',
    ],
)
def test_shared_memory_that_is_too_small_told_by_a_process(text):
    told = workers.explained(RuntimeError(f'Caught RuntimeError in DataLoader worker process 0.\n{text}'), [])
    assert isinstance(told, RunError)
    assert str(told) == workers.SMALL_SHARED_MEMORY


def test_other_errors_of_drawing_stay_what_they_are():
    error = RuntimeError('unable to do this')
    assert workers.explained(error, []) is error


def test_hanging_up_saves(project):
    hang_up = partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup
    done = start(project, 'hup', 'fork', ('step', 5, -signal.SIGHUP), preexec_fn=hang_up)
    assert done.returncode == 129, done.stderr
    assert done.stderr.endswith('Stopped by SIGHUP.\n')
    assert states(project, 'hup') == [3, 5]


def test_hanging_up_under_nohup_does_nothing(project):
    done = start(project, 'nohup', 'fork', ('step', 5, -signal.SIGHUP), preexec_fn=ignore_hanging_up)
    assert done.returncode == 0, done.stderr


def ignore_hanging_up() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def test_second_signal_ends_at_once(project):
    done = start(project, 'twice', 'fork', ('step', 5, f'{signal.SIGTERM:d},{signal.SIGTERM:d}'))
    assert done.returncode == -signal.SIGTERM, done.stderr
    assert 'Stopped' not in done.stderr
    assert states(project, 'twice') == [3]
