r"""Draw validation pairs beside what networks make of them, with the PSNR of each.

    facesr compare --lr datasets/val_lr.lmdb --hr datasets/val_hr.lmdb -o results/comparison.png \
        --weights L_SR=experiments/exp1_lsr/models/net_g_best.pth \
        --weights L1=experiments/exp2_l1/models/net_g_best.pth \
        --crop 144 192 160

PSNR is over the whole picture, RGB, 8 bits, no border cropped, as in validation.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from facesr_plugin.command_line import Parser
from facesr_plugin.data.images import write_image
from facesr_plugin.enlarge.choices import DEVICE_HELP, OPT_HELP, device_name
from facesr_plugin.enlarge.network import pick_device
from facesr_plugin.errors import UserError
from facesr_plugin.report.comparison import Crop, draw_comparison, load_networks, open_pairs, spread


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = Parser('Draw LR pictures, bicubic enlarging, what networks make of them, and the HR pictures.')
    parser.add_argument('--lr', type=Path, required=True, help='LR pictures, *.lmdb or a folder')
    parser.add_argument('--hr', type=Path, required=True, help='HR pictures of the same names, *.lmdb or a folder')
    parser.add_argument(
        '--weights', action='append', required=True, metavar='NAME=PATH', help='checkpoint and its title; repeatable'
    )
    parser.add_argument('--opt', action='append', default=[], metavar='NAME=FILE', help=f'{OPT_HELP}; repeatable')
    parser.add_argument('-o', '--output', type=Path, required=True, help='picture to write')
    parser.add_argument('--count', type=int, default=4, help='pairs, evenly spread over the set')
    parser.add_argument(
        '--crop',
        type=int,
        nargs=3,
        metavar=('LEFT', 'TOP', 'SIDE'),
        help='show only this square, HR px; the whole without',
    )
    parser.add_argument('--side', type=int, default=320, help='of each picture drawn, px')
    parser.add_argument('--device', type=device_name, default='auto', help=DEVICE_HELP)
    return parser


def main(argv: list[str] | None = None) -> int | None:
    """Run the command.

    Raises:
        UserError: An option, a checkpoint or a picture is not as expected.
    """
    args = build_parser().parse_args(argv)
    for name, least in (('count', 1), ('side', 32)):
        if getattr(args, name) < least:
            raise UserError(f'--{name}: at least {least} expected, got {getattr(args, name)}')
    device = pick_device(args.device)
    networks, scale = load_networks(args.weights, device, args.opt)
    pairs = open_pairs(args.lr, args.hr)
    pairs = replace(pairs, keys=spread(pairs.keys, args.count))
    crop = Crop(*args.crop) if args.crop else None
    picture, psnr = draw_comparison(pairs, networks, scale, crop, args.side, device)
    write_image(args.output, picture)
    scores = ', '.join(f'{name} {mean:.2f} dB' for name, mean in psnr.items())
    print(f'{args.output}: {len(pairs.keys)} pairs drawn; {scores}')
    return None
