from types import SimpleNamespace
from unittest import mock

import pytest
import torch

from facesr_plugin.models import record as record_module
from facesr_plugin.models.history import read_rows
from facesr_plugin.models.record import Averages, BestRule, Record
from facesr_plugin.models.step import Outcome
from facesr_plugin.models.validation import Scores

CPU = torch.device('cpu')


def outcome(loss: float, per_image: list[float], psnr: list[float], is_clean: list[bool]) -> Outcome:
    return Outcome(*(torch.tensor(value) for value in (loss, per_image, psnr, is_clean)))


def test_averages_leave_out_what_is_not_finite_and_start_anew():
    averages = Averages()
    averages.add('l', torch.tensor([1.0, float('nan'), 3.0]))
    averages.add('l', torch.tensor([5.0, 100.0]), torch.tensor([True, False]))
    averages.add('none', torch.tensor([]))
    assert averages.take() == {'l': 3.0}
    assert averages.take() == {}


def test_averages_go_on_from_a_state():
    whole, first, second = Averages(), Averages(), Averages()
    for part in (whole, first):
        part.add('l', torch.tensor([1.0, 2.0]))
    second.load_state_dict(first.state_dict(), CPU)
    for part in (whole, second):
        part.add('l', torch.tensor([6.0]))
    assert whole.take() == second.take() == {'l': 3.0}


@pytest.fixture
def record(tmp_path) -> Record:
    """Return a record of two steps on two images each: one in a part of four images, one in two parts."""
    record = Record(tmp_path)
    record.add([outcome(0.5, [1.0, 3.0, 5.0, 7.0], [20.0, 22.0, 30.0, 30.0], [False, False, True, True])], 2)
    parts = [outcome(0.25, [2.0, 2.0], [24.0, 26.0], [False, False]), outcome(0.75, [4.0, 4.0], [9.0, 9.0], [True] * 2)]
    record.add(parts, 2)
    return record


def test_a_step_by_hand(record, monkeypatch):
    """Losses of the branches are of their own images, PSNR is of the degraded ones."""
    record._started = 10.0
    monkeypatch.setattr(record_module.time, 'perf_counter', lambda: 14.0)
    log = record.take_log(world_size=3)
    assert log == pytest.approx({'l_pix': 0.75, 'l_degraded': 2.0, 'l_clean': 5.0, 'img_per_s': 4 / 4 * 3})
    assert record.take_training() == pytest.approx({'train_loss': 0.75, 'train_psnr': 23.0})
    assert record.take_training() == {'train_loss': None, 'train_psnr': None}


def test_a_set_is_gone_through_once_an_iteration(record):
    assert [record.begin_validation('val', iteration) for iteration in (2, 2, 4, 4)] == [True, False, True, False]
    assert record.begin_validation('other', 4)


def scores(**psnr: float) -> dict[str, Scores]:
    return {name: Scores({'psnr': value}) for name, value in psnr.items()}


def test_best_of_each_kind_of_weights(record):
    assert record.improved(scores(params=20.0, params_ema=19.0), 2) == ['params', 'params_ema']
    assert record.improved(scores(params=20.0, params_ema=21.0), 4) == ['params_ema']
    assert record.best == {'params': {'psnr': 20.0, 'iter': 2}, 'params_ema': {'psnr': 21.0, 'iter': 4}}


@pytest.fixture
def log(monkeypatch) -> list[str]:
    """Return what is logged as a warning."""
    lines = []
    monkeypatch.setattr(record_module, 'get_root_logger', lambda: SimpleNamespace(warning=lines.append))
    return lines


def test_only_finite_scores_count(record, log, tmp_path):
    """The infinite one of a perfect image, or NaN where the border cut is the image, would stay the best for ever."""
    inf, nan = float('inf'), float('nan')
    assert record.improved(scores(params=inf, params_ema=20.0), 2) == ['params_ema']
    assert record.improved(scores(params=nan, params_ema=nan), 4) == []
    assert record.best == {'params_ema': {'psnr': 20.0, 'iter': 2}}
    why = 'an image that is met exactly'
    assert log == [f'Validation: psnr inf of the network is not finite ({why}): no history, no best']
    assert record.improved(scores(params=19.0, params_ema=21.0), 6) == ['params', 'params_ema']
    record.add_row({'epoch': 1, 'iter': 2, 'val_psnr': inf, 'raw_psnr': nan, 'val_loss': 0.5}, None)
    (row,), _ = read_rows(tmp_path / 'history.csv')
    assert (row['val_psnr'], row['raw_psnr'], row['val_loss']) == (None, None, 0.5)


def test_best_infinity_of_an_older_state_is_none(record):
    state = record.state_dict() | {'best': {'params': {'psnr': float('inf'), 'iter': 2}}}
    del state['best_of']
    record.load_state_dict(state | record.averages(), None, 0, CPU)
    assert record.improved(scores(params=19.0), 4) == ['params']


def test_best_belongs_to_what_it_was_measured_on(record, log):
    of = {'name': 'val', 'images': 4, 'checksum': 5, 'psnr': {'type': 'calculate_psnr', 'crop_border': 0}}
    record.measure_on(of)
    record.improved(scores(params=26.0), 2)
    record.measure_on({**of, 'name': 'renamed'})
    assert record.best
    assert log == []
    for change in ({'checksum': 6}, {'images': 5}, {'psnr': {'type': 'calculate_psnr', 'crop_border': 4}}):
        record.measure_on({**of, **change})
        (line,) = log
        assert line.startswith('Validation val: not what the best weights so far were chosen by (')
        assert 'best 26.0000 @ 2): the best starts anew' in line
        assert record.improved(scores(params=20.0), 4) == ['params']
        record.measure_on(of)
        record.improved(scores(params=26.0), 2)
        log.clear()


def test_goes_on_from_a_state(record, tmp_path):
    record.begin_validation('val', 2)
    record.measure_on({'name': 'val', 'images': 3})
    record.add_row({'epoch': 1, 'iter': 2, 'val_psnr': 20.0}, None)
    state = record.state_dict()
    other = Record(tmp_path / 'other')
    (tmp_path / 'other').mkdir()
    other.load_state_dict(state, record.averages(), 0, CPU)
    assert not other.begin_validation('val', 2)
    assert (tmp_path / 'other' / 'history.csv').read_text() == (tmp_path / 'history.csv').read_text()
    assert other.take_training() == record.take_training()
    assert other.best_of == {'name': 'val', 'images': 3}


def test_rank_1_goes_on_with_its_own_averages_and_writes_no_history(record, tmp_path):
    state, own = record.state_dict(), record.averages()
    assert own['since_row']
    other = Record(tmp_path / 'nowhere')
    other.load_state_dict(state, own, 1, CPU)
    assert other.take_training() == record.take_training()
    assert not (tmp_path / 'nowhere').exists()


def test_state_saved_before_averages_were_each_process_s_own(record, tmp_path):
    """It holds rank 0's, which are no one else's; all have the same names, as sums over processes need."""
    state = record.state_dict() | record.averages()
    expected = record.take_training()
    for rank in (0, 1):
        other = Record(tmp_path)
        other.load_state_dict(state, None, rank, CPU)
        names = set(state['since_row'])
        assert set(other.averages()['since_row']) == names
        assert other.take_training() == (expected if rank == 0 else {'train_loss': None, 'train_psnr': None})


def warnings(monkeypatch, current_iter: int | str, optimizer: torch.optim.Optimizer | None) -> list[str]:
    """Return what is warned of when both networks do no more than enlarge bilinearly."""
    logger = mock.Mock()
    monkeypatch.setattr(record_module, 'get_root_logger', lambda: logger)
    scores = {name: Scores({'psnr': 25.0}, residual=0.01) for name in ('params', 'params_ema')}
    record_module.report('val', current_iter, scores, {'bilinear': 25.0}, {}, None, optimizer)
    return [call.args[0] for call in logger.warning.call_args_list]


def test_a_network_that_has_not_begun_to_learn_is_no_news(monkeypatch):
    assert warnings(monkeypatch, 6, None) == []
    assert len(warnings(monkeypatch, 100, None)) == 2
    assert len(warnings(monkeypatch, 'test_run', None)) == 2


@pytest.mark.parametrize(
    ('optimizer', 'weight_decay', 'is_to_blame'),
    [('Adam', 5e-4, True), ('Adam', 0.0, False), ('AdamW', 1e-2, False), (None, 0.0, True)],
)
def test_advice_against_a_collapse_fits_the_optimiser(monkeypatch, optimizer, weight_decay, is_to_blame):
    weights = [torch.nn.Parameter(torch.ones(1))]
    built = getattr(torch.optim, optimizer)(weights, weight_decay=weight_decay) if optimizer else None
    (line, _) = warnings(monkeypatch, 100, built)
    assert ('use AdamW' in line) == is_to_blame
    assert 'learning rate that is too high' in line


def test_the_most_natural_weights_of_those_that_are_faithful_enough(tmp_path):
    rule = BestRule.from_options(
        {'best': 'niqe', 'least_psnr': 25.0, 'metrics': {'niqe': {'type': 'calculate_niqe', 'crop_border': 0}}}
    )
    record = Record(tmp_path, rule)
    found = []
    for iteration, (psnr, niqe) in enumerate([(26.0, 9.0), (25.5, 7.0), (24.9, 5.0), (25.0, 7.5), (25.0, 6.0)], 1):
        found.append(bool(record.improved({'params': Scores({'psnr': psnr, 'niqe': niqe})}, iteration)))
    assert found == [True, True, False, False, True]
    assert record.best == {'params': {'psnr': 25.0, 'niqe': 6.0, 'iter': 5}}


@pytest.mark.parametrize(
    ('options', 'is_lower'),
    [
        ({'type': 'calculate_niqe', 'crop_border': 0}, True),
        ({'type': 'calculate_identity'}, True),
        ({'type': 'mine', 'better': 'lower'}, True),
        ({'type': 'mine'}, False),
    ],
)
def test_which_direction_is_better(options, is_lower):
    assert BestRule.from_options({'best': 'x', 'metrics': {'x': options}}).less_is_better == is_lower
