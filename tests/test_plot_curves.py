"""scripts/plot_curves.py: what is drawn, from which columns, and what it says to a history that it cannot read."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from facesr_plugin.data.images import read_image
from facesr_plugin.errors import UserError, run_command
from facesr_plugin.losses.alpha_schedule import cosine_alpha
from facesr_plugin.models.history import COLUMNS, History
from facesr_plugin.report.records import KEYS

plot_curves = importlib.import_module('facesr_plugin.commands.curves')

FIGURES = ['train_loss', 'val_loss', 'train_psnr', 'val_psnr', 'alpha']


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


def drawn(figure: str, *folders: Path) -> tuple[dict[str, tuple[list, list]], str]:
    """Return the lines of a figure by label, and the label of its x axis."""
    axes = Figure().subplots()
    plot_curves.draw(axes, figure, [plot_curves.load_experiment(str(folder)) for folder in folders])
    lines = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()}
    return lines, axes.get_xlabel()


def has_colour(picture: np.ndarray, colour: str) -> bool:
    """Return whether some of the picture's pixels are of this very colour."""
    return (np.abs(picture - 255 * np.array(to_rgb(colour))) < 2).all(2).sum() > 50


def test_pictures(tmp_path):
    first = write_history(tmp_path / 'exp1', alpha=0.7)
    second = write_history(tmp_path / 'exp2', train_loss=0.02, train_psnr=23.0, val_loss=0.03, val_psnr=24.0)
    output = tmp_path / 'new' / 'curves'
    assert plot_curves.main([str(first), str(second / 'history.csv'), '-o', str(output)]) is None
    assert sorted(path.stem for path in output.iterdir()) == sorted([*FIGURES, 'overview'])
    for path in output.iterdir():
        picture = read_image(path).astype(float)
        assert min(picture.shape[:2]) > 500
        assert has_colour(picture, plot_curves.COLOURS[0])
        assert has_colour(picture, plot_curves.COLOURS[1]) == (path.stem != 'alpha'), path


def test_values(tmp_path):
    folder = write_history(tmp_path / 'exp1')
    assert drawn('train_psnr', folder) == ({'exp1': ([1, 2, 3], [24, 25, 26])}, 'epoch')
    lines, _ = drawn('val_psnr', folder)
    assert lines['exp1, best 27.00 dB'] == ([1, 2, 3], [25, 26, 27])
    assert lines['bilinear, 25.40 dB'][1] == [25.4, 25.4]
    assert lines['bicubic, 25.10 dB'][1] == [25.1, 25.1]
    assert len(lines) == 3


def test_equal_baselines_are_drawn_once(tmp_path):
    folders = [write_history(tmp_path / name) for name in ('exp1', 'exp2')]
    assert len(drawn('val_psnr', *folders)[0]) == 4
    folders.append(write_history(tmp_path / 'exp3', bicubic_psnr=22.0))
    labels = [label for label in drawn('val_psnr', *folders)[0] if label.startswith('bi')]
    assert labels == ['bilinear, 25.40 dB', 'bicubic (exp1, exp2), 25.10 dB', 'bicubic (exp3), 22.00 dB']


@pytest.mark.parametrize('epochs', [(None, None), (1, 1), (1, None)])
def test_iterations_where_epochs_do_not_tell_rows_apart(tmp_path, epochs):
    folder = write_history(tmp_path / 'exp1', epochs)
    assert drawn('train_loss', folder) == ({'exp1': ([100, 200], [0.05, 0.04])}, 'iteration')


def test_what_was_not_recorded(tmp_path):
    folder = write_history(tmp_path / 'exp1', val_psnr=None, bilinear_psnr=None, bicubic_psnr=None)
    assert drawn('val_psnr', folder)[0] == {}
    assert plot_curves.main([str(folder), '-o', str(tmp_path)]) is None


def test_alpha_of_the_schedule_without_a_recorded_one(tmp_path):
    axes = Figure().subplots()
    plot_curves.draw_schedule(axes)
    (line,) = axes.get_lines()
    progress, alpha = line.get_data()
    assert (progress[0], alpha[0], progress[-1], alpha[-1]) == (0, 0.8, 1, pytest.approx(0.4))
    assert alpha[25] == cosine_alpha(0.25)


HEADER = ','.join(COLUMNS)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (None, 'exp/history.csv: no such file; training writes it after its first validation'),
        (f'{HEADER}\n', 'exp/history.csv: no row yet; training writes one after each validation'),
        (
            f'{HEADER}\n1,many\n',
            "exp/history.csv: a history.csv written by training expected (could not convert string to float: 'many')",
        ),
        (f'{HEADER}\n1\n', 'exp/history.csv: a history.csv written by training expected (a row without iter)'),
    ],
)
def test_unreadable_history(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    Path('exp').mkdir()
    if text is not None:
        Path('exp/history.csv').write_text(text)
    with pytest.raises(UserError) as caught:
        plot_curves.main(['exp'])
    assert str(caught.value) == message
    assert not Path('results').exists()


@pytest.mark.parametrize('data', [b'', b'\xff\xfe', b'epoch,loss\n1,2\n'])
def test_other_files(tmp_path, capsys, data):
    file = tmp_path / 'other.csv'
    file.write_bytes(data)
    with pytest.raises(SystemExit) as caught:
        run_command(lambda: plot_curves.main([str(file), '-o', str(tmp_path)]))
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f'error: {file}: a history.csv written by training expected (')
    assert error.count('\n') == 1


def test_equal_names(tmp_path):
    (tmp_path / 'old').mkdir()
    folders = [write_history(tmp_path / name) for name in ('exp1', 'old/exp1')]
    with pytest.raises(UserError, match=r'^exp1: experiments of different names expected, two have this one$'):
        plot_curves.main([*map(str, folders), '-o', str(tmp_path)])


def test_several_runs_are_averaged(tmp_path):
    for seed, psnr in enumerate((25.0, 27.0, 26.5)):
        write_history(tmp_path / f'run_seed{seed}', val_psnr=psnr)
    entry = f'plain L1={tmp_path}/run_seed*'
    lines, _ = drawn('val_psnr', entry)
    assert lines['plain L1, best 26.17 dB'][1] == pytest.approx([26.1667] * 3, abs=1e-4)
    assert plot_curves.load_experiment(entry).band('val_psnr') == ([25.0] * 3, [27.0] * 3)
    axes = Figure().subplots()
    plot_curves.draw(axes, 'val_psnr', [plot_curves.load_experiment(entry)])
    (band,) = axes.collections
    assert band.get_datalim(axes.transData).y0 == 25
    assert band.get_datalim(axes.transData).y1 == 27


def test_patterns_that_cannot_be_averaged(tmp_path):
    with pytest.raises(UserError, match=r'^a=none\*: NAME=PATTERN expected'):
        plot_curves.load_experiment('a=none*')
    write_history(tmp_path / 'run_1')
    write_history(tmp_path / 'run_2', epochs=(1, 2))
    with pytest.raises(UserError, match=r'run_2: rows at the same iterations expected as in .*run_1$'):
        plot_curves.load_experiment(f'a={tmp_path}/run_*')


def test_damaged_record(tmp_path):
    without_rows = dict.fromkeys(KEYS, 0) | {'history': dict.fromkeys(COLUMNS, ())}
    for content in ({}, dict.fromkeys(KEYS, 0) | {'history': {}}, without_rows, 3):
        (tmp_path / 'a.json').write_text(json.dumps(content))
        with pytest.raises(UserError, match=r'a.json: a record written by run_experiments.py expected$'):
            plot_curves.load_experiment(str(tmp_path / 'a.json'))
