"""The command `facesr-upscale`: upscale pictures with a trained network.

    facesr-upscale -i photo.jpg scans/ -o enlarged
    facesr-upscale -i photo.jpg --weights experiments/exp1_lsr/models/net_g_best.pth

Grey pictures stay grey, an alpha channel is kept, 16 bits stay 16 where the format can hold them, and pictures are
turned as their EXIF orientation says. Pictures that exist in the output folder are kept, so a stopped run can go on.
"""

import argparse
import io
import struct
import sys
import warnings
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from facesr_plugin.errors import UserError, run_command
from facesr_plugin.images import EXTENSIONS, list_images
from facesr_plugin.inference import DEFAULT_WEIGHTS, DEVICES, load_network, pick_device, upscale_image
from facesr_plugin.models.checkpoint import replace_file

QUALITY_FLAG = {'jpg': cv2.IMWRITE_JPEG_QUALITY, 'webp': cv2.IMWRITE_WEBP_QUALITY}
FORMATS = ('png', 'tif', *QUALITY_FLAG)


def read_picture(path: Path) -> np.ndarray:
    """Read a picture with all it has, turned upright.

    Returns:
        uint8 or uint16, grey (H, W), RGB (H, W, 3) or RGBA (H, W, 4).

    Raises:
        UserError: The file cannot be read, or its pixels are no whole numbers of 8 or 16 bits.
    """
    try:
        data = path.read_bytes()
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from error
    except cv2.error as error:  # e.g. a header that claims more pixels than OpenCV allows
        raise UserError(f'{path}: cannot be read as an image ({error.err})') from error
    if image is None:
        raise UserError(f'{path}: cannot be read as an image (empty, damaged or another file type)')
    if image.dtype not in (np.uint8, np.uint16):
        raise UserError(f'{path}: pixels of 8 or 16 bits expected, got {image.dtype}')
    if image.ndim == 3:
        image = image[..., [2, 1, 0, 3][: image.shape[2]]]
    return np.ascontiguousarray(turn_upright(image, exif_orientation(data)))


def exif_orientation(data: bytes) -> int:
    """Return an image file's EXIF orientation as far as OpenCV leaves it to us: it turns TIFF by itself.

    It is 1, upright, where the metadata cannot be read: whether the picture can is for OpenCV to say.
    """
    try:
        with warnings.catch_warnings(action='ignore'), Image.open(io.BytesIO(data)) as header:
            return 1 if header.format == 'TIFF' else header.getexif().get(0x0112, 1)
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError):  # EXIF that is none
        return 1


def turn_upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation, 1 to 8: transpose from 5 on, then mirror rows, columns or both."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image


def write_picture(path: Path, image: np.ndarray, quality: int) -> None:
    """Write a picture as its suffix says, whole or not at all.

    JPEG and WebP hold 8 bits, so 16 are rounded; JPEG holds no alpha, so the picture is laid on white.

    Args:
        path: The file; its folder is made.
        image: As `read_picture` returns it.
        quality: Of JPEG and WebP, 1 to 100.

    Raises:
        UserError: The format cannot hold this size, or the file cannot be written.
    """
    kind = path.suffix[1:]
    if kind in QUALITY_FLAG and image.dtype == np.uint16:
        image = np.rint(image / 257).astype(np.uint8)
    if kind == 'jpg' and image.shape[2:] == (4,):
        alpha = image[..., 3:] / 255
        image = np.rint(image[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    if image.ndim == 3:
        image = image[..., [2, 1, 0, 3][: image.shape[2]]]
    params = [QUALITY_FLAG[kind], quality] if kind in QUALITY_FLAG else []
    try:
        written, data = cv2.imencode(path.suffix, image, params)
    except cv2.error:
        written = False
    if not written:
        raise UserError(f'{path}: {kind} cannot hold {image.shape[1]}x{image.shape[0]} px; choose another --format')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data.tobytes())
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from error


def plan(inputs: list[Path], output: Path, kind: str) -> dict[Path, Path]:
    """Return the picture that each output file is made of; those of a folder keep their subfolders.

    Raises:
        UserError: An input is missing or holds no picture, or an output file would replace an input or another output.
    """
    sources: dict[Path, Path] = {}
    for root in inputs:
        if not root.exists():
            raise UserError(f'{root}: no such file or folder')
        if root.is_dir() and output.resolve().is_relative_to(root.resolve()):
            raise UserError(f'{output}: an output folder outside the input {root} expected')
        for path in list_images(root) if root.is_dir() else [root]:
            name = path.relative_to(root) if root.is_dir() else Path(path.name)
            target = output / name.with_suffix(f'.{kind}')
            if target in sources:
                raise UserError(f'{path}: another name expected, {sources[target]} becomes {target} too')
            sources[target] = path
    replaced = {path.resolve() for path in sources.values()}
    for target, path in sources.items():
        if target.resolve() in replaced:
            raise UserError(f'{path}: another output folder expected, {target} is an input')
    return sources


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error says that memory ran out; PyTorch has no type of its own for that on the CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        description='Upscale pictures with a trained network. Exit status 1: some could not be read and were skipped.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
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
    failed = 0
    for target, path in (bar := tqdm(todo.items(), unit='image', disable=not todo)):
        try:
            image = read_picture(path)
        except UserError as error:
            bar.write(f'skipped: {error}', sys.stderr)
            failed += 1
            continue
        tiles = partial(tqdm, desc=path.name, unit='tile', leave=False)
        try:
            result = upscale_image(net, image, args.tile, progress=tiles)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(f'{path}: out of memory; a --tile below {args.tile} needs less') from error
        write_picture(target, result, args.quality)
    kept = f', {len(sources) - len(todo)} existed (--overwrite replaces them)' if len(todo) < len(sources) else ''
    print(f'{args.output}: {len(todo) - failed} written{kept}')
    if failed:
        print(f'{failed} of {len(sources)} pictures could not be read', file=sys.stderr)
    return 1 if failed else None


def command() -> None:
    """Run as a console command."""
    run_command(main)
