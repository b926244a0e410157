"""Generate faces of nobody, aligned as FFHQ is: HR images for training and trying out without a download.

    pip install -e '.[faces]'
    pip install --no-deps random_face==2021.7.21.1
    python scripts/make_faces.py datasets/faces/train --count 1000 --seed 0
    python scripts/make_faces.py datasets/faces/val --count 100 --seed 1

The pictures come from MobileStyleGAN's FFHQ generator (Apache-2.0). Its weights are data files of the package
`random_face`; that package's code is never imported, OpenVINO runs the networks.
"""

import argparse
import importlib.util
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from facesr_plugin.command_line import Parser
from facesr_plugin.data.images import write_image
from facesr_plugin.errors import UserError, run_command

SIDE = 1024  # of the generator's pictures
LATENT = 512
INSTALL = "pip install -e '.[faces]' && pip install --no-deps random_face==2021.7.21.1"


def face_latent(seed: int, index: int) -> np.ndarray:
    """Return face `index` of set `seed` as the generator's normal input, float32, shape (1, 512).

    A face depends on the two numbers alone, so a longer run begins with a shorter run's faces, and sets of different
    seeds share none.
    """
    return np.random.default_rng((seed, index)).standard_normal((1, LATENT), np.float32)


class FaceGenerator:
    """MobileStyleGAN on the CPU in float32; `generator(seed, index)` is a picture.

    Args:
        psi: Truncation in [0, 1]: 1 is the generator's full variety with its failures, 0 always the mean face.

    Raises:
        UserError: OpenVINO or the weights are not installed.
    """

    def __init__(self, psi: float) -> None:
        for name in ('openvino', 'random_face'):
            if importlib.util.find_spec(name) is None:
                raise UserError(f'{name} is not installed: {INSTALL}')
        import openvino

        data = Path(importlib.util.find_spec('random_face').submodule_search_locations[0]) / 'data'
        core = openvino.Core()
        # f32: the default depends on the CPU. LATENCY: all cores work on one picture, no slower than on several.
        config = {'INFERENCE_PRECISION_HINT': 'f32', 'PERFORMANCE_HINT': 'LATENCY'}
        self._mapping = core.compile_model(data / 'MappingNetwork.xml', 'CPU', config)
        self._synthesis = core.compile_model(data / 'SynthesisNetwork.xml', 'CPU', config)
        self._psi = psi
        # The entropy (0, 0, 1) is no face's: those have two numbers below 2**32.
        samples = np.random.default_rng((0, 0, 1)).standard_normal((1024, 1, LATENT), np.float32)
        self._mean = np.mean([self._mapping(z)[0] for z in samples], axis=0)

    def __call__(self, seed: int, index: int) -> np.ndarray:
        """Return face `index` of set `seed`, uint8 RGB, shape (1024, 1024, 3)."""
        style = self._mapping(face_latent(seed, index))[0]
        image = self._synthesis(self._mean + self._psi * (style - self._mean))[0][0]
        return np.rint((image.transpose(1, 2, 0).clip(-1, 1) + 1) * 127.5).astype(np.uint8)


def face_name(seed: int, index: int, suffix: str) -> str:
    """Return a file name that sorts by set and face.

    >>> face_name(1, 42, 'png')
    'face_1_000042.png'
    """
    return f'face_{seed}_{index:06d}.{suffix}'


def make_faces(
    generator: Callable[[int, int], np.ndarray],
    paths: dict[int, Path],
    seed: int,
    size: int,
    params: tuple[int, ...] = (),
) -> None:
    """Write faces of the set `seed`, each to a hidden name first, so that a killed run leaves no half picture.

    Args:
        generator: Takes (seed, index), returns uint8 RGB, shape (S, S, 3).
        paths: The file of each face's index.
        seed: The set.
        size: Side of the pictures written, in pixels, at most S; smaller ones are area averages.
        params: cv2's encoder flags.
    """
    for index, path in tqdm(paths.items(), unit='face'):
        image = generator(seed, index)
        if size != image.shape[0]:
            image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
        part = path.with_name(f'.{path.name}')
        write_image(part, image, params)
        part.replace(path)


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = Parser('Generate faces of nobody. Files that exist are kept, so a stopped run can go on.')
    parser.add_argument('folder', type=Path, help='where the pictures go: face_SEED_INDEX.FORMAT')
    parser.add_argument('--count', type=int, default=100, help='faces of the set, those that exist included')
    parser.add_argument('--size', type=int, default=512, help=f'side in pixels, at most {SIDE}')
    parser.add_argument('--psi', type=float, default=0.7, help='truncation: 1 varied with failures, 0.5 clean')
    parser.add_argument('--seed', type=int, default=0, help='the set; sets of different seeds share no face')
    parser.add_argument('--format', choices=('png', 'jpg'), default='png', help='file type')
    parser.add_argument('--quality', type=int, default=95, help='of JPEG files, 1 to 100')
    return parser


def main(argv: list[str] | None = None) -> int | None:
    """Run the command.

    Raises:
        UserError: An option is out of range, or the generator is not installed.
    """
    args = build_parser().parse_args(argv)
    for name, low, high in (
        ('count', 1, 2**32),
        ('size', 4, SIDE),
        ('psi', 0, 1),
        ('seed', 0, 2**32 - 1),
        ('quality', 1, 100),
    ):
        if not low <= getattr(args, name) <= high:
            raise UserError(f'--{name}: {low} to {high} expected, got {getattr(args, name)}')

    paths = {index: args.folder / face_name(args.seed, index, args.format) for index in range(args.count)}
    missing = {index: path for index, path in paths.items() if not path.exists()}
    if missing:
        params = (cv2.IMWRITE_JPEG_QUALITY, args.quality) if args.format == 'jpg' else ()
        make_faces(FaceGenerator(args.psi), missing, args.seed, args.size, params)
    print(f'{args.folder}: {len(missing)} faces made, {len(paths) - len(missing)} were there')


if __name__ == '__main__':
    run_command(main)
