"""Charts of what training recorded, as PNG files and for the page: an experiment looks the same in all of them."""

import io
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from facesr_plugin.errors import UserError
from facesr_plugin.losses.alpha_schedule import AlphaSchedule
from facesr_plugin.models.validation import BASELINES
from facesr_plugin.report.experiment import Experiment, find_baselines

# Told apart by all kinds of colour vision, the first six are Okabe and Ito's; the markers tell them apart in print.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9', '#E69F00', '#8B17E6', '#8C422A')
MARKERS = 'osD^v*os'  # the last two are hollow
GLYPHS = '●■◆▲▼★○□'
DASHES = ('-', '--', ':')  # of the first eight experiments, the next eight, ...
BASELINE_DASHES = dict(zip(BASELINES, ('--', ':'), strict=True))
MANY = 60  # rows; more are drawn without markers
SIZES = (5, 8)  # pt, of the markers of the last and the first experiment: equal curves do not hide one another

# The page's light colours; within the page they are its CSS variables of these names, so they follow its scheme.
INK, MUTED, LINE = '#1b1f24', '#59626c', '#d9dde2'
VARIABLES = {INK: 'var(--ink)', MUTED: 'var(--muted)', LINE: 'var(--line)'}
STYLE = {
    'text.color': INK,
    'text.parse_math': False,
    'axes.titlecolor': INK,
    'axes.titleweight': 'bold',
    'axes.labelcolor': MUTED,
    'axes.edgecolor': MUTED,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.grid': True,
    'axes.axisbelow': True,
    'grid.color': LINE,
    'xtick.color': MUTED,
    'ytick.color': MUTED,
    'legend.edgecolor': 'none',
    'svg.fonttype': 'none',
}


class Chart(NamedTuple):
    """A column of the history.

    Attributes:
        column: Its name in `history.csv`.
        title: What the page calls it.
        unit: What its numbers are; may be empty.
        digits: Format of a number that is read out.
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
    Chart('lr', 'Learning rate', '', '.3g'),
)


class Mark(NamedTuple):
    """How an experiment is told apart: colour, marker, the same marker as a character, and dashes."""

    colour: str
    marker: str
    glyph: str
    dash: str

    @classmethod
    def of(cls, index: int) -> 'Mark':
        """Return the mark of the experiment at `index`."""
        kind = index % len(COLOURS)
        return cls(COLOURS[kind], MARKERS[kind], GLYPHS[kind], DASHES[index // len(COLOURS) % len(DASHES)])


def draw(axes: Axes, chart: Chart, experiments: list[Experiment], axis: str) -> None:
    """Draw a column over the column `axis` for all experiments that recorded it, and plain enlarging beside PSNR."""
    for index, experiment in enumerate(experiments):
        x, values, mark = experiment.values(axis), experiment.values(chart.column), Mark.of(index)
        if not any(map(math.isfinite, values)):
            continue
        label = experiment.name
        if chart.column == 'val_psnr':
            label += f', best {max(filter(math.isfinite, values)):.2f} dB'
        style = {'color': mark.colour, 'gid': f'line-{index}'}
        size = SIZES[0] + (SIZES[1] - SIZES[0]) * (1 - index / max(1, len(experiments) - 1))
        marker = {
            'marker': mark.marker if len(x) <= MANY else '',
            'markersize': size,
            'fillstyle': 'none' if mark.glyph in '○□' else 'full',
        }
        axes.plot(x, values, mark.dash, label=label, **marker, **style)
        if len(experiment.runs) > 1:
            axes.fill_between(x, *experiment.band(chart.column), alpha=0.15, linewidth=0, **style)
    if chart.column == 'val_psnr':
        for mode, psnr, label in find_baselines(experiments):
            axes.axhline(psnr, color=MUTED, linestyle=BASELINE_DASHES[mode], label=f'{label}, {psnr:.2f} dB')
    axes.set_xlabel('epoch' if axis == 'epoch' else 'iteration')
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter('{x:,.0f}'))
    axes.ticklabel_format(axis='y', style='plain', useOffset=False)
    if not axes.get_lines():
        axes.text(0.5, 0.5, 'not recorded', transform=axes.transAxes, ha='center', va='center', color=MUTED)
        axes.set(xticks=[], yticks=[])


# ---------------------------------------------------------------------------------------------------- PNG files
def choose_axis(experiments: list[Experiment]) -> str:
    """Return `epoch` where all rows have one and no two of an experiment share one, else `iter`."""
    epochs = [experiment.values('epoch') for experiment in experiments]
    return 'epoch' if all(a < b for column in epochs for a, b in pairwise([-1, *column])) else 'iter'


def draw_schedule(axes: Axes) -> None:
    """Draw the method's alpha over the progress of a run, for experiments that have none."""
    schedule = AlphaSchedule()
    progress = [step / 100 for step in range(101)]
    label = f'schedule, {schedule.start} to {schedule.end}'
    axes.plot(progress, list(map(schedule, progress)), color=COLOURS[0], label=label)
    axes.set(xlabel='progress of the run', xlim=(0, 1), xticks=[0, 0.25, 0.5, 0.75, 1])


def write_figures(experiments: list[Experiment], folder: Path) -> None:
    """Write a PNG file of each of `CHARTS`, and the first four together in overview.png, into `folder`, which is made.

    Raises:
        UserError: They cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context(STYLE):
            for chart in CHARTS:
                figure = Figure((6.4, 4.4), dpi=150, layout='constrained')
                _draw_titled(figure.subplots(), chart, experiments)
                figure.savefig(folder / f'{chart.column}.png')
            figure = Figure((12, 8.4), dpi=120, layout='constrained')
            for axes, chart in zip(figure.subplots(2, 2).flat, CHARTS[:4], strict=True):
                _draw_titled(axes, chart, experiments)
            figure.savefig(folder / 'overview.png')
    except OSError as error:
        raise UserError(f'{folder}: {error.strerror}') from error


def _draw_titled(axes: Axes, chart: Chart, experiments: list[Experiment]) -> None:
    """Draw a chart with title and legend."""
    draw(axes, chart, experiments, choose_axis(experiments))
    if chart.column == 'alpha' and not axes.get_lines():
        axes.clear()
        draw_schedule(axes)
    axes.set(title=chart.title, ylabel=chart.unit)
    if len(axes.get_lines()) > 4:  # no room among the curves
        axes.legend(loc='upper center', bbox_to_anchor=(0.5, -0.16), ncols=2)
    elif axes.get_lines():
        axes.legend()


# ---------------------------------------------------------------------------------------------------- the page
def draw_inline(chart: Chart, experiments: list[Experiment]) -> dict[str, Any] | None:
    """Draw a chart over the iterations for the page.

    Returns:
        None if no experiment recorded the column, else `svg`, an element without any text of a user, in which what is
        drawn of the experiment at an index has this `data-line`; and for the read-out `start`, the x of iteration 0 in
        it, `step`, that of an iteration, `top` and `bottom` of the axes, and `lines`: `name`, `glyph`, `colour`,
        `index` of the experiment if it is one's, `x`, the iterations, and `text`, the values there.
    """
    with matplotlib.rc_context(STYLE | {'font.size': 13, 'svg.hashsalt': chart.column}):
        figure = Figure((6, 3.4), dpi=72, layout='constrained')  # so that a pixel is a unit of the drawing
        axes = figure.subplots()
        draw(axes, chart, experiments, 'iter')
        file = io.StringIO()
        figure.savefig(
            file, format='svg', transparent=True, metadata=dict.fromkeys(('Creator', 'Date', 'Format', 'Type'))
        )
    lines = _read_out(chart, experiments)
    if not lines:
        return None
    (start, _), (step, _) = axes.transData.transform([(0, 0), (1, 0)])
    height = figure.bbox.height
    box = {'top': height - axes.bbox.y1, 'bottom': height - axes.bbox.y0}
    return {'svg': _inline(file.getvalue(), chart), 'start': start, 'step': step - start, 'lines': lines, **box}


def _read_out(chart: Chart, experiments: list[Experiment]) -> list[dict[str, Any]]:
    """Return what the lines of a chart tell."""
    lines = []
    for index, experiment in enumerate(experiments):
        points = zip(experiment.values('iter'), experiment.values(chart.column), strict=True)
        if known := [(x, f'{value:{chart.digits}}') for x, value in points if math.isfinite(value)]:
            x, text = zip(*known, strict=True)
            colour, _, glyph, _ = Mark.of(index)
            lines.append(
                {'name': experiment.name, 'index': index, 'glyph': glyph, 'colour': colour, 'x': x, 'text': text}
            )
    if lines and chart.column == 'val_psnr':
        x = sorted({x for line in lines for x in line['x']})
        for _, psnr, label in find_baselines(experiments):
            text = [f'{psnr:{chart.digits}}'] * len(x)
            lines.append({'name': label, 'glyph': '┄', 'colour': VARIABLES[MUTED], 'x': x, 'text': text})
    return lines


def _inline(svg: str, chart: Chart) -> str:
    """Make matplotlib's SVG file an element of a page: in the page's colours and fonts, with ids of its own."""
    svg = re.sub(r'<defs>\s*<style.*?</defs>', '', svg[svg.index('<svg') :], flags=re.DOTALL)  # for the whole page
    svg = re.sub(r'(?<=<svg )[^>]*?(viewBox="[^"]*")[^>]*', r'\1 aria-hidden="true"', svg)
    svg = re.sub(r'font[\w-]*: [^;"]*;? ?', '', svg)
    svg = re.sub(r'id="line-(\d+)"', r'data-line="\1"', svg)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf'\g<1>{chart.column}-', svg)
    return re.sub('|'.join(VARIABLES), lambda match: VARIABLES[match[0]], svg)
