"""What a trained network makes of HR pictures that are only resized, R: input that plain L1 never shows it."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from facesr_plugin.data.image_source import open_images
from facesr_plugin.degradations import resize_clean
from facesr_plugin.degradations.pictures import as_batch
from facesr_plugin.enlarge.network import load_network, pick_device
from facesr_plugin.models.validation import BASELINES, STANDARD_METRICS, enlarge, evaluate
from facesr_plugin.options.types import TrainingOptions


@torch.inference_mode()
def score_clean(weights: Path, options: TrainingOptions, before_each: Callable[[], None]) -> dict[str, float]:
    """Score weights of a run on its validation faces, resized by R and rounded to 8 bits.

    Args:
        weights: A checkpoint of the run. Its moving average is scored where one is kept, in fp32 as in validation.
        options: Options of the run.
        before_each: Called before each picture; it may raise to end this.

    Returns:
        PSNR in dB, by `network` and `validation.BASELINES`.

    Raises:
        UserError: The weights or the faces cannot be read.
    """
    device, scale = pick_device('auto'), options.scale
    net = load_network(weights, 'params_ema' if options.train.ema_decay else 'params').to(device)
    networks = {'network': net, **{mode: partial(enlarge, scale=scale, mode=mode) for mode in BASELINES}}
    faces = Path(options.datasets.val.dataroot_gt).expanduser()
    scores = evaluate(networks, _pairs(faces, scale, before_each), scale, {'psnr': STANDARD_METRICS['psnr']}, device)
    return {name: score.metrics['psnr'] for name, score in scores.items()}


def _pairs(faces: Path, scale: int, before_each: Callable[[], None]) -> Iterator[dict[str, Any]]:
    images = open_images(faces)
    for key in images.keys:
        before_each()
        hr = as_batch(images.read(key))
        lr = (resize_clean(hr, scale).clamp(0, 1) * 255).round() / 255
        yield {'lq': lr, 'gt': hr, 'lq_path': [key]}
