"""The page about experiments: one HTML file that needs nothing but a browser."""

import math
from pathlib import Path
from typing import Any

import jinja2
import torch
from markupsafe import Markup, escape

from facesr_plugin.models.history import Row
from facesr_plugin.report.charts import CHARTS, Mark, draw_inline
from facesr_plugin.report.comparison import Pairs
from facesr_plugin.report.experiment import Experiment, compare_settings, find_baselines, is_number
from facesr_plugin.report.faces import Panel, draw_degradations, enlarge_faces, find_pairs, read_faces

TEMPLATE = Path(__file__).with_name('template')


def collect_pictures(
    pairs: Pairs | None,
    experiments: list[Experiment],
    count: int,
    draws: int,
    device: torch.device,
    missing: list[str],
) -> dict[str, Any]:
    """Draw faces and degradation examples.

    Args:
        pairs: Those of which to show some; without, the ones that an option file names.
        experiments: In the order of their columns.
        count: How many faces at most.
        draws: Degradations of each face.
        device: Where the networks run.
        missing: Takes a line for each thing that is missing.

    Returns:
        The template's `faces`, `panels` and `examples`, empty without pairs.
    """
    pairs = pairs or find_pairs(experiments)
    faces = read_faces(pairs, count, missing) if pairs else {}
    if not faces:
        missing.append('faces and degradation examples: no validation pairs to be found; --lr and --hr give some')
        return {'faces': [], 'panels': [], 'examples': []}
    hr = {key: pair[1] for key, pair in faces.items()}
    return {
        'faces': list(faces),
        'panels': enlarge_faces(faces, experiments, device),
        'examples': draw_degradations(hr, experiments, draws),
    }


def render(experiments: list[Experiment], pictures: dict[str, Any], missing: list[str]) -> str:
    """Return the page.

    Args:
        experiments: In the order of their columns.
        pictures: See `collect_pictures`.
        missing: What is missing besides what each experiment says.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {'number': format_number, 'gain': format_gain, 'breakable': breakable}
    figures = {chart.column: draw_inline(chart, experiments) for chart in CHARTS}
    return environment.get_template('page.html').render(
        **pictures,
        experiments=experiments,
        marks=[Mark.of(index) for index in range(len(experiments))],
        baselines=find_baselines(experiments),
        charts=CHARTS,
        figures=figures,
        settings=compare_settings(experiments),
        missing=missing,
        viewer=[_viewer_panel(panel) for panel in pictures['panels']],
    )


def _viewer_panel(panel: Panel) -> dict[str, Any]:
    """Return what the page's script needs to show a panel."""
    captions = [f'{format_number(psnr, 2)} dB' for psnr in panel.psnr] or ['reference'] * len(panel.pictures)
    return {'pictures': panel.pictures, 'captions': captions, 'pixelated': panel.pixelated}


def format_number(value: float | None, digits: int) -> str:
    """Return a number for the page; a dash where there is none."""
    if value is None or math.isnan(value):
        return '–'
    return f'{value:,.{digits}f}' if math.isfinite(value) else '∞'


def format_gain(row: Row | None, baseline: str) -> str:
    """Return by how much a row's validation PSNR is above plain enlarging, in dB with its sign."""
    if row is None or not is_number(row[baseline]):
        return '–'
    return f'{row["val_psnr"] - row[baseline]:+.2f}'.replace('-', '−')


def breakable(name: str) -> Markup:
    """Escape a name, and let lines break after its dots and underscores."""
    return escape(name).replace('.', Markup('.<wbr>')).replace('_', Markup('_<wbr>'))
