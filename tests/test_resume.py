"""A run that was killed anywhere and gone on with equals one that was not: weights, history, best, curves."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import BREAK, ROOT, make_project, run

from facesr_plugin.data.epoch_sampler import EpochSampler
from facesr_plugin.data.images import list_images, read_image, write_image

RUN = ['train:total_iter=12', 'train:scheduler:periods=[12]', 'logger:save_checkpoint_freq=2', 'val:val_freq=4']
VARIANTS = {
    'concat, LMDB, 2 workers, EMA': ['train:ema_decay=0.9', 'datasets:train:num_worker_per_gpu=2'],
    'sampled, folder, no workers': [
        'train:pixel_opt:forward=sampled',
        'datasets:train:io_backend:type=disk',
        'datasets:train:dataroot_gt=train',
        'datasets:train:num_worker_per_gpu=0',
    ],
    'sequential, no pool, gt_size, clipped': [
        'train:pixel_opt:forward=sequential',
        'queue_size=0',
        'train:accumulate=2',
        'train:grad_clip=0.01',
    ],
    'second stage, EMA': [
        'model_type=AlphaRealESRGANModel',
        'network_d={type: PatchDiscriminator, num_feat: 4, num_layer: 2}',
        'train:optim_d={type: AdamW, lr: 1.0e-3}',
        'train:gan_opt={type: GANLoss, loss_weight: 0.1}',
        'train:feature_opt={loss_weight: 0.1}',
        'train:pixel_opt:forward=sampled',
        'train:ema_decay=0.9',
    ],
}
KILLS = [('step', 4), ('sync', 3), ('state', 2), ('validation', 1), ('best', 1), ('step', 1), ('sync', 1)]


@pytest.fixture(scope='module')
def project(tmp_path_factory) -> Path:
    root = make_project(tmp_path_factory.mktemp('project'))
    text = (root / 'demo_exp1.yml').read_text()
    assert 'ema_decay: 0\n' in text
    (root / 'demo_exp1.yml').write_text(text.replace('ema_decay: 0\n', 'ema_decay: 0\n  accumulate: 1\n'))
    return root


def start(project: Path, name: str, options: list[str], breaking: tuple[str, int, int] | None = None):
    args = ['-opt', 'demo_exp1.yml', '--auto_resume', '--force_yml', f'name={name}', *RUN, *options]
    if breaking is None:
        return run('facesr_plugin/train.py', *args, cwd=project)
    command = [sys.executable, BREAK, *map(str, breaking), *args]
    return subprocess.run(command, capture_output=True, text=True, cwd=project, check=False, start_new_session=True)


@pytest.fixture(scope='module')
def plain(project) -> str:
    """Return the name of a run of the file as it is, that nothing breaks."""
    assert start(project, 'plain', []).returncode == 0
    return 'plain'


def curves(project: Path, name: str) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(project / 'tb_logger' / name), size_guidance={'scalars': 0}, purge_orphaned_data=True)
    events.Reload()
    tags = [tag for tag in events.Tags()['scalars'] if 'img_per_s' not in tag]
    assert tags
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def assert_same_run(project: Path, first: str, second: str) -> None:
    folders = [project / 'experiments' / name for name in (first, second)]
    discriminators = [path.name for path in (folders[0] / 'models').glob('net_d_*')]
    for file in ('net_g_latest.pth', 'net_g_best.pth', 'net_g_12.pth', *discriminators):
        one, two = (torch.load(folder / 'models' / file, weights_only=True) for folder in folders)
        assert one.keys() == two.keys()
        for key in one.keys() - {'psnr'}:
            assert all(torch.equal(one[key][name], two[key][name]) for name in one[key]), (file, key)
        assert one.get('psnr') == two.get('psnr')
    assert (folders[0] / 'history.csv').read_bytes() == (folders[1] / 'history.csv').read_bytes()
    assert not [path for folder in folders for path in folder.rglob('*.tmp')]
    assert curves(project, first) == curves(project, second)


def check_variant(project: Path, variant: str, kills: list[tuple[str, int]]) -> None:
    options = VARIANTS[variant]
    name = f'{variant.split(",")[0]}_{len(kills)}'
    unbroken = start(project, f'{name}_unbroken', options)
    assert unbroken.returncode == 0, unbroken.stderr
    for point, count in kills:
        done = start(project, f'{name}_broken', options, (point, count, signal.SIGKILL))
        assert done.returncode == -signal.SIGKILL, (point, done.stdout, done.stderr)
    done = start(project, f'{name}_broken', options)
    assert done.returncode == 0, done.stderr
    assert '--auto_resume: going on from' in done.stdout
    assert_same_run(project, f'{name}_unbroken', f'{name}_broken')


def test_killed_run_goes_on_exactly(project):
    check_variant(project, 'concat, LMDB, 2 workers, EMA', KILLS[:4])


@pytest.mark.slow
@pytest.mark.parametrize('variant', list(VARIANTS))
def test_killed_run_goes_on_exactly_in_every_forward(project, variant):
    check_variant(project, variant, KILLS)


def make_old(project: Path, state: Path) -> None:
    """Have a state be one of commit 754be97 or before: options as in the file, without defaults; no counts of steps."""
    content = torch.load(state, weights_only=True)
    now, raw = content['facesr']['options'], yaml.safe_load((project / 'demo_exp1.yml').read_text())
    train = {
        **raw['train'],
        'total_iter': 12,
        'accumulate': 1,
        'scheduler': {**raw['train']['scheduler'], 'periods': [12]},
    }
    train_set = {key: value for key, value in raw['datasets']['train'].items() if key in now['datasets']['train']}
    blocks = {'network_g': raw['network_g'], 'train': train, 'datasets.train': train_set}
    content['facesr']['options'] = {key: value for key, value in now.items() if not isinstance(value, dict)} | blocks
    del content['facesr']['guard']
    torch.save(content, state)


def test_state_of_an_earlier_version_goes_on_exactly(project, plain):
    assert start(project, 'old', [], ('step', 8, signal.SIGKILL)).returncode == -signal.SIGKILL
    make_old(project, project / 'experiments' / 'old' / 'training_states' / '6.state')
    done = start(project, 'old', ['queue_size=7'])
    assert done.returncode == 2
    assert done.stderr == 'error: queue_size: 6 expected, as the training state was saved under, got 7\n'
    done = start(project, 'old', [])
    assert 'going on from' in done.stdout
    assert done.returncode == 0, done.stderr
    assert_same_run(project, plain, 'old')


def test_signal_saves_and_the_run_goes_on_exactly(project, plain):
    """Ctrl-C; `test_workers.py` has the other signals."""
    name = 'SIGINT'
    done = start(project, name, [], ('step', 5, -signal.SIGINT))
    assert done.returncode == 130, done.stderr
    assert done.stderr.endswith('Stopped by SIGINT.\n')
    assert (project / 'experiments' / name / 'training_states' / '5.state').exists()
    assert start(project, name, []).returncode == 0
    assert_same_run(project, plain, name)


def test_unreadable_image_saves_and_the_run_goes_on_exactly(project):
    """One of the first epoch's last batch, after two iterations."""
    for path in list_images(project / 'train'):
        write_image(project / 'train_jpg' / f'{path.stem}.jpg', read_image(path))
    folder = ['datasets:train:io_backend:type=disk', 'datasets:train:dataroot_gt=train_jpg']
    options = [*folder, 'datasets:train:num_worker_per_gpu=1', 'logger:save_checkpoint_freq=12']
    assert start(project, 'readable', options).returncode == 0
    files = list_images(project / 'train_jpg')
    seed = yaml.safe_load((project / 'demo_exp1.yml').read_text())['manual_seed']
    last_batch = list(EpochSampler(files, 1, 0, seed=seed, batch_size=2))[-2:]
    image = files[last_batch[0]]
    content = image.read_bytes()
    image.write_bytes(content[: len(content) // 2])  # before training headers alone are read
    done = start(project, 'unreadable', options)
    image.write_bytes(content)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f'error: train_jpg/{image.name}: cannot be read as an image')
    assert 'Traceback' not in done.stderr
    states = project / 'experiments' / 'unreadable' / 'training_states'
    assert {path.name for path in states.iterdir()} == {'2.state'}
    assert start(project, 'unreadable', options).returncode == 0
    assert_same_run(project, 'readable', 'unreadable')


def test_memory_that_runs_out_in_a_step(project):
    """The step is not done, so nothing is saved as if it were."""
    done = start(project, 'out_of_memory', ['logger:save_checkpoint_freq=3'], ('step', 5, 0))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith('error: out of memory; train.precision: bf16, ')
    assert 'Traceback' not in done.stderr
    states = project / 'experiments' / 'out_of_memory' / 'training_states'
    assert {path.name for path in states.iterdir()} == {'3.state'}


@pytest.mark.slow
def test_killed_at_random_times(project):
    """Wherever the kills fall; the times are drawn from a fixed seed, what runs at them is up to the machine."""
    options = VARIANTS['concat, LMDB, 2 workers, EMA']
    assert start(project, 'timed_unbroken', options).returncode == 0
    args = ['-opt', 'demo_exp1.yml', '--auto_resume', '--force_yml', 'name=timed', *RUN, *options]
    generator = random.Random(0)
    for _ in range(20):
        process = subprocess.Popen(
            [sys.executable, str(ROOT / 'facesr_plugin/train.py'), *args],
            cwd=project,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            process.wait(generator.uniform(3, 9))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    assert start(project, 'timed', options).returncode == 0
    assert_same_run(project, 'timed_unbroken', 'timed')


def test_unreadable_state_is_passed_over(project):
    done = start(project, 'damaged', [], ('step', 6, signal.SIGKILL))
    assert done.returncode == -signal.SIGKILL
    states = project / 'experiments' / 'damaged' / 'training_states'
    assert {path.name for path in states.iterdir()} == {'2.state', '4.state'}
    (states / '4.state').write_bytes((states / '4.state').read_bytes()[:1000])
    done = start(project, 'damaged', ['train:total_iter=12'])
    assert done.returncode == 0, done.stderr
    assert '4.state: damaged, or no checkpoint; taking the state before it' in done.stdout
    assert f'going on from {states / "2.state"}' in done.stdout


def test_seed_that_was_drawn_is_kept(project):
    done = start(project, 'seedless', ['manual_seed=~'], ('step', 7, signal.SIGKILL))
    assert done.returncode == -signal.SIGKILL
    state = torch.load(project / 'experiments' / 'seedless' / 'training_states' / '6.state', weights_only=True)
    assert start(project, 'seedless', ['manual_seed=~']).returncode == 0
    seed = state['facesr']['options']['manual_seed']
    assert start(project, 'seeded', [f'manual_seed={seed}']).returncode == 0
    assert_same_run(project, 'seeded', 'seedless')


def test_run_is_found_from_any_folder(project, tmp_path):
    """`path.root` says where runs are."""
    opt = yaml.safe_load((project / 'demo_exp1.yml').read_text())
    opt['name'], opt['path']['root'] = 'anywhere', str(project)
    for phase, key in (('train', 'dataroot_gt'), ('val', 'dataroot_gt'), ('val', 'dataroot_lq')):
        opt['datasets'][phase][key] = str(project / opt['datasets'][phase][key])
    file = project / 'anywhere.yml'
    file.write_text(yaml.safe_dump(opt))
    command = [sys.executable, BREAK, 'step', '5', '9', '-opt', str(file)]
    assert subprocess.run(command, capture_output=True, cwd=project, check=False).returncode == -signal.SIGKILL
    done = run('facesr_plugin/train.py', '-opt', str(file), '--auto_resume', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f'going on from {project}/experiments/anywhere/training_states/3.state' in done.stdout
    assert (project / 'experiments' / 'anywhere' / 'models' / 'net_g_latest.pth').exists()
    assert (project / 'tb_logger' / 'anywhere').exists()
    assert not list(tmp_path.iterdir())


def test_no_state_says_where_it_looked(project):
    done = start(project, 'none_yet', ['train:total_iter=2'], ('step', 1, signal.SIGKILL))
    assert f'no training state in {project}/experiments/none_yet/training_states, starting anew' in done.stdout
