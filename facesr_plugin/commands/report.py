"""Write a page about one experiment or several that needs nothing but a browser: no network, no other file.

    facesr report experiments/exp1_lsr experiments/exp2_l1 -o report.html

It shows results, validation faces to compare with a slider, curves, settings and what differs in them, and examples of
the degradation. Of an unfinished or damaged experiment it shows what is there and says what is missing.
"""

import argparse
import importlib.util
import math
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from facesr_plugin.enlarge.network import DEVICES, pick_device
from facesr_plugin.errors import UserError, run_command
from facesr_plugin.files import replace_file
from facesr_plugin.report.charts import BASELINE_COLOUR, BASELINE_DASHES, CHARTS, Mark, draw_chart
from facesr_plugin.report.experiment import Experiment, compare_settings, find_baselines, is_number, load_experiment
from facesr_plugin.report.faces import Panel, draw_degradations, enlarge_faces, find_pairs, open_pairs, read_faces

TEMPLATE = Path(__file__).resolve().parents[1] / 'report' / 'template'


def collect_pictures(args: argparse.Namespace, experiments: list[Experiment], missing: list[str]) -> dict[str, Any]:
    """Draw faces and degradation examples on the pairs that the command line or an option file names.

    Returns:
        The template's `faces`, `panels` and `examples`, empty without pairs.
    """
    pairs = open_pairs(args.lr, args.hr) if args.lr else find_pairs(experiments)
    faces = read_faces(pairs, args.faces, missing) if pairs else {}
    if not faces:
        missing.append('faces and degradation examples: no validation pairs to be found; --lr and --hr give some')
        return {'faces': [], 'panels': [], 'examples': []}
    hr = {key: pair[1] for key, pair in faces.items()}
    return {
        'faces': list(faces),
        'panels': enlarge_faces(faces, experiments, pick_device(args.device)),
        'examples': draw_degradations(hr, experiments, args.draws),
    }


def render(experiments: list[Experiment], pictures: dict[str, Any], missing: list[str]) -> str:
    """Return the page.

    Args:
        experiments: In the order of their columns.
        pictures: See `collect_pictures`.
        missing: What is missing besides what each experiment says.
    """
    from plotly.offline import get_plotlyjs

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {'number': format_number, 'gain': format_gain, 'breakable': breakable}
    figures = {chart.column: draw_chart(chart, experiments) for chart in CHARTS}
    return environment.get_template('page.html').render(
        **pictures,
        experiments=experiments,
        marks=[Mark.of(index) for index in range(len(experiments))],
        baselines=find_baselines(experiments),
        baseline_colour=BASELINE_COLOUR,
        baseline_dashes=BASELINE_DASHES,
        charts=CHARTS,
        figures=figures,
        settings=compare_settings(experiments),
        missing=missing,
        viewer=[_viewer_panel(panel) for panel in pictures['panels']],
        plotly_js=get_plotlyjs(),
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


def format_gain(row: dict[str, float | None] | None, baseline: str) -> str:
    """Return by how much a row's validation PSNR is above plain enlarging, in dB with its sign."""
    if row is None or not is_number(row[baseline]):
        return '–'
    return f'{row["val_psnr"] - row[baseline]:+.2f}'.replace('-', '−')


def breakable(name: str) -> Markup:
    """Escape a name, and let lines break after its dots and underscores."""
    return escape(name).replace('.', Markup('.<wbr>')).replace('_', Markup('_<wbr>'))


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        description='Write a self-contained page about one experiment or several.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('experiments', type=Path, nargs='+', metavar='EXPERIMENT', help='folders that training made')
    parser.add_argument('-o', '--output', type=Path, default=Path('report.html'), help='page to write')
    parser.add_argument('--lr', type=Path, help="LR faces, *.lmdb or a folder; the option file's without")
    parser.add_argument('--hr', type=Path, help='HR faces of the same names, *.lmdb or a folder')
    parser.add_argument('--faces', type=int, default=4, help='validation faces, evenly spread over the set')
    parser.add_argument('--draws', type=int, default=4, help='degradations of each face, seeds from 0 on')
    parser.add_argument('--device', choices=DEVICES, default='auto', help='where the networks run')
    return parser


def main(argv: list[str] | None = None) -> int | None:
    """Run the command.

    Raises:
        UserError: An option is wrong, a folder is not there, or there is nothing at all to show.
    """
    args = build_parser().parse_args(argv)
    if importlib.util.find_spec('plotly') is None:
        raise UserError("plotly: draws the charts, and is not installed: pip install -e '.[report]'")
    for name in ('faces', 'draws'):
        if getattr(args, name) < 1:
            raise UserError(f'--{name}: at least 1 expected, got {getattr(args, name)}')
    if (args.lr is None) != (args.hr is None):
        raise UserError('--lr and --hr: both or none expected')
    experiments = [load_experiment(folder) for folder in args.experiments]
    names = [experiment.name for experiment in experiments]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f'{name}: experiments of different names expected, two have this one')
    if not any(experiment.options or experiment.rows or experiment.weights for experiment in experiments):
        folders = ', '.join(map(str, args.experiments))
        raise UserError(f'{folders}: nothing to show: no option file, history.csv or checkpoint that training left')
    missing: list[str] = []
    pictures = collect_pictures(args, experiments, missing)
    page = render(experiments, pictures, missing).encode()
    try:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        replace_file(args.output, page)
    except OSError as error:
        raise UserError(f'{args.output}: {error.strerror}') from error
    for line in [line for experiment in experiments for line in experiment.missing] + missing:
        print(f'missing: {line}')
    print(f'{args.output}: {", ".join(names)}; {len(pictures["faces"])} faces, {len(page) / 1e6:.1f} MB')
    return None


if __name__ == '__main__':
    run_command(main)
