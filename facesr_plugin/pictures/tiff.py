"""Pictures as TIFF: 8 or 16 bits, grey to RGBA, one page or several, Deflate with the predictor, and all metadata."""

import struct
import zlib

import numpy as np
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from facesr_plugin.pictures.metadata import parse_exif
from facesr_plugin.pictures.picture import Metadata

HEADER = b'II*\0\x08\0\0\0'
STRIP_BYTES = 2**20
DEFLATE, PREDICTOR, LEVEL = 8, 2, 4


def encode(frames: list[np.ndarray], profile: bytes | None, metadata: Metadata, exif: bytes | None) -> list[bytes]:
    """Return the parts of a TIFF file; profile and metadata stand with each page."""
    before, link = bytearray(HEADER), 4  # what the place of the next page is to be written into, and where
    parts, size = [before], len(HEADER)
    for frame in frames:
        padding = bytes(size % 2)
        size += len(padding)
        before[link : link + 4] = struct.pack('<I', size)
        parts.append(padding)
        tags = _tags(frame, profile, metadata, exif)
        rows = max(STRIP_BYTES // max(frame[0].nbytes, 1), 1)
        strips = [_strip(frame[top : top + rows]) for top in range(0, len(frame), rows)]
        lengths = [len(strip) for strip in strips]
        tags[278], tags[279] = rows, tuple(lengths)
        tags[273] = tuple(int(end) for end in np.cumsum([0, *lengths[:-1]]))  # Pillow adds where the pixels begin
        before = bytearray(tags.tobytes(size))
        link = 2 + 12 * struct.unpack('<H', before[:2])[0]
        size += len(before) + sum(lengths)
        parts += [before, *strips]
    return parts


def _strip(rows: np.ndarray) -> bytes:
    """Compress rows, each pixel less its left neighbour."""
    difference = rows.copy()
    difference[:, 1:] -= rows[:, :-1]
    return zlib.compress(np.ascontiguousarray(difference).astype(rows.dtype.newbyteorder('<'), copy=False), LEVEL)


def _tags(frame: np.ndarray, profile: bytes | None, metadata: Metadata, exif: bytes | None) -> ImageFileDirectory_v2:
    channels = frame.shape[2] if frame.ndim == 3 else 1
    tags = ImageFileDirectory_v2(prefix=b'II')
    for tag, value in parse_exif(exif).items():
        tags[tag] = value
    tags[256], tags[257] = frame.shape[1], frame.shape[0]
    tags[258] = (frame.dtype.itemsize * 8,) * channels
    tags[259], tags[262], tags[277], tags[317] = DEFLATE, 2 if channels > 1 else 1, channels, PREDICTOR
    tags.pop(274, None)
    if channels == 4:
        tags[338] = 2  # alpha, colours not multiplied by it
    if metadata.dpi:
        tags[282], tags[283], tags[296] = *metadata.dpi, 2
    if 'Description' in metadata.text and 270 not in tags:
        tags[270] = metadata.text['Description']
    if metadata.xmp:
        tags.tagtype[700] = 1
        tags[700] = metadata.xmp
    if profile:
        tags.tagtype[34675] = 7
        tags[34675] = profile
    return tags
