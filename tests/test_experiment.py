"""report/experiment.py: an experiment is a folder, a history, a record, or the mean of several."""

import json
import statistics
from pathlib import Path

import pytest

from facesr_plugin.errors import UserError
from facesr_plugin.models.history import COLUMNS, History, read_history
from facesr_plugin.report.experiment import forced_entries, load_experiment, load_experiments
from facesr_plugin.report.records import KEYS

HEAD = '# GENERATE TIME: Mon Nov 23 11:26:40 2026\n# CMD:\n# facesr_plugin/train.py -opt run.yml{}\n\n'


def write_history(folder: Path, epochs=(1, 2, 3), **columns) -> Path:
    """Write an experiment of one row per epoch, 100 iterations each; a column of None stays empty."""
    folder.mkdir()
    history = History(folder / 'history.csv')
    for row, epoch in enumerate(epochs):
        values = {
            'train_loss': 0.05 - 0.01 * row,
            'train_psnr': 24.0 + row,
            'val_loss': 0.06 - 0.01 * row,
            'val_psnr': 25.0 + row,
            'bilinear_psnr': 25.4,
            'bicubic_psnr': 25.1,
        } | columns
        history.append(epoch=epoch, iter=100 * (row + 1), **values)
    return folder


def write_record(file: Path, folder: Path, /, **options) -> Path:
    record = dict.fromkeys(KEYS, 0) | {'history': read_history(folder / 'history.csv'), 'opt': options}
    file.write_text(json.dumps(record))
    return file


def test_folder_history_and_record_are_read_alike(tmp_path):
    folder = write_history(tmp_path / 'exp1')
    record = write_record(tmp_path / 'exp1_seed0.json', folder, train={'total_iter': 300})
    whole, history, recorded = (load_experiment(str(path)) for path in (folder, folder / 'history.csv', record))
    assert [experiment.name for experiment in (whole, history, recorded)] == ['exp1', 'exp1', 'exp1_seed0']
    assert whole.rows == history.rows == recorded.rows
    assert tuple(whole.rows[0]) == COLUMNS
    assert whole.values('val_psnr') == [25, 26, 27]
    assert recorded.is_finished
    assert recorded.settings == {'train.total_iter': 300}
    assert recorded.weights == []


def test_name_is_that_of_the_folder_even_if_that_is_the_current_one(tmp_path, monkeypatch):
    monkeypatch.chdir(write_history(tmp_path / 'exp1'))
    assert [load_experiment(entry).name for entry in ('.', 'history.csv')] == ['exp1', 'exp1']
    Path('history.csv').rename('kept.csv')
    assert load_experiment('kept.csv').name == 'kept'


def test_several_runs_are_averaged(tmp_path):
    scores = (25.0, 27.0, 26.5)
    for seed, psnr in enumerate(scores):
        folder = write_history(tmp_path / f'run_seed{seed}', val_psnr=psnr, alpha=None if seed else 0.5)
        write_record(tmp_path / f'{seed}.json', folder, scale=4, manual_seed=seed, train={'ema': True} if seed else {})
    for pattern in ('run_seed*', '?.json'):
        mean = load_experiment(f'plain L1={tmp_path}/{pattern}')
        assert mean.name == 'plain L1'
        assert mean.values('val_psnr') == [statistics.fmean(scores)] * 3
        assert mean.band('val_psnr') == ([25.0] * 3, [27.0] * 3)
        assert [row['alpha'] for row in mean.rows] == [None] * 3
    assert mean.settings == {'scale': 4, 'manual_seed': '0, 1, 2', 'train.ema': 'not set, true'}


def test_patterns_that_cannot_be_averaged(tmp_path):
    with pytest.raises(UserError, match=r'^a=none\*: NAME=PATTERN expected'):
        load_experiment('a=none*')
    write_history(tmp_path / 'run_1')
    write_history(tmp_path / 'run_2', epochs=(1, 2))
    with pytest.raises(UserError, match=r'run_2: rows at the same iterations expected as in .*run_1$'):
        load_experiment(f'a={tmp_path}/run_*')


def test_a_folder_whose_name_looks_like_a_pattern(tmp_path):
    assert load_experiment(str(write_history(tmp_path / 'lr=1'))).name == 'lr=1'


def test_equal_names(tmp_path):
    (tmp_path / 'old').mkdir()
    folders = [write_history(tmp_path / name) for name in ('exp1', 'old/exp1')]
    with pytest.raises(UserError, match=r'^exp1: experiments of different names expected, two have this one$'):
        load_experiments(list(map(str, folders)))


def test_damaged_record(tmp_path):
    uneven = {name: [1.0] for name in COLUMNS} | {'iter': [1.0, 2.0]}
    for content in (
        {},
        3,
        *({**dict.fromkeys(KEYS, 0), 'history': h} for h in ({}, dict.fromkeys(COLUMNS, ()), uneven)),
    ):
        (tmp_path / 'a.json').write_text(json.dumps(content))
        with pytest.raises(UserError, match=r'a.json: a record written by run_experiments.py expected$'):
            load_experiment(str(tmp_path / 'a.json'))


def test_a_history_without_a_row_is_a_problem(tmp_path):
    (tmp_path / 'history.csv').write_text(','.join(COLUMNS) + '\n')
    problems = load_experiment(str(tmp_path)).problems
    assert problems == [f'{tmp_path}/history.csv: no row yet; training writes one after each validation']


def test_forced_entries_with_spaces():
    head = HEAD.format(' --force_yml a:b=[1, -2] c=x y --auto_resume')
    assert forced_entries(head) == ['a:b=[1, -2]', 'c=x y']
    assert forced_entries(HEAD.format('')) == []
    assert forced_entries('name: x\n') == []
