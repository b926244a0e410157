"""The plugin as a wheel, installed where no checkout is: its commands, in a folder that holds only data."""

import os
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import FACES, ROOT, make_project

from facesr_plugin.data.images import read_image, write_image

TINY = ['network_g:num_feat=8', 'network_g:num_block=2']
TINY_TRAINING = [
    *TINY,
    'queue_size=0',
    'datasets:train:batch_size_per_gpu=2',
    'datasets:train:dataset_enlarge_ratio=1',
    'datasets:train:gt_size=76',
    'train:total_iter=2',
    'val:val_freq=2',
]


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess:
    env = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}  # it may name a checkout
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, check=False)


@pytest.fixture(scope='module')
def environment(tmp_path_factory) -> Path:
    """Return an environment with the wheel; the packages it needs are those that this test runs with."""
    folder = tmp_path_factory.mktemp('wheel')
    source = folder / 'source'
    source.mkdir()
    for name in ('setup.py', 'pyproject.toml', 'README.md', 'LICENSE'):
        shutil.copy(ROOT / name, source)
    for name in ('facesr_plugin', 'options'):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns('__pycache__'))
    pip, offline = (sys.executable, '-m', 'pip', '--quiet'), ('--no-deps', '--no-index')
    done = run(*pip, 'wheel', *offline, '--no-build-isolation', source, '-w', folder, cwd=folder)
    assert done.returncode == 0, done.stderr
    environment = folder / 'environment'
    done = run(sys.executable, '-m', 'venv', '--without-pip', environment, cwd=folder)
    assert done.returncode == 0, done.stderr
    done = run(*pip, '--python', environment, 'install', *offline, *folder.glob('*.whl'), cwd=folder)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(source)
    (packages,) = environment.glob('lib/python*/site-packages')
    (packages / 'others.pth').write_text('\n'.join(site.getsitepackages()))  # without their own .pth files
    return environment


@pytest.fixture(scope='module')
def project(tmp_path_factory) -> Path:
    """Return a folder with the demo's data and a picture, and no option file."""
    root = make_project(tmp_path_factory.mktemp('project'))
    for path in root.glob('*.yml'):
        path.unlink()
    write_image(root / 'picture.png', read_image(next(FACES.glob('*.jpg')))[::16, ::16])
    return root


def test_upscale(environment, project):
    done = run(environment / 'bin' / 'facesr-upscale', '-i', 'picture.png', '-o', 'enlarged/', cwd=project)
    assert (done.returncode, done.stdout) == (0, 'enlarged: 1 written\n'), done.stderr
    assert read_image(project / 'enlarged' / 'picture.png').shape == (128, 128, 3)


def test_train_and_test(environment, project):
    done = run(
        environment / 'bin' / 'facesr-train', '-opt', 'demo_exp1.yml', '--force_yml', *TINY_TRAINING, cwd=project
    )
    assert done.returncode == 0, done.stderr
    (packages,) = environment.glob('lib/python*/site-packages/facesr_plugin')
    assert done.stdout.startswith(f'demo_exp1.yml: not in the current folder; {packages}/option_files/demo_exp1.yml, ')
    run_folder = project / 'experiments' / 'demo_exp1'
    assert {path.name for path in run_folder.iterdir()} >= {'demo_exp1.yml', 'history.csv', 'models'}
    psnr = torch.load(run_folder / 'models' / 'net_g_best.pth', weights_only=True)['psnr']['params']

    done = run(environment / 'bin' / 'facesr-test', '-opt', 'options/demo_test.yml', '--force_yml', *TINY, cwd=project)
    assert done.returncode == 0, done.stderr
    assert f'# psnr: {psnr:.4f}' in done.stderr
    assert len(list((project / 'results' / 'test_demo_exp1').rglob('*.png'))) == 2

    done = run(environment / 'bin' / 'facesr', 'report', run_folder, '-o', 'report.html', cwd=project)
    assert (done.returncode, (project / 'report.html').is_file()) == (0, True), done.stderr


def test_what_is_missing_is_said_in_a_line(environment, tmp_path):
    done = run(environment / 'bin' / 'facesr-train', '-opt', 'exp1_lsr.yml', '--check', cwd=tmp_path)
    assert done.returncode == 2
    how = ' (made by `make faces` in a checkout, of images of yours by `facesr lmdb`)'
    assert done.stderr.splitlines() == [
        f'error: datasets.train.dataroot_gt: no such file or folder: datasets/train_hr.lmdb{how}',
        f'error: datasets.val.dataroot_gt: no such file or folder: datasets/val_hr.lmdb{how}',
        f'error: datasets.val.dataroot_lq: no such file or folder: datasets/val_lr.lmdb{how}',
    ]
    assert list(tmp_path.iterdir()) == []
