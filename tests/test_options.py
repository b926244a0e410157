import copy
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from basicsr.archs import build_network

from facesr_plugin.data.images import read_image, write_image
from facesr_plugin.data.lmdb_writer import image_keys, write_lmdbs
from facesr_plugin.errors import UserError
from facesr_plugin.options.load import build_parser, check, load_yaml, override, parse_options
from facesr_plugin.run import processes

Options = dict[str, Any]


@pytest.fixture
def data(tmp_path) -> Path:
    """Return a folder with three pairs of images: hr/ of 96x96 px and lr/ of 24x24 px."""
    for number in range(3):
        for name, side in (('hr', 96), ('lr', 24)):
            write_image(tmp_path / name / f'face_{number}.png', np.full((side, side, 3), 60 * number, np.uint8))
    return tmp_path


@pytest.fixture
def opt(data) -> Options:
    """Return the options of a small training of experiment 1, without anything wrong."""
    disk = {'type': 'disk'}
    return {
        'name': 'run',
        'model_type': 'AlphaRealESRNetModel',
        'scale': 4,
        'num_gpu': 0,
        'manual_seed': 3,
        'resize_prob': [0.2, 0.7, 0.1],
        'noise_range': [1, 30],
        'queue_size': 4,
        'datasets': {
            'train': {
                'name': 'faces',
                'type': 'FaceDegradationDataset',
                'dataroot_gt': str(data / 'hr'),
                'io_backend': {**disk},
                'gt_size': 80,
                'blur_sigma': [0.2, 3],
                'num_worker_per_gpu': 0,
                'batch_size_per_gpu': 2,
            },
            'val': {
                'name': 'val',
                'type': 'PairedImageDataset',
                'dataroot_gt': str(data / 'hr'),
                'dataroot_lq': str(data / 'lr'),
                'io_backend': {**disk},
            },
        },
        'network_g': {'type': 'FaceSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 4},
        'path': {'pretrain_network_g': None, 'strict_load_g': True},
        'train': {
            'optim_g': {'type': 'Adam', 'lr': 1e-3, 'weight_decay': 5e-4},
            'scheduler': {
                'type': 'CosineAnnealingRestartLR',
                'periods': [10],
                'restart_weights': [1],
                'eta_min': 0,
            },
            'total_iter': 10,
            'pixel_opt': {'type': 'RegularizedL1Loss', 'forward': 'concat'},
            'alpha_opt': {'start': 0.8, 'end': 0.4},
        },
        'val': {'val_freq': 5, 'metrics': {'psnr': {'type': 'calculate_psnr', 'crop_border': 0}}},
        'logger': {'print_freq': 1, 'save_checkpoint_freq': 5},
    }


@pytest.fixture
def measuring(opt) -> Options:
    """Return the options of a test by stock types."""
    return {
        'name': 'measure',
        'model_type': 'SRModel',
        'scale': 4,
        'num_gpu': 0,
        'datasets': {'test': opt['datasets']['val']},
        'network_g': {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 4},
        'val': {'metrics': None},
    }


def put(opt: Options, path: str, value: Any) -> None:
    """Set an option by its path, e.g. `train.total_iter`."""
    *parents, last = path.split('.')
    reduce(lambda block, key: block[key], parents, opt)[last] = value


def problems(opt: Options, is_train: bool = True) -> list[str]:
    with pytest.raises(UserError) as error:
        check(opt, is_train)
    return str(error.value).splitlines()


def write(folder: Path, text: str) -> Path:
    path = folder / 'opt.yml'
    path.write_text(text)
    return path


# ------------------------------------------------------------------------------- check
def test_nothing_wrong(opt):
    before = copy.deepcopy(opt)
    assert check(opt, True).train.total_iter == 10
    assert opt == before


def test_nothing_wrong_in_a_test(measuring):
    assert check(measuring, False).network_g['type'] == 'MSRResNet'


def test_experiment_2(opt):
    opt['train']['pixel_opt'] = {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'}
    del opt['train']['alpha_opt']
    assert check(opt, True).train.alpha_opt is None


@pytest.mark.parametrize(
    ('path', 'close'),
    [
        ('queue_sizes', 'queue_size'),
        ('train.total_iters', 'total_iter'),
        ('train.optim_g.weigth_decay', 'weight_decay'),
        ('train.alpha_opt.strat', 'start'),
        ('datasets.train.gt_sise', 'gt_size'),
        ('datasets.train.io_backend.typ', 'type'),
        ('datasets.val.dataroot_lr', 'dataroot_lq'),
        ('network_g.num_blocks', 'num_block'),
        ('val.val_frequ', 'val_freq'),
        ('logger.print_freqs', 'print_freq'),
    ],
)
def test_unknown_key(opt, path, close):
    put(opt, path, 1)
    assert problems(opt) == [f'{path}: unknown option, did you mean {close!r}?']


@pytest.mark.parametrize(
    ('path', 'value', 'expected'),
    [
        ('name', 5, 'expected a string, got 5'),
        ('train.ema_decay', 1.5, 'expected less than or equal to 1, got 1.5'),
        ('train.optim_g.lr', -1, 'expected greater than 0, got -1'),
        ('train.optim_g.type', 'SGD', "expected 'Adam' or 'AdamW', got 'SGD'"),
        ('train.pixel_opt.forward', 'both', "expected 'concat', 'sequential' or 'sampled', got 'both'"),
        ('network_g.upscale', 8, 'expected 2, 3 or 4, got 8'),
        ('network_g.num_block', 1.5, 'expected a whole number, got 1.5'),
        ('datasets.train.use_hflip', 'yes', "expected a boolean, got 'yes'"),
        ('datasets.train.io_backend.type', 'hdf5', "expected 'lmdb' or 'disk', got 'hdf5'"),
        ('resize_prob', [0.2, 0.7, 0.2], 'expected probabilities that sum to 1, got [0.2, 0.7, 0.2]'),
        ('noise_range', [30, 1], 'expected [low, high] with low <= high, got [30, 1]'),
        ('datasets.train.blur_sigma', [3, 0.2], 'expected [low, high] with low <= high, got [3, 0.2]'),
    ],
)
def test_wrong_value(opt, path, value, expected):
    put(opt, path, value)
    assert problems(opt) == [f'{path}: {expected}']


@pytest.mark.parametrize(
    'path', ['train.total_iter', 'train.optim_g', 'logger', 'datasets.train.name', 'network_g.type']
)
def test_missing(opt, path):
    *parents, last = path.split('.')
    del reduce(lambda block, key: block[key], parents, opt)[last]
    assert problems(opt) == [f'{path}: missing']


def test_learning_rate_read_as_text(opt, data):
    opt['train']['optim_g']['lr'] = 'RATE'
    path = write(data, yaml.safe_dump(opt).replace('RATE', '1e-4'))
    hint = '(YAML 1.1 reads 1e-4 as text: write 0.0001 or !!float 1e-4)'
    assert problems(load_yaml(path)) == [f"train.optim_g.lr: expected a number, got '1e-4' {hint}"]
    path = write(data, yaml.safe_dump(opt).replace('RATE', '!!float 1e-4'))
    assert check(load_yaml(path), True).train.optim_g.lr == 1e-4


def test_several_problems_one_line_each(opt):
    put(opt, 'train.total_iters', 3)
    put(opt, 'noise_range', [30, 1])
    put(opt, 'datasets.train.gt_sise', 80)
    put(opt, 'network_g.num_blocks', 20)
    put(opt, 'model_type', 'AlphaModel')
    keys = [line.split(':')[0] for line in problems(opt)]
    assert sorted(keys) == sorted(
        ['train.total_iters', 'noise_range', 'datasets.train.gt_sise', 'network_g.num_blocks', 'model_type']
    )


@pytest.mark.parametrize(('periods', 'weights'), [([9], [1]), ([4, 5], [1, 0.5])])
def test_periods_shorter_than_the_run(opt, periods, weights):
    put(opt, 'train.scheduler.periods', periods)
    put(opt, 'train.scheduler.restart_weights', weights)
    assert problems(opt) == ['train.scheduler.periods: a sum of at least total_iter = 10 expected, got 9']


def test_periods_as_long_as_the_run(opt):
    put(opt, 'train.scheduler.periods', [4, 6])
    put(opt, 'train.scheduler.restart_weights', [1, 0.5])
    assert sum(check(opt, True).train.scheduler.periods) == 10


def test_one_restart_weight_per_period(opt):
    put(opt, 'train.scheduler.periods', [5, 5])
    assert problems(opt) == ['train.scheduler.restart_weights: 2 numbers expected, one per period']


@pytest.mark.parametrize('kind', ['CosineAnnealingRestartLR', 'MultiStepLR'])
def test_scheduler_without_its_iterations(opt, kind):
    put(opt, 'train.scheduler', {'type': kind})
    missing = 'periods' if kind.startswith('Cosine') else 'milestones'
    assert problems(opt) == [f'train.scheduler.{missing}: missing']


@pytest.mark.parametrize(('loss', 'has_alpha'), [('L1Loss', True), ('RegularizedL1Loss', False)])
def test_alpha_goes_with_its_loss(opt, loss, has_alpha):
    put(opt, 'train.pixel_opt', {'type': loss})
    if not has_alpha:
        del opt['train']['alpha_opt']
    expected = 'train.alpha_opt: expected with pixel_opt type RegularizedL1Loss, and only with it'
    assert problems(opt) == [expected]


@pytest.mark.parametrize(
    ('loss', 'key', 'value'), [('RegularizedL1Loss', 'reduction', 'mean'), ('L1Loss', 'forward', 'concat')]
)
def test_loss_option_of_the_other_loss(opt, loss, key, value):
    put(opt, 'train.pixel_opt', {'type': loss, key: value})
    if loss == 'L1Loss':
        del opt['train']['alpha_opt']
    assert problems(opt) == [f'train.pixel_opt.{key}: not an option of {loss}']


@pytest.mark.parametrize('path', ['model_type', 'network_g.type', 'datasets.train.type', 'datasets.val.type'])
def test_class_that_is_not_registered(opt, path):
    put(opt, path, 'Nonesuch')
    (line,) = problems(opt)
    assert line.startswith(f"{path}: a registered name expected, got 'Nonesuch' (known: ")


def test_other_registered_network(opt):
    """Somebody else's class has options of its own."""
    put(opt, 'network_g', {'type': 'RRDBNet', 'num_in_ch': 3, 'num_out_ch': 3, 'num_grow_ch': 4})
    assert check(opt, True).network_g['num_grow_ch'] == 4


# ----------------------------------------------------------------------- sizes and files
@pytest.mark.parametrize(
    ('path', 'value', 'expected'),
    [
        ('network_g.upscale', 2, 'network_g.upscale: 4 expected, as scale, got 2'),
        ('datasets.train.gt_size', 62, 'datasets.train.gt_size: a multiple of the scale 4 expected, got 62'),
        ('datasets.train.gt_size', 72, 'datasets.train.gt_size: at least 74 expected with these resize ranges, got 72'),
        ('gt_size', 30, 'gt_size: a multiple of the scale 4 expected, got 30'),
        ('gt_size', 128, 'gt_size: at most datasets.train.gt_size = 80 expected, got 128'),
        ('queue_size', 1, 'queue_size: 0 or at least the batch size 2 expected, got 1'),
        ('num_gpu', 2, 'num_gpu: 0, 1 or auto expected, for each process (torchrun starts one a GPU), got 2'),
    ],
)
def test_sizes_that_do_not_go_together(opt, path, value, expected):
    put(opt, path, value)
    assert problems(opt) == [expected]


@pytest.mark.parametrize('path', ['datasets.train.dataroot_gt', 'datasets.val.dataroot_gt', 'datasets.val.dataroot_lq'])
def test_missing_data(opt, path, data):
    put(opt, path, str(data / 'none.lmdb'))
    assert problems(opt) == [f'{path}: no such file or folder: {data}/none.lmdb']


def test_folder_that_is_no_lmdb(opt, data):
    put(opt, 'datasets.val.io_backend.type', 'lmdb')
    expected = f'a folder *.lmdb expected with io_backend type lmdb, got {data}/hr'
    assert problems(opt) == [f'datasets.val.dataroot_gt: {expected}']


def use_lmdb(opt: Options, data: Path) -> None:
    """Have validation read from LMDBs."""
    for name, key in (('hr', 'dataroot_gt'), ('lr', 'dataroot_lq')):
        files = image_keys(data / name)
        write_lmdbs([data / f'{name}.lmdb'], list(files), lambda image, files=files: [read_image(files[image])])
        put(opt, f'datasets.val.{key}', str(data / f'{name}.lmdb'))
    put(opt, 'datasets.val.io_backend.type', 'lmdb')


def on_disk(opt: Options, data: Path) -> None:
    """Leave validation reading from folders."""


@pytest.mark.parametrize(('store', 'suffix', 'ending'), [(on_disk, '', '.png'), (use_lmdb, '.lmdb', '')])
def test_lr_of_another_size(opt, data, store: Callable, suffix, ending):
    write_image(data / 'lr' / 'face_1.png', np.zeros((24, 28, 3), np.uint8))
    store(opt, data)
    expected = '112x96 px expected, 4 times its LR image, got 96x96'
    assert problems(opt) == [f'{data}/hr{suffix}: face_1{ending}: {expected}']


@pytest.mark.parametrize(('store', 'suffix', 'ending'), [(on_disk, '', '.png'), (use_lmdb, '.lmdb', '')])
def test_hr_without_lr(opt, data, store: Callable, suffix, ending):
    (data / 'lr' / 'face_2.png').unlink()
    store(opt, data)
    expected = f'face_2{ending} expected, the LR image of {data}/hr{suffix}: face_2{ending}'
    assert problems(opt) == [f'{data}/lr{suffix}: {expected}']


def test_lr_without_hr(opt, data):
    write_image(data / 'lr' / 'face_9.png', np.zeros((24, 24, 3), np.uint8))
    assert problems(opt) == [f'{data}/lr: face_9.png has no HR image in {data}/hr']


def test_lr_names_by_template(opt, data):
    for number in range(3):
        (data / 'lr' / f'face_{number}.png').rename(data / 'lr' / f'face_{number}_x4.png')
    put(opt, 'datasets.val.filename_tmpl', '{}_x4')
    check(opt, True)
    put(opt, 'datasets.val.filename_tmpl', '{}_x2')
    (line,) = problems(opt)
    assert line == f'{data}/lr: face_0_x2.png expected, the LR image of {data}/hr: face_0.png'


# ----------------------------------------------------------------------------- weights
def save_network(path: Path, key: str = 'params', **options: Any) -> None:
    net = build_network({'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, **options})
    torch.save({key: net.state_dict()}, path)


def test_checkpoint_that_fits(opt, data):
    save_network(data / 'net.pth')
    put(opt, 'path.pretrain_network_g', str(data / 'net.pth'))
    check(opt, True)


def test_checkpoint_missing(opt, data):
    put(opt, 'path.pretrain_network_g', str(data / 'none.pth'))
    assert problems(opt) == [f'path.pretrain_network_g: no such file: {data}/none.pth']


@pytest.mark.parametrize(
    ('other', 'difference'),
    [
        ({'num_block': 3}, 'has unknown body.1.conv1.bias and 7 more'),
        ({'upscale': 2}, 'lacks upconv2.bias and 1 more'),
    ],
)
def test_checkpoint_of_another_network(opt, data, other, difference):
    save_network(data / 'net.pth', **other)
    put(opt, 'path.pretrain_network_g', str(data / 'net.pth'))
    fit = 'weights that fit network_g (FaceSRResNet) expected'
    assert problems(opt) == [f'{data}/net.pth: {fit}: {difference}']


def test_checkpoint_of_another_width(opt, data):
    save_network(data / 'net.pth', num_feat=8)
    put(opt, 'path.pretrain_network_g', str(data / 'net.pth'))
    (line,) = problems(opt)
    assert line.startswith(f'{data}/net.pth: weights that fit network_g (FaceSRResNet) expected: ')
    assert ' expected' in line.partition('expected: ')[2]


def test_checkpoint_with_another_key(opt, data):
    save_network(data / 'net.pth', key='params_ema')
    put(opt, 'path.pretrain_network_g', str(data / 'net.pth'))
    assert problems(opt) == [f"{data}/net.pth: key 'params' expected, found params_ema"]
    put(opt, 'path.param_key_g', 'params_ema')
    check(opt, True)


def test_checkpoint_that_would_run_code(opt, data):
    class Bomb:
        def __reduce__(self) -> tuple:
            return Path.touch, (data / 'ran',)

    torch.save({'params': Bomb()}, data / 'net.pth')
    put(opt, 'path.pretrain_network_g', str(data / 'net.pth'))
    expected = 'a checkpoint of tensors expected, it holds something else or is damaged'
    assert problems(opt) == [f'{data}/net.pth: {expected}']
    assert not (data / 'ran').exists()


# ------------------------------------------------------------------------------- YAML
def test_duplicate_key(data):
    path = write(data, 'name: run\ntrain:\n  total_iter: 10\n  warmup_iter: -1\n  total_iter: 20\n')
    with pytest.raises(UserError) as error:
        load_yaml(path)
    assert str(error.value) == f"{path}:5: not a valid option file: key 'total_iter' stands twice"


def test_yaml_runs_nothing(data):
    path = write(data, f'name: !!python/object/apply:os.mkdir ["{data}/ran"]\n')
    with pytest.raises(UserError) as error:
        load_yaml(path)
    assert str(error.value).startswith(f'{path}:1: not a valid option file: could not determine a constructor')
    assert not (data / 'ran').exists()
    yaml.unsafe_load(path.read_text())  # no dud: PyYAML's unsafe loader, which stock uses, runs it
    assert (data / 'ran').exists()


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('name: [1\n', '2: not a valid option file: expected'),
        ('name: run\n\tscale: 4\n', '2: not a valid option file: found character'),
        ('- name\n', ' a mapping of options expected, got list'),
        ('', ' a mapping of options expected, got NoneType'),
    ],
)
def test_no_option_file(data, text, message):
    path = write(data, text)
    with pytest.raises(UserError) as error:
        load_yaml(path)
    assert str(error.value).startswith(f'{path}:{message}')
    assert '\n' not in str(error.value)


def test_no_file(data):
    with pytest.raises(UserError, match=r'none\.yml: No such file or directory$'):
        load_yaml(data / 'none.yml')


def test_no_text(data):
    (data / 'opt.yml').write_bytes(b'\xff\xfe\x00\x81')
    with pytest.raises(UserError, match=r'opt\.yml: a UTF-8 text file expected$'):
        load_yaml(data / 'opt.yml')


# -------------------------------------------------------------------------- --force_yml
@pytest.mark.parametrize(
    ('entry', 'path', 'value'),
    [
        ('name=other', ['name'], 'other'),
        ('train:total_iter=20', ['train', 'total_iter'], 20),
        ('train:optim_g:lr=!!float 1e-4', ['train', 'optim_g', 'lr'], 1e-4),
        ('noise_range=[2, 3]', ['noise_range'], [2, 3]),
        ('path:pretrain_network_g=~', ['path', 'pretrain_network_g'], None),
        ('name=a=b', ['name'], 'a=b'),
        ('train:precision=fp32', ['train', 'precision'], 'fp32'),  # the file leaves it to its default
    ],
)
def test_override(opt, entry, path, value):
    expected = copy.deepcopy(opt)
    put(expected, '.'.join(path), value)
    override(opt, entry)
    assert opt == expected


@pytest.mark.parametrize(
    ('key', 'block'), [('trains:total_iter', 'trains'), ('train:total_iter:deeper', 'train.total_iter'), (':a', '')]
)
def test_override_makes_no_block(opt, key, block):
    before = copy.deepcopy(opt)
    with pytest.raises(UserError, match=f'^--force_yml {key}: no block {block} in the option file$'):
        override(opt, f'{key}=3')
    assert opt == before


def test_empty_val_block_of_a_test(measuring):
    measuring['val'] = None
    with pytest.raises(UserError, match=r'^val: missing$'):
        check(measuring, False)


def test_a_date_is_text(tmp_path):
    (tmp_path / 'dated.yml').write_text('name: 2024-01-01\n')
    assert load_yaml(tmp_path / 'dated.yml') == {'name': '2024-01-01'}


def test_override_without_value(opt):
    with pytest.raises(UserError, match=r'^--force_yml name: KEY:SUBKEY=VALUE expected$'):
        override(opt, 'name')


def test_override_of_another_form(opt):
    with pytest.raises(UserError, match=r'^--force_yml name=\[1: the value is not valid YAML$'):
        override(opt, 'name=[1')


def test_override_takes_code_for_text(opt, data):
    """Stock puts it through `exec`."""
    code = f"__import__('os').mkdir('{data}/ran')"
    override(opt, f'name={code}')
    assert opt['name'] == code
    assert not (data / 'ran').exists()


def test_override_runs_nothing(opt, data):
    value = f'!!python/object/apply:os.mkdir ["{data}/ran"]'
    with pytest.raises(UserError) as error:
        override(opt, f'name={value}')
    assert str(error.value) == f'--force_yml name={value}: the value is not valid YAML'
    assert not (data / 'ran').exists()
    yaml.unsafe_load(value)
    assert (data / 'ran').exists()


# ------------------------------------------------------------------------ command line
@pytest.fixture
def parse(data, monkeypatch) -> Callable:
    """Return a function that runs `parse_options` on options and further arguments."""

    def run(opt: Options, *arguments: str, is_train: bool = True) -> Options:
        path = write(data, yaml.safe_dump(opt))
        monkeypatch.setattr('sys.argv', ['train.py', '-opt', str(path), *arguments])
        return parse_options(str(data / 'root'), is_train)[0]

    return run


def test_parse_options(opt, parse, data):
    parsed = parse(opt, '--force_yml', 'train:total_iter=8', 'name=other', '--auto_resume')
    root = data / 'root' / 'experiments' / 'other'
    assert parsed['train']['total_iter'] == 8
    assert (parsed['is_train'], parsed['auto_resume'], parsed['dist'], parsed['rank']) == (True, True, False, 0)
    assert (parsed['world_size'], parsed['num_gpu'], parsed['manual_seed']) == (1, 0, 3)
    assert parsed['path']['experiments_root'] == parsed['path']['log'] == str(root)
    assert parsed['path']['models'] == str(root / 'models')
    assert parsed['path']['training_states'] == str(root / 'training_states')
    assert {key: parsed['datasets'][key]['phase'] for key in parsed['datasets']} == {'train': 'train', 'val': 'val'}
    assert parsed['datasets']['train']['scale'] == 4
    assert not root.exists()  # BasicSR makes it


def test_parse_options_of_a_test(measuring, parse, data):
    parsed = parse(measuring, is_train=False)
    assert parsed['path']['results_root'] == str(data / 'root' / 'results' / 'measure')
    assert parsed['is_train'] is False
    assert parsed['datasets']['test']['phase'] == 'test'


def test_parse_options_seeds(opt, parse):
    parse(opt)
    first = torch.rand(3), np.random.rand()
    torch.manual_seed(99)
    parse(opt)
    assert torch.equal(torch.rand(3), first[0])
    assert np.random.rand() == first[1]


def test_parse_options_checks(opt, parse):
    put(opt, 'train.total_iters', 3)
    with pytest.raises(UserError, match=r"^train\.total_iters: unknown option, did you mean 'total_iter'\?$"):
        parse(opt)
    del opt['train']['total_iters']
    with pytest.raises(UserError, match=r'^train\.epochs: unknown option'):
        parse(opt, '--force_yml', 'train:epochs=3')


def test_one_gpu_a_process(opt, parse, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 4)
    put(opt, 'num_gpu', 'auto')
    assert parse(opt)['num_gpu'] == 1


def test_processes_that_cannot_join(opt, parse, monkeypatch):
    for name in processes.SET_BY_TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('RANK', '0')
    expected = (
        r'^--launcher pytorch: a start by torchrun expected, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT not set$'
    )
    with pytest.raises(UserError, match=expected):
        parse(opt, '--launcher', 'pytorch')
    for name in processes.SET_BY_TORCHRUN:
        monkeypatch.setenv(name, '1')
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    expected = r'^torchrun --nproc_per_node: at most 1 expected, the CUDA devices of this machine$'
    with pytest.raises(UserError, match=expected):
        processes.join(uses_cuda=True)


def test_debug(opt, parse):
    parsed = parse(opt, '--debug')
    assert parsed['name'] == 'debug_run'
    assert parsed['logger'] == {'print_freq': 1, 'save_checkpoint_freq': 8, 'use_tb_logger': False}
    assert parsed['val']['val_freq'] == 8


def test_prefetch_without_cuda(opt, parse, capsys):
    put(opt, 'datasets.train.prefetch_mode', 'cuda')
    assert parse(opt)['datasets']['train']['prefetch_mode'] is None
    message = 'datasets.train.prefetch_mode: cuda needs a CUDA device, none is used here; going on without\n'
    assert capsys.readouterr().out == message


def test_prefetch_by_a_thread_is_not_used(opt, parse, capsys):
    """BasicSR's waits for ever once the loader has failed."""
    put(opt, 'datasets.train.prefetch_mode', 'cpu')
    assert parse(opt)['datasets']['train']['prefetch_mode'] is None
    message = 'datasets.train.prefetch_mode: cpu is not used; going on without\n'
    assert capsys.readouterr().out == message


def test_debug_of_a_test(measuring, parse):
    assert parse(measuring, '--debug', is_train=False)['name'] == 'debug_measure'


@pytest.mark.parametrize('flag', ['--local_rank', '--local-rank'])
def test_both_spellings_of_local_rank(flag):
    assert build_parser(True).parse_args(['-opt', 'x.yml', flag, '2']).local_rank == 2
