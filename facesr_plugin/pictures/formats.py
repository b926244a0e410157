"""Which picture files are read and written. Nothing heavy is imported: the command line looks here before it starts."""

import importlib.util
from pathlib import Path
from typing import NamedTuple

EXTRA = "pip install 'facesr-plugin[formats]'"
READ = {  # suffix: the package that reads it beside OpenCV and Pillow, '' for none
    **dict.fromkeys(('.png', '.apng', '.jpg', '.jpeg', '.jpe', '.jfif', '.bmp', '.dib', '.webp', '.tif', '.tiff'), ''),
    **dict.fromkeys(('.gif', '.avif', '.jp2', '.j2k', '.ppm', '.pgm', '.pbm', '.pnm'), ''),
    **dict.fromkeys(('.heic', '.heif'), 'pillow_heif'),
    '.jxl': 'pillow_jxl',
}
MAGIC = (  # how a file without a suffix begins: offset, bytes, kind
    (0, b'\x89PNG\r\n\x1a\n', 'png'),
    (0, b'\xff\xd8\xff', 'jpeg'),
    (0, b'BM', 'bmp'),
    (8, b'WEBP', 'webp'),
    (0, b'II*\0', 'tiff'),
    (0, b'MM\0*', 'tiff'),
    (0, b'II+\0', 'tiff'),
    (0, b'MM\0+', 'tiff'),
    (0, b'GIF8', 'gif'),
    *((4, b'ftyp' + brand, 'avif') for brand in (b'avif', b'avis')),
    *((4, b'ftyp' + brand, 'heif') for brand in (b'heic', b'heix', b'hevc', b'hevx', b'mif1', b'msf1')),
    (0, b'\0\0\0\x0cjP  \r\n\x87\n', 'jp2'),
    (0, b'\xff\x4f\xff\x51', 'jp2'),
    *((0, b'P%d' % number, 'pnm') for number in range(1, 7)),
    (0, b'\0\0\0\x0cJXL \r\n\x87\n', 'jxl'),
    (0, b'\xff\x0a', 'jxl'),
)
PLUGINS = {'heif': 'pillow_heif', 'jxl': 'pillow_jxl'}


class Output(NamedTuple):
    """What a written format can hold."""

    bits: int  # of a channel
    alpha: bool
    animation: bool
    pages: bool
    side: int  # px
    size: int = 2**62  # bytes of pixels


WRITTEN = {
    'png': Output(16, True, True, False, 2**31 - 1),
    'tif': Output(16, True, True, True, 2**31 - 1, 2**32 - 2**20),
    'jpg': Output(8, False, False, False, 65535),
    'webp': Output(8, True, True, False, 16383),
}


def sniff(data: bytes) -> str:
    """Return which kind of picture a file's first bytes say it is; '' for none that is known.

    Example:
        >>> sniff(b'GIF89a')
        'gif'
    """
    found = next((kind for offset, magic, kind in MAGIC if data[offset : offset + len(magic)] == magic), '')
    if found == 'pnm' and not data[2:3].isspace():
        return ''
    return 'avif' if found == 'heif' and b'avif' in data[8:64] else found


def missing_plugin(package: str) -> bool:
    """Return whether a kind of picture needs a package that is not there."""
    return bool(package) and importlib.util.find_spec(package) is None


def why_not(path: Path) -> str | None:
    """Return why a file of a folder is left out, None where it is a picture to read.

    A file without a suffix is looked into.
    """
    suffix = path.suffix.lower()
    if suffix in READ:
        return f'needs {EXTRA}' if missing_plugin(READ[suffix]) else None
    if suffix:
        return 'no picture'
    try:
        with path.open('rb') as file:
            kind = sniff(file.read(64))
    except OSError as error:
        return error.strerror
    if kind and missing_plugin(PLUGINS.get(kind, '')):
        return f'needs {EXTRA}'
    return None if kind else 'no picture'


def size_problem(kind: str, height: int, width: int, pixel_bytes: int) -> str | None:
    """Return why a format of `WRITTEN` cannot hold a picture of this size, None where it can."""
    limit = WRITTEN[kind]
    if max(height, width) > limit.side or height * width * pixel_bytes > limit.size:
        return f'another file type expected, {kind} cannot hold {width}x{height} px'
    return None
