"""Pack a folder of HR images, or folders of LR and HR images, into LMDBs that BasicSR and this plugin read.

    facesr lmdb --hr datasets/train_hr datasets/train_hr.lmdb
    facesr lmdb --hr datasets/val_hr datasets/val_hr.lmdb --lr datasets/val_lr datasets/val_lr.lmdb

The values are PNGs; `--raw` stores pixels, which only `FaceDegradationDataset` reads: larger, nothing to decode.
"""

import argparse
from pathlib import Path

import numpy as np

from facesr_plugin.data.images import read_image
from facesr_plugin.data.lmdb_writer import image_keys, write_lmdbs
from facesr_plugin.errors import UserError, run_command


def check_partners(hr_files: dict[str, Path], lr_files: dict[str, Path], hr_folder: Path, lr_folder: Path) -> None:
    """Check that two sets of files have the same keys.

    Raises:
        UserError: An image has no partner.
    """
    for files, others, kind, folder in ((hr_files, lr_files, 'LR', lr_folder), (lr_files, hr_files, 'HR', hr_folder)):
        for key, path in files.items():
            if key not in others:
                raise UserError(f'{path}: an {kind} image of the same name expected in {folder}, there is none')


def read_images(paths: list[Path], scale: int) -> list[np.ndarray]:
    """Read an HR image, and the LR image of it if there is one; each uint8 RGB, shape (H, W, 3).

    Args:
        paths: The HR file, or the HR and the LR file.
        scale: HR size / LR size.

    Raises:
        UserError: A file cannot be read (a line each), or the HR size is not `scale` times the LR size, or without an
            LR image not a multiple of `scale`.
    """
    images, errors = [], []
    for path in paths:
        try:
            images.append(read_image(path))
        except UserError as error:
            errors.append(str(error))
    if errors:
        raise UserError('\n'.join(errors))

    height, width = images[0].shape[:2]
    if len(images) == 1 and (height % scale or width % scale):
        raise UserError(f'{paths[0]}: sides divisible by {scale} expected, got {width}x{height} px')
    if len(images) == 2 and images[0].shape[:2] != (scale * images[1].shape[0], scale * images[1].shape[1]):
        expected = f'{scale * images[1].shape[1]}x{scale * images[1].shape[0]}'
        raise UserError(f'{paths[0]}: {expected} px expected, {scale} times {paths[1]}, got {width}x{height} px')
    return images


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        description='Pack images into LMDBs. Every image that cannot be used is named, and then nothing is written.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    both = {'type': Path, 'nargs': 2, 'metavar': ('FOLDER', 'LMDB')}
    parser.add_argument(
        '--hr', **both, required=True, help='HR images, and the LMDB to make', default=argparse.SUPPRESS
    )
    parser.add_argument('--lr', **both, help='LR images of the same relative names, and the LMDB to make')
    parser.add_argument('--scale', type=int, default=4, help='HR size / LR size; divides the sides of HR images')
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
    sets = [image_keys(folder) for folder in folders]
    if args.lr:
        check_partners(*sets, *folders)

    def load(key: str) -> list[np.ndarray]:
        return read_images([files[key] for files in sets], args.scale)

    write_lmdbs(lmdbs, list(sets[0]), load, None if args.raw else args.png_level)
    for path in lmdbs:
        print(f'{path}: {len(sets[0])} images, {(path / "data.mdb").stat().st_size / 1e6:.1f} MB')


if __name__ == '__main__':
    run_command(main)
