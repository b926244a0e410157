"""Upscale pictures with a trained network; also installed as `facesr-upscale`.

    facesr upscale -i photo.jpg scans/ -o enlarged
    facesr upscale -i photo.jpg --weights experiments/exp1_lsr/models/net_g_best.pth
    facesr upscale -i - -o - --format jpg < photo.jpg > large.jpg

Grey pictures stay grey, an alpha channel is kept, 16 bits stay 16 where the format can hold them, colour profile and
metadata are kept, and pictures are turned as their EXIF orientation says. Pictures that exist in the output folder are
kept, so a stopped run can go on.
"""

import argparse
import os
import sys
from pathlib import Path

from facesr_plugin.command_line import Parser
from facesr_plugin.commands.network_options import add_network_options, check_network_options, chosen_network
from facesr_plugin.enlarge.choices import BACKGROUNDS, DEVICE_HELP, PRECISIONS, device_name
from facesr_plugin.enlarge.plan import STDIO, make_plan
from facesr_plugin.errors import UserError, run_command
from facesr_plugin.pictures.formats import READ, WRITTEN


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = Parser('Upscale pictures with a trained network. Exit status 1: some could not be, and were skipped.')
    parser.add_argument(
        '-i',
        '--input',
        type=Path,
        nargs='+',
        required=True,
        help='pictures, or folders of them; - is the standard input',
    )
    parser.add_argument(
        '-o', '--output', type=Path, default='upscaled', help='folder for the results; - is the standard output'
    )
    add_network_options(parser)
    parser.add_argument(
        '--format', choices=list(WRITTEN), default='png', help='of the results; jpg lays alpha on white'
    )
    parser.add_argument('--quality', type=int, default=95, help='of jpg and webp, 1 to 100')
    parser.add_argument(
        '--outscale', type=float, metavar='FACTOR', help="how much larger results are, at most the network's own factor"
    )
    parser.add_argument('--tile', type=int, help='cut pictures into squares of so many px; what memory allows without')
    parser.add_argument('--device', type=device_name, default='auto', help=DEVICE_HELP)
    parser.add_argument(
        '--precision',
        choices=PRECISIONS,
        default='auto',
        help='of the network; auto is bf16 for 8 bits where it is fast',
    )
    add_face_options(parser)
    parser.add_argument('--srgb', action='store_true', help='convert colours to sRGB; their profile is kept without')
    parser.add_argument('--strip', action='store_true', help='drop EXIF, XMP, text and pixel density')
    parser.add_argument('--overwrite', action='store_true', help='replace results that exist')
    parser.add_argument('--quiet', action='store_true', help='say nothing but what went wrong')
    return parser


def add_face_options(parser: argparse.ArgumentParser) -> None:
    """Add what `--faces` is told; all of these need it."""
    group = parser.add_argument_group('faces of photographs')
    group.add_argument('--faces', action='store_true', help='find faces, enlarge each on its own, put it back')
    group.add_argument('--min-face', type=float, metavar='PX', help='least size, px across the head; 48 without')
    group.add_argument('--largest', action='store_true', help='only the largest face')
    group.add_argument('--strength', type=float, help="how much of the network's face shows, 0 to 1; 1 without")
    group.add_argument('--background', choices=BACKGROUNDS, help='how the rest is enlarged; bicubic without')
    group.add_argument('--upright', action='store_true', help='show them to the network upright and at 128 px')
    group.add_argument('--save-faces', type=Path, metavar='DIR', help='also write each face, its result, both')


FACE_OPTIONS = ('min_face', 'largest', 'strength', 'background', 'upright', 'save_faces')


def check_options(args: argparse.Namespace) -> None:
    """Check what needs no picture and no network.

    Raises:
        UserError: An option is not as expected.
    """
    for name, low, high in (('quality', 1, 100), ('tile', 1, 2**20)):
        value = getattr(args, name)
        if value is not None and not low <= value <= high:
            raise UserError(f'--{name}: {low} to {high} expected, got {value}')
    if args.outscale is not None and not 0 < args.outscale <= 4:
        raise UserError(f'--outscale: above 0, 4 at most expected, got {args.outscale:g}')
    given = [
        f'--{name.replace("_", "-")}'
        for name in FACE_OPTIONS
        if getattr(args, name) is not None and getattr(args, name) is not False
    ]
    if given and not args.faces:
        raise UserError(f'{given[0]}: --faces expected with it')
    if args.faces and args.outscale is not None and args.outscale < 1:
        raise UserError(f'--outscale: 1 to 4 expected with --faces, got {args.outscale:g}')
    if args.output.suffix.lower() in READ and not args.output.is_dir():
        raise UserError(f'--output {args.output}: a folder expected, results keep the names of their pictures')
    check_network_options(args)


def main(argv: list[str] | None = None) -> int | None:
    """Run the command; the status is 1 where a picture is missing in the results.

    Raises:
        UserError: An option, the checkpoint or the set of inputs is not as expected.
    """
    args = build_parser().parse_args(argv)
    check_options(args)
    plan = make_plan(args.input, args.output, args.format)
    sources = plan.sources
    if args.output == STDIO:
        if len(sources) != 1:
            raise UserError(f'--output -: one picture expected, got {len(sources)}')
        sources = dict.fromkeys([STDIO], next(iter(sources.values())))
    if not args.quiet:
        for line in plan.lines():
            print(line, file=sys.stderr)
    todo = {target: path for target, path in sources.items() if args.overwrite or not _exists(target)}
    failed = _upscale(args, todo) if todo else 0
    if args.output != STDIO and not args.quiet:
        kept = f', {len(sources) - len(todo)} existed (--overwrite replaces them)' if len(todo) < len(sources) else ''
        print(f'{args.output}: {len(todo) - failed} written{kept}')
    if failed:
        print(f'{failed} of {len(sources)} pictures were skipped', file=sys.stderr)
    return 1 if failed else None


def _exists(target: Path) -> bool:
    return target != STDIO and os.path.exists(target)  # which is no error for a name that is too long


def _upscale(args: argparse.Namespace, todo: dict[Path, Path]) -> int:
    """Load the network and enlarge; return how many pictures are missing."""
    from facesr_plugin.enlarge.files import Enlarger, upscale_files
    from facesr_plugin.enlarge.network import pick_device
    from facesr_plugin.run.memory import keep_freed_memory

    keep_freed_memory()
    net = chosen_network(args, pick_device(args.device))
    if args.outscale and args.outscale > net.upscale:
        raise UserError(f'--outscale: {net.upscale} at most expected of this network, got {args.outscale:g}')
    options = dict(
        kind=args.format,
        quality=args.quality,
        tile=args.tile,
        outscale=args.outscale,
        precision=args.precision,
        srgb=args.srgb,
        strip=args.strip,
        quiet=args.quiet,
    )
    if not args.faces:
        return upscale_files(Enlarger(net, **options), todo)
    from facesr_plugin.enlarge.photograph import FaceOptions
    from facesr_plugin.enlarge.photograph_files import PhotographEnlarger
    from facesr_plugin.faces.detect import load_detector

    chosen = {name: value for name in FACE_OPTIONS[:-1] if (value := getattr(args, name)) is not None}
    try:
        faces = FaceOptions(**chosen)
    except UserError as error:
        raise UserError(f'--{str(error).replace("_", "-", 1)}') from None
    load_detector(faces.detector)  # which a missing file shows before the first picture is read
    names = {
        'stdin' if path == STDIO else str(path): 'stdin'
        if target == STDIO
        else str(target.relative_to(args.output).with_suffix(''))
        for target, path in todo.items()
    }
    return upscale_files(PhotographEnlarger(net, **options, faces=faces, save_faces=args.save_faces, names=names), todo)


def command() -> None:
    """Run as a console command."""
    run_command(main)
