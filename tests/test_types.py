"""What may stand in an option file, and how what may not is told: nothing that it names need be there."""

import copy
from collections.abc import Iterator
from functools import reduce
from typing import Any

import pytest
from small import Options, put

from facesr_plugin.errors import UserError
from facesr_plugin.options import types
from facesr_plugin.options.types import TrainingOptions

COSINE = {'type': 'CosineAnnealingRestartLR', 'periods': [4]}
STEPS = {'type': 'MultiStepLR', 'milestones': [2]}
LOADER = {'name': 'theirs', 'num_worker_per_gpu': 0, 'batch_size_per_gpu': 2}
SCHEDULERS = ('CosineAnnealingRestartLR', 'MultiStepLR', 'MultiStepRestartLR')
WEIGHTS = 'train.scheduler.restart_weights'
WITH_ITS_LOSS = 'expected with pixel_opt type RegularizedL1Loss, and only with it'


def problems(opt: Options, kind: type[types.RunOptions] = TrainingOptions) -> list[str]:
    with pytest.raises(UserError) as error:
        kind.parse(opt)
    return str(error.value).splitlines()


def remove(opt: Options, path: str) -> None:
    *parents, last = path.split('.')
    del reduce(lambda block, key: block[key], parents, opt)[last]


def test_nothing_wrong(opt, measuring):
    before = copy.deepcopy((opt, measuring))
    assert TrainingOptions.parse(opt).train.pixel_opt.forward == 'concat'
    assert types.TestingOptions.parse(measuring).network_g.num_feat == 4
    assert (opt, measuring) == before


@pytest.mark.parametrize(
    ('path', 'value'),
    [
        ('train.scheduler', {**STEPS, 'gamma': 0.5, 'restarts': [0, 3], 'restart_weights': [1, 0.5]}),
        ('train.scheduler', {**COSINE, 'periods': [1, 3], 'restart_weights': [1, 0.5]}),
        ('train.pixel_opt', {'type': 'RegularisedL1Loss'}),  # that no such loss is registered is told by the check
        ('network_g', {'type': 'RRDBNet', 'num_in_ch': 3, 'num_out_ch': 3, 'num_grow_ch': 4}),
        ('datasets.train', {**LOADER, 'type': 'TheirDataset', 'their_option': 3}),
        ('num_gpu', 'auto'),
        ('train.scheduler.periods', [5.0]),
    ],
)
def test_what_may_stand_there(opt, path, value):
    put(opt, path, value)
    TrainingOptions.parse(opt)


def test_experiment_2(opt):
    put(opt, 'train.pixel_opt', {'type': 'CharbonnierLoss', 'reduction': 'sum', 'eps': 1e-6})
    put(opt, 'train.alpha_opt', None)
    assert TrainingOptions.parse(opt).train.pixel_opt.loss_weight == 1.0


# -------------------------------------------------------------------------------- keys
@pytest.mark.parametrize(
    ('path', 'close'),
    [
        ('train.optim_g.weigth_decay', 'weight_decay'),
        ('train.scheduler.eta_mni', 'eta_min'),
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
    ('path', 'block', 'line'),
    [
        ('train.scheduler', {**COSINE, 'gamma': 0.5}, 'gamma: unknown option (known: eta_min, periods, '),
        ('train.scheduler', {**STEPS, 'eta_min': 0}, 'eta_min: unknown option (known: gamma, milestones, '),
        ('train.pixel_opt', {'type': 'RegularizedL1Loss', 'eps': 1}, 'eps: unknown option (known: clean_mode, forward'),
        ('train.pixel_opt', {'type': 'L1Loss', 'forward': 'concat'}, 'forward: unknown option (known: loss_weight, '),
        ('datasets.val', {'type': 'SingleImageDataset', 'filename_tmpl': '{}'}, 'filename_tmpl: unknown option'),
    ],
)
def test_option_of_another_type(opt, path, block, line):
    if block['type'] == 'L1Loss':
        remove(opt, 'train.alpha_opt')
    put(opt, path, block)
    assert next(found for found in problems(opt) if 'unknown' in found).startswith(f'{path}.{line}')


@pytest.mark.parametrize(
    'path',
    [
        'logger',
        'train.total_iter',
        'train.optim_g',
        'train.scheduler.periods',
        'datasets.train',
        'datasets.train.name',
        'datasets.val.dataroot_gt',
        'network_g.type',
    ],
)
def test_missing(opt, path):
    remove(opt, path)
    assert problems(opt) == [f'{path}: missing']


@pytest.mark.parametrize('path', ['train', 'train.optim_g', 'datasets.val', 'logger'])
def test_block_left_empty(opt, path):
    put(opt, path, None)
    assert problems(opt) == [f'{path}: missing']


@pytest.mark.parametrize(
    ('datasets', 'lines'),
    [
        ({'training': 'train', 'val': 'val'}, ['train: missing', 'training: train or val, val_NAME expected']),
        ({'train': 'train', 'valid': 'val'}, ['valid: train or val, val_NAME expected']),
        ({'train': 'train', 'test_2': 'val'}, ['test_2: train or val, val_NAME expected']),
        ({'train': 'train', True: 'val'}, ['True: a text expected as key, got True']),
    ],
)
def test_data_sets_of_a_training(opt, datasets, lines):
    opt['datasets'] = {phase: opt['datasets'][name] for phase, name in datasets.items()}
    put(opt, 'train.total_iter', 0)  # one problem does not hide another
    assert problems(opt) == [
        *(f'datasets.{line}' for line in lines),
        'train.total_iter: expected greater than or equal to 1, got 0',
    ]


@pytest.mark.parametrize(
    ('phases', 'line'),
    [
        ((), 'test: missing'),
        (('train', 'test'), 'train: test or test_NAME expected'),
        (('tst',), 'tst: test or test_NAME expected'),
    ],
)
def test_data_sets_of_a_test(opt, measuring, phases, line):
    known = {**opt['datasets'], 'test': measuring['datasets']['test']}
    measuring['datasets'] = {phase: known.get(phase, known['val']) for phase in phases}
    assert problems(measuring, types.TestingOptions) == [f'datasets.{line}']


def test_sets_of_one_name(opt):
    """The second one would never be validated."""
    opt['datasets']['val_2'] = dict(opt['datasets']['val'])
    name = opt['datasets']['val']['name']
    assert problems(opt) == [f'datasets.val_2.name: another name expected than that of val: {name}']
    put(opt, 'datasets.val_2.name', 'second')
    TrainingOptions.parse(opt)


def test_keys_that_are_no_text(opt):
    opt[1] = 2
    assert problems(opt) == ['1: a text expected as key, got 1']


def test_a_test_needs_val(measuring):
    put(measuring, 'val', None)
    assert problems(measuring, types.TestingOptions) == ['val: missing']


# --------------------------------------------------------------------- values and rules
@pytest.mark.parametrize(
    ('path', 'value', 'message'),
    [
        ('name', '../elsewhere', "expected the name of a folder, got '../elsewhere'"),
        ('num_gpu', 'all', "expected a whole number or 'auto', got 'all'"),
        ('num_gpu', 2, '0, 1 or auto expected, for each process (torchrun starts one a GPU), got 2'),
        ('resize_prob', [0.2, 0.7, 0.2], 'expected probabilities that sum to 1, got [0.2, 0.7, 0.2]'),
        ('noise_range', [30, 1], 'expected [low, high] with low <= high, got [30, 1]'),
        ('queue_size', 1, '0 or at least the batch size 2 expected, got 1'),
        ('gt_size', 30, 'a multiple of the scale 4 expected, got 30'),
        ('gt_size', 128, 'at most datasets.train.gt_size = 80 expected, got 128'),
        ('network_g.num_in_ch', 2, '1 or 3 expected, images are RGB, got 2'),
        ('network_g.upscale', 6, 'expected 1, 2, 3, 4 or 8, got 6'),
        ('network_g.upscale', 2, '4 expected, as scale, got 2'),
        ('train.ema_decay', 1, 'expected less than 1, got 1'),
        ('train.ema_decay', True, 'expected a number, got True'),
        ('train.optim_g.type', 'SGD', "expected 'Adam' or 'AdamW', got 'SGD'"),
        ('train.optim_g.lr', -1, 'expected greater than 0, got -1'),
        ('train.optim_g.lr', float('inf'), 'expected a finite number, got inf'),
        ('train.optim_g.lr', float('nan'), 'expected a finite number, got nan'),
        ('train.pixel_opt', 'L1Loss', "expected a dictionary of options, got 'L1Loss'"),
        ('train.pixel_opt.forward', 'both', "expected 'concat', 'sequential' or 'sampled', got 'both'"),
        ('train.alpha_opt', None, WITH_ITS_LOSS),
        ('train.scheduler.type', 'StepLR', f"expected {' or '.join(map(repr, SCHEDULERS))}, got 'StepLR'"),
        ('train.scheduler.periods', [3], 'a sum of at least total_iter = 4 expected, got 3'),
        ('train.scheduler.restart_weights', [1, 2], '1 numbers expected, one per period, got [1, 2]'),
        ('train.scheduler.restart_weights', None, 'expected a list, got None'),
        ('datasets.train.blur_sigma', [3, 0.2], 'expected [low, high] with low <= high, got [3, 0.2]'),
        ('datasets.train.gt_size', 72, 'at least 74 expected with these resize ranges, got 72'),
        ('datasets.train.io_backend.type', 'hdf5', "expected 'lmdb' or 'disk', got 'hdf5'"),
        ('datasets.train.persistent_workers', True, 'needs num_worker_per_gpu of at least 1, got 0'),
    ],
)
def test_wrong_value(opt, path, value: Any, message):
    put(opt, path, value)
    assert problems(opt) == [f'{path}: {message}']


@pytest.mark.parametrize(
    ('path', 'value', 'line'),
    [
        ('train.optim_g.betas', [0.9, 1.0], 'train.optim_g.betas.1: expected less than 1, got 1.0'),
        ('train.accumulate', 4, 'queue_size: 0 or at least the batch size 8 expected, got 4'),
        ('train.pixel_opt', {'type': 'L1Loss'}, f'train.alpha_opt: {WITH_ITS_LOSS}'),
        ('train.scheduler', {**COSINE, 'periods': [2, 2]}, f'{WEIGHTS}: 2 numbers expected, one per period, got [1.0]'),
        (
            'train.scheduler',
            {**STEPS, 'restarts': [0, 2]},
            f'{WEIGHTS}: 2 numbers expected, one per restart, got [1.0]',
        ),
        (
            'train.scheduler',
            {**STEPS, 'milestones': [2, 4, 5]},
            'train.scheduler.milestones: iterations up to total_iter = 4 expected, got [5]',
        ),
        ('val', {'save_img': True}, 'val.val_freq: missing, it goes with datasets.val'),
        ('val', None, 'val.val_freq: missing, it goes with datasets.val'),
        (
            'logger.wandb',
            {'project': 'faces'},
            'logger.wandb.project: use_tb_logger: true expected with it, got false',
        ),
    ],
)
def test_rule_that_is_told_at_another_key(opt, path, value: Any, line):
    put(opt, path, value)
    assert problems(opt) == [line]


# ------------------------------------------------------------------- all problems at once
def test_no_problem_hides_another(opt):
    """Typos, wrong values and rules about two keys, all in one file."""
    put(opt, 'train.total_iters', 8)
    put(opt, 'train.optim_g.lr', '1e-4')
    put(opt, 'train.scheduler.periods', [3])
    put(opt, 'train.alpha_opt.strat', 0.9)
    put(opt, 'datasets.train.blur_kernel_size', 20)
    put(opt, 'datasets.train.use_hflip', 'yes')
    put(opt, 'network_g.num_block', '20')
    put(opt, 'path.resume', 'x')
    put(opt, 'gt_size', 30)
    put(opt, 'logger.wandb', {'project': 'faces'})
    assert sorted(line.partition(': ')[0] for line in problems(opt)) == sorted(
        [
            'train.total_iters',
            'train.optim_g.lr',
            'train.scheduler.periods',
            'train.alpha_opt.strat',
            'datasets.train.blur_kernel_size',
            'datasets.train.use_hflip',
            'network_g.num_block',
            'path.resume',
            'gt_size',
            'logger.wandb.project',
        ]
    )


def test_a_rule_beside_an_unknown_key(opt):
    put(opt, 'datasets.train.kernel_prob', [1.0])
    put(opt, 'datasets.train.kernel_lst', ['iso'])
    assert problems(opt) == [
        'datasets.train.kernel_prob: 6 numbers expected, as many as kernel_list, got [1.0]',
        "datasets.train.kernel_lst: unknown option, did you mean 'kernel_list'?",
    ]


def test_no_problem_makes_another(opt):
    """That `kernel_prob` does not go with the default of a key that is wrong is not the user's mistake."""
    put(opt, 'datasets.train.kernel_prob', [1.0])
    put(opt, 'datasets.train.kernel_list', ['iso', 'iso', 3])
    (line,) = problems(opt)
    assert line.startswith('datasets.train.kernel_list.2: ')


# --------------------------------------------------------------------- whole floats, texts
def leaves(block: Options, above: str = '') -> Iterator[tuple[str, Any]]:
    for key, value in block.items():
        if isinstance(value, dict):
            yield from leaves(value, f'{above}{key}.')
        else:
            yield f'{above}{key}', value


def test_every_integer_may_be_a_whole_float(opt):
    """As `batch_size_per_gpu: 4.0`: of every block, and what is passed on is the integer."""
    put(opt, 'logger.keep_states', 2)
    put(opt, 'gt_size', 40)
    dump = dict(leaves(TrainingOptions.parse(opt).model_dump()))
    numbers = {path: value for path, value in dump.items() if type(value) is int and 'metrics' not in path}
    assert len(numbers) > 20
    for path, value in numbers.items():
        put(opt, path, float(value))
    read = dict(leaves(TrainingOptions.parse(opt).model_dump()))
    assert {path: (type(read[path]), read[path]) for path in numbers} == {k: (int, v) for k, v in numbers.items()}


@pytest.mark.parametrize(
    ('path', 'block', 'whole', 'fraction'),
    [
        ('network_g', {'type': 'RRDBNet', 'num_in_ch': 3.0, 'num_out_ch': 3.0}, {'num_feat': 4.0}, {}),
        ('network_g', {'type': 'SwinIR', 'img_size': 64.0}, {'depths': [2.0, 2.0]}, {'mlp_ratio': 2.0}),
        ('val.metrics.psnr', {'type': 'calculate_psnr'}, {'crop_border': 4.0}, {}),
        ('datasets.train', {**LOADER, 'type': 'RealESRGANDataset'}, {'batch_size_per_gpu': 2.0}, {'sinc_prob': 1.0}),
    ],
)
def test_whole_floats_of_other_classes(opt, path, block, whole, fraction):
    """By their annotations or the types of their defaults."""
    put(opt, path, block | whole | fraction)
    dump = reduce(lambda part, key: part[key], path.split('.'), TrainingOptions.parse(opt).model_dump())
    for key, value in whole.items():
        assert repr(dump[key]) == repr([int(v) for v in value] if isinstance(value, list) else int(value))
    for key, value in fraction.items():
        assert repr(dump[key]) == repr(value)


@pytest.mark.parametrize('path', ['datasets.train.dataroot_gt', 'name', 'network_g.type', 'train.precision'])
def test_text_of_two_lines(opt, path):
    r"""`"C:\new"` in double quotes; the problem is told in one."""
    put(opt, path, 'C:\new')
    expected = 'expected text without control characters (in double quotes YAML reads \\n as a line break)'
    assert problems(opt) == [f"{path}: {expected}, got 'C:\\new'"]


def test_key_of_two_lines(opt):
    put(opt, 'train.a\nb', 1)
    (line,) = problems(opt)
    assert line.startswith('train.a\\nb: unknown option')


@pytest.mark.parametrize(
    ('path', 'value', 'line'),
    [
        ('name', 'x' * 245, 'name: expected a name of at most 200 bytes, this one has 245, got '),
        ('name', 'a\0b', 'name: expected text without control characters'),
        ('datasets.val.name', '../../x', "datasets.val.name: expected the name of a folder, got '../../x'"),
        ('datasets.train.name', 'a/b', "datasets.train.name: expected the name of a folder, got 'a/b'"),
        ('val.suffix', '../x', "val.suffix: expected a part of a file name, got '../x'"),
        ('datasets.val', {'type': 'TheirDataset', 'name': '..'}, 'datasets.val.name: expected the name of a folder'),
    ],
)
def test_names_stay_in_their_folder(opt, path, value, line):
    put(opt, path, value)
    (found,) = problems(opt)
    assert found.startswith(line)


@pytest.mark.parametrize('path', ['datasets.train', 'datasets.val'])
def test_io_backend_of_other_data_sets(opt, path):
    """BasicSR's memcached one would import a module from any folder."""
    put(opt, path, {**LOADER, 'type': 'RealESRGANDataset', 'io_backend': {'type': 'memcached', 'sys_path': '/tmp'}})
    assert problems(opt) == [
        f"{path}.io_backend.type: expected 'lmdb' or 'disk', got 'memcached'",
        f'{path}.io_backend.sys_path: unknown option (known: type)',
    ]


# ----------------------------------------------------------------------- paths and anchors
def test_paths_with_variables(opt, monkeypatch, tmp_path):
    monkeypatch.setenv('FACES', '/data')
    monkeypatch.setenv('HOME', '/home/me')
    put(opt, 'datasets.train.dataroot_gt', '$FACES/train')
    put(opt, 'datasets.val.dataroot_lq', '${FACES}/val')
    put(opt, 'path.root', '~/runs')
    run = TrainingOptions.parse(opt)
    assert run.datasets.train.dataroot_gt == '/data/train'
    assert run.datasets.model_extra['val'].dataroot_lq == '/data/val'
    assert run.path.root == '/home/me/runs'
    put(opt, 'path.root', '$NONE_SUCH/runs')
    assert problems(opt) == ["path.root: the environment variable NONE_SUCH is not set, got '$NONE_SUCH/runs'"]
    (tmp_path / '$NONE_SUCH').mkdir()
    put(opt, 'path.root', f'{tmp_path}/$NONE_SUCH')  # that is its name
    assert TrainingOptions.parse(opt).path.root == f'{tmp_path}/$NONE_SUCH'


def test_anchors_at_the_top_level(opt):
    dump = TrainingOptions.parse({**opt, 'x-defaults': {'any': 1}}).model_dump()
    assert dump == TrainingOptions.parse(opt).model_dump()
    put(opt, 'train.x-defaults', 1)
    (line,) = problems(opt)
    assert line.startswith('train.x-defaults: unknown option')


def test_a_rule_of_a_member_of_a_union_is_told(opt):
    put(opt, 'datasets.train.dataroot_gt', '$NO_SUCH_VARIABLE/faces')
    expected = "the environment variable NO_SUCH_VARIABLE is not set, got '$NO_SUCH_VARIABLE/faces'"
    assert problems(opt) == [f'datasets.train.dataroot_gt: {expected}']
