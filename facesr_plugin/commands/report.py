"""Write a page about one experiment or several that needs nothing but a browser: no network, no other file.

    facesr report experiments/exp1_lsr experiments/exp2_l1 -o report.html

It shows results, validation faces to compare with a slider, curves, settings and what differs in them, and examples of
the degradation. Of an unfinished or damaged experiment it shows what is there and says what is missing.
"""

import argparse
from pathlib import Path

from facesr_plugin.command_line import Parser
from facesr_plugin.enlarge.choices import DEVICE_HELP, device_name
from facesr_plugin.enlarge.network import pick_device
from facesr_plugin.errors import UserError
from facesr_plugin.files import replace_file
from facesr_plugin.options.read import import_modules
from facesr_plugin.report.comparison import open_pairs
from facesr_plugin.report.experiment import load_experiments
from facesr_plugin.report.page import collect_pictures, render


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = Parser('Write a self-contained page about one experiment or several.')
    parser.add_argument(
        'experiments',
        nargs='+',
        metavar='EXPERIMENT',
        help='folders that training made, history.csv files, records, or NAME=PATTERN of several',
    )
    parser.add_argument('-o', '--output', type=Path, default=Path('report.html'), help='page to write')
    parser.add_argument('--lr', type=Path, help="LR faces, *.lmdb or a folder; the option file's without")
    parser.add_argument('--hr', type=Path, help='HR faces of the same names, *.lmdb or a folder')
    parser.add_argument('--faces', type=int, default=4, help='validation faces, evenly spread over the set')
    parser.add_argument('--draws', type=int, default=4, help='degradations of each face, seeds from 0 on')
    parser.add_argument(
        '--import',
        dest='imports',
        nargs='+',
        default=[],
        metavar='MODULE',
        help='modules or files that register networks of your own, as for training',
    )
    parser.add_argument('--device', type=device_name, default='auto', help=DEVICE_HELP)
    return parser


def main(argv: list[str] | None = None) -> int | None:
    """Run the command.

    Raises:
        UserError: An option is wrong, an experiment is not there, or there is nothing at all to show.
    """
    args = build_parser().parse_args(argv)
    for name in ('faces', 'draws'):
        if getattr(args, name) < 1:
            raise UserError(f'--{name}: at least 1 expected, got {getattr(args, name)}')
    if (args.lr is None) != (args.hr is None):
        raise UserError('--lr and --hr: both or none expected')
    import_modules('--import', args.imports)
    experiments = load_experiments(args.experiments)
    if not any(experiment.options or experiment.rows or experiment.weights for experiment in experiments):
        entries = ', '.join(args.experiments)
        raise UserError(f'{entries}: nothing to show: no option file, history.csv or checkpoint that training left')
    missing: list[str] = []
    pairs = open_pairs(args.lr, args.hr) if args.lr else None
    pictures = collect_pictures(pairs, experiments, args.faces, args.draws, pick_device(args.device), missing)
    page = render(experiments, pictures, missing).encode()
    try:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        replace_file(args.output, page)
    except OSError as error:
        raise UserError(f'{args.output}: {error.strerror}') from error
    for line in [line for experiment in experiments for line in experiment.problems + experiment.missing] + missing:
        print(f'missing: {line}')
    names = ', '.join(experiment.name for experiment in experiments)
    print(f'{args.output}: {names}; {len(pictures["faces"])} faces, {len(page) / 1e6:.2f} MB')
    return None
