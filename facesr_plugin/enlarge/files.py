"""Many picture files: which becomes which, and each of them enlarged."""

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tqdm import tqdm

from facesr_plugin.archs.face_srresnet_arch import FaceSRResNet
from facesr_plugin.data.images import list_images
from facesr_plugin.enlarge.pictures import read_picture, write_picture
from facesr_plugin.enlarge.tiles import upscale_image
from facesr_plugin.errors import UserError, is_out_of_memory


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


def upscale_files(net: FaceSRResNet, sources: Mapping[Path, Path], quality: int, tile: int) -> int:
    """Enlarge pictures; those that cannot be read are named on stderr and passed over.

    Args:
        net: The network, on the device that is to work.
        sources: The picture that each output file is made of; see `plan`.
        quality: Of JPEG and WebP, 1 to 100.
        tile: Side of the squares that pictures are cut into, px of the input.

    Returns:
        How many could not be read.

    Raises:
        UserError: Memory ran out, or a result cannot be written.
    """
    failed = 0
    for target, path in (bar := tqdm(sources.items(), unit='image', disable=not sources)):
        try:
            image = read_picture(path)
        except UserError as error:
            bar.write(f'skipped: {error}', sys.stderr)
            failed += 1
            continue
        try:
            result = upscale_image(net, image, tile, progress=partial(tqdm, desc=path.name, unit='tile', leave=False))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(f'{path}: out of memory; a --tile below {tile} needs less') from error
        write_picture(target, result, quality)
    return failed
