"""facesr curves and the charts of the page: what is drawn, from which columns."""

import re

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from test_experiment import write_history

from facesr_plugin.commands.curves import main
from facesr_plugin.data.images import read_image
from facesr_plugin.errors import UserError
from facesr_plugin.losses.alpha_schedule import cosine_alpha
from facesr_plugin.report import charts
from facesr_plugin.report.experiment import load_experiment
from facesr_plugin.report.page import TEMPLATE

CHARTS = {chart.column: chart for chart in charts.CHARTS}


def drawn(column: str, *entries: object) -> dict[str, tuple[list, list]]:
    """Return the lines of a chart by label."""
    axes = Figure().subplots()
    experiments = [load_experiment(str(entry)) for entry in entries]
    charts.draw(axes, CHARTS[column], experiments, charts.choose_axis(experiments))
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()}


def has_colour(picture: np.ndarray, colour: str) -> bool:
    """Return whether some of the picture's pixels are of this very colour."""
    return (np.abs(picture - 255 * np.array(to_rgb(colour))) < 2).all(2).sum() > 50


def test_pictures(tmp_path):
    first = write_history(tmp_path / 'exp1', alpha=0.7, lr=1e-3)
    second = write_history(tmp_path / 'exp2', train_loss=0.02, train_psnr=23.0, val_loss=0.03, val_psnr=24.0, lr=2e-3)
    output = tmp_path / 'new' / 'curves'
    assert main([str(first), str(second / 'history.csv'), '-o', str(output)]) is None
    assert {path.name for path in output.iterdir()} == {f'{name}.png' for name in (*CHARTS, 'overview')}
    for path in output.iterdir():
        picture = read_image(path).astype(float)
        assert min(picture.shape[:2]) > 500
        assert has_colour(picture, charts.COLOURS[0])
        assert has_colour(picture, charts.COLOURS[1]) == (path.stem != 'alpha'), path


def test_values(tmp_path):
    folder = write_history(tmp_path / 'exp1')
    assert drawn('train_psnr', folder) == {'exp1': ([1, 2, 3], [24, 25, 26])}
    lines = drawn('val_psnr', folder)
    assert lines['exp1, best 27.00 dB'] == ([1, 2, 3], [25, 26, 27])
    assert lines['bilinear, 25.40 dB'][1] == [25.4, 25.4]
    assert lines['bicubic, 25.10 dB'][1] == [25.1, 25.1]
    assert len(lines) == 3


def test_equal_baselines_are_drawn_once(tmp_path):
    folders = [write_history(tmp_path / name) for name in ('exp1', 'exp2')]
    assert len(drawn('val_psnr', *folders)) == 4
    folders.append(write_history(tmp_path / 'exp3', bicubic_psnr=22.0))
    labels = [label for label in drawn('val_psnr', *folders) if label.startswith('bi')]
    assert labels == ['bilinear, 25.40 dB', 'bicubic (exp1, exp2), 25.10 dB', 'bicubic (exp3), 22.00 dB']


@pytest.mark.parametrize('epochs', [(None, None), (1, 1), (1, None)])
def test_iterations_where_epochs_do_not_tell_rows_apart(tmp_path, epochs):
    folder = write_history(tmp_path / 'exp1', epochs)
    assert drawn('train_loss', folder) == {'exp1': ([100, 200], [0.05, 0.04])}


def test_what_was_not_recorded(tmp_path):
    folder = write_history(tmp_path / 'exp1', val_psnr=None, bilinear_psnr=None, bicubic_psnr=None)
    assert drawn('val_psnr', folder) == {}
    assert main([str(folder), '-o', str(tmp_path)]) is None


def test_alpha_of_the_schedule_without_a_recorded_one():
    axes = Figure().subplots()
    charts.draw_schedule(axes)
    (line,) = axes.get_lines()
    progress, alpha = line.get_data()
    assert (progress[0], alpha[0], progress[-1], alpha[-1]) == (0, 0.8, 1, pytest.approx(0.4))
    assert alpha[25] == cosine_alpha(0.25)


def test_band_of_several_runs(tmp_path):
    for seed, psnr in enumerate((25.0, 27.0, 26.5)):
        write_history(tmp_path / f'run_seed{seed}', val_psnr=psnr)
    axes = Figure().subplots()
    charts.draw(axes, CHARTS['val_psnr'], [load_experiment(f'plain L1={tmp_path}/run_seed*')], 'iter')
    assert axes.get_lines()[0].get_label() == 'plain L1, best 26.17 dB'
    (band,) = axes.collections
    box = band.get_datalim(axes.transData)
    assert (box.y0, box.y1) == (25, 27)


def test_a_single_value_is_drawn_at_its_own_scale(tmp_path):
    axes = Figure().subplots()
    charts.draw(axes, CHARTS['lr'], [load_experiment(str(write_history(tmp_path / 'exp1', (1,), lr=1e-3)))], 'iter')
    bottom, top = axes.get_ylim()
    assert 0 < bottom < 1e-3 < top < 2e-3


def test_many_experiments_are_told_apart():
    marks = [charts.Mark.of(index) for index in range(24)]
    assert len({mark.colour for mark in marks[:8]}) == len({mark.glyph for mark in marks[:8]}) == 8
    assert len(set(marks)) == 24


def test_damaged_history_is_refused(tmp_path):
    """Unlike in a report, a row that is left out would not be seen."""
    folder = write_history(tmp_path / 'exp1')
    with open(folder / 'history.csv', 'a') as file:
        file.write('4,many\n')
    with pytest.raises(
        UserError, match=r'exp1/history.csv:5: row left out, 13 numbers expected: damaged or cut short$'
    ):
        main([str(folder), '-o', str(tmp_path / 'new')])
    assert not (tmp_path / 'new').exists()


# ---------------------------------------------------------------------------- within the page
def test_inline_lines_are_where_the_pointer_looks_for_them(tmp_path):
    """Points lie at `start` + iteration * `step`, and as high as their values say."""
    folder = write_history(tmp_path / 'exp1')
    figure = charts.draw_inline(CHARTS['train_loss'], [load_experiment(str(folder))])
    path = re.search(r'data-line="0">\s*<path d="([^"]*)"', figure['svg'])[1]
    points = np.array([point.split() for point in re.findall(r'[ML] ([^ML]*)', path)], float)
    assert points[:, 0] == pytest.approx([figure['start'] + figure['step'] * x for x in (100, 200, 300)], abs=0.01)
    heights = points[:, 1]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.01)
    assert figure['top'] < heights[0] < heights[2] < figure['bottom']
    assert figure['lines'][0]['x'] == (100, 200, 300)
    assert figure['lines'][0]['text'] == ('0.05000', '0.04000', '0.03000')
    assert charts.draw_inline(CHARTS['lr'], [load_experiment(str(folder))]) is None


def test_inline_charts_wear_the_colours_of_the_page(tmp_path):
    figures = [
        charts.draw_inline(CHARTS[name], [load_experiment(str(write_history(tmp_path / name)))])
        for name in ('val_psnr', 'val_loss')
    ]
    css = (TEMPLATE / 'style.css').read_text()
    for colour, variable in charts.VARIABLES.items():
        assert f'{variable[4:-1]}: {colour};' in css
        assert not any(colour in figure['svg'] for figure in figures)
    colours = [set(re.findall(r'(?:fill|stroke): ([^;"]+)', figure['svg'])) for figure in figures]
    assert colours[1] == {'none', 'var(--line)', 'var(--muted)', '#0072b2'}
    assert '<style' not in figures[0]['svg']
    ids = [name for figure in figures for name in re.findall(r'\bid="([^"]*)"', figure['svg'])]
    assert len(ids) == len(set(ids))
    for figure in figures:
        assert set(re.findall(r'(?:href="|url\()#([^")]*)', figure['svg'])) <= set(ids)
