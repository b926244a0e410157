"""A run that is made longer: by its options, by `--extend`, and refused where nobody said what is to come."""

from pathlib import Path

import pytest
import torch
from basicsr.models.lr_scheduler import CosineAnnealingRestartLR, MultiStepRestartLR
from small import Options, put

from facesr_plugin import train
from facesr_plugin.errors import UserError
from facesr_plugin.losses.alpha_schedule import AlphaSchedule
from facesr_plugin.options.schedules import _past, extend, told
from facesr_plugin.run import checkpoint

RESUME, EXTEND, RESTART = '--auto_resume', '--extend', '--restart_schedules'
STEPS = {'type': 'MultiStepRestartLR', 'milestones': [3, 5], 'restarts': [0, 6], 'restart_weights': [1, 0.5]}
COSINE = {'type': 'CosineAnnealingRestartLR', 'periods': [4, 5], 'restart_weights': [1.0, 0.5], 'eta_min': 0.01}


@pytest.mark.parametrize(('kind', 'options'), [(MultiStepRestartLR, STEPS), (CosineAnnealingRestartLR, COSINE)])
def test_past_is_what_the_loop_did(kind, options):
    """A run of BasicSR's own scheduler, stepped as its loop steps it."""
    alpha = {'start': 0.8, 'end': 0.4, 'periods': None}
    found = list(_past({'scheduler': options, 'alpha_opt': alpha, 'optim_g': {'lr': 0.1}, 'total_iter': 9}, 8))
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    scheduler = kind(optimizer, **{key: value for key, value in options.items() if key != 'type'})
    expected = []
    for iteration in range(1, 9):
        if iteration > 1:
            optimizer.step()
            scheduler.step()
        expected.append((optimizer.param_groups[0]['lr'], AlphaSchedule().at(iteration, 9)))
    assert found == expected
    assert len({rate for rate, _ in found}) > 2


def test_extend_begins_curves_anew_where_they_end(opt):
    extend(opt, 10, restart=True)
    assert opt['train']['total_iter'] == 10
    assert opt['train']['scheduler']['periods'] == [4, 6]
    assert opt['train']['scheduler']['restart_weights'] == [1.0, 1.0]
    assert opt['train']['alpha_opt'] == {'start': 0.8, 'end': 0.4, 'periods': [4, 6]}
    changed = opt['train'].copy()
    extend(opt, 10, restart=True)  # the same command again
    assert opt['train'] == changed


def test_extend_leaves_what_does_not_end(opt):
    opt['train']['scheduler'] = {'type': 'MultiStepLR', 'milestones': [2]}
    opt['train']['alpha_opt'] = {'start': 0.8, 'end': 0.4, 'periods': [3]}
    before = opt['train'].copy()
    extend(opt, 10, restart=False)
    assert opt['train'] == before | {'total_iter': 10}
    opt['train'] |= {'total_iter': 4, 'alpha_opt': {'start': 0.3, 'end': 0.3}}
    extend(opt, 10, restart=False)
    assert (opt['train']['total_iter'], opt['train']['alpha_opt']) == (10, {'start': 0.3, 'end': 0.3})


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({}, '--extend 10: train.scheduler and train.alpha_opt end with the run of 4 iterations; --restart_schedules '),
        ({'train.alpha_opt.end': 0.8}, '--extend 10: train.scheduler ends with the run of 4 iterations; '),
        ({'train.total_iter': 12, 'train.scheduler.periods': [12]}, '--extend: at least train.total_iter = 12 exp'),
    ],
)
def test_extend_refuses_what_nobody_said(opt, change, message):
    for path, value in change.items():
        put(opt, path, value)
    with pytest.raises(UserError) as error:
        extend(opt, 10, restart=False)
    assert str(error.value).startswith(message)


def test_extend_leaves_a_wrong_file_to_the_check(opt):
    put(opt, 'train.total_iter', 'many')
    extend(opt, 10, restart=True)
    assert opt['train']['total_iter'] == 'many'
    extend({}, 10, restart=True)


def test_told():
    short = {'total_iter': 12, 'scheduler': {'periods': [12]}, 'alpha_opt': None}
    assert told(short, short, 12) is None
    assert told(short, {}, 12) is None  # a state of stock
    restarted = {'total_iter': 24, 'scheduler': {'periods': [12, 8, 8]}, 'alpha_opt': {'periods': [12, 12]}}
    line = 'Going on to 24 iterations, the training state is of a run of 12: '
    anew = 'the learning rate begins anew after iteration 12, 20; alpha begins anew after iteration 12.'
    assert told(restarted, short, 12) == line + anew
    steps = {'total_iter': 24, 'scheduler': {'milestones': []}, 'alpha_opt': {'periods': None}}
    assert told(steps, short, 12) == f'{line}learning rate and alpha go on as their options say.'


# ------------------------------------------------------------------------------ whole runs
@pytest.fixture
def opt(opt: Options) -> Options:
    opt['train']['ema_decay'] = 0.9
    return opt


def folder(data: Path, name: str) -> Path:
    return data / 'root' / 'experiments' / name


def assert_same_run(data: Path, first: str, second: str) -> None:
    one, two = folder(data, first), folder(data, second)
    for label in ('latest', 'best', '4', '8'):
        weights, others = (checkpoint.load(path / 'models' / f'net_g_{label}.pth') for path in (one, two))
        assert weights.keys() == others.keys()
        for kind in ('params', 'params_ema'):
            assert all(torch.equal(weights[kind][name], others[kind][name]) for name in weights[kind]), (label, kind)
    assert (one / 'history.csv').read_bytes() == (two / 'history.csv').read_bytes()


def constant(opt: Options) -> None:
    opt['train']['scheduler'] = {'type': 'MultiStepLR', 'milestones': []}
    opt['train']['alpha_opt'] = {'start': 0.5, 'end': 0.5}


def steps(opt: Options) -> None:
    opt['train']['scheduler'] = {'type': 'MultiStepLR', 'milestones': [2, 6]}
    opt['train']['scheduler']['milestones'] = [m for m in (2, 6) if m <= opt['train']['total_iter']]
    opt['train']['alpha_opt'] = {'start': 0.8, 'end': 0.4, 'periods': [6]}


@pytest.mark.parametrize('schedules', [constant, steps])
@pytest.mark.parametrize('by', ['option', 'flag'])
def test_longer_run_equals_an_unbroken_one(launch, opt, data, schedules, by):
    """Where learning rate and alpha are functions of the iteration: bit for bit."""
    schedules(opt)
    opt['name'] = 'short'
    assert launch(train.main, opt)[0] == 0
    flags = [EXTEND, '8'] if by == 'flag' and schedules is constant else []
    if not flags:
        opt['train']['total_iter'] = 8
        schedules(opt)
    status, _, err = launch(train.main, opt, RESUME, *flags)
    assert status == 0, err
    line = 'Going on to 8 iterations, the training state is of a run of 4: learning rate and alpha go on as their '
    assert line in err
    opt['train']['total_iter'] = 8
    schedules(opt)
    opt['name'] = 'unbroken'
    assert launch(train.main, opt)[0] == 0
    assert_same_run(data, 'short', 'unbroken')


def test_cosine_that_begins_anew(launch, opt, data):
    """It is refused without a word on it; with one, the log, the state and the history tell it."""
    opt['name'] = 'short'
    assert launch(train.main, opt)[0] == 0
    status, _, err = launch(train.main, opt, RESUME, EXTEND, '8')
    assert status == 2
    assert err.startswith('error: --extend 8: train.scheduler and train.alpha_opt end with the run of 4 iterations; ')
    assert err.count('\n') == 1
    status, _, err = launch(train.main, opt, RESUME, EXTEND, '8', RESTART, '--check')
    assert status == 0, err
    status, _, err = launch(train.main, opt, RESUME, EXTEND, '8', RESTART)
    assert status == 0, err
    anew = 'the learning rate begins anew after iteration 4; alpha begins anew after iteration 4.'
    assert f'Going on to 8 iterations, the training state is of a run of 4: {anew}' in err
    state = checkpoint.load(folder(data, 'short') / 'training_states' / '8.state')
    saved = state['facesr']['options']['train']
    assert (saved['scheduler']['periods'], saved['alpha_opt']['periods']) == ([4, 4], [4, 4])
    alphas = [row['alpha'] for row in state['facesr']['monitor']['history']]
    assert alphas == [AlphaSchedule().at(iteration, 4) for iteration in (2, 4, 2, 4)]
    assert (folder(data, 'short') / 'opt.yml').read_text().split('\n')[2].endswith(f'{EXTEND} 8 {RESTART}')
    opt['name'] = 'unbroken'
    opt['train'] |= {'total_iter': 8}
    opt['train']['scheduler'] |= {'periods': [4, 4], 'restart_weights': [1, 1]}
    opt['train']['alpha_opt']['periods'] = [4, 4]
    assert launch(train.main, opt)[0] == 0
    assert_same_run(data, 'short', 'unbroken')


def test_extended_run_that_is_stopped_goes_on_by_the_same_command(launch, opt, data):
    assert launch(train.main, opt)[0] == 0
    assert launch(train.main, opt, RESUME, EXTEND, '8', RESTART)[0] == 0
    latest = (folder(data, 'run') / 'models' / 'net_g_latest.pth').read_bytes()
    for path in (folder(data, 'run') / 'training_states' / '8.state', folder(data, 'run') / 'models' / 'net_g_8.pth'):
        path.unlink()
    status, _, err = launch(train.main, opt, RESUME, EXTEND, '8', RESTART)
    assert status == 0, err
    assert 'Going on to' not in err
    assert (folder(data, 'run') / 'models' / 'net_g_latest.pth').read_bytes() == latest


def test_validation_at_the_end_of_the_shorter_run_counts(launch, opt, data):
    """It comes after the state, and the longer run does not do it again: what was best there stays the best."""
    constant(opt)
    opt['val']['val_freq'] = 3
    opt['train']['optim_g']['lr'] = 1e-9  # nothing changes: the first of equal scores stays
    assert launch(train.main, opt)[0] == 0
    state = checkpoint.load(folder(data, 'run') / 'training_states' / '4.state')
    assert [row['iter'] for row in state['facesr']['monitor']['history']] == [3, 4]
    opt['val']['val_freq'] = 100
    assert launch(train.main, opt, RESUME, EXTEND, '6')[0] == 0
    state = checkpoint.load(folder(data, 'run') / 'training_states' / '6.state')
    assert [row['iter'] for row in state['facesr']['monitor']['history']] == [3, 4, 6]


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        ((RESTART,), '--restart_schedules: --extend expected with it'),
        ((EXTEND, '8'), '--extend: --auto_resume or path.resume_state expected with it, the run to go on with'),
    ],
)
def test_flags_alone(command, opt, flags, message):
    status, _, err = command(train.main, opt, *flags)
    assert (status, err) == (2, f'error: {message}\n')
