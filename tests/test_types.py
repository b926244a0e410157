"""What may stand in an option file, and how what may not is told: nothing that it names need be there."""

import copy
from functools import reduce
from typing import Any

import pytest
from small import Options, put

from facesr_plugin.errors import UserError
from facesr_plugin.options import types
from facesr_plugin.options.types import TrainingOptions

COSINE = {'type': 'CosineAnnealingRestartLR', 'periods': [4]}
STEPS = {'type': 'MultiStepLR', 'milestones': [2]}
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
        ('datasets.train', {'type': 'TheirDataset', 'their_option': 3}),
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
        ('network_g.num_in_ch', 1, '3 expected, images are RGB, got 1'),
        ('network_g.upscale', 8, 'expected 2, 3 or 4, got 8'),
        ('network_g.upscale', 2, '4 expected, as scale, got 2'),
        ('train.ema_decay', 1.5, 'expected less than or equal to 1, got 1.5'),
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
