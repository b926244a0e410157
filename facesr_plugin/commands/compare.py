r"""Draw validation pairs beside what networks make of them, with the PSNR of each.

    facesr compare --lr datasets/val_lr.lmdb --hr datasets/val_hr.lmdb -o results/comparison.png \
        --weights L_SR=experiments/exp1_lsr/models/net_g_best.pth \
        --weights L1=experiments/exp2_l1/models/net_g_best.pth \
        --crop 144 192 160

PSNR is over the whole picture, RGB, 8 bits, no border cropped, as in validation.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from tqdm import tqdm

from facesr_plugin.data.image_source import open_images
from facesr_plugin.data.images import write_image
from facesr_plugin.degradations.pictures import as_batch
from facesr_plugin.enlarge.network import DEVICES, load_network, pick_device
from facesr_plugin.errors import UserError, run_command
from facesr_plugin.models.validation import STANDARD_METRICS, enlarge, evaluate
from facesr_plugin.report.grid import Cell, draw_grid

FRAME = (255, 64, 0)  # RGB, around the crop in the whole picture
Networks = dict[str, Callable[[torch.Tensor], torch.Tensor]]


class Crop(NamedTuple):
    """A square of the HR picture, px."""

    left: int
    top: int
    side: int

    def cut(self, image: np.ndarray, scale: int = 1) -> np.ndarray:
        """Cut it out of an HR picture (H, W, 3), or out of an LR picture with its `scale`."""
        left, top, side = (value // scale for value in self)
        return image[top : top + side, left : left + side]

    def frame(self, image: np.ndarray) -> np.ndarray:
        """Return an HR picture (H, W, 3) with a frame around it."""
        corners = (self.left, self.top), (self.left + self.side - 1, self.top + self.side - 1)
        return cv2.rectangle(image.copy(), *corners, FRAME, max(2, min(image.shape[:2]) // 100))


class Images:
    """The images of an LMDB or a folder by key, so that both pair with each other."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._source = open_images(root)
        self._names = {key: key for key in self._source.keys}

    @property
    def keys(self) -> list[str]:
        """Their keys; see `image_key`."""
        return list(self._names)

    def read(self, key: str) -> np.ndarray:
        """Return an image, uint8 RGB (H, W, 3).

        Raises:
            UserError: It is not there, or cannot be read.
        """
        if key not in self._names:
            raise UserError(f'{self.root}: {key} expected, the partner of an HR image')
        return self._source.read(self._names[key])


def spread(keys: list[str], count: int) -> list[str]:
    """Return up to `count` of the keys, evenly spread over them.

    Example:
        >>> spread(['a', 'b', 'c', 'd', 'e'], 2)
        ['a', 'c']
    """
    count = min(count, len(keys))
    return [keys[index * len(keys) // count] for index in range(count)]


def load_networks(entries: list[str], device: torch.device) -> tuple[Networks, int]:
    """Load the networks of `NAME=PATH` entries, bicubic enlarging before them; also return their scale.

    Raises:
        UserError: An entry has another form, a name stands twice, a file is no checkpoint, or the scales differ.
    """
    networks: Networks = {}
    scales = set()
    for entry in entries:
        name, separator, path = entry.partition('=')
        if not (name and separator and path):
            raise UserError(f'--weights {entry}: NAME=PATH expected')
        if name in (*networks, 'bicubic'):
            raise UserError(f'--weights {entry}: another name expected, there is a {name} already')
        networks[name] = net = load_network(Path(path)).to(device)
        scales.add(net.upscale)
    if len(scales) > 1:
        raise UserError(f'--weights: networks of one scale expected, got {", ".join(map(str, sorted(scales)))}')
    scale = scales.pop()
    return {'bicubic': partial(enlarge, scale=scale, mode='bicubic'), **networks}, scale


@torch.inference_mode()
def upscale_pair(
    networks: Networks, lr: np.ndarray, hr: np.ndarray, scale: int, name: str, device: torch.device
) -> dict[str, tuple[np.ndarray, float]]:
    """Run networks on an LR image, and score them as validation does.

    Args:
        networks: By name.
        lr: uint8 RGB (h, w, 3).
        hr: uint8 RGB (H, W, 3).
        scale: H / h.
        name: What an error calls the pair.
        device: Where the networks are.

    Returns:
        Each network's picture, uint8 RGB (H, W, 3), and its PSNR in dB.

    Raises:
        UserError: The sizes do not match.
    """
    pair = {'lq': as_batch(lr), 'gt': as_batch(hr), 'lq_path': [name]}
    pictures: dict[str, np.ndarray] = {}

    def keep(network: str, path: str, image: np.ndarray) -> None:
        pictures[network] = image[..., ::-1]

    scores = evaluate(networks, [pair], scale, {'psnr': STANDARD_METRICS['psnr']}, device, keep)
    return {network: (picture, scores[network].metrics['psnr']) for network, picture in pictures.items()}


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        description='Draw LR pictures, bicubic enlarging, what networks make of them, and the HR pictures.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('--lr', type=Path, required=True, help='LR pictures, *.lmdb or a folder')
    parser.add_argument('--hr', type=Path, required=True, help='HR pictures of the same names, *.lmdb or a folder')
    parser.add_argument(
        '--weights', action='append', required=True, metavar='NAME=PATH', help='checkpoint and its title; repeatable'
    )
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
    parser.add_argument('--device', choices=DEVICES, default='auto', help='where the networks run')
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
    networks, scale = load_networks(args.weights, device)
    crop = Crop(*args.crop) if args.crop else None
    if crop and (min(crop) < 0 or crop.side == 0 or any(value % scale for value in crop)):
        raise UserError(
            f'--crop: multiples of the scale {scale} expected, SIDE above 0, got {" ".join(map(str, crop))}'
        )
    lr_images, hr_images = Images(args.lr), Images(args.hr)
    keys = spread(hr_images.keys, args.count)

    rows = []
    totals = dict.fromkeys(networks, 0.0)
    for key in tqdm(keys, unit='image'):
        lr, hr = lr_images.read(key), hr_images.read(key)
        results = upscale_pair(networks, lr, hr, scale, f'{args.lr}: {key}', device)
        if crop and (crop.left + crop.side > hr.shape[1] or crop.top + crop.side > hr.shape[0]):
            raise UserError(f'--crop: a square within {key}, {hr.shape[1]}x{hr.shape[0]} px, expected')
        cut = crop.cut if crop else lambda image, scale=1: image
        cells = [Cell(cut(lr, scale), f'{lr.shape[1]}x{lr.shape[0]} px' if crop else key)]
        for name, (picture, psnr) in results.items():
            cells.append(Cell(cut(picture), f'{psnr:.2f} dB'))
            totals[name] += psnr
        cells.append(Cell(cut(hr), f'{hr.shape[1]}x{hr.shape[0]} px'))
        rows.append([Cell(crop.frame(hr), key), *cells] if crop else cells)
    titles = [*(['HR, whole'] if crop else []), 'LR', *networks, 'HR']
    write_image(args.output, draw_grid(titles, rows, args.side))
    scores = ', '.join(f'{name} {total / len(keys):.2f} dB' for name, total in totals.items())
    print(f'{args.output}: {len(keys)} pairs drawn; {scores}')
    return None


if __name__ == '__main__':
    run_command(main)
