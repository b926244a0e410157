"""A photograph enlarged with its faces: the network sees each of them on its own, and the rest as that is wanted.

What the network sees of a face are the photograph's own pixels around it. To bring the face upright to the size that
the network was trained on, and back, gains 0.06 dB at most where it is damaged and loses 1.5 dB or more where it is not
(`scripts/benchmark_photos.py`): both ways blur, and this kind of network knows no difference between a face that is
level and one that is not. For networks that do, `FaceOptions.upright` asks for it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from facesr_plugin.enlarge.choices import BACKGROUNDS
from facesr_plugin.enlarge.other import Network
from facesr_plugin.enlarge.tiles import Progress, Tile, check_array, receptive_radius, upscale_image
from facesr_plugin.errors import UserError
from facesr_plugin.faces.align import Alignment, align, chain, crop, inverted, transform
from facesr_plugin.faces.detect import Detector, Face
from facesr_plugin.faces.paste import paste, shown, to_type, with_colour_of
from facesr_plugin.faces.search import MIN_FACE, find_faces
from facesr_plugin.pictures.alpha import fill_invisible

TRAINED_SIDE = 512  # px of the HR faces that networks are trained on
SHOWN = 256  # px of a face's picture before enlarging, at most
LEAST_FACE = 16  # px; the detector sees none that is smaller


@dataclass(frozen=True)
class FaceOptions:
    """Which faces of a photograph are enlarged on their own, and how.

    Attributes:
        min_face: Least size of a face, px of the photograph across its aligned square; see `find_faces`.
        largest: Whether only the largest face is.
        strength: How much of the network's face shows, 0 (plain enlarging) to 1.
        background: How the rest is enlarged: `bicubic`, or by the `network`.
        upright: Whether the network sees a face upright and at most as large as in training (128 px at x4), instead of
            as it is in the photograph.
        detector: What finds them; see `find_faces`.
    """

    min_face: float = MIN_FACE
    largest: bool = False
    strength: float = 1.0
    background: str = 'bicubic'
    upright: bool = False
    detector: str | Detector = 'centerface'

    def __post_init__(self) -> None:
        if self.background not in BACKGROUNDS:
            raise UserError(f'background: {" or ".join(BACKGROUNDS)} expected, got {self.background}')
        if not self.min_face >= LEAST_FACE:
            raise UserError(f'min_face: {LEAST_FACE} or more expected, got {self.min_face:g}')
        if not 0 <= self.strength <= 1:
            raise UserError(f'strength: 0 to 1 expected, got {self.strength:g}')


@dataclass(frozen=True)
class EnlargedFace:
    """A face of a photograph and what the network made of it.

    Attributes:
        face: Where it is in the photograph.
        square: Its aligned square there; `square.size` is the face's native size, px.
        crop: The square upright, of the photograph's type, without alpha: at its native size, `SHOWN` px at most.
        result: The same square of what the network made, `net.upscale` times as large. `strength` is not applied.
    """

    face: Face
    square: Alignment
    crop: np.ndarray
    result: np.ndarray


def upscale_photograph(
    net: Network,
    image: np.ndarray,
    options: FaceOptions | None = None,
    outscale: float | None = None,
    tile: int | None = None,
    progress: Progress = iter,
    precision: str = 'fp32',
) -> tuple[np.ndarray, list[EnlargedFace]]:
    """Enlarge a photograph and the faces in it.

    Args:
        net: The network, on the device that is to work.
        image: Grey (H, W), RGB (H, W, 3) or RGBA (H, W, 4); uint8, uint16 or float in [0, 1].
        options: Which faces, and how.
        outscale: How much larger the result is, 1 to `net.upscale`; None for as much as the network makes it.
        tile: As in `upscale_image`.
        progress: Wraps the list of its tiles, that of the faces, and within it that of a face's tiles.
        precision: See `tiles`.

    Returns:
        The enlarged photograph, of the same type and channels, and its faces, the largest first. Without a face it is
        the background alone.

    Raises:
        ValueError: Another type, shape or range.
        UserError: Another outscale, or the detector is not there.
    """
    options, outscale = options or FaceOptions(), outscale or net.upscale
    if not 1 <= outscale <= net.upscale:
        raise UserError(f'outscale: 1 to {net.upscale} expected where faces are enlarged, got {outscale:g}')
    check_array(image)
    if not image.size:
        raise ValueError(f'a picture of 1x1 px or more expected, got {image.shape[1]}x{image.shape[0]} px')
    if np.issubdtype(image.dtype, np.floating) and not (image.min() >= 0 and image.max() <= 1):
        raise ValueError(f'floats in [0, 1] expected, got {image.min():.4g} to {image.max():.4g}')
    height, width = (max(1, round(side * outscale)) for side in image.shape[:2])
    found = find_faces(image, options.min_face, options.detector)[: 1 if options.largest else None]
    whole = None
    is_less = options.upright or _area(net, image, found) <= image.shape[0] * image.shape[1]
    if options.background == 'network' or not is_less:
        whole = upscale_image(net, image, tile, progress=progress, precision=precision)
    patches = list(_enlarge(net, _colours(image), found, options.upright, whole, tile, progress, precision))
    if options.background == 'network':
        canvas = _resize(whole, width, height, cv2.INTER_AREA)
    else:
        canvas = _bicubic(image, width, height)
    colours = canvas[..., :3] if canvas.ndim == 3 else canvas
    scale = np.array([[width / image.shape[1]], [height / image.shape[0]]])
    for patch in patches:  # of the largest face first: a small one in the corner of its square is seen at its own size
        paste(colours, patch.pixels, patch.place * scale, patch.square.matrix() * scale, options.strength)
    return canvas, [_shown(image, face, patch, net.upscale) for face, patch in zip(found, patches, strict=True)]


class _Patch(NamedTuple):
    """What the network made of a face: pixels, the matrix from them to the photograph, the face's square there."""

    pixels: np.ndarray
    place: np.ndarray
    square: Alignment


def _enlarge(
    net: Network,
    image: np.ndarray,
    found: Sequence[Face],
    upright: bool,
    whole: np.ndarray | None,
    tile: int | None,
    progress: Progress,
    precision: str,
) -> Iterator[_Patch]:
    """Yield what the network makes of faces, in their order; `whole` is what it made of the picture, if it did."""
    for face in progress(found) if whole is None or upright else found:
        square = align(face)
        if upright:
            side = min(TRAINED_SIDE // net.upscale, max(1, round(square.size)))
            seen, place = crop(image, square, side), square.matrix(side)
            seen = seen.clip(0, 1) if seen.dtype == np.float32 else seen  # a cubic kernel overshoots
            result = upscale_image(net, seen, tile, precision=precision)
        else:
            rows, columns = _around(square, image.shape, 0)
            seen, place = image[rows, columns], np.array([[1.0, 0, columns.start], [0, 1, rows.start]])
            if whole is None:
                result = _in_context(net, image, square, tile, progress, precision)
            else:
                colours = whole[..., :3] if whole.ndim == 3 else whole
                result = colours[_larger((rows, columns), net.upscale)].astype(image.dtype)  # floats: of 32 bits
        to_square, places = square.inverse(), place @ np.diag([1 / net.upscale, 1 / net.upscale, 1])
        weights = [shown(chain(to_square, m), p.shape[:2]) for m, p in ((places, result), (place, seen))]
        yield _Patch(with_colour_of(result, seen, *weights), places, square)


def _in_context(
    net: Network, image: np.ndarray, square: Alignment, tile: int | None, progress: Progress, precision: str
) -> np.ndarray:
    """Return what the network makes of the rows and columns that a square is in, as of the whole picture."""
    inner, outer = (_around(square, image.shape, by) for by in (0, receptive_radius(net)))
    result = upscale_image(net, np.ascontiguousarray(image[outer]), tile, progress=progress, precision=precision)
    rows, columns = (slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer, strict=True))
    return result[_larger((rows, columns), net.upscale)]


def _larger(tile: Tile, scale: int) -> Tile:
    rows, columns = (slice(part.start * scale, part.stop * scale) for part in tile)
    return rows, columns


def _area(net: Network, image: np.ndarray, found: Sequence[Face]) -> int:
    """Return how many px the network sees for faces, of which it may see some several times."""
    tiles = [_around(align(face), image.shape, receptive_radius(net)) for face in found]
    return sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in tiles)


def _around(square: Alignment, shape: tuple[int, ...], margin: int) -> Tile:
    """Return the rows and columns of a picture that a square is in, and `margin` more where there are."""
    corners = square.corners()[:, ::-1]
    low, high = np.floor(corners.min(axis=0)) - 1 - margin, np.ceil(corners.max(axis=0)) + 1 + margin
    rows, columns = (
        slice(int(np.clip(first, 0, length - 1)), int(np.clip(last, 1, length)))
        for first, last, length in zip(low, high, shape[:2], strict=True)
    )
    return rows, columns


def _shown(image: np.ndarray, face: Face, patch: _Patch, scale: int) -> EnlargedFace:
    side, square = min(SHOWN, max(1, round(patch.square.size))), patch.square
    corner, end = transform(inverted(patch.place), square.corners())[:2] @ (1, 1j)
    before = crop(_colours(image), square, side)
    after = crop(patch.pixels, Alignment(complex(end - corner), complex(corner)), side * scale)
    return EnlargedFace(face, square, to_type(before, image.dtype), to_type(after, image.dtype))


def _colours(image: np.ndarray) -> np.ndarray:
    """Return colours that OpenCV turns: without alpha, invisible ones filled, floats of 32 bits."""
    colours = fill_invisible(image[..., :3], image[..., 3]) if image.shape[2:] == (4,) else image
    return colours.astype(np.float32) if np.issubdtype(colours.dtype, np.floating) else colours


def _bicubic(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return a picture enlarged without a network; invisible pixels do not bleed into visible ones."""
    if image.shape[2:] == (4,):
        image = np.dstack([fill_invisible(image[..., :3], image[..., 3]), image[..., 3]])
    return _resize(image, width, height, cv2.INTER_CUBIC)


def _resize(image: np.ndarray, width: int, height: int, interpolation: int) -> np.ndarray:
    if image.shape[:2] == (height, width):
        return image.copy()
    wide = image.astype(np.float32) if image.dtype in (np.float16, np.float64) else image
    return to_type(cv2.resize(wide, (width, height), interpolation=interpolation), image.dtype)
