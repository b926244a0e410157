"""Cut faces out of photographs, aligned alike, for training.

    facesr extract -i photographs -o faces
    facesr extract -i photographs -o faces --native --min-side 256 --format jpg

Each face becomes a file, and `faces.csv` says where each comes from. Faces that are too small, cut off, blurred or
repeated are left out, and counted. A stopped run goes on where it was.
"""

import argparse
import os
import sys
from pathlib import Path

from tqdm import tqdm

from facesr_plugin.command_line import Parser
from facesr_plugin.enlarge.plan import STDIO, make_plan
from facesr_plugin.errors import UserError


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = Parser('Cut aligned faces out of photographs. Exit status 1: some could not be read, and were skipped.')
    parser.add_argument('-i', '--input', type=Path, nargs='+', required=True, help='photographs, or folders of them')
    parser.add_argument('-o', '--output', type=Path, required=True, help='folder for the faces and faces.csv')
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument('--size', type=int, default=512, help='side of the faces, px')
    sizes.add_argument('--native', action='store_true', help='each face at its size in the photograph')
    parser.add_argument(
        '--min-side', type=float, metavar='PX', help='least size of a face in the photograph; --size, or 256, without'
    )
    parser.add_argument('--sharpness', type=float, default=2.5, help='least; faces.csv has that of each face')
    parser.add_argument('--format', choices=('png', 'jpg'), default='png', help='of the faces')
    parser.add_argument('--quality', type=int, default=95, help='of jpg, 1 to 100')
    parser.add_argument('--workers', type=int, default=os.cpu_count(), help='photographs at once')
    parser.add_argument('--quiet', action='store_true', help='say nothing but what went wrong, and the counts')
    return parser


def main(argv: list[str] | None = None) -> int | None:
    """Run the command; the status is 1 where a photograph could not be read.

    Raises:
        UserError: An option or the set of inputs is not as expected, or the detector is not installed.
    """
    args = build_parser().parse_args(argv)
    for name, low, high in (('size', 16, 4096), ('quality', 1, 100), ('workers', 1, 1024)):
        if not low <= getattr(args, name) <= high:
            raise UserError(f'--{name}: {low} to {high} expected, got {getattr(args, name)}')
    size = None if args.native else args.size
    min_side = args.min_side if args.min_side is not None else (size or 256)
    if not min_side >= 16:
        raise UserError(f'--min-side: 16 or more expected, got {min_side:g}')
    if STDIO in (*args.input, args.output):
        raise UserError('-: files and folders expected')
    plan = make_plan(args.input, args.output, args.format)
    if not args.quiet:
        for line in plan.lines():
            print(line, file=sys.stderr)

    import cv2

    from facesr_plugin.faces.extract import REASONS, Wanted, extract

    cv2.setNumThreads(1)  # photographs are done beside each other
    wanted = Wanted(size, min_side, args.sharpness, args.format, args.quality)
    with tqdm(total=len(plan.sources), unit='photograph', disable=args.quiet) as bar:

        def done(line: str | None) -> None:
            if line:
                bar.write(line, sys.stderr)
            bar.update()

        counts = extract(plan.sources, args.output, wanted, args.workers, done)
    left_out = ', '.join(f'{counts[reason]} {reason}' for reason in REASONS if counts[reason])
    print(f'{args.output}: {counts["kept"]} faces{f"; left out: {left_out}" if left_out else ""}')
    return 1 if counts['unreadable'] else None
