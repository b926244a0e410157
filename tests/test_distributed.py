"""Several processes under torchrun, on the CPU (gloo)."""

import csv
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import ROOT, make_project

from facesr_plugin import train

# The processes meet on this machine under its own address: what a name server makes of its name is another matter.
TORCHRUN = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2', '--local-addr=127.0.0.1']
TORCHRUN += ['--rdzv-backend=c10d', '--rdzv-endpoint=127.0.0.1:0']
STEPS = str(ROOT / 'tests' / 'two_processes.py')


def call(command: list[str], cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


@pytest.mark.parametrize('forward', ['concat', 'second', pytest.param('sequential', marks=pytest.mark.slow)])
def test_two_processes_equal_one_with_twice_the_batch(forward, tmp_path):
    for name, launcher in (('one', [sys.executable]), ('two', TORCHRUN)):
        done = call([*launcher, STEPS, forward, str(tmp_path / f'{name}.pth')], tmp_path)
        assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / f'{name}.pth', weights_only=True) for name in ('one', 'two'))
    assert one['l_pix'] == pytest.approx(two['l_pix'], rel=1e-6)
    for name, value in one['params'].items():
        torch.testing.assert_close(two['params'][name], value, rtol=1e-4, atol=1e-6)


SEPARATED = """
import os, sys
sys.path[:0] = [{root!r}, {tests!r}]
os.chdir(f'machine{{os.environ["RANK"]}}')
import run_and_break
from facesr_plugin.errors import run_command
run_command(run_and_break.main)
"""
TRAIN = ['-opt', 'demo_exp1.yml', '--launcher', 'pytorch', '--auto_resume', '--force_yml']
TRAIN += ['datasets:train:batch_size_per_gpu=1', 'queue_size=4', 'train:ema_decay=0.9', 'val:val_freq=4']


def results(folder: Path) -> tuple[list[dict[str, str]], dict[str, dict[str, torch.Tensor]]]:
    with open(folder / 'history.csv', newline='') as file:
        return list(csv.DictReader(file)), torch.load(folder / 'models' / 'net_g_latest.pth', weights_only=True)


def assert_same_weights(one: dict[str, dict[str, torch.Tensor]], two: dict[str, dict[str, torch.Tensor]]) -> None:
    assert one.keys() == two.keys()
    assert all(torch.equal(one[kind][name], two[kind][name]) for kind in one for name in one[kind])


@pytest.fixture(scope='module')
def project(tmp_path_factory) -> Path:
    """Return a project with a whole run in it."""
    root = make_project(tmp_path_factory.mktemp('project'))
    done = call([*TORCHRUN, str(ROOT / 'facesr_plugin/train.py'), *TRAIN, 'name=whole'], root)
    assert done.returncode == 0, done.stderr
    return root


def test_two_machines_without_a_common_folder_validate_stop_and_go_on(project, tmp_path):
    """Killed between validations: each process has its part of the averages since the last one."""
    for machine in ('machine0', 'machine1'):
        shutil.copytree(project, tmp_path / machine, ignore=shutil.ignore_patterns('experiments', 'tb_logger'))
    script = tmp_path / 'separated.py'
    script.write_text(SEPARATED.format(root=str(ROOT), tests=str(ROOT / 'tests')))
    killed = call([*TORCHRUN, str(script), 'step', '6', '9', *TRAIN, 'name=half'], tmp_path)
    assert killed.returncode != 0
    folder = tmp_path / 'machine0' / 'experiments' / 'half'
    assert [path.name for path in (folder / 'training_states').iterdir()] == ['3.state']
    done = call([*TORCHRUN, str(script), 'none', '1', '9', *TRAIN, 'name=half'], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('going on from') == 1
    assert not (tmp_path / 'machine1' / 'experiments').exists()

    rows, weights = results(project / 'experiments' / 'whole')
    assert [(row['epoch'], row['iter']) for row in rows] == [('2', '4'), ('2', '6')]
    assert results(folder)[0] == rows
    assert_same_weights(results(folder)[1], weights)


@pytest.mark.slow
def test_state_with_a_file_for_each_process_is_gone_on_with(project):
    """As they were saved before rank 0 gathered them; what the others had of the averages was lost."""
    killed = call([*TORCHRUN, str(ROOT / 'tests' / 'run_and_break.py'), 'step', '6', '9', *TRAIN, 'name=old'], project)
    assert killed.returncode != 0
    file = project / 'experiments' / 'old' / 'training_states' / '3.state'
    state = torch.load(file, weights_only=True)
    (other,) = state['facesr'].pop('others')
    state['facesr']['monitor'] |= state['facesr'].pop('averages')
    torch.save(state, file)
    del other['averages']
    torch.save(other, file.with_name('3.rank1'))
    done = call([*TORCHRUN, str(ROOT / 'facesr_plugin/train.py'), *TRAIN, 'name=old'], project)
    assert done.returncode == 0, done.stderr
    assert_same_weights(results(project / 'experiments' / 'old')[1], results(project / 'experiments' / 'whole')[1])


WHO = {'all': {}, 'one': {'FACESR_BREAK_RANK': '1'}, 'torchrun': {'FACESR_BREAK_RANK': '0', 'FACESR_BREAK_AGENT': '1'}}


@pytest.mark.parametrize(
    ('who', 'workers', 'number'),
    [
        ('all', 2, '-15'),
        pytest.param('one', 2, '15', marks=pytest.mark.slow),
        pytest.param('torchrun', 2, '15', marks=pytest.mark.slow),
        pytest.param('all', 0, '-15', marks=pytest.mark.slow),
        pytest.param('one', 0, '1', marks=pytest.mark.slow),
        pytest.param('torchrun', 0, '1', marks=pytest.mark.slow),
    ],
)
def test_signal_saves_whoever_gets_it(project, who, workers, number):
    name = f'{who}_{workers}'
    options = [f'name={name}', 'train:total_iter=60', 'val:val_freq=60', 'logger:save_checkpoint_freq=60']
    options += [f'datasets:train:num_worker_per_gpu={workers}']
    command = [*TORCHRUN, str(ROOT / 'tests' / 'run_and_break.py'), 'step', '5', number, *TRAIN, *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=project, check=False, env=os.environ | WHO[who])
    signal_name = signal.Signals(abs(int(number))).name
    assert done.stderr.count(f'Stopped by {signal_name}.') == 2, done.stderr
    assert 'error: ' not in done.stderr
    (state,) = (project / 'experiments' / name / 'training_states').iterdir()
    assert int(state.stem) in ((5,) if who != 'torchrun' else range(5, 60))


def test_process_that_vanishes_is_told_in_a_line(project):
    breaking = os.environ | {'FACESR_BREAK_RANK': '1'}
    command = [*TORCHRUN, str(ROOT / 'tests' / 'run_and_break.py'), 'step', '2', '9', *TRAIN, 'name=vanishes']
    done = subprocess.run(command, capture_output=True, text=True, cwd=project, check=False, env=breaking)
    lines = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert lines == ['error: another process of this run has ended: its own lines say why; go on with --auto_resume']
    assert 'Traceback' not in done.stderr.partition('error: ')[0]


def test_lost_process_of_one_loader_saves_what_is_done_on_all(project):
    """One has no next batch and the others would wait for it in their step: they agree before, and the run goes on."""
    options = ['name=loader', 'datasets:train:num_worker_per_gpu=1', 'logger:save_checkpoint_freq=100']
    breaking = os.environ | {'FACESR_BREAK_RANK': '1'}
    command = [*TORCHRUN, str(ROOT / 'tests' / 'run_and_break.py'), 'loader', '2', '9', *TRAIN, *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=project, check=False, env=breaking)
    lines = sorted(line for line in done.stderr.splitlines() if line.startswith('error: '))
    assert lines[0].startswith('error: a process of the loader was killed by SIGKILL; ')
    assert lines[1:] == [f'error: {train.ANOTHER_ENDED}']
    assert 'Traceback' not in done.stderr.partition('error: ')[0]
    (state,) = (project / 'experiments' / 'loader' / 'training_states').iterdir()
    assert int(state.stem) >= 2
    done = call([*TORCHRUN, str(ROOT / 'facesr_plugin/train.py'), *TRAIN, *options], project)
    assert done.returncode == 0, done.stderr
    assert_same_weights(results(project / 'experiments' / 'loader')[1], results(project / 'experiments' / 'whole')[1])
