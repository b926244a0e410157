"""Plot training and validation over the epochs from the `history.csv` of one experiment or several.

    facesr curves experiments/exp1_lsr experiments/exp2_l1 -o results/curves
    facesr curves 'plain L1=results/small/records/exp2_adam_0_seed*.json' -o results/curves

NAME=PATTERN is the mean over several runs, with a band from the least to the greatest of them. Writes train_loss.png,
val_loss.png, train_psnr.png, val_psnr.png and alpha.png, and the first four in overview.png.
"""

import argparse
import csv
import glob
import math
import os
import statistics
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from facesr_plugin.errors import UserError, run_command
from facesr_plugin.losses.alpha_schedule import AlphaSchedule
from facesr_plugin.models.history import read_history
from facesr_plugin.models.validation import BASELINES
from facesr_plugin.report.records import read_record

# Okabe and Ito's colours, told apart by all kinds of colour vision; the markers tell them apart in print.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9', '#E69F00')
MARKERS = 'osD^vP'
BASELINE_STYLES = dict(zip(BASELINES, ('--', ':'), strict=True))

TITLES = {
    'train_loss': ('Training loss', 'loss, images in [0, 1]'),
    'val_loss': ('Validation loss', 'mean absolute error, images in [0, 1]'),
    'train_psnr': ('Training PSNR, degraded branch', 'PSNR, dB'),
    'val_psnr': ('Validation PSNR', 'PSNR, dB'),
    'alpha': ('Weight α of the clean branch', 'α'),
}
OVERVIEW = tuple(TITLES)[:4]


Columns = dict[str, list[float]]


@dataclass(frozen=True)
class Experiment:
    """An experiment's name and history columns; what was not recorded is NaN.

    Attributes:
        name: In the legends.
        columns: Of the history, or means over several runs.
        runs: The columns of each run.
    """

    name: str
    columns: Columns
    runs: list[Columns]

    def band(self, column: str) -> tuple[list[float], list[float]]:
        """Return the least and the greatest value of the runs, row by row."""
        rows = list(zip(*(run[column] for run in self.runs), strict=True))
        return [min(row) for row in rows], [max(row) for row in rows]

    def has(self, column: str) -> bool:
        """Return whether anything was recorded there."""
        return any(map(math.isfinite, self.columns[column]))


def load_experiment(entry: str) -> Experiment:
    """Read an experiment: a folder or file, which gives the name, or NAME=PATTERN of several.

    Raises:
        UserError: There is no history, no row in it, it is damaged, or runs to average were not validated alike.
    """
    name, separator, pattern = entry.partition('=')
    if not separator or os.path.exists(entry):
        path = Path(entry)
        columns = load_columns(path)
        return Experiment(path.resolve().name if path.is_dir() else _name_of(path), columns, [columns])
    paths = [Path(path) for path in sorted(glob.glob(pattern))]
    if not name or not paths:
        raise UserError(f'{entry}: NAME=PATTERN expected, with a pattern of experiment folders or records that exist')
    runs = [load_columns(path) for path in paths]
    for path, run in zip(paths, runs, strict=True):
        if run['iter'] != runs[0]['iter']:
            raise UserError(f'{path}: rows at the same iterations expected as in {paths[0]}')
    means = {key: [statistics.fmean(row) for row in zip(*(run[key] for run in runs), strict=True)] for key in runs[0]}
    return Experiment(name, means, runs)


def load_columns(path: Path) -> Columns:
    """Read a history: of an experiment's folder, a `history.csv`, or the record of a run of `run_experiments.py`.

    Raises:
        UserError: There is none, no row in it, or it is damaged.
    """
    file = path / 'history.csv' if path.is_dir() else path
    try:
        columns = read_record(file)['history'] if file.suffix == '.json' else read_history(file)
    except FileNotFoundError as error:
        raise UserError(f'{file}: no such file; training writes it after its first validation') from error
    except OSError as error:
        raise UserError(f'{file}: {error.strerror}') from error
    except (ValueError, csv.Error) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f'{file}: a history.csv written by training expected ({error})') from error
    if not columns['iter']:
        raise UserError(f'{file}: no row yet; training writes one after each validation')
    if None in columns['iter']:
        raise UserError(f'{file}: a history.csv written by training expected (a row without iter)')
    return {key: [math.nan if value is None else value for value in column] for key, column in columns.items()}


def _name_of(file: Path) -> str:
    return file.resolve().parent.name if file.name == 'history.csv' else file.stem


def choose_axis(experiments: list[Experiment]) -> str:
    """Return `epoch` where all rows have one and no two of an experiment share one, else `iter`."""
    epochs = [experiment.columns['epoch'] for experiment in experiments]
    return 'epoch' if all(a < b for column in epochs for a, b in pairwise([-1, *column])) else 'iter'


def draw(axes: Axes, figure: str, experiments: list[Experiment]) -> None:
    """Draw one of `TITLES` for all experiments that recorded it."""
    axis = choose_axis(experiments)
    for index, experiment in enumerate(experiments):
        if not experiment.has(figure):
            continue
        values = experiment.columns[figure]
        label = experiment.name
        if figure == 'val_psnr':
            label += f', best {max(filter(math.isfinite, values)):.2f} dB'
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        size = 5 + 2 * (len(experiments) - 1 - index)  # so that equal curves do not hide one another
        axes.plot(experiment.columns[axis], values, color=colour, marker=marker, markersize=size, label=label)
        if len(experiment.runs) > 1:
            axes.fill_between(experiment.columns[axis], *experiment.band(figure), color=colour, alpha=0.15, linewidth=0)
    if figure == 'val_psnr':
        _draw_baselines(axes, experiments)
    _label(axes, figure, axis if axis == 'epoch' else 'iteration')
    if not axes.get_lines():
        axes.text(0.5, 0.5, 'not recorded', transform=axes.transAxes, ha='center', va='center', color='0.4')
        axes.set(xticks=[], yticks=[])


def _draw_baselines(axes: Axes, experiments: list[Experiment]) -> None:
    """Draw what plain enlarging scores: a line each, or one per experiment where their validation sets differ."""
    for mode, style in BASELINE_STYLES.items():
        scores: dict[float, list[str]] = {}
        for experiment in experiments:
            for value in filter(math.isfinite, experiment.columns[f'{mode}_psnr'][-1:]):
                scores.setdefault(value, []).append(experiment.name)
        for value, names in scores.items():
            whose = f' ({", ".join(names)})' if len(scores) > 1 else ''
            axes.axhline(value, color='0.35', linestyle=style, label=f'{mode}{whose}, {value:.2f} dB')


def draw_schedule(axes: Axes) -> None:
    """Draw the method's alpha over the progress of a run, for experiments that have none."""
    schedule = AlphaSchedule()
    progress = [step / 100 for step in range(101)]
    label = f'schedule, {schedule.start} to {schedule.end}'
    axes.plot(progress, list(map(schedule, progress)), color=COLOURS[0], label=label)
    _label(axes, 'alpha', 'progress of the run')
    axes.set(xlim=(0, 1), xticks=[0, 0.25, 0.5, 0.75, 1])


def _label(axes: Axes, figure: str, x_label: str) -> None:
    """Write what stands around the lines."""
    title, y_label = TITLES[figure]
    axes.set_title(title, fontweight='bold')
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.ticklabel_format(useOffset=False)
    axes.grid(color='0.9')
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    if len(axes.get_lines()) > 4:  # no room among the curves
        axes.legend(edgecolor='none', loc='upper center', bbox_to_anchor=(0.5, -0.16), ncols=2)
    elif axes.get_lines():
        axes.legend(edgecolor='none')


def plot_curves(experiments: list[Experiment], folder: Path) -> None:
    """Write all figures into `folder`, which is made.

    Raises:
        UserError: They cannot be written.
    """
    has_alpha = any(experiment.has('alpha') for experiment in experiments)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in TITLES:
            figure = Figure((6.4, 4.4), dpi=150, layout='constrained')
            if name == 'alpha' and not has_alpha:
                draw_schedule(figure.subplots())
            else:
                draw(figure.subplots(), name, experiments)
            figure.savefig(folder / f'{name}.png')
        figure = Figure((12, 8.4), dpi=120, layout='constrained')
        for axes, name in zip(figure.subplots(2, 2).flat, OVERVIEW, strict=True):
            draw(axes, name, experiments)
        figure.savefig(folder / 'overview.png')
    except OSError as error:
        raise UserError(f'{folder}: {error.strerror}') from error


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        description='Plot loss, PSNR and alpha over the epochs (iterations where rows and epochs differ).',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        'experiments', nargs='+', help='experiment folders, their history.csv, records, or NAME=PATTERN of several'
    )
    parser.add_argument('-o', '--output', type=Path, default=Path('results/curves'), help='folder for the figures')
    return parser


def main(argv: list[str] | None = None) -> int | None:
    """Run the command.

    Raises:
        UserError: A history cannot be read, or two experiments have the same name.
    """
    args = build_parser().parse_args(argv)
    experiments = [load_experiment(entry) for entry in args.experiments]
    names = [experiment.name for experiment in experiments]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f'{name}: experiments of different names expected, two have this one')
    plot_curves(experiments, args.output)
    print(f'{args.output}: curves of {", ".join(names)}')
    return None


if __name__ == '__main__':
    run_command(main)
