"""What a PNG tells beside its pixels: chunks, put behind the header of an encoded file."""

import zlib

from facesr_plugin.pictures.picture import Metadata

HEADER_END = 8 + 25  # signature and IHDR
KEYWORD_LENGTH = 79


def with_chunks(data: bytes, profile: bytes | None, metadata: Metadata, exif: bytes | None) -> bytes:
    """Return an encoded PNG with profile, EXIF, pixel density, XMP and text."""
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
    return data[:HEADER_END] + b''.join(chunks) + data[HEADER_END:]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, 'big') + kind + content + zlib.crc32(kind + content).to_bytes(4, 'big')
