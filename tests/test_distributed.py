"""Several processes under torchrun, on the CPU (gloo)."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import ROOT, make_project

TORCHRUN = [
    sys.executable,
    '-m',
    'torch.distributed.run',
    '--nproc_per_node=2',
    '--master_port=0',
    '--rdzv-backend=c10d',
]
TORCHRUN += ['--rdzv-endpoint=localhost:0']
STEPS = str(ROOT / 'tests' / 'two_processes.py')


def call(command: list[str], cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


@pytest.mark.parametrize('forward', ['concat', pytest.param('sequential', marks=pytest.mark.slow)])
def test_two_processes_equal_one_with_twice_the_batch(forward, tmp_path):
    for name, launcher in (('one', [sys.executable]), ('two', TORCHRUN)):
        done = call([*launcher, STEPS, forward, str(tmp_path / f'{name}.pth')], tmp_path)
        assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / f'{name}.pth', weights_only=True) for name in ('one', 'two'))
    assert one['l_pix'] == pytest.approx(two['l_pix'], rel=1e-6)
    for name, value in one['params'].items():
        torch.testing.assert_close(two['params'][name], value, rtol=1e-4, atol=1e-6)


def test_training_under_torchrun_validates_stops_and_goes_on(tmp_path):
    project = make_project(tmp_path)
    train = [str(ROOT / 'facesr_plugin/train.py'), '-opt', 'demo_exp1.yml', '--launcher', 'pytorch', '--auto_resume']
    options = ['--force_yml', 'datasets:train:batch_size_per_gpu=1', 'queue_size=4']
    done = call([*TORCHRUN, *train, *options, 'name=whole'], project)
    assert done.returncode == 0, done.stderr

    half = ['name=half', 'logger:save_checkpoint_freq=3']
    broken = call(
        [*TORCHRUN, str(ROOT / 'tests' / 'run_and_break.py'), 'step', '5', '9', *train[1:], *options, *half], project
    )
    assert broken.returncode != 0
    states = project / 'experiments' / 'half' / 'training_states'
    assert {path.name for path in states.iterdir()} == {'3.state', '3.rank1'}
    done = call([*TORCHRUN, *train, *options, *half], project)
    assert done.returncode == 0, done.stderr

    results = []
    for name in ('whole', 'half'):
        folder = project / 'experiments' / name
        with open(folder / 'history.csv', newline='') as file:
            rows = list(csv.DictReader(file))
        assert [(row['epoch'], row['iter']) for row in rows] == [('1', '3'), ('2', '6')]
        results.append((rows, torch.load(folder / 'models' / 'net_g_latest.pth', weights_only=True)['params']))
    assert results[0][0] == results[1][0]
    assert all(torch.equal(results[0][1][key], results[1][1][key]) for key in results[0][1])


SEPARATED = """
import os, sys
sys.path.insert(0, {root!r})
os.chdir(f'machine{{os.environ["RANK"]}}')
from facesr_plugin import train
train.state.VISIBLE_AFTER = 1.0
train.command()
"""


def test_machines_that_share_no_folder_are_told(tmp_path):
    """Else the second one could not save its part of the first state, hundreds of iterations later."""
    for machine in ('machine0', 'machine1'):
        (tmp_path / machine).mkdir()
        make_project(tmp_path / machine)
    (tmp_path / 'train.py').write_text(SEPARATED.format(root=str(ROOT)))
    train = ['train.py', '-opt', 'demo_exp1.yml', '--launcher', 'pytorch', '--force_yml', 'queue_size=4']
    done = call([*TORCHRUN, *train], tmp_path)
    assert done.returncode != 0
    states = tmp_path / 'machine1' / 'experiments' / 'demo_exp1' / 'training_states'
    expected = f'{states}: a folder expected that all processes share (path.root), rank 1 sees another'
    assert f'error: {expected}' in done.stderr
    assert 'Traceback' not in done.stderr.partition('error: ')[0]
