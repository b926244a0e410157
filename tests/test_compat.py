"""facesr_plugin/compat.py: what Python, setuptools or torchvision took away is there when BasicSR asks for it."""

import re
import subprocess
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

from facesr_plugin import compat, train

# Neither Python nor setuptools has distutils, as on Python 3.12 and later where setuptools' .pth file is not processed.
NO_DISTUTILS = """
import importlib.machinery, sys
def hide(find):
    return lambda name, *rest, **more: None if name.partition('.')[0] == 'distutils' else find(name, *rest, **more)
for name in [name for name in sys.modules if name.partition('.')[0] in ('distutils', '_distutils_hack')]:
    del sys.modules[name]
sys.meta_path[:] = [finder for finder in sys.meta_path if 'Distutils' not in type(finder).__name__]
importlib.machinery.PathFinder.find_spec = hide(importlib.machinery.PathFinder.find_spec)
"""

# torchvision's compiled part does not load, as that of a CUDA build beside a PyTorch without CUDA.
NO_COMPILED_PART = """
import torch
load = torch.ops.load_library
def refuse(path):
    if 'torchvision' in str(path):
        raise OSError('libcudart.so: cannot open shared object file')
    return load(path)
torch.ops.load_library = refuse
"""


def run(code: str, cwd) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=cwd, check=False)


def test_without_distutils(tmp_path):
    code = NO_DISTUTILS + (
        'import facesr_plugin, basicsr\n'
        'from distutils.version import LooseVersion\n'
        'print(LooseVersion("0.29.1+cpu") >= LooseVersion("0.9.0") > LooseVersion("0.8"))'
    )
    done = run(code, tmp_path)
    assert (done.returncode, done.stdout) == (0, 'True\n'), done.stderr
    assert "No module named 'distutils'" in run(NO_DISTUTILS + 'import basicsr', tmp_path).stderr  # it is hidden


def test_distutils_that_is_there_stays(monkeypatch):
    there = ModuleType('distutils')
    monkeypatch.setitem(sys.modules, 'distutils', there)
    compat.repair()
    assert sys.modules['distutils'] is there
    assert not hasattr(there, 'version')


def test_torchvision_without_its_compiled_part(tmp_path):
    code = (
        'import torchvision; from torchvision.transforms.functional import rgb_to_grayscale\n'
        'is_stock = torchvision.__loader__ is torchvision.__spec__.loader\n'
        'print(rgb_to_grayscale(torch.ones(1, 3, 2, 2)).shape[1], is_stock)'
    )
    done = run(NO_COMPILED_PART + 'import facesr_plugin\n' + code, tmp_path)
    assert (done.returncode, done.stdout) == (0, '1 True\n'), done.stderr
    assert 'torchvision::nms does not exist' in run(NO_COMPILED_PART + code, tmp_path).stderr  # the break is real


def test_torchvision_with_its_compiled_part(tmp_path):
    code = (
        'import facesr_plugin, torch; from torchvision.ops import nms\n'
        'boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 9.0, 8.0]])\n'
        'print(nms(boxes, torch.tensor([0.1, 0.9]), 0.5).tolist())'
    )
    done = run(code, tmp_path)
    assert (done.returncode, done.stdout) == (0, '[1]\n'), done.stderr


@pytest.mark.parametrize('has_it', [False, True])
def test_wandb(launch, opt, monkeypatch, has_it):
    """wandb 0.28.2 no longer has the function that BasicSR makes a run's id with; an older one's own is used."""
    calls = []
    wandb, util = ModuleType('wandb'), ModuleType('wandb.util')
    wandb.util, wandb.init = util, lambda **options: calls.append(options)
    wandb.__spec__ = ModuleSpec('wandb', None)
    if has_it:
        util.generate_id = lambda: 'theirs'
    monkeypatch.setitem(sys.modules, 'wandb', wandb)
    opt['logger'] |= {'use_tb_logger': True, 'wandb': {'project': 'faces'}}
    status, _, err = launch(train.main, opt)
    assert status == 0, err
    (call,) = calls
    assert (call['project'], call['name'], call['sync_tensorboard']) == ('faces', 'run', True)
    assert call['id'] == 'theirs' if has_it else re.fullmatch('[a-z0-9]{8}', call['id'])
