"""The pictures of a report: validation faces enlarged by every experiment, and what the degradation does to them."""

import base64
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from tqdm import tqdm

from facesr_plugin.archs.plain import enlarge
from facesr_plugin.data.lmdb_images import image_key, name_of
from facesr_plugin.data.sizes import check_pair, lr_shape
from facesr_plugin.degradations.pictures import Degradation, pick_ranges
from facesr_plugin.enlarge.network import load_network
from facesr_plugin.errors import UserError
from facesr_plugin.options.named import Named, named
from facesr_plugin.report.comparison import Networks, Pairs, open_pairs, spread, upscale_pair
from facesr_plugin.report.experiment import Experiment

LOSSLESS = (cv2.IMWRITE_WEBP_QUALITY, 101)  # WebP's number for it


@dataclass(frozen=True)
class Panel:
    """What a face is enlarged by.

    Attributes:
        title: Of the column.
        pictures: Data URI of each face.
        psnr: In dB, of each face; empty for HR itself.
        pixelated: Whether the picture is a small one, to be shown with its pixels.
    """

    title: str
    pictures: list[str] = field(default_factory=list)
    psnr: list[float] = field(default_factory=list)
    pixelated: bool = False

    @property
    def mean_psnr(self) -> float:
        """Over the faces shown, dB."""
        return sum(self.psnr) / len(self.psnr)


@dataclass(frozen=True)
class Example:
    """Draws of one degradation.

    Attributes:
        names: The experiments that train with it.
        clean: Data URI of each face, only resized.
        degraded: Data URIs of each face's draws.
    """

    names: list[str]
    clean: list[str]
    degraded: list[list[str]]


def data_uri(image: np.ndarray) -> str:
    """Return uint8 RGB (H, W, 3) as a data URI that holds every pixel as it is."""
    data = cv2.imencode('.webp', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), LOSSLESS)[1]
    return f'data:image/webp;base64,{base64.b64encode(data).decode()}'


def find_pairs(experiments: list[Experiment]) -> Pairs | None:
    """Open the validation pairs of the first experiment whose option file names some that are there.

    Relative paths are those of the folder where training ran: the current one, or else that above `experiments/`.
    Experiments whose pairs cannot be found, or are others, have that noted among what is missing.
    """
    pairs, shown = None, {}
    for experiment in experiments:
        if not (block := _validation_block(experiment)):
            continue
        named = {key: block.get(key) for key in ('dataroot_gt', 'dataroot_lq', 'filename_tmpl', 'meta_info_file')}
        if pairs and named != shown:
            experiment.missing.append(f'its own validation pairs, {named["dataroot_gt"]}: others are shown')
        elif not pairs:
            try:
                pairs, shown = _open_named(named, experiment), named
            except UserError as error:
                experiment.missing.extend(f'validation pairs: {line}' for line in str(error).splitlines())
    return pairs


def _validation_block(experiment: Experiment) -> dict[str, Any] | None:
    """Return the options of its first validation set of pairs."""
    datasets = experiment.options.get('datasets')
    blocks = datasets.items() if isinstance(datasets, dict) else ()
    named = [block for phase, block in blocks if str(phase).startswith('val') and isinstance(block, dict)]
    return next((block for block in named if block.get('dataroot_gt') and block.get('dataroot_lq')), None)


def _open_named(named: dict[str, Any], experiment: Experiment) -> Pairs:
    """Open the pairs that an option file names."""
    above = experiment.folder.resolve().parents[1] if experiment.folder else Path()

    def find(key: str) -> Path:
        path = Path(str(named[key])).expanduser()
        return path if path.exists() else above / path

    pairs = open_pairs(find('dataroot_lq'), find('dataroot_gt'))
    keys = pairs.keys
    if named['meta_info_file'] and pairs.hr.root.suffix != '.lmdb':
        try:
            lines = find('meta_info_file').read_text('utf-8').splitlines()
        except OSError as error:
            raise UserError(f'{named["meta_info_file"]}: {error.strerror}') from error
        keys = [key for line in lines if (key := image_key(line.strip().split(' ')[0])) in keys]
    return replace(pairs, keys=keys, template=str(named['filename_tmpl'] or '{}'))


def read_faces(pairs: Pairs, count: int, missing: list[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read up to `count` pairs, evenly spread over the set; those that cannot be read are noted.

    Returns:
        LR and HR by key, all of the scale of the first.
    """
    faces: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for key in spread(pairs.keys, count):
        try:
            lr, hr = pairs.read(key)
            scale = _scale(*next(iter(faces.values()), (lr, hr)))
            check_pair(lr.shape[:2], hr.shape[:2], scale, f'{pairs.hr.root}: {name_of(key)}')
            faces[key] = lr, hr
        except UserError as error:
            missing.append(str(error))
    return faces


def _scale(lr: np.ndarray, hr: np.ndarray) -> int:
    return max(1, hr.shape[0] // lr.shape[0])


def enlarge_faces(
    faces: dict[str, tuple[np.ndarray, np.ndarray]], experiments: list[Experiment], device: torch.device
) -> list[Panel]:
    """Enlarge faces by repeating pixels, bicubically and by each experiment that has weights, and score them.

    Args:
        faces: At least one LR-HR pair by key, all of one scale.
        experiments: Checkpoints that cannot be used are noted among what is missing.
        device: Where the networks run.

    Returns:
        LR, bicubic, the experiments, HR.
    """
    scale = _scale(*next(iter(faces.values())))
    networks: Networks = {
        'lr': torch.nn.UpsamplingNearest2d(scale_factor=scale),
        'bicubic': partial(enlarge, scale=scale, mode='bicubic'),
    }
    panels = {'lr': Panel('LR, enlarged', pixelated=True), 'bicubic': Panel('bicubic')}
    for index, experiment in enumerate(experiments):
        if found := _load(experiment, scale):
            networks[str(index)], file = found[0].to(device), found[1]
            panels[str(index)] = Panel(experiment.name if file == 'net_g_best.pth' else f'{experiment.name}, {file}')
    panels['hr'] = Panel('HR')
    for key, (lr, hr) in tqdm(faces.items(), desc='enlarge', unit='face'):
        results = upscale_pair(networks, lr, hr, scale, name_of(key), device)
        for name, (picture, psnr) in results.items():
            panels[name].pictures.append(data_uri(lr if name == 'lr' else picture))
            panels[name].psnr.append(psnr)
        panels['hr'].pictures.append(data_uri(hr))
    return list(panels.values())


def _load(experiment: Experiment, scale: int) -> tuple[torch.nn.Module, str] | None:
    """Load the first of an experiment's checkpoints that can be used; return the network and the file's name."""
    if experiment.folder is None:
        experiment.missing.append('enlarged faces: only the history is known, no checkpoint')
    for path in experiment.weights:
        try:
            net = load_reported(path, named(experiment.options) if 'network_g' in experiment.options else None)
        except UserError as error:
            experiment.missing.append(str(error))
            continue
        if net.upscale == scale:
            return net, path.name
        experiment.missing.append(f'{path}: a network of scale {scale}, as the faces, expected, got {net.upscale}')
        return None
    return None


def load_reported(path: Path, other: Named | None = None) -> torch.nn.Module:
    """Load the weights that validation reports: the moving average where there is one.

    Args:
        path: Checkpoint.
        other: As for `load_network`.
    """
    try:
        return load_network(path, 'params_ema', other)
    except UserError:
        return load_network(path, 'params', other)


def draw_degradations(faces: dict[str, np.ndarray], experiments: list[Experiment], draws: int) -> list[Example]:
    """Degrade HR faces with the options of each experiment; those of equal options share an example.

    Args:
        faces: uint8 RGB (H, W, 3) by key.
        experiments: Options that cannot be used are noted among what is missing.
        draws: Degradations of each face.
    """
    groups: dict[str, tuple[Degradation, list[str]]] = {}
    for experiment in experiments:
        if not experiment.options:
            continue
        try:
            degradation = _degradation(experiment, faces)
        except UserError as error:
            experiment.missing.extend(f'degradation examples: {line}' for line in str(error).splitlines())
            continue
        groups.setdefault(repr(degradation), (degradation, []))[1].append(experiment.name)
    return [
        Example(
            names,
            [data_uri(degradation.clean(face)) for face in faces.values()],
            [
                [data_uri(degradation.degraded(face, key, seed)) for seed in range(draws)]
                for key, face in tqdm(faces.items(), desc='degrade', unit='face')
            ],
        )
        for degradation, names in groups.values()
    ]


def _degradation(experiment: Experiment, faces: dict[str, np.ndarray]) -> Degradation:
    """Return an experiment's degradation; UserError if its options are not known or do not suit these faces."""
    scale = experiment.options.get('scale', 4)
    if not (isinstance(scale, int) and scale > 0):
        raise UserError(f'scale: a whole number above 0 expected, got {scale!r}')
    degradation = Degradation(*pick_ranges(experiment.options), scale)
    least = degradation.smallest_side
    for key, face in faces.items():
        height, width = face.shape[:2]
        lr_shape((height, width), scale, name_of(key))
        if min(height, width) < least:
            raise UserError(
                f'{name_of(key)}: at least {least}x{least} px expected for these ranges, got {width}x{height}'
            )
    return degradation
