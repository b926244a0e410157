"""The dial between two stages' weights: networks between both, and what each place costs and gains as a picture."""

import math
from pathlib import Path

import matplotlib
import torch
from matplotlib.figure import Figure

from facesr_plugin.enlarge.network import Dial
from facesr_plugin.errors import UserError
from facesr_plugin.models.validation import BASELINES
from facesr_plugin.report.charts import COLOURS, DASHES, STYLE
from facesr_plugin.report.judge import HR, MEASURES, Candidate, Score, from_network

PLACES = (0.25, 0.5, 0.75, 1.0)  # 0 is the first stage's network, a candidate of its own
PANELS = {'psnr': 'dB; more is better', 'identity': 'less is better', 'niqe': 'less looks more natural'}


def title(place: float) -> str:
    """Return the name of the candidate at a place.

    Example:
        >>> title(0.5)
        'natural 0.5'
    """
    return f'natural {place:g}'


def places(dial: Dial, device: torch.device | str = 'cpu') -> list[Candidate]:
    """Return a candidate for each of `PLACES`."""
    return [from_network(title(place), dial.at(place), device) for place in PLACES]


def write_dial(path: Path, rows: list[Score], faithful: str) -> None:
    """Draw the measures over the dial, beside the other candidates, as a PNG.

    Args:
        path: The file.
        rows: `judge.means`, with the candidates of `places`.
        faithful: The candidate at 0.

    Raises:
        UserError: It cannot be written.
    """
    by_name = {row['candidate']: row for row in rows}
    line = {0.0: faithful} | {place: title(place) for place in PLACES}
    others = [name for name in by_name if name not in line.values() and (name != HR and name not in BASELINES)]
    panels = [measure for measure in PANELS if by_name[faithful][measure] is not None]
    with matplotlib.rc_context(STYLE):
        figure = Figure((4 * len(panels), 3.8), dpi=150, layout='constrained')
        for axes, measure in zip(figure.subplots(1, len(panels), squeeze=False).flat, panels, strict=True):
            known = {place: by_name[name][measure] for place, name in line.items() if name in by_name}
            axes.plot(*zip(*((place, known[place]) for place in sorted(known)), strict=True), 'o-', color=COLOURS[0])
            for index, name in enumerate(others):
                if (value := by_name[name][measure]) is not None and math.isfinite(value):
                    axes.axhline(value, color=COLOURS[1 + index % 7], linestyle=DASHES[1], label=name)
            axes.set(title=MEASURES[measure][0], xlabel='natural', ylabel=PANELS[measure], xticks=sorted(line))
            axes.margins(y=0.15)
            if axes.get_legend_handles_labels()[0]:
                axes.legend()
        try:
            figure.savefig(path)
        except OSError as error:
            raise UserError(f'{path}: {error.strerror}') from error
