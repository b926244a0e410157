"""A project of tiny size for tests that run the real commands."""

import subprocess
import sys
from pathlib import Path

import yaml

from facesr_plugin.commands.degrade import main as degrade
from facesr_plugin.commands.lmdb import main as lmdb
from facesr_plugin.data.images import list_images, read_image, write_image

ROOT = Path(__file__).parents[1]
BREAK = str(ROOT / 'tests' / 'run_and_break.py')
FACES = ROOT / 'tests' / 'data' / 'faces'


def run(script: str, *args: str, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / script), *args]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def make_project(root: Path) -> Path:
    """Fill a folder with LMDBs of sample faces and the demo's option files, made small."""
    for i, path in enumerate(list_images(FACES)[:8]):
        face = read_image(path)
        write_image(root / ('val' if i < 2 else 'train') / f'{path.stem}.png', face[::2, ::2] if i < 2 else face)
    degrade(['-i', str(root / 'val'), '-o', str(root / 'val_lr'), '--seed', '1'])
    lmdb(['--hr', str(root / 'train'), str(root / 'demo' / 'train_hr.lmdb')])
    demo = root / 'demo'
    lmdb(
        ['--hr', str(root / 'val'), str(demo / 'val_hr.lmdb'), '--lr', str(root / 'val_lr'), str(demo / 'val_lr.lmdb')]
    )
    write_options(root)
    return root


def write_options(root: Path) -> None:
    """Write the demo's option files, made small."""
    for name in ('demo_exp1', 'demo_exp2', 'demo_test'):
        opt = yaml.safe_load((ROOT / 'options' / f'{name}.yml').read_text())
        opt['network_g'] |= {'num_feat': 8, 'num_block': 2}
        if name != 'demo_test':
            opt['queue_size'] = 6
            opt['datasets']['train'] |= {'batch_size_per_gpu': 2, 'dataset_enlarge_ratio': 1, 'gt_size': 76}
            opt['train'] |= {'total_iter': 6, 'precision': 'fp32'}
            opt['val']['val_freq'] = 3
            opt['logger'] |= {'print_freq': 2, 'save_checkpoint_freq': 3}
        (root / f'{name}.yml').write_text(yaml.safe_dump(opt))
