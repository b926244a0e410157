"""EXIF, XMP, pixel density and text: gathered from a file that Pillow has opened, made fit for another size."""

import math
import re
import struct
from collections.abc import Mapping
from typing import Any

from PIL import Image

from facesr_plugin.pictures.picture import Metadata

ORIENTATION, EXIF_IFD, GPS_IFD, INTEROP_IFD, MAKER_NOTE = 0x0112, 0x8769, 0x8825, 0xA005, 0x927C
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
WIDTH, HEIGHT = 0xA002, 0xA003
# Of a TIFF's own tags, those about the picture and not about how its pixels lie in the file.
ABOUT = {*range(0x010D, 0x0111), ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, 0x0131, 0x0132, 0x013B}
ABOUT |= {0x013C, 0x8298, 0x4746, 0x4749, *range(0x9C9B, 0x9CA0), EXIF_IFD, GPS_IFD}
NOT_TEXT = {'XML:com.adobe.xmp', 'xmp', 'exif', 'icc_profile'}
NO_EXIF = (OSError, ValueError, SyntaxError, TypeError, KeyError, struct.error)  # what Pillow raises then
ATTRIBUTE = re.compile(rb'(tiff:Orientation\s*=\s*["\'])\s*\d+')
ELEMENT = re.compile(rb'(<tiff:Orientation[^>]*>)\s*\d+')


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1, upright, where the metadata cannot be read."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except NO_EXIF:
        return 1
    return value if value in range(1, 9) else 1


def collect(image: Image.Image) -> Metadata:
    """Return what an opened file says, its orientation set to upright; what cannot be read is left out."""
    info = image.info
    text = {key: str(value) for key, value in _text(image).items() if _is_text(key)}
    comment = info.get('comment')
    if comment:
        text.setdefault('Comment', comment.decode('utf-8', 'replace') if isinstance(comment, bytes) else str(comment))
    xmp = info.get('xmp') or info.get('XML:com.adobe.xmp')
    xmp = xmp.encode() if isinstance(xmp, str) else xmp
    if xmp:
        xmp = ELEMENT.sub(rb'\g<1>1', ATTRIBUTE.sub(rb'\g<1>1', bytes(xmp)))
    return Metadata(_exif(image), xmp or None, _dpi(info), text)


def _text(image: Image.Image) -> Mapping[str, str]:
    try:
        return getattr(image, 'text', {}) or {}
    except NO_EXIF:
        return {}


def _is_text(key: str) -> bool:
    return key not in NOT_TEXT and not key.startswith('Raw profile type')


def _dpi(info: Mapping[Any, Any]) -> tuple[float, float] | None:
    try:
        x, y = (float(value) for value in info['dpi'])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if 1 < x < 1e6 and 1 < y < 1e6 and math.isfinite(x + y) else None


def _exif(image: Image.Image) -> bytes | None:
    try:
        read = image.getexif()
        result = Image.Exif()
        for tag, value in read.items():
            if tag in ABOUT or (image.format != 'TIFF' and tag >= 0x010D and tag not in range(0x0111, 0x011A)):
                result[tag] = value
        for tag in (0x0201, 0x0202, 0x02BC, 0x8773):  # thumbnail, XMP and profile have places of their own
            result.pop(tag, None)
        for tag in (EXIF_IFD, GPS_IFD):
            result.pop(tag, None)
            if part := dict(read.get_ifd(tag)):
                part.pop(INTEROP_IFD, None)
                result[tag] = part
        if ORIENTATION in result:
            result[ORIENTATION] = 1
    except NO_EXIF:
        return None
    return _serialised(result)


def _serialised(exif: Image.Exif) -> bytes | None:
    """Return the bytes; parts that cannot be written again are left out."""
    for dropped in ((), (MAKER_NOTE,), (EXIF_IFD, GPS_IFD)):
        for tag in dropped:
            exif.pop(tag, None)
            if isinstance(exif.get(EXIF_IFD), dict):
                exif[EXIF_IFD].pop(tag, None)
        try:
            return exif.tobytes().removeprefix(b'Exif\0\0') if len(exif) else None
        except (*NO_EXIF, OverflowError, AttributeError):
            continue
    return None


def parse_exif(data: bytes | None) -> Image.Exif:
    """Return EXIF of `Metadata` to be changed, its parts as dicts."""
    exif = Image.Exif()
    if data:
        exif.load(b'Exif\0\0' + data)
        for tag in (EXIF_IFD, GPS_IFD):
            if part := dict(exif.get_ifd(tag)):
                exif[tag] = part
    return exif


def exif_for(metadata: Metadata, height: int, width: int, largest: int = 2**32, with_dpi: bool = False) -> bytes | None:
    """Return the EXIF of a picture of another size.

    Args:
        metadata: Of the picture it is made of.
        height: Of the new one, px.
        width: Of the new one, px.
        largest: What the format holds, bytes; a maker's note, or all, is dropped where there is more.
        with_dpi: Whether the format has no other place for the pixel density.
    """
    exif = parse_exif(metadata.exif)
    part = exif.get(EXIF_IFD)
    if isinstance(part, dict):
        for tag, length in ((WIDTH, width), (HEIGHT, height)):
            if tag in part:
                part[tag] = length
    if metadata.dpi and (with_dpi or X_RESOLUTION in exif):
        exif[X_RESOLUTION], exif[Y_RESOLUTION] = metadata.dpi
        exif[RESOLUTION_UNIT] = 2
    data = _serialised(exif)
    if data and len(data) > largest and isinstance(part, dict):
        part.pop(MAKER_NOTE, None)
        data = _serialised(exif)
    return data if data and len(data) <= largest else None
