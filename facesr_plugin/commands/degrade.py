"""Degrade HR pictures to LR pictures, as training does: for validation pairs, or to see what training sees.

    facesr degrade -i datasets/faces/val -o datasets/faces/val_lr --seed 1
    facesr degrade -i datasets/faces/val -o datasets/faces/val_clean --clean
    facesr degrade -i datasets/faces/val --opt options/exp1_lsr.yml --preview results/degradation.png

An LR picture is a function of its HR picture, its path in the folder without suffix, and the seed, so it is the same
whatever lies beside it.
"""

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from facesr_plugin.command_line import Parser
from facesr_plugin.data.images import read_image, read_shape, write_image
from facesr_plugin.data.lmdb_writer import image_keys
from facesr_plugin.data.sizes import lr_shape
from facesr_plugin.degradations import DegradationRanges, KernelRanges
from facesr_plugin.degradations.pictures import Degradation, pick_ranges
from facesr_plugin.errors import UserError, each
from facesr_plugin.options.read import load_yaml
from facesr_plugin.report.grid import Cell, draw_grid

PREVIEW_SIDE = 256  # px of each picture


def load_ranges(path: Path | None) -> tuple[DegradationRanges, KernelRanges]:
    """Return the ranges of a training option file; those of `train_realesrnet_x4plus.yml` without one.

    Raises:
        UserError: The file cannot be read, a range is wrong, or it has no `datasets.train`.
    """
    if path is None:
        return DegradationRanges(), KernelRanges()
    opt = load_yaml(path)
    try:
        return pick_ranges(opt)
    except UserError as error:
        raise UserError('\n'.join(f'{path}: {line}' for line in str(error).splitlines())) from None


def find_faces(folder: Path, degradation: Degradation) -> dict[str, Path]:
    """Return the HR pictures below a folder by key; their sizes are read from the file headers.

    Raises:
        UserError: No picture, two of one key, or some that are none, too small, or have sides that are no multiples of
            the scale: one line for each.
    """
    faces, least = image_keys(folder), degradation.smallest_side

    def check(path: Path) -> None:
        height, width = read_shape(path)
        lr_shape((height, width), degradation.scale, path)
        if min(height, width) < least:
            raise UserError(f'{path}: at least {least}x{least} px expected for these ranges, got {width}x{height}')

    each(check, faces.values())
    return faces


def draw_preview(faces: dict[str, Path], degradation: Degradation, seeds: range) -> np.ndarray:
    """Draw a row per face: HR, R and D with each seed; uint8 RGB (H, W, 3)."""
    rows = []
    for key, path in tqdm(faces.items(), desc='preview', unit='face'):
        image = read_image(path)
        draws = [degradation.degraded(image, key, seed) for seed in seeds]
        rows.append([Cell(picture) for picture in (image, degradation.clean(image), *draws)])
    return draw_grid(['HR', 'only resized, R', *(f'degraded, seed {seed}' for seed in seeds)], rows, PREVIEW_SIDE)


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = Parser('Degrade HR pictures to LR pictures (PNG, same names), or only preview that.')
    parser.add_argument('-i', '--input', type=Path, required=True, help='folder of HR pictures')
    parser.add_argument('-o', '--output', type=Path, help='folder for the LR pictures')
    parser.add_argument('--opt', type=Path, help="training option file whose ranges to use; Real-ESRNet's without")
    parser.add_argument('--scale', type=int, default=4, help='HR size / LR size')
    parser.add_argument('--clean', action='store_true', help='only resize, R; the preview shows that anyway')
    parser.add_argument('--seed', type=int, default=0, help='of all draws')
    parser.add_argument('--overwrite', action='store_true', help='write into an output folder that is not empty')
    parser.add_argument('--preview', type=Path, metavar='PICTURE', help='draw a few faces and their degradations here')
    parser.add_argument('--faces', type=int, default=4, help='preview: rows')
    parser.add_argument('--draws', type=int, default=4, help='preview: degradations of each face, seeds from --seed on')
    return parser


def main(argv: list[str] | None = None) -> int | None:
    """Run the command.

    Raises:
        UserError: An option, an option file or a picture is not as expected.
    """
    args = build_parser().parse_args(argv)
    for name, least in (('scale', 1), ('seed', 0), ('faces', 1), ('draws', 1)):
        if getattr(args, name) < least:
            raise UserError(f'--{name}: at least {least} expected, got {getattr(args, name)}')
    if not (args.output or args.preview):
        raise UserError('--output or --preview expected, or there is nothing to do')
    if args.output and args.output.is_dir() and any(args.output.iterdir()) and not args.overwrite:
        raise UserError(f'{args.output}: an empty or new folder expected; --overwrite writes into this one')

    degradation = Degradation(*load_ranges(args.opt), args.scale)
    faces = find_faces(args.input, degradation)
    if args.preview:
        shown = dict(list(faces.items())[: args.faces])
        write_image(args.preview, draw_preview(shown, degradation, range(args.seed, args.seed + args.draws)))
        print(f'{args.preview}: {len(shown)} faces drawn')
    if args.output:
        for key, path in tqdm(faces.items(), desc='degrade', unit='image'):
            output = args.output / path.relative_to(args.input).with_suffix('.png')
            image = read_image(path)
            write_image(output, degradation.clean(image) if args.clean else degradation.degraded(image, key, args.seed))
        print(f'{args.output}: {len(faces)} LR pictures written')
    return None
