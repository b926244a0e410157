"""Validation: the network on LR-HR pairs, beside what plain enlarging scores on the same pairs."""

import inspect
import math
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import cv2
import numpy as np
import torch
from basicsr.metrics import calculate_metric
from basicsr.utils import get_root_logger, tensor2img
from basicsr.utils.registry import METRIC_REGISTRY
from torch.nn import functional as F

from facesr_plugin.archs.plain import enlarge
from facesr_plugin.data.sizes import check_pair
from facesr_plugin.run.processes import sum_over_processes

# PSNR = 10 log10(255^2 / MSE) over RGB, 8 bits, no border cropped: the definition all numbers of this project use.
STANDARD_METRICS = {
    'psnr': {'type': 'calculate_psnr', 'crop_border': 0, 'test_y_channel': False},
    'ssim': {'type': 'calculate_ssim', 'crop_border': 0, 'test_y_channel': False},
}
BASELINES = ('bilinear', 'bicubic')
COLLAPSED_BELOW = 0.1  # 8-bit grey levels; measured: 1e-5 where it has collapsed, 0.6 and more where it learns


@dataclass
class Scores:
    """Averages over a validation set.

    Attributes:
        metrics: By name, e.g. `psnr` in dB; of the images that have a value, NaN where none has.
        loss: Mean absolute error of the unrounded output, images in [0, 1].
        residual: Mean distance between the output and bilinear upsampling, 8-bit grey levels, but for a constant
            colour, which is all that the last layer's bias can add when the rest of the residual path is zero.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    loss: float = 0.0
    residual: float = 0.0

    @property
    def collapsed(self) -> bool:
        """Whether the network does no more than enlarge bilinearly: within a tenth of a grey level."""
        return self.residual < COLLAPSED_BELOW


def evaluate(
    networks: dict[str, Callable[[torch.Tensor], torch.Tensor]],
    pairs: Iterable[dict[str, Any]],
    scale: int,
    metrics: dict[str, dict[str, Any]],
    device: torch.device,
    on_image: Callable[[str, str, np.ndarray], None] | None = None,
) -> dict[str, Scores]:
    """Run networks over a validation set, or over this process's share of it.

    Args:
        networks: By name; each maps RGB (1, 3, h, w) in [0, 1] to (1, 3, H, W).
        pairs: Batches of one with `lq`, `lq_path` and, unless nothing is to be measured, `gt`.
        scale: H / h.
        metrics: BasicSR metric options by name, computed on 8-bit images; without `gt` those that need none.
        device: Where the networks are.
        on_image: Called with network name, LR path and the 8-bit BGR result (H, W, 3).

    Returns:
        Each network's averages over the shares of all processes, of which some may be empty.

    Raises:
        UserError: A pair's sizes do not match.
    """
    scores = {name: Scores(dict.fromkeys(metrics, 0.0)) for name in networks}
    valued = {name: dict.fromkeys(metrics, 0) for name in networks}  # how many images have a value of each metric
    alone = {name: options for name, options in metrics.items() if not needs_hr(options)}
    count = measured = 0
    for pair in pairs:
        lq = pair['lq'].to(device)
        gt = pair['gt'].to(device) if 'gt' in pair else None
        path = pair['lq_path'][0]
        if gt is not None:
            check_pair(lq.shape[2:], gt.shape[2:], scale, path)
        count, measured = count + 1, measured + (gt is not None)
        base = enlarge(lq, scale, 'bilinear')
        for name, net in networks.items():
            out = net(lq)
            score = scores[name]
            residual = out - base
            score.residual += (residual - residual.mean((2, 3), keepdim=True)).abs().mean().item() * 255
            score.loss += F.l1_loss(out, gt).item() if gt is not None else 0.0
            image = tensor2img(out)  # on the CPU it clamps `out` itself
            if on_image:
                on_image(name, path, image)
            data = {'img': image} if gt is None else {'img': image, 'img2': tensor2img(gt)}
            for metric, options in (alone if gt is None else metrics).items():
                value = ssim(**data) if options == STANDARD_METRICS['ssim'] else measure(data, options, path)
                if not math.isnan(value):
                    score.metrics[metric] += value
                    valued[name][metric] += 1
    for name, score in scores.items():
        totals = [count, measured, score.residual, score.loss, *score.metrics.values(), *valued[name].values()]
        count_all, measured_all, residual, loss, *sums = sum_over_processes(
            torch.tensor(totals, dtype=torch.float64), device
        ).tolist()
        score.residual, score.loss = residual / count_all, loss / count_all
        totals, numbers = sums[: len(metrics)], sums[len(metrics) :]
        score.metrics = {
            metric: total / number if number else math.nan
            for metric, total, number in zip(metrics, totals, numbers, strict=True)
        }
        if not measured_all:
            score.metrics = {name: score.metrics[name] for name in alone}
    return scores


def needs_hr(options: dict[str, Any]) -> bool:
    """Return whether a metric of BasicSR compares with an HR image; NIQE does not."""
    return 'img2' in inspect.signature(METRIC_REGISTRY.get(options['type'])).parameters


def measure(data: dict[str, np.ndarray], options: dict[str, Any], path: str = 'an image') -> float:
    """Compute a metric of BasicSR; NaN, and a warning, where it has no value.

    NIQE has none of a flat image, nor of one with less than two squares of 96 px; identity needs a face.

    Args:
        data: `img`, uint8 BGR (H, W, 3), and `img2` where the metric compares.
        options: Its `type`, and what else it takes.
        path: Whose image, for the warning.
    """
    try:
        value = float(calculate_metric(data, options))
    except np.linalg.LinAlgError:
        value = math.nan
    if math.isnan(value):
        _warn_of_no_value(options['type'], path)
    return value


@cache
def _warn_of_no_value(metric: str, path: str) -> None:
    why = {
        'calculate_niqe': ': two squares of 96 px that are not flat expected',
        'calculate_identity': ': a face expected in the HR image',
    }
    get_root_logger().warning(f'{path}: {metric} has no value{why.get(metric, "")}')


def ssim(img: np.ndarray, img2: np.ndarray) -> float:
    """Return the structural similarity of two 8-bit images, as BasicSR's `calculate_ssim` without a cropped border.

    Its 11x11 Gaussian window is applied along columns and rows in turn, in a fraction of the time.

    Source: Wang et al., "Image quality assessment: From error visibility to structural similarity".

    Args:
        img: uint8 (H, W, C).
        img2: Of the same shape.
    """
    window = cv2.getGaussianKernel(11, 1.5)

    def mean(image: np.ndarray) -> np.ndarray:
        return cv2.sepFilter2D(image, -1, window, window)[5:-5, 5:-5]

    x, y = img.astype(np.float64), img2.astype(np.float64)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_x, mean_y = mean(x), mean(y)
    variance_x, variance_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return float((luminance * (2 * covariance + c2) / (variance_x + variance_y + c2)).mean())


def evaluate_baselines(
    pairs: Iterable[dict[str, Any]], scale: int, psnr: dict[str, Any], device: torch.device
) -> tuple[dict[str, float], dict[str, int]]:
    """Score plain enlarging over a validation set, and take the set's fingerprint; shares as in `evaluate`.

    Args:
        pairs: As in `evaluate`, with `gt`.
        scale: HR size / LR size.
        psnr: The metric's options.
        device: Where sums over processes are formed.

    Returns:
        The PSNR of each of `BASELINES`, dB; and what tells the pairs from others: `images`, their number, and
        `checksum`, the sum of a checksum of each pair's pixels.
    """
    totals = torch.zeros(2 + len(BASELINES), dtype=torch.float64)  # whose sums of 32-bit numbers are exact
    for pair in pairs:
        check_pair(pair['lq'].shape[2:], pair['gt'].shape[2:], scale, pair['lq_path'][0])
        gt = tensor2img(pair['gt'])
        checksum = zlib.crc32(tensor2img(pair['lq']).tobytes(), zlib.crc32(gt.tobytes()))
        images = [tensor2img(enlarge(pair['lq'], scale, mode)) for mode in BASELINES]
        scores = [float(calculate_metric({'img': image, 'img2': gt}, psnr)) for image in images]
        totals += torch.tensor([1.0, checksum, *scores], dtype=torch.float64)
    count, checksum, *sums = sum_over_processes(totals, device).tolist()
    baselines = {mode: total / count for mode, total in zip(BASELINES, sums, strict=True)}
    return baselines, {'images': int(count), 'checksum': int(checksum)}
