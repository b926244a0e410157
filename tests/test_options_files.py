"""The check of a whole option file: all problems at once, at every depth; `--check`; states that do not belong."""

import copy
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from basicsr import test as test_pipeline
from basicsr import train as train_pipeline
from basicsr.archs import build_network
from safetensors.torch import save_file
from small import Options, make_data, measuring_options, put, training_options

from facesr_plugin import test, train
from facesr_plugin.errors import UserError, run_command
from facesr_plugin.options.check import check
from facesr_plugin.options.compare import as_trained, check_state, described
from facesr_plugin.options.load import load_yaml

ROOT = Path(__file__).parents[1]


@pytest.fixture
def data(tmp_path) -> Path:
    make_data(tmp_path)
    return tmp_path


@pytest.fixture
def opt(data) -> Options:
    return training_options(data)


def problems(opt: Options, is_train: bool = True) -> list[str]:
    with pytest.raises(UserError) as error:
        check(opt, is_train)
    return str(error.value).splitlines()


def test_nothing_wrong(opt, data):
    before = copy.deepcopy(opt)
    check(opt, True)
    assert opt == before
    check(measuring_options(data), False)


# ------------------------------------------------------------------- all problems at once
def test_no_problem_hides_another(opt, data):
    """A typo, a wrong value, a rule about two keys, missing and damaged files, all in one file."""
    put(opt, 'train.total_iters', 8)
    put(opt, 'train.optim_g.lr', '1e-4')
    put(opt, 'train.scheduler.periods', [3])
    put(opt, 'train.alpha_opt.strat', 0.9)
    put(opt, 'datasets.train.dataroot_gt', str(data / 'none'))
    put(opt, 'datasets.train.blur_kernel_size', 20)
    put(opt, 'datasets.train.use_hflip', 'yes')
    put(opt, 'network_g.num_block', '20')
    put(opt, 'path.pretrain_network_g', 'none.pth')
    put(opt, 'gt_size', 30)
    put(opt, 'val.metrics.psnr.crop_boarder', 4)
    (data / 'lr' / 'face_1.png').write_bytes(b'')
    put(opt, 'path.resume', 'x')
    assert sorted(line.partition(': ')[0] for line in problems(opt)) == sorted(
        [
            'train.total_iters',
            'train.optim_g.lr',
            'train.scheduler.periods',
            'train.alpha_opt.strat',
            'datasets.train.dataroot_gt',
            'datasets.train.blur_kernel_size',
            'datasets.train.use_hflip',
            'network_g.num_block',
            'val.metrics.psnr.crop_boarder',
            'path.resume',
            f'{data}/lr/face_1.png',
        ]  # gt_size and the checkpoint belong to datasets.train and network_g: looked at once those are right
    )


def test_damaged_files_are_all_named(opt, data):
    for name in ('hr/face_0.png', 'hr/face_2.png'):
        (data / name).write_text('no picture')
    lines = problems(opt)
    assert sorted(line.partition(': ')[0] for line in lines) == [f'{data}/hr/face_0.png', f'{data}/hr/face_2.png']


def test_one_mistake_is_one_line(opt, data):
    """Of the two members of `num_gpu: Count | 'auto'`, and of two folders under one wrong `io_backend`."""
    put(opt, 'num_gpu', 'all')
    assert problems(opt) == ["num_gpu: expected a whole number or 'auto', got 'all'"]
    put(opt, 'num_gpu', 0)
    put(opt, 'datasets.val.io_backend.type', 'lmdb')
    assert len(problems(opt)) == 1


@pytest.mark.parametrize(
    ('key', 'value', 'problem'),
    [
        ('kernel_lst', ['iso'], "unknown option, did you mean 'kernel_list'?"),
        ('kernel_list', ['iso', 'iso', 3], None),
    ],
)
def test_no_problem_makes_another(opt, key, value, problem):
    """That `kernel_prob` does not go with the default of a key that is misspelt or wrong is not the user's mistake."""
    put(opt, 'datasets.train.kernel_prob', [1.0])
    put(opt, f'datasets.train.{key}', value)
    put(opt, 'datasets.train.blur_kernel_size', 20)
    first, second = sorted(problems(opt))
    assert first == 'datasets.train.blur_kernel_size: an odd number expected'
    assert second.startswith(f'datasets.train.{key}')
    assert problem is None or second == f'datasets.train.{key}: {problem}'


# ------------------------------------------------------------------------- did you mean
@pytest.mark.parametrize(
    ('path', 'value', 'close'),
    [
        ('model_type', 'AlphaRealESRNetModell', 'AlphaRealESRNetModel'),
        ('network_g.type', 'FaceSRResnet', 'FaceSRResNet'),
        ('network_g.type', 'RRDBnet', 'RRDBNet'),
        ('datasets.train.type', 'FaceDegradationDataSet', 'FaceDegradationDataset'),
        ('datasets.val.type', 'PairedImagesDataset', 'PairedImageDataset'),
        ('val.metrics.psnr.type', 'calculate_pnsr', 'calculate_psnr'),
    ],
)
def test_did_you_mean_a_registered_name(opt, path, value, close):
    put(opt, path, value)
    assert problems(opt) == [f'{path}: a registered name expected, got {value!r}, did you mean {close!r}?']


def test_options_of_somebody_elses_network(opt):
    """They are the parameters of its class."""
    put(opt, 'network_g', {'type': 'RRDBNet', 'num_in_ch': 3, 'num_out_ch': 3, 'num_blok': 3})
    assert problems(opt) == ["network_g.num_blok: unknown option, did you mean 'num_block'?"]
    put(opt, 'network_g', {'type': 'RRDBNet', 'num_in_ch': 3})
    assert problems(opt) == ['network_g.num_out_ch: missing']


def test_options_of_a_metric(opt):
    """BasicSR's metrics take any keyword and pass over it: of a typo nothing would be heard."""
    put(opt, 'val.metrics.psnr', {'type': 'calculate_psnr', 'crop_border': 0, 'test_y_chanel': True})
    assert problems(opt) == ["val.metrics.psnr.test_y_chanel: unknown option, did you mean 'test_y_channel'?"]
    put(opt, 'val.metrics.psnr', {'type': 'calculate_psnr', 'better': 'higher'})
    assert problems(opt) == ['val.metrics.psnr.crop_border: missing']


# --------------------------------------------------------------------- values and rules
COSINE = {'type': 'CosineAnnealingRestartLR', 'periods': [4]}
STEPS = {'type': 'MultiStepLR', 'milestones': [2]}


@pytest.mark.parametrize(
    ('path', 'value', 'line'),
    [
        ('train.scheduler', {**COSINE, 'gamma': 0.5}, 'gamma: not an option of CosineAnnealingRestartLR'),
        ('train.scheduler', {**STEPS, 'eta_min': 0}, 'eta_min: not an option of MultiStepLR'),
        ('train.scheduler', {**COSINE, 'restart_weights': None}, 'restart_weights: expected a list, got None'),
        ('train.scheduler', {**STEPS, 'restarts': [0, 2]}, 'restart_weights: 2 numbers expected, one per restart'),
        (
            'train.scheduler',
            {**STEPS, 'milestones': [2, 4]},
            'milestones: iterations before total_iter = 4 expected, got [4]',
        ),
        ('train.optim_g.lr', float('inf'), ': expected a finite number, got inf'),
        ('train.optim_g.lr', float('nan'), ': expected a finite number, got nan'),
        ('train.optim_g.betas', [0.9, 1.0], '.1: expected less than 1, got 1.0'),
        ('train.ema_decay', True, ': expected a number, got True'),
        ('train.pixel_opt', 'L1Loss', ": expected a dictionary of options, got 'L1Loss'"),
        ('name', '../elsewhere', ": expected the name of a folder, got '../elsewhere'"),
        ('network_g.num_in_ch', 1, ': 3 expected, images are RGB, got 1'),
        ('train.accumulate', 4, 'queue_size: 0 or at least the batch size 8 expected, got 4'),
        (
            'datasets.train.persistent_workers',
            True,
            ': needs num_worker_per_gpu of at least 1, got 0',
        ),
        ('logger.wandb', {'project': 'faces'}, 'logger.use_tb_logger: true expected with logger.wandb, got false'),
        ('datasets', {'training': {}}, 'datasets.training: train or val, val_NAME expected'),
        ('val', {'save_img': True}, 'val.val_freq: missing, it goes with datasets.val'),
    ],
)
def test_wrong_value(opt, path, value, line):
    put(opt, path, value)
    if line.startswith((':', '.1')):
        line = f'{path}{line}'
    elif path == 'train.scheduler':
        line = f'{path}.{line}'
    assert line in problems(opt)


def test_steps_are_fine(opt):
    put(opt, 'train.scheduler', {**STEPS, 'gamma': 0.5, 'restarts': [0, 3], 'restart_weights': [1, 0.5]})
    check(opt, True)


@pytest.mark.parametrize(
    ('text', 'problem'),
    [
        ('? [a]\n: 1\n', ':1: not a valid option file: a text expected as key'),
        ('a: ' + '[' * 3000, ': not a valid option file: nested too deeply'),
    ],
)
def test_odd_yaml(tmp_path, text, problem):
    (tmp_path / 'opt.yml').write_text(text)
    with pytest.raises(UserError) as error:
        load_yaml(tmp_path / 'opt.yml')
    assert str(error.value) == f'{tmp_path}/opt.yml{problem}'


def test_yaml_merge_keys(tmp_path):
    (tmp_path / 'opt.yml').write_text('a: &base {b: 1, c: 2}\nd:\n  <<: *base\n  c: 3\n')
    assert load_yaml(tmp_path / 'opt.yml')['d'] == {'b': 1, 'c': 3}


def test_keys_that_are_no_text(opt):
    opt[1] = 2
    opt['datasets'][True] = {}
    assert {'1: a text expected as key, got 1', 'datasets.True: a text expected as key, got True'} <= set(problems(opt))


# ----------------------------------------------------------------- what stock cannot read
def test_validation_set_as_stock_reads_it(opt, data):
    """`PairedImageDataset` takes every file of a folder for an image, and does not look into subfolders."""
    (data / 'lr' / 'notes.txt').write_text('x')
    expected = f'{data}/lr: notes.txt: only images expected, BasicSR reads every file here'
    assert problems(opt) == [expected]
    (data / 'lr' / 'notes.txt').unlink()
    for name in ('hr', 'lr'):
        (data / name / 'more').mkdir()
        (data / name / 'face_0.png').rename(data / name / 'more' / 'face_0.png')
    assert 'more/face_0.png: no images in subfolders expected' in problems(opt)[0]


def test_validation_set_by_a_list_of_names(opt, data):
    listed = data / 'names.txt'
    put(opt, 'datasets.val.meta_info_file', str(listed))
    assert problems(opt) == [f'datasets.val.meta_info_file: no such file or folder: {listed}']
    listed.write_text('face_0.png (96,96,3)\nface_1.png (96,96,3)\n')
    check(opt, True)
    listed.write_text('face_9.png (96,96,3)\n')
    assert problems(opt) == [f"{listed}: names of images in {data}/hr expected, got 'face_9.png'"]


# -------------------------------------------------------------------------------- --check
@pytest.fixture
def command(data, monkeypatch, capfd) -> Callable:
    """Return a function that runs the command line in this process, in an empty folder."""
    root = data / 'root'
    root.mkdir()
    monkeypatch.chdir(root)
    for pipeline in (train_pipeline, test_pipeline):
        for name, value in list(vars(pipeline).items()):
            monkeypatch.setattr(pipeline, name, value)  # what the entry points replace comes back
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(main: Callable, opt: Options | str, *args: str) -> tuple[int, str, str]:
        (data / 'opt.yml').write_text(opt if isinstance(opt, str) else yaml.safe_dump(opt))
        monkeypatch.setattr('sys.argv', ['train.py', '-opt', str(data / 'opt.yml'), *args])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            run_command(main)
        assert list(root.iterdir()) == []
        return end.value.code, *capfd.readouterr()

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_check_says_fine_and_stops(command, opt, data, monkeypatch):
    monkeypatch.setattr(torch.distributed, 'init_process_group', None)  # calling it would fail
    fine = f'{data}/opt.yml: the file and all it names are fine\n'
    assert command(train.main, opt, '--check') == (0, fine, '')
    assert command(train.main, opt, '--check', '--launcher', 'pytorch') == (0, fine, '')
    assert command(test.main, measuring_options(data), '--check') == (0, fine, '')


@pytest.mark.parametrize('flags', [(), ('--check',), ('--launcher', 'pytorch')])
def test_wrong_file_touches_nothing(command, opt, flags, monkeypatch):
    monkeypatch.setattr(torch.distributed, 'init_process_group', None)
    put(opt, 'train.total_iters', 4)
    put(opt, 'queue_sizes', 4)
    lines = [
        "error: queue_sizes: unknown option, did you mean 'queue_size'?\n",
        "error: train.total_iters: unknown option, did you mean 'total_iter'?\n",
    ]
    status, out, err = command(train.main, opt, *flags)
    assert (status, out, sorted(err.splitlines(keepends=True))) == (2, '', lines)


def test_check_of_a_test(command, data):
    opt = measuring_options(data)
    put(opt, 'path.pretrain_network_g', str(data / 'none.pth'))
    line = f'error: path.pretrain_network_g: no such file: {data}/none.pth\n'
    assert command(test.main, opt, '--check') == (2, '', line)


def test_check_by_the_real_command(opt, data):
    (data / 'opt.yml').write_text(yaml.safe_dump(opt))
    args = [sys.executable, str(ROOT / 'facesr_plugin' / 'train.py'), '-opt', 'opt.yml', '--check']
    before = sorted(os.listdir(data))
    done = subprocess.run(args, cwd=data, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, 'opt.yml: the file and all it names are fine\n', '')
    assert sorted(os.listdir(data)) == before


# ---------------------------------------------------------------- nothing in a file is run
class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize('key', ['pretrain_network_g', 'resume_state'])
def test_pickle_is_not_run(command, opt, data, key):
    """Neither as weights nor as a training state; by `pickle`, which stock uses, it would be."""
    torch.save({'params': Bomb(data / 'ran'), 'iter': 2}, data / 'file.pth')
    put(opt, f'path.{key}', str(data / 'file.pth'))
    expected = f'{data}/file.pth: a checkpoint of tensors expected, it holds something else or is damaged'
    for flags in ((), ('--check',)):
        assert command(train.main, opt, *flags) == (2, '', f'error: {expected}\n')
    assert not (data / 'ran').exists()
    torch.load(data / 'file.pth', weights_only=False)
    assert (data / 'ran').exists()


def test_yaml_is_not_run(command, data):
    text = f'name: !!python/object/apply:os.mkdir ["{data}/ran"]\n'
    status, out, err = command(train.main, text)
    assert (status, out) == (2, '')
    assert err.startswith(f'error: {data}/opt.yml:1: not a valid option file: could not determine a constructor')
    assert err.count('\n') == 1
    assert not (data / 'ran').exists()


@pytest.mark.parametrize('value', ["__import__('os').mkdir('{}/ran')", '!!python/object/apply:os.mkdir ["{}/ran"]'])
def test_force_yml_is_not_run(command, opt, data, value):
    status, _, err = command(train.main, opt, '--force_yml', f'train:total_iter={value.format(data)}')
    assert (status, err.count('\n')) == (2, 1)
    assert 'total_iter' in err
    assert not (data / 'ran').exists()


# ------------------------------------------------------------------------ training states
def state_of(opt: Options, **entries: object) -> Options:
    """Return a state as a run under `opt` saves it, as far as the check reads it."""
    saved = copy.deepcopy(described(as_trained(opt)))
    saved['train']['optim_g'].pop('type')  # BasicSR does so while it sets the training up
    return {'iter': 2, 'epoch': 0, 'optimizers': [], 'schedulers': [], 'facesr': {'options': saved}, **entries}


def test_state_of_the_same_options(opt):
    state = state_of(opt)
    assert check_state(as_trained(opt), state) == []
    for path, value in (
        ('name', 'other'),
        ('datasets.train.num_worker_per_gpu', 2),
        ('logger.print_freq', 9),
        ('val.val_freq', 1),
        ('train.ema_decay', 0),  # its default, written out
        ('resize_prob', [0.2, 0.7, 0.1]),
        ('train.pixel_opt.clean_mode', 'bicubic'),
        ('network_g.upscale', 4),
    ):
        put(opt, path, value)
    assert check_state(as_trained(opt), state) == []


@pytest.mark.parametrize(
    ('path', 'value', 'before', 'after'),
    [
        ('network_g.num_block', 3, '1', '3'),
        ('network_g.type', 'MSRResNet', "'FaceSRResNet'", "'MSRResNet'"),
        ('queue_size', 8, '4', '8'),
        ('manual_seed', 4, '3', '4'),
        ('noise_range', [1, 20], '[1, 30]', '[1, 20]'),
        ('datasets.train.batch_size_per_gpu', 4, '2', '4'),
        ('datasets.train.gt_size', 84, '80', '84'),
        ('datasets.train.use_rot', True, 'False', 'True'),
        ('train.optim_g.lr', 1e-4, '0.001', '0.0001'),
        ('train.ema_decay', 0.9, '0', '0.9'),
        ('train.pixel_opt.forward', 'sampled', "'concat'", "'sampled'"),
        ('train.alpha_opt.end', 0.0, '0.4', '0.0'),
    ],
)
def test_state_of_other_options(opt, path, value, before, after):
    state = state_of(opt)
    put(opt, path, value)
    expected = f'{path}: {before} expected, as the training state was saved under, got {after}'
    assert check_state(as_trained(opt), state) == [expected]


def test_state_of_a_shorter_run(opt):
    """A longer run is not the same one: alpha and the learning rate would have been others from the start."""
    state = state_of(opt)
    put(opt, 'train.total_iter', 8)
    put(opt, 'train.scheduler.periods', [8])
    periods, total = check_state(as_trained(opt), state)
    assert periods.startswith('train.scheduler.periods: [4] expected, as the training state was saved under, got [8] (')
    assert total.startswith('train.total_iter: 4 expected, as the training state was saved under, got 8 (')
    assert total.endswith('(alpha and learning rate are functions of progress, so a longer run is another run:'
                          ' start it anew)')  # fmt: skip


def test_state_of_accumulated_batches(opt):
    state = state_of(opt)
    put(opt, 'train.accumulate', 2)
    put(opt, 'datasets.train.batch_size_per_gpu', 1)  # as many images an iteration, in two batches
    (line,) = check_state(as_trained(opt), state)
    assert line.startswith('train.accumulate: 1 expected')


def test_state_of_more_processes(opt):
    state = state_of({**opt, 'world_size': 2})
    assert check_state(as_trained(opt), state) == []  # not known before the processes have joined
    (line,) = check_state({**as_trained(opt), 'world_size': 1}, state)
    assert line == 'world_size: 2 expected, as the training state was saved under, got 1'


def test_seed_left_open_is_that_of_the_state(opt):
    state = state_of(opt)
    put(opt, 'manual_seed', None)
    assert check_state(as_trained(opt), state) == []


def test_state_of_stock(opt):
    state = {'iter': 6, 'epoch': 0, 'optimizers': [], 'schedulers': [{'periods': [6]}]}
    assert [line.partition(' expected')[0] for line in check_state(opt, state)] == [
        'train.total_iter: at least 6',
        'train.scheduler.periods: [6]',
    ]


def test_sets_of_one_name(opt):
    """The second one would never be validated."""
    opt['datasets']['val_2'] = dict(opt['datasets']['val'])
    name = opt['datasets']['val']['name']
    assert problems(opt) == [f'datasets.val_2.name: another name expected than that of val: {name}']
    put(opt, 'datasets.val_2.name', 'second')
    check(opt, True)


def test_states_in_the_check_of_a_file(opt, data):
    path = data / '2.state'
    put(opt, 'path.resume_state', str(path))
    assert problems(opt) == [f'path.resume_state: no such file: {path}']
    torch.save({'params': build_network({'type': 'MSRResNet'}).state_dict()}, path)
    expected = 'a training state expected, it lacks iter, epoch, optimizers, schedulers'
    assert problems(opt) == [f'path.resume_state: {expected}']
    torch.save(state_of(opt), path)
    check(opt, True)
    put(opt, 'queue_size', 6)
    put(opt, 'network_g.num_feat', 8)
    assert [line.partition(':')[0] for line in problems(opt)] == ['network_g.num_feat', 'queue_size']


def test_check_looks_into_the_newest_state(command, opt, data):
    put(opt, 'path.root', str(data / 'elsewhere'))
    run = data / 'elsewhere' / 'experiments' / 'run'
    states, flags = run / 'training_states', ('--check', '--auto_resume')
    fine = f'{data}/opt.yml: the file and all it names are fine\n'
    nothing = f'--auto_resume: no training state in {states}, starting anew\n'
    assert command(train.main, opt, *flags) == (0, nothing + fine, '')
    for folder in (states, run / 'models'):
        folder.mkdir(parents=True)
    torch.save(state_of(opt), states / '2.state')
    torch.save({'params': build_network(dict(opt['network_g'])).state_dict()}, run / 'models' / 'net_g_2.pth')
    status, out, err = command(train.main, opt, *flags)
    assert (status, out.splitlines()[0], err) == (0, f'--auto_resume: going on from {states}/2.state', '')
    put(opt, 'queue_size', 6)
    status, out, err = command(train.main, opt, *flags)
    assert (status, err) == (2, 'error: queue_size: 4 expected, as the training state was saved under, got 6\n')
    assert fine not in out
    assert command(train.main, opt, '--check') == (0, fine, '')  # a new run may have other options


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_state_dict_alone_is_not_for_stock_models(opt, data, suffix):
    """Our model starts from one; BasicSR's `SRModel` would end in a traceback."""
    weights = build_network({'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1}).state_dict()
    path = data / f'net{suffix}'
    torch.save(weights, path) if suffix == '.pth' else save_file(weights, path)
    put(opt, 'path.pretrain_network_g', str(path))
    check(opt, True)
    opt = measuring_options(data)
    put(opt, 'path.pretrain_network_g', str(path))
    expected = f"{path}: a .pth with 'params' expected by this model_type, got a state dict alone"
    assert problems(opt, False) == [expected]
