r"""Judge enlarged pictures as their users do: PSNR, SSIM, NIQE and identity, candidates side by side.

    facesr judge --hr datasets/val_hr.lmdb --lr datasets/val_lr.lmdb -o results/judge \
        --weights ours=experiments/facesr_x4/models/net_g_best.pth --sr peer=results/peer

Candidates are pictures that exist (`--sr`) or networks that make them now from the LR pictures (`--weights`). The
first is compared with all others, picture by picture. With `--lr`, bilinear and bicubic enlarging are judged, too.
With `--natural-weights`, so are the networks between the first of `--weights` and these, and OUTPUT gets dial.png.
OUTPUT gets judge.md, table.csv (means), differences.csv and pictures.csv. Identity needs the extra `judge`.
"""

import argparse
import sys
from pathlib import Path

from facesr_plugin.command_line import Parser
from facesr_plugin.data.image_source import Images, open_images
from facesr_plugin.data.lmdb_images import name_of
from facesr_plugin.enlarge.choices import DEVICE_HELP, device_name
from facesr_plugin.enlarge.network import load_dial, pick_device
from facesr_plugin.errors import UserError
from facesr_plugin.faces.identity import FaceEmbedder
from facesr_plugin.models.validation import BASELINES
from facesr_plugin.report import dial as dials
from facesr_plugin.report import judge as judging
from facesr_plugin.report.comparison import spread
from facesr_plugin.run.memory import keep_freed_memory


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = Parser('Judge enlarged pictures. Exit status 1: something could not be judged and was left out.')
    parser.add_argument('--hr', type=Path, required=True, help='HR pictures, *.lmdb or a folder')
    parser.add_argument('--lr', type=Path, help='LR pictures of the same names, *.lmdb or a folder')
    parser.add_argument(
        '--sr',
        action='append',
        default=[],
        metavar='NAME=PATH',
        help='enlarged pictures of the same names and their title; repeatable',
    )
    parser.add_argument(
        '--weights', action='append', default=[], metavar='NAME=PATH', help='checkpoint and its title; repeatable'
    )
    parser.add_argument(
        '--natural-weights',
        type=Path,
        metavar='FILE',
        help='second stage of the first of --weights: what lies between both is judged, too, and drawn in dial.png',
    )
    parser.add_argument('--template', default='{}', help='name of an --sr picture for an HR name, e.g. {}_out')
    parser.add_argument('-o', '--output', type=Path, required=True, help='folder for the tables')
    parser.add_argument('--count', type=int, help='judge so many pictures, evenly spread; all without')
    parser.add_argument('--no-identity', action='store_true', help='leave the identity out')
    parser.add_argument('--device', type=device_name, default='auto', help=DEVICE_HELP)
    return parser


def main(argv: list[str] | None = None) -> int | None:
    """Run the command; the status is 1 where something was left out.

    Raises:
        UserError: An option, a checkpoint or a set of pictures is not as expected, or nothing could be judged.
    """
    args = build_parser().parse_args(argv)
    if args.count is not None and args.count < 1:
        raise UserError(f'--count: at least 1 expected, got {args.count}')
    if args.template.count('{}') != 1 or set('{}') & set(args.template.replace('{}', '')):
        raise UserError(f'--template {args.template}: one {{}} expected, where the HR name goes')
    if not (args.sr or args.weights):
        raise UserError('--sr or --weights: at least one expected, there is nothing to judge')
    if args.weights and not args.lr:
        raise UserError('--weights: --lr expected with it, the pictures to enlarge')
    if args.natural_weights and not args.weights:
        raise UserError('--natural-weights: --weights expected with it, the first stage')
    keep_freed_memory()
    hr, lr = open_images(args.hr), open_images(args.lr) if args.lr else None
    verdict = judging.Verdict()
    candidates = open_candidates(args, hr, verdict.problems)
    reference = candidates[0].name
    if lr:
        verdict.problems += strangers(hr, lr)
    embedder = None if args.no_identity else FaceEmbedder()
    keys = spread(hr.keys, args.count) if args.count else hr.keys
    try:
        judging.judge(hr, lr, keys, candidates, embedder, verdict)
    finally:  # what is done is kept
        for line in verdict.problems:
            print(f'error: {line}', file=sys.stderr)
        if verdict.scores:
            judging.write_verdict(args.output, verdict, reference)
            if args.natural_weights and any(score['candidate'] == reference for score in verdict.scores):
                dials.write_dial(args.output / 'dial.png', judging.means(verdict), reference)
    if not any(score['candidate'] == reference for score in verdict.scores):
        raise UserError(f'{reference}: none of its pictures could be judged')
    print(judging.format_means(verdict))
    if verdict.faces is not None:
        print(f'Faces found: in {verdict.faces} of {verdict.pictures} HR pictures')
    print(f'{args.output}: judge.md, table.csv, differences.csv and pictures.csv')
    return 1 if verdict.problems else None


def open_candidates(args: argparse.Namespace, hr: Images, problems: list[str]) -> list[judging.Candidate]:
    """Return the candidates, networks first; pictures that are of no HR picture are told in `problems`.

    Raises:
        UserError: An entry has another form, a name stands twice, or pictures or weights cannot be read.
    """
    device, candidates = pick_device(args.device), []
    for option, entries in (('--weights', args.weights), ('--sr', args.sr)):
        for entry in entries:
            name, separator, path = entry.partition('=')
            if not (name and separator and path):
                raise UserError(f'{option} {entry}: NAME=PATH expected')
            if name in (*BASELINES, judging.HR, *(candidate.name for candidate in candidates)):
                raise UserError(f'{option} {entry}: another name expected, there is a {name} already')
            if option == '--weights':
                dial = load_dial(path, None if candidates else args.natural_weights, device=device)
                between = dials.places(dial, device) if dial.natural is not None else []
                candidates += [judging.from_network(name, dial.net, device), *between]
            else:
                images = open_images(Path(path))
                problems += strangers(hr, images, args.template)
                candidates.append(judging.from_images(name, images, args.template))
    return candidates


def strangers(hr: Images, images: Images, template: str = '{}') -> list[str]:
    """Return a line if some pictures are of no HR picture."""
    rest = sorted(set(images.keys) - {judging.partner(key, template) for key in hr.keys})
    return [f'{images.root}: {len(rest)} pictures of no HR picture are left out, as {name_of(rest[0])}'] if rest else []
