"""A picture in memory."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

BAND_BYTES = 2**22


@dataclass(frozen=True)
class Metadata:
    """What a file says about its picture, besides pixels. Orientation is upright: it has been applied.

    Attributes:
        exif: As it stands in files, from its byte order on; without thumbnail.
        xmp: An XMP packet.
        dpi: Pixels an inch, across and down.
        text: What PNG calls text: keyword to text. A comment of JPEG or GIF is `Comment`.
    """

    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    text: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """A picture, or the frames or pages of one.

    Attributes:
        frames: uint8 or uint16, grey (H, W), RGB (H, W, 3) or RGBA (H, W, 4), turned upright.
        profile: The ICC profile that the pixels are in; None is sRGB, or nobody knows.
        metadata: What else the file says.
        durations: Of each frame of an animation, ms; empty for pages and single pictures.
        loop: How often an animation runs, 0 is for ever.
        notes: What the reader has to tell about the file, without its name.
    """

    frames: list[np.ndarray]
    profile: bytes | None = None
    metadata: Metadata = Metadata()
    durations: tuple[int, ...] = ()
    loop: int = 0
    notes: tuple[str, ...] = ()

    @property
    def pixels(self) -> np.ndarray:
        """The first frame."""
        return self.frames[0]

    def with_frames(self, frames: list[np.ndarray]) -> 'Picture':
        """Return other pixels with the same profile and metadata."""
        return replace(self, frames=frames)


def in_bands(function: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray) -> np.ndarray:
    """Return what a function of single pixels returns, band by band, so that its floats of all pixels never exist."""
    rows = max(1, BAND_BYTES // max(pixels[0].nbytes, 1))
    first = function(pixels[:rows])
    result = np.empty((len(pixels), *first.shape[1:]), first.dtype)
    result[:rows] = first
    for top in range(rows, len(pixels), rows):
        result[top : top + rows] = function(pixels[top : top + rows])
    return result


def to_8_bits(pixels: np.ndarray) -> np.ndarray:
    """Round 16 bits to 8; 8 stay."""
    if pixels.dtype == np.uint8:
        return pixels
    return in_bands(lambda band: np.rint(band / np.float32(257)).astype(np.uint8), pixels)


def expand(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Spread whole numbers of `bits` bits, 9 to 16, over all 16, so that white is 65535."""
    if bits == 16:
        return pixels
    factor = np.float32(65535 / (2**bits - 1))
    return in_bands(lambda band: np.rint(band * factor).clip(0, 65535).astype(np.uint16), pixels)
