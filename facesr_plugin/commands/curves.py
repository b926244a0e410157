"""Plot training and validation over the epochs from the `history.csv` of one experiment or several.

    facesr curves experiments/exp1_lsr experiments/exp2_l1 -o results/curves
    facesr curves 'plain L1=results/small/records/exp2_adam_0_seed*.json' -o results/curves

NAME=PATTERN is the mean over several runs, with a band from the least to the greatest of them. Writes val_psnr.png,
train_psnr.png, val_loss.png, train_loss.png, alpha.png and lr.png, and the first four in overview.png.
"""

import argparse
from pathlib import Path

from facesr_plugin.command_line import Parser
from facesr_plugin.errors import UserError
from facesr_plugin.report.charts import write_figures
from facesr_plugin.report.experiment import load_experiments


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = Parser('Plot loss, PSNR, alpha and learning rate over the epochs (iterations where rows share one).')
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
    experiments = load_experiments(args.experiments)
    if problems := [line for experiment in experiments for line in experiment.problems]:
        raise UserError('\n'.join(problems))
    write_figures(experiments, args.output)
    print(f'{args.output}: curves of {", ".join(experiment.name for experiment in experiments)}')
    return None
