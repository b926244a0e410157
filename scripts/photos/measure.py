"""What enlarging gains inside the faces of scenes, by the faces' size."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from basicsr.metrics.psnr_ssim import calculate_psnr, calculate_ssim

from facesr_plugin.degradations.pictures import Degradation
from facesr_plugin.enlarge.other import Network
from facesr_plugin.enlarge.photograph import FaceOptions, upscale_photograph
from facesr_plugin.enlarge.tiles import upscale_image
from facesr_plugin.faces.align import Alignment, align, crop
from facesr_plugin.faces.detect import Face
from facesr_plugin.faces.paste import ramp
from photos.scenes import Scene, compose

INSIDE, SIDE = 0.7, 256  # of a face's square what is compared, and its side, px
EDGE = 0.04  # of the square's side, inside which its edge is looked at
MIN_FACE = 32
ROOM = 1.75  # side of a scene as part of the sides of its faces' squares


@dataclass
class Tally:
    """What was measured of the faces of one size."""

    faces: int = 0
    found: int = 0
    wrong: int = 0
    psnr: dict[str, list[float]] = field(default_factory=dict)
    ssim: dict[str, list[float]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    seam: list[float] = field(default_factory=list)


def methods(net: Network) -> dict[str, Callable[[np.ndarray], tuple[np.ndarray, list[Face]]]]:
    """Return the ways to enlarge, each with the faces that it found."""

    def with_faces(**options: bool) -> Callable[[np.ndarray], tuple[np.ndarray, list[Face]]]:
        def run(image: np.ndarray) -> tuple[np.ndarray, list[Face]]:
            result, faces = upscale_photograph(net, image, FaceOptions(MIN_FACE, **options), precision='auto')
            return result, [each.face for each in faces]

        return run

    def bicubic(image: np.ndarray) -> tuple[np.ndarray, list[Face]]:
        size = tuple(net.upscale * side for side in image.shape[1::-1])
        return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), []

    return {
        'bicubic': bicubic,
        'network': lambda image: (upscale_image(net, image, precision='auto'), []),
        '--faces': with_faces(),
        '--faces --upright': with_faces(upright=True),
    }


def measure(
    net: Network, faces: Sequence[np.ndarray], size: int, scenes: int, degradation: Degradation | None
) -> Tally:
    """Compose scenes of two faces of one size, make them smaller, enlarge them in every way, and compare.

    Args:
        net: The network.
        faces: Aligned HR faces, uint8 RGB.
        size: Side of a face's square in the small picture, px.
        scenes: How many.
        degradation: Makes the small picture; None only resizes.
    """
    tally, scale = Tally(), net.upscale
    clean = Degradation(*_ranges(), scale)
    for number in range(scenes):
        rng = np.random.default_rng((size, number))
        chosen = [faces[int(i)] for i in rng.choice(len(faces), 2, replace=False)]
        height = -(-int(ROOM * size) // 2) * 2 * scale
        scene = compose(chosen, [size * scale] * 2, list(rng.uniform(-30, 30, 2)), (height, 2 * height), number)
        key = f'{size}/{number}'
        small = degradation.degraded(scene.pixels, key, 1) if degradation else clean.clean(scene.pixels)
        _compare(net, scene, small, tally)
    return tally


def _ranges() -> tuple:
    from facesr_plugin.degradations import DegradationRanges, KernelRanges

    return DegradationRanges(), KernelRanges()


def _compare(net: Network, scene: Scene, small: np.ndarray, tally: Tally) -> None:
    results = {}
    for name, enlarge in methods(net).items():
        start = time.perf_counter()
        results[name], found = enlarge(small)
        tally.seconds.setdefault(name, []).append(time.perf_counter() - start)
        if name == '--faces':
            squares = [Alignment(s.turn / net.upscale, s.corner / net.upscale) for s in scene.squares]
            hits = [any(_is_in(square, face) for face in found) for square in squares]
            tally.faces, tally.found = tally.faces + len(hits), tally.found + sum(hits)
            tally.wrong += sum(not any(_is_in(square, face) for square in squares) for face in found)
    for square, is_found in zip(scene.squares, hits, strict=True):
        if not is_found:
            continue
        hr = crop(scene.pixels, square.widened(INSIDE), SIDE)
        for name, result in results.items():
            seen = crop(result, square.widened(INSIDE), SIDE)
            tally.psnr.setdefault(name, []).append(calculate_psnr(seen, hr, crop_border=0))
            tally.ssim.setdefault(name, []).append(calculate_ssim(seen, hr, crop_border=0))
        tally.seam.append(_edge(results['--faces'], square) / _edge(results['bicubic'], square))


def _is_in(square: Alignment, face: Face) -> bool:
    found = align(face)
    away = abs(found.corner + found.turn * (0.5 + 0.5j) - square.corner - square.turn * (0.5 + 0.5j))
    return 0.75 < found.size / square.size < 1.33 and away < 0.15 * square.size


def _edge(picture: np.ndarray, square: Alignment) -> float:
    """Return the mean gradient along the edge of a square, levels a pixel."""
    part = crop(picture, square.widened(1.1), SIDE).astype(np.float32)
    place = ((np.arange(SIDE) + 0.5) / SIDE - 0.5) * 1.1 + 0.5
    near = np.minimum(place, 1 - place)
    depth = np.minimum(near, near[:, None])
    band = (depth > -EDGE) & (depth < EDGE)
    assert ramp(np.array([EDGE])) < 0.25  # so nearly nothing of the face shows yet: what would show is a box
    across, down = (cv2.Sobel(part, cv2.CV_32F, dx, dy) / 8 for dx, dy in ((1, 0), (0, 1)))
    return float(np.hypot(across, down)[band].mean())


def table(tallies: dict[int, Tally]) -> str:
    """Return a Markdown table, a row for each size."""
    names = [name for name in next(iter(tallies.values())).seconds if name != 'bicubic']
    head = [
        'size, px',
        'found',
        'false',
        'bicubic',
        *names,
        'SSIM ' + ', '.join(['bicubic', *names[:2]]),
        'edge',
        'seconds',
    ]
    lines = [f'| {" | ".join(head)} |', '|---' * len(head) + '|']
    for size, tally in tallies.items():
        mean = {name: np.mean(values) for name, values in tally.psnr.items()}
        cells = [str(size), f'{tally.found} of {tally.faces}', str(tally.wrong)]
        if mean:
            cells += [f'{mean["bicubic"]:.2f}', *(f'{mean[name] - mean["bicubic"]:+.2f}' for name in names)]
            cells += [', '.join(f'{np.mean(tally.ssim[name]):.3f}' for name in ['bicubic', *names[:2]])]
            cells += [f'{np.mean(tally.seam):.2f}']
        else:
            cells += [''] * (len(names) + 3)
        cells += [', '.join(f'{np.median(tally.seconds[name]):.1f}' for name in names)]
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)
