"""LR-HR pairs beside what networks make of them, with the PSNR of each."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import cv2
import numpy as np
import torch
from tqdm import tqdm

from facesr_plugin.archs.plain import enlarge
from facesr_plugin.data.image_source import Images, open_images
from facesr_plugin.data.lmdb_images import name_of
from facesr_plugin.degradations.pictures import as_batch
from facesr_plugin.enlarge.network import load_network
from facesr_plugin.errors import UserError
from facesr_plugin.models.validation import STANDARD_METRICS, evaluate
from facesr_plugin.options.named import read_named
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


@dataclass(frozen=True)
class Pairs:
    """LR-HR pairs.

    Attributes:
        lr: Their LR side.
        hr: Their HR side.
        keys: Of the HR images to show.
        template: LR name for an HR name, e.g. `{}_x4`.
    """

    lr: Images
    hr: Images
    keys: list[str]
    template: str = '{}'

    def read(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the LR and the HR image of a key, uint8 RGB.

        Raises:
            UserError: One of them is not there, or cannot be read.
        """
        partner = quote(self.template, safe='{}').replace('.', '%2E').format(key)
        if partner not in self.lr.keys:
            raise UserError(f'{self.lr.root}: {name_of(partner)} expected, the partner of an HR image')
        return self.lr.read(partner), self.hr.read(key)


def open_pairs(lr: Path, hr: Path) -> Pairs:
    """Open the LR and the HR side of pairs of equal names, each an LMDB or a folder.

    Raises:
        UserError: They cannot be found or read.
    """
    lr_images, hr_images = open_images(lr), open_images(hr)
    return Pairs(lr_images, hr_images, hr_images.keys)


def spread(keys: list[str], count: int) -> list[str]:
    """Return up to `count` of the keys, evenly spread over them.

    Example:
        >>> spread(['a', 'b', 'c', 'd', 'e'], 2)
        ['a', 'c']
    """
    count = min(count, len(keys))
    return [keys[index * len(keys) // count] for index in range(count)]


def _split(option: str, entry: str, taken: Iterable[str] = ()) -> tuple[str, str]:
    """Return name and path of a `NAME=PATH` entry."""
    name, separator, path = entry.partition('=')
    if not (name and separator and path):
        raise UserError(f'{option} {entry}: NAME=PATH expected')
    if name in taken:
        raise UserError(f'{option} {entry}: another name expected, there is a {name} already')
    return name, path


def load_networks(entries: list[str], device: torch.device, option_files: Iterable[str] = ()) -> tuple[Networks, int]:
    """Load the networks of `NAME=PATH` entries, bicubic enlarging before them; also return their scale.

    Args:
        entries: The weights.
        device: Where the networks are to be.
        option_files: `NAME=PATH` entries, too, for those whose weights do not tell the network.

    Raises:
        UserError: An entry has another form, a name stands twice, a file is no checkpoint, or the scales differ.
    """
    networks: Networks = {}
    named: dict[str, str] = {}
    for entry in option_files:
        name, path = _split('--opt', entry, named)
        named[name] = path
    scales = set()
    for entry in entries:
        name, path = _split('--weights', entry, (*networks, 'bicubic'))
        other = read_named(named.pop(name)) if name in named else None
        networks[name] = net = load_network(Path(path), named=other).to(device)
        scales.add(net.upscale)
    if named:
        raise UserError(f'--opt {next(iter(named))}: the name of a network expected ({", ".join(networks)})')
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


def draw_comparison(
    pairs: Pairs, networks: Networks, scale: int, crop: Crop | None, side: int, device: torch.device
) -> tuple[np.ndarray, dict[str, float]]:
    """Draw pairs, a row each, with what networks make of them between LR and HR.

    Args:
        pairs: Those to draw.
        networks: By name.
        scale: Of the networks.
        crop: What to show of each picture; the whole of it without.
        side: Of each picture drawn, px.
        device: Where the networks are.

    Returns:
        uint8 RGB (H, W, 3), and the mean PSNR of each network, dB.

    Raises:
        UserError: The crop does not suit the scale or a picture, or a pair cannot be read or is of another scale.
    """
    if crop and (min(crop) < 0 or crop.side == 0 or any(value % scale for value in crop)):
        raise UserError(
            f'--crop: multiples of the scale {scale} expected, SIDE above 0, got {" ".join(map(str, crop))}'
        )
    cut = crop.cut if crop else lambda image, scale=1: image
    rows, psnr = [], {name: [] for name in networks}
    for key in tqdm(pairs.keys, unit='image'):
        lr, hr = pairs.read(key)
        results = upscale_pair(networks, lr, hr, scale, f'{pairs.lr.root}: {name_of(key)}', device)
        lr_size, hr_size = (f'{image.shape[1]}x{image.shape[0]} px' for image in (lr, hr))
        if crop and (crop.left + crop.side > hr.shape[1] or crop.top + crop.side > hr.shape[0]):
            raise UserError(f'--crop: a square within {name_of(key)}, {hr_size}, expected')
        for name, (_, value) in results.items():
            psnr[name].append(value)
        enlarged = [Cell(cut(picture), f'{value:.2f} dB') for picture, value in results.values()]
        cells = [Cell(cut(lr, scale), lr_size if crop else name_of(key)), *enlarged, Cell(cut(hr), hr_size)]
        rows.append([Cell(crop.frame(hr), name_of(key)), *cells] if crop else cells)
    titles = [*(['HR, whole'] if crop else []), 'LR', *networks, 'HR']
    return draw_grid(titles, rows, side), {name: sum(values) / len(values) for name, values in psnr.items()}
