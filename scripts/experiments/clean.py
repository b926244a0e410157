"""What a trained network makes of HR pictures that are only resized, R: input that plain L1 never shows it."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from facesr_plugin.commands.compare import Images
from facesr_plugin.degradations import DegradationRanges, KernelRanges
from facesr_plugin.degradations.pictures import Degradation, as_batch
from facesr_plugin.enlarge.network import load_network, pick_device
from facesr_plugin.models.validation import BASELINES, STANDARD_METRICS, enlarge, evaluate


@torch.inference_mode()
def score_clean(folder: Path, opt: dict[str, Any], before_each: Callable[[], None]) -> dict[str, float]:
    """Score the last weights of a run on its validation faces, resized by R and rounded to 8 bits.

    Args:
        folder: The experiment's.
        opt: Options of the run. Its moving average is scored where one is kept, in fp32 as in validation.
        before_each: Called before each picture; it may raise to end this.

    Returns:
        PSNR in dB, by `network` and `validation.BASELINES`.

    Raises:
        UserError: The weights or the faces cannot be read.
    """
    device, scale = pick_device('auto'), opt.get('scale', 4)
    key = 'params_ema' if opt['train'].get('ema_decay') else 'params'
    net = load_network(folder / 'models' / 'net_g_latest.pth', key)
    networks = {'network': net.to(device)}
    networks |= {mode: partial(enlarge, scale=scale, mode=mode) for mode in BASELINES}
    pairs = _pairs(Images(Path(opt['datasets']['val']['dataroot_gt']).expanduser()), scale, before_each)
    scores = evaluate(networks, pairs, scale, {'psnr': STANDARD_METRICS['psnr']}, device)
    return {name: score.metrics['psnr'] for name, score in scores.items()}


def _pairs(faces: Images, scale: int, before_each: Callable[[], None]) -> Iterator[dict[str, Any]]:
    resize = Degradation(DegradationRanges(), KernelRanges(), scale).clean
    for key in faces.keys:
        before_each()
        hr = faces.read(key)
        yield {'lq': as_batch(resize(hr)), 'gt': as_batch(hr), 'lq_path': [key]}
