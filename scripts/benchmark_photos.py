"""Measure what `facesr upscale --faces` gains in photographs that are composed of generated faces.

    python scripts/make_faces.py FOLDER --count 16 --seed 3 --size 1024
    python scripts/benchmark_photos.py --faces FOLDER --markdown results/photos.md
    python scripts/benchmark_photos.py --picture docs/photo.jpg

In each scene stand two faces of one size, turned up to 30 degrees. Inside those that were found PSNR and SSIM are
those of bicubic enlarging, and the gains over it of the network on the whole picture, of `--faces`, and of `--faces
--upright`. *edge* is how steep the picture is along the faces' squares, over bicubic's: a visible box is above 1.
*seconds* are those of the same ways.
"""

import argparse
from pathlib import Path

import cv2
from tqdm import tqdm

from facesr_plugin.command_line import Parser
from facesr_plugin.data.images import list_images, read_image, write_image
from facesr_plugin.degradations import DegradationRanges, KernelRanges
from facesr_plugin.degradations.pictures import Degradation
from facesr_plugin.enlarge.choices import DEFAULT_WEIGHTS
from facesr_plugin.enlarge.network import load_network, pick_device
from facesr_plugin.errors import UserError, run_command
from facesr_plugin.report.machine import ROOT
from photos.measure import measure, table
from photos.picture import before_and_after

SIZES = (40, 64, 96, 128, 192, 256, 400)


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = Parser('Print tables of what enlarging gains inside faces, by their size in the picture.')
    parser.add_argument('--faces', type=Path, default=ROOT / 'tests' / 'data' / 'faces', help='folder of HR faces')
    parser.add_argument('--sizes', type=int, nargs='+', default=list(SIZES), help='px across the aligned square')
    parser.add_argument('--scenes', type=int, default=6, help='scenes of each size, two faces in each')
    parser.add_argument('--weights', type=Path, default=DEFAULT_WEIGHTS, help='checkpoint')
    parser.add_argument('--device', default='auto', help='where the network runs')
    parser.add_argument('--picture', type=Path, metavar='FILE', help='only draw a photograph before and after')
    parser.add_argument('--markdown', type=Path, metavar='FILE', help='also write what is printed there')
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command.

    Raises:
        UserError: An option, the faces or the network cannot be used.
    """
    args = build_parser().parse_args(argv)
    if args.scenes < 1 or min(args.sizes) < 32:
        raise UserError(f'--scenes of 1 or more and --sizes of 32 or more expected, got {args.scenes}, {args.sizes}')
    net = load_network(args.weights).to(pick_device(args.device))
    faces = [read_image(path) for path in list_images(args.faces)]
    if len(faces) < 2:
        raise UserError(f'{args.faces}: two faces or more expected')
    degradation = Degradation(DegradationRanges(), KernelRanges(), net.upscale)
    if args.picture:
        write_image(args.picture, before_and_after(net, faces, degradation), (cv2.IMWRITE_JPEG_QUALITY, 85))
        return
    kinds = {'Degraded': degradation, 'Clean': None}
    texts = []
    for title, degradation in kinds.items():
        sizes = tqdm(args.sizes, desc=title, unit='size')
        texts.append(f'{title}:\n\n' + table({s: measure(net, faces, s, args.scenes, degradation) for s in sizes}))
    text = '\n\n'.join(texts)
    print(text)
    if args.markdown:
        args.markdown.parent.mkdir(parents=True, exist_ok=True)
        args.markdown.write_text(text + '\n', encoding='utf-8')


if __name__ == '__main__':
    run_command(main)
