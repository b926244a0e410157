"""Upscale pictures with a trained network; also installed as `facesr-upscale`.

    facesr upscale -i photo.jpg scans/ -o enlarged
    facesr upscale -i photo.jpg --weights experiments/exp1_lsr/models/net_g_best.pth

Grey pictures stay grey, an alpha channel is kept, 16 bits stay 16 where the format can hold them, and pictures are
turned as their EXIF orientation says. Pictures that exist in the output folder are kept, so a stopped run can go on.
"""

import argparse
import sys
from pathlib import Path

from facesr_plugin.command_line import Parser
from facesr_plugin.data.images import EXTENSIONS
from facesr_plugin.enlarge.files import plan, upscale_files
from facesr_plugin.enlarge.network import DEFAULT_WEIGHTS, DEVICES, load_network, pick_device
from facesr_plugin.enlarge.pictures import FORMATS
from facesr_plugin.errors import UserError, run_command


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = Parser('Upscale pictures with a trained network. Exit status 1: some could not be read and were skipped.')
    parser.add_argument('-i', '--input', type=Path, nargs='+', required=True, help='pictures, or folders of them')
    parser.add_argument('-o', '--output', type=Path, default='upscaled', help='folder for the results')
    parser.add_argument('--weights', type=Path, default=DEFAULT_WEIGHTS, help='checkpoint, .pth or .safetensors')
    parser.add_argument('--key', choices=('params', 'params_ema'), help='which weights in it; the better ones without')
    parser.add_argument('--format', choices=FORMATS, default='png', help='of the results; jpg lays alpha on white')
    parser.add_argument('--quality', type=int, default=95, help='of jpg and webp, 1 to 100')
    parser.add_argument('--tile', type=int, default=256, help='cut pictures into squares of so many px; less memory')
    parser.add_argument('--device', choices=DEVICES, default='auto', help='where the network runs')
    parser.add_argument('--overwrite', action='store_true', help='replace results that exist')
    return parser


def main(argv: list[str] | None = None) -> int | None:
    """Run the command; the status is 1 where a picture could not be read.

    Raises:
        UserError: An option, the checkpoint or the set of inputs is not as expected, or writing failed.
    """
    args = build_parser().parse_args(argv)
    for name, low, high in (('quality', 1, 100), ('tile', 1, 2**20)):
        if not low <= getattr(args, name) <= high:
            raise UserError(f'--{name}: {low} to {high} expected, got {getattr(args, name)}')
    if args.output.suffix.lower() in EXTENSIONS and not args.output.is_dir():
        raise UserError(f'--output {args.output}: a folder expected, results keep the names of their pictures')
    sources = plan(args.input, args.output, args.format)
    net = load_network(args.weights, args.key).to(pick_device(args.device))

    todo = {target: path for target, path in sources.items() if args.overwrite or not target.exists()}
    failed = upscale_files(net, todo, args.quality, args.tile)
    kept = f', {len(sources) - len(todo)} existed (--overwrite replaces them)' if len(todo) < len(sources) else ''
    print(f'{args.output}: {len(todo) - failed} written{kept}')
    if failed:
        print(f'{failed} of {len(sources)} pictures could not be read', file=sys.stderr)
    return 1 if failed else None


def command() -> None:
    """Run as a console command."""
    run_command(main)
