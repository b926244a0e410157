"""Whether a training state belongs to an option file."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import yaml
from basicsr import train as train_pipeline
from basicsr.archs import build_network
from small import SECOND_STAGE, Options, put

from facesr_plugin import train
from facesr_plugin.errors import UserError
from facesr_plugin.options import compare
from facesr_plugin.options.check import check, check_state
from facesr_plugin.options.compare import described, differences
from facesr_plugin.options.types import TrainingOptions


def now(opt: Options) -> Options:
    return described(TrainingOptions.parse(opt))


def state_with(options: Options, **entries: Any) -> Options:
    """Return a state that was saved under these options, as far as the check reads it."""
    return {'iter': 2, 'epoch': 0, 'optimizers': [], 'schedulers': [], 'facesr': {'options': options}, **entries}


def state_of(opt: Options) -> Options:
    return state_with(now(opt) | {'world_size': 1})


def state_of_754be97(opt: Options) -> Options:
    """Return what that commit saved: raw blocks as far as BasicSR left them, under keys of its own."""
    opt = copy.deepcopy(opt)
    train_set = {**opt['datasets']['train'], 'batch_size_per_gpu': 2}
    del train_set['name'], train_set['io_backend'], train_set['num_worker_per_gpu']
    del opt['train']['optim_g']['type']
    return state_with(
        {
            'resize_prob': [0.2, 0.7, 0.1],
            'noise_range': [1, 30],
            'scale': 4,
            'manual_seed': opt['manual_seed'],
            'gt_size': None,
            'queue_size': opt['queue_size'],
            'network_g': opt['network_g'],
            'train': opt['train'],
            'datasets.train': train_set,
            'world_size': 1,
        }
    )


STATES = pytest.mark.parametrize('state_of', [state_of, state_of_754be97])


@STATES
def test_state_of_the_same_options(opt, state_of: Callable):
    state = state_of(opt)
    assert differences(now(opt), state) == []
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
    assert differences(now(opt), state) == []
    check_state(TrainingOptions.parse(opt), state)


@STATES
@pytest.mark.parametrize(
    ('path', 'value', 'before', 'after'),
    [
        ('network_g.num_block', 3, '1', '3'),
        ('network_g.type', 'MSRResNet', "'FaceSRResNet'", "'MSRResNet'"),
        ('queue_size', 8, '4', '8'),
        ('manual_seed', 4, '3', '4'),
        ('datasets.train.batch_size_per_gpu', 4, '2', '4'),
        ('datasets.train.gt_size', 84, '80', '84'),
        ('train.optim_g.lr', 1e-4, '0.001', '0.0001'),
        ('train.pixel_opt.forward', 'sampled', "'concat'", "'sampled'"),
        ('train.alpha_opt.end', 0.0, '0.4', '0.0'),
    ],
)
def test_state_of_other_options(opt, state_of: Callable, path, value, before, after):
    state = state_of(opt)
    put(opt, path, value)
    (line,) = differences(now(opt), state)
    assert line == f'{path}: {before} expected, as the training state was saved under, got {after}'
    with pytest.raises(UserError) as error:
        check_state(TrainingOptions.parse(opt), state)
    assert str(error.value) == line


@pytest.mark.parametrize(
    ('path', 'value', 'before', 'after'),
    [
        ('datasets.train.use_rot', True, 'False', 'True'),
        ('train.ema_decay', 0.9, '0.0', '0.9'),
        ('noise_range', [1, 20], '[1.0, 30.0]', '[1.0, 20.0]'),
        ('train.pixel_opt.clean_mode', 'area', "'bicubic'", "'area'"),
        ('gt_size', 40, 'no value', '40'),
    ],
)
def test_defaults_count(opt, path, value, before, after):
    """Of what neither file says, the state of a run says the default."""
    state = state_of(opt)
    put(opt, path, value)
    expected = f'{path}: {before} expected, as the training state was saved under, got {after}'
    assert differences(now(opt), state) == [expected]


@STATES
def test_state_of_a_shorter_run(opt, state_of: Callable):
    """Over a longer cosine alpha and the learning rate would have been others from the start."""
    state = state_of(opt)
    put(opt, 'train.total_iter', 8)
    put(opt, 'train.scheduler.periods', [8])
    why = 'learning rate or alpha of the 2 iterations done would have been others; see --extend'
    assert differences(now(opt), state) == [
        f'train.{key} expected, as the training state was saved under, got {got} ({why})'
        for key, got in (('scheduler.periods: [4]', '[8]'), ('total_iter: 4', 8))
    ]


@STATES
def test_what_is_to_come_may_change(opt, state_of: Callable):
    """The same learning rate and alpha so far, as a pure function of the iteration: the run goes on exactly."""
    state = state_of(opt)
    put(opt, 'train.total_iter', 8)
    opt['train']['scheduler'] |= {'periods': [4, 4], 'restart_weights': [1.0, 0.5]}
    opt['train']['alpha_opt']['periods'] = [4, 4]
    assert differences(now(opt), state) == []
    opt['train']['alpha_opt']['periods'] = [4, 3]
    assert differences(now(opt), state) == []
    opt['train']['alpha_opt']['periods'] = [3, 4]
    changed = {line.partition(':')[0] for line in differences(now(opt), state)}
    assert changed >= {'train.alpha_opt.periods', 'train.scheduler.periods', 'train.total_iter'}


def test_steps_to_come_may_change(opt):
    opt['train']['scheduler'] = {'type': 'MultiStepLR', 'milestones': [1, 4]}
    del opt['train']['alpha_opt']
    opt['train']['pixel_opt'] = {'type': 'L1Loss'}
    state = state_of(opt)
    put(opt, 'train.total_iter', 20)
    for milestones in ([1, 4], [1, 2, 9], [1]):  # of the second iteration the scheduler has made one step
        put(opt, 'train.scheduler.milestones', milestones)
        assert differences(now(opt), state) == []
    for milestones in ([4], [1, 1], []):
        put(opt, 'train.scheduler.milestones', milestones)
        assert 'train.scheduler.milestones' in differences(now(opt), state)[0]


def test_state_beyond_the_run(opt):
    state = state_of(opt) | {'iter': 4}
    opt['train'] |= {'total_iter': 3}
    expected = ['train.total_iter: at least 4 expected, as in the training state, got 3']
    assert differences(now(opt), state) == expected


@pytest.mark.parametrize(
    ('path', 'value', 'before'),
    [
        ('train.grad_clip', 0.5, 'no value'),
        ('train.ema_decay', 0.9, '0'),
        ('datasets.train.weights', [1.0], 'no value'),
    ],
)
def test_options_younger_than_a_state_are_what_was_done_without_them(opt, path, value, before):
    """At 754be97 a run could go on clipped, or with a moving average, of which its past knows nothing."""
    state = state_of_754be97(opt)
    assert differences(now(opt), state) == []
    put(opt, path, value)
    expected = f'{path}: {before} expected, as the training state was saved under, got {value}'
    assert differences(now(opt), state) == [expected]


def test_state_of_accumulated_batches(opt):
    state = state_of(opt)
    put(opt, 'train.accumulate', 2)
    put(opt, 'datasets.train.batch_size_per_gpu', 1)  # as many images an iteration, in two batches
    (line,) = differences(now(opt), state)
    assert line.startswith('train.accumulate: 1 expected')


@STATES
def test_state_of_fewer_processes(opt, state_of: Callable):
    state = state_of(opt)
    assert differences(now(opt), state) == []  # not known before the processes have joined
    (line,) = differences(now(opt) | {'world_size': 2}, state)
    assert line == 'world_size: 1 expected, as the training state was saved under, got 2'


@STATES
def test_seed_left_open_is_that_of_the_state(opt, state_of: Callable):
    state = state_of(opt)
    put(opt, 'manual_seed', None)
    assert differences(now(opt), state) == []


def test_state_of_stock(opt):
    state = {'iter': 6, 'epoch': 0, 'optimizers': [], 'schedulers': [{'periods': [6]}]}
    assert [line.partition(' expected')[0] for line in differences(now(opt), state)] == [
        'train.total_iter: at least 6',
        'train.scheduler.periods: [6]',
    ]


def test_states_in_the_check_of_a_file(opt, data):
    path = data / '2.state'
    put(opt, 'path.resume_state', str(path))

    def problems() -> list[str]:
        with pytest.raises(UserError) as error:
            check(opt, True)
        return str(error.value).splitlines()

    assert problems() == [f'path.resume_state: no such file: {path}']
    torch.save({'params': build_network({'type': 'MSRResNet'}).state_dict()}, path)
    expected = 'a training state expected, it lacks iter, epoch, optimizers, schedulers'
    assert problems() == [f'path.resume_state: {expected}']
    torch.save(state_of(opt), path)
    check(opt, True)
    put(opt, 'queue_size', 6)
    put(opt, 'network_g.num_feat', 8)
    assert [line.partition(':')[0] for line in problems()] == ['network_g.num_feat', 'queue_size']


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


def test_default_precision_is_part_of_the_state(opt, monkeypatch):
    """Which the device decides: on another one the run would go on in another one without a word."""
    put(opt, 'train.precision', None)
    state = state_of(opt)
    assert differences(now(opt), state) == []
    other = 'bf16' if state['facesr']['options']['train']['precision'] == 'fp32' else 'fp32'
    monkeypatch.setattr(compare, 'default_precision', lambda device: other)
    (line,) = differences(now(opt), state)
    assert line.startswith('train.precision: ')
    assert line.endswith(f'got {other!r}')
    state['facesr']['options']['train']['precision'] = None  # as older states have it
    assert differences(now(opt), state) == []


def test_state_under_another_name_brings_its_weights(opt, data, monkeypatch):
    """It goes on from another run's state in a folder of its own, exactly as that one would have."""
    monkeypatch.chdir(data)
    for name, value in list(vars(train_pipeline).items()):
        monkeypatch.setattr(train_pipeline, name, value)
    put(opt, 'path.root', str(data))
    for name, changes in (
        ('run', {}),
        ('other', {'path.resume_state': f'{data}/experiments/run/training_states/2.state'}),
    ):
        for path, value in {'name': name, **changes}.items():
            put(opt, path, value)
        (data / 'opt.yml').write_text(yaml.safe_dump(opt))
        monkeypatch.setattr('sys.argv', ['train.py', '-opt', str(data / 'opt.yml')])
        train.main()
    ends = [
        torch.load(data / 'experiments' / name / 'models' / 'net_g_latest.pth', weights_only=True)['params']
        for name in ('run', 'other')
    ]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    histories = [(data / 'experiments' / name / 'history.csv').read_text().splitlines() for name in ('run', 'other')]
    assert [len(lines) for lines in histories] == [3, 3]
    assert (data / 'experiments' / 'other' / 'models' / 'net_g_best.pth').is_file()


def test_a_block_that_is_new_or_gone_is_a_difference(opt):
    """As the discriminator: a state of one stage is none of the other, also if it is older than the second one."""
    first, second = copy.deepcopy(opt), copy.deepcopy(opt)
    for path, value in SECOND_STAGE.items():
        put(second, path, value)
    older = state_of(first)
    del older['facesr']['options']['network_d']
    for state in (state_of(first), older):
        lines = differences(now(second), state)
        assert 'network_d: no value expected, as the training state was saved under, got a block of options' in lines
    lines = differences(now(first), state_of(second))
    assert 'network_d: a block of options expected, as the training state was saved under, got no value' in lines
    put(first, 'train.alpha_opt', None)
    put(first, 'train.pixel_opt', {'type': 'L1Loss'})
    assert any(
        line.startswith('train.alpha_opt: a block of options expected') for line in differences(now(first), older)
    )
