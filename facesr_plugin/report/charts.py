"""The charts of a report, as plotly figures: every experiment keeps its colour and its marker in all of them."""

from dataclasses import dataclass
from typing import Any

from facesr_plugin.commands.curves import COLOURS as FIRST_COLOURS
from facesr_plugin.report.experiment import Experiment, find_baselines, is_number

# Two more, which kinds of colour vision tell from the first as well as those from each other.
COLOURS = (*FIRST_COLOURS, '#8B17E6', '#8C422A')
MARKERS = ('circle', 'square', 'diamond', 'triangle-up', 'triangle-down', 'star', 'circle-open', 'square-open')
GLYPHS = '●■◆▲▼★○□'
DASHES = ('solid', 'dash', 'dot')  # of the first eight experiments, the next eight, ...
BASELINE_COLOUR = '#868E96'
BASELINE_DASHES = {'bilinear': 'dash', 'bicubic': 'dot'}
MANY = 60  # rows; more are drawn without markers
SIZES = (7, 10)  # px, of the markers of the last and the first experiment: equal curves do not hide one another


@dataclass(frozen=True)
class Chart:
    """A column of the history over the iterations.

    Attributes:
        column: Its name in `history.csv`.
        title: What the page calls it.
        unit: What its numbers are; may be empty.
        digits: d3 format of a number.
    """

    column: str
    title: str
    unit: str
    digits: str


CHARTS = (
    Chart('val_psnr', 'Validation PSNR', 'dB', '.3f'),
    Chart('train_psnr', 'Training PSNR, degraded branch', 'dB', '.3f'),
    Chart('val_loss', 'Validation loss', 'mean absolute error, images in [0, 1]', '.5f'),
    Chart('train_loss', 'Training loss', 'images in [0, 1]', '.5f'),
    Chart('alpha', 'Weight α of the clean branch', '', '.3f'),
    Chart('lr', 'Learning rate', '', '.3~g'),
)


@dataclass(frozen=True)
class Mark:
    """How an experiment is told apart: colour, marker, and the same marker as a character."""

    colour: str
    marker: str
    glyph: str
    dash: str

    @classmethod
    def of(cls, index: int) -> 'Mark':
        """Return the mark of the experiment at `index`."""
        kind = index % len(COLOURS)
        return cls(COLOURS[kind], MARKERS[kind], GLYPHS[kind], DASHES[index // len(COLOURS) % len(DASHES)])


def draw_chart(chart: Chart, experiments: list[Experiment]) -> dict[str, Any] | None:
    """Draw a column for all experiments that recorded it.

    Returns:
        `data` and `layout` for plotly.js, a trace's `legendgroup` the index of its experiment; None if no experiment
        recorded the column.
    """
    import plotly.graph_objects as go

    traces = [trace for index in range(len(experiments)) if (trace := _curve(chart, experiments, index))]
    if not traces:
        return None
    if chart.column == 'val_psnr':
        traces += _baseline_curves(experiments)
    layout = {
        'template': None,
        'showlegend': False,
        'hovermode': 'x unified',
        'margin': {'l': 8, 'r': 8, 't': 8, 'b': 8},
        'xaxis': {'title': 'iteration', 'rangemode': 'tozero', 'tickformat': ',~f', 'automargin': True},
        'yaxis': {'automargin': True, 'exponentformat': 'power'},
    }
    values = {value for trace in traces for value in trace['y'] if value is not None}
    if len(values) == 1:  # plotly would show it at the scale of 1, be it a learning rate or a PSNR
        layout['yaxis']['range'] = sorted(factor * value for factor in (0.9, 1.1) for value in values)
    return go.Figure(traces, layout).to_plotly_json()  # the library checks every name


def _curve(chart: Chart, experiments: list[Experiment], index: int) -> dict[str, Any] | None:
    """Return the trace of an experiment, or None if it did not record the column."""
    rows, count, mark = experiments[index].rows, len(experiments), Mark.of(index)
    values = [row[chart.column] if is_number(row[chart.column]) else None for row in rows]
    if all(value is None for value in values):
        return None
    size = SIZES[0] + (SIZES[1] - SIZES[0]) * (count - 1 - index) / max(1, count - 1)
    return {
        'type': 'scatter',
        'x': [row['iter'] for row in rows],
        'y': values,
        'name': _plain(experiments[index].name),
        'legendgroup': str(index),
        'mode': 'lines+markers' if len(rows) <= MANY else 'lines',
        'line': {'color': mark.colour, 'dash': mark.dash, 'width': 2},
        'marker': {'symbol': mark.marker, 'size': size},
        'hovertemplate': f'%{{y:{chart.digits}}}',
    }


def _baseline_curves(experiments: list[Experiment]) -> list[dict[str, Any]]:
    """Return what plain enlarging scores, with a point wherever an experiment has one, for the pointer to find."""
    baselines = find_baselines(experiments)
    modes = [baseline.mode for baseline in baselines]
    iterations = sorted({0, *(row['iter'] for experiment in experiments for row in experiment.rows)})
    return [
        {
            'type': 'scatter',
            'x': iterations,
            'y': [psnr] * len(iterations),
            'name': mode if modes.count(mode) == 1 else _plain(f'{mode} ({", ".join(names)})'),
            'mode': 'lines',
            'line': {'color': BASELINE_COLOUR, 'dash': BASELINE_DASHES[mode], 'width': 2},
            'hovertemplate': '%{y:.3f}',
        }
        for mode, psnr, names in baselines
    ]


def _plain(text: str) -> str:
    """Escape text for plotly, which reads tags in names."""
    return text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')
