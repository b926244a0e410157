"""Pictures as PNG: 8 or 16 bits, grey to RGBA, row by row, and what a PNG tells beside its pixels."""

import zlib
from collections.abc import Iterator

import numpy as np

from facesr_plugin.pictures.picture import BAND_BYTES, Metadata

SIGNATURE = b'\x89PNG\r\n\x1a\n'
HEADER_END = len(SIGNATURE) + 25  # signature and IHDR
KEYWORD_LENGTH = 79
COLOUR_TYPES = {1: 0, 3: 2, 4: 6}  # by number of channels
UP, LEVEL = 2, 1  # each row less the one above it, and runs of equal bytes: fast, and small for photographs


def encode(frame: np.ndarray, chunks: bytes) -> Iterator[bytes]:
    """Yield the parts of a PNG file, so that it never stands in memory as a whole.

    Args:
        frame: uint8 or uint16, grey (H, W), RGB (H, W, 3) or RGBA (H, W, 4).
        chunks: What `about` returns.
    """
    height, width = frame.shape[:2]
    channels = frame.shape[2] if frame.ndim == 3 else 1
    size = width.to_bytes(4, 'big') + height.to_bytes(4, 'big')
    header = size + bytes([8 * frame.itemsize, COLOUR_TYPES[channels], 0, 0, 0])
    yield SIGNATURE + _chunk(b'IHDR', header) + chunks
    compressor = zlib.compressobj(LEVEL, strategy=zlib.Z_RLE)
    above = np.zeros((1, width * channels * frame.itemsize), np.uint8)
    step = max(1, BAND_BYTES // frame[0].nbytes)
    for top in range(0, height, step):
        band = np.ascontiguousarray(frame[top : top + step]).astype(frame.dtype.newbyteorder('>'), copy=False)
        rows = band.view(np.uint8).reshape(len(band), -1)
        filtered = np.empty((len(rows), 1 + rows.shape[1]), np.uint8)
        filtered[:, 0] = UP
        np.subtract(rows, np.concatenate([above, rows[:-1]]), out=filtered[:, 1:])
        above = rows[-1:]
        if data := compressor.compress(filtered):
            yield _chunk(b'IDAT', data)
    yield _chunk(b'IDAT', compressor.flush()) + _chunk(b'IEND', b'')


def with_chunks(data: bytes, chunks: bytes) -> bytes:
    """Return an encoded PNG with what `about` returns."""
    return data[:HEADER_END] + chunks + data[HEADER_END:]


def about(profile: bytes | None, metadata: Metadata, exif: bytes | None) -> bytes:
    """Return the chunks of profile, EXIF, pixel density, XMP and text, which stand behind the header."""
    chunks = []
    if profile:
        chunks.append(_chunk(b'iCCP', b'ICC profile\0\0' + zlib.compress(profile)))
    if metadata.dpi:
        x, y = (round(dpi / 0.0254).to_bytes(4, 'big') for dpi in metadata.dpi)
        chunks.append(_chunk(b'pHYs', x + y + b'\1'))
    if exif:
        chunks.append(_chunk(b'eXIf', exif))
    if metadata.xmp:
        chunks.append(_chunk(b'iTXt', b'XML:com.adobe.xmp\0\0\0\0\0' + metadata.xmp))
    for keyword, text in metadata.text.items():
        name = keyword.encode('latin-1', 'replace').strip()[:KEYWORD_LENGTH]
        if name:
            chunks.append(_chunk(b'iTXt', name + b'\0\0\0\0\0' + text.replace('\0', '').encode('utf-8', 'replace')))
    return b''.join(chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, 'big') + kind + content + zlib.crc32(kind + content).to_bytes(4, 'big')
