"""Pack a folder of HR images, or folders of LR and HR images, into LMDBs that BasicSR and this plugin read.

    facesr lmdb --hr datasets/train_hr datasets/train_hr.lmdb
    facesr lmdb --hr datasets/val_hr datasets/val_hr.lmdb --lr datasets/val_lr datasets/val_lr.lmdb

The values are PNGs; `--raw` stores pixels, which only `FaceDegradationDataset` reads: larger, nothing to decode.
"""

import argparse
from pathlib import Path

from facesr_plugin.command_line import Parser
from facesr_plugin.data.packing import pack
from facesr_plugin.errors import UserError


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = Parser('Pack images into LMDBs. Every image that cannot be used is named, and then nothing is written.')
    both = {'type': Path, 'nargs': 2, 'metavar': ('FOLDER', 'LMDB')}
    parser.add_argument('--hr', **both, required=True, help='HR images, and the LMDB to make')
    parser.add_argument('--lr', **both, help='LR images of the same relative names, and the LMDB to make')
    parser.add_argument(
        '--scale', type=int, default=4, help='HR size / LR size, of pairs; HR images alone may have any size'
    )
    values = parser.add_mutually_exclusive_group()
    values.add_argument(
        '--png-level', type=int, choices=range(10), default=1, metavar='0-9', help='PNG compression, 9 is smallest'
    )
    values.add_argument('--raw', action='store_true', help='store pixels, not PNGs; stock BasicSR cannot read that')
    return parser


def main(argv: list[str] | None = None) -> int | None:
    """Run the command.

    Raises:
        UserError: An option, a folder or an image cannot be used, or an LMDB exists.
    """
    args = build_parser().parse_args(argv)
    if args.scale < 1:
        raise UserError(f'--scale: 1 or more expected, got {args.scale}')
    folders, lmdbs = zip(*[pair for pair in (args.hr, args.lr) if pair], strict=True)
    count = pack(folders, lmdbs, args.scale, None if args.raw else args.png_level)
    for path in lmdbs:
        print(f'{path}: {count} images, {(path / "data.mdb").stat().st_size / 1e6:.1f} MB')
    return None
