"""A labelled grid of pictures, pixel by pixel as they are: what `facesr degrade` and `facesr compare` draw."""

import unicodedata
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

GAP = 6  # px between cells
INK = (32, 32, 32)


class Cell(NamedTuple):
    """A picture, uint8 RGB (H, W, 3), and the text under it."""

    image: np.ndarray
    caption: str = ''


def draw_grid(titles: list[str], rows: list[list[Cell]], side: int) -> np.ndarray:
    """Draw rows of pictures under column titles on white.

    A picture's longer side becomes `side` px: a smaller one is enlarged by repeating pixels, a larger one averaged.

    Args:
        titles: One per column.
        rows: As many cells each.
        side: Width of a column, px.

    Returns:
        uint8 RGB, (H, W, 3).
    """
    size = max(side // 15, 10)
    line = size * 7 // 4
    images = [[_fit(cell.image, side) for cell in row] for row in rows]
    has_captions = any(cell.caption for row in rows for cell in row)
    heights = [max(len(image) for image in row) + has_captions * line for row in images]
    width = GAP + len(titles) * (side + GAP)
    canvas = Image.new('RGB', (width, GAP + line + sum(heights) + len(rows) * GAP), 'white')
    draw = ImageDraw.Draw(canvas)
    lefts = [GAP + column * (side + GAP) for column in range(len(titles))]
    for left, title in zip(lefts, titles, strict=True):
        _write(draw, title, left + side // 2, GAP + line // 2, side, size, bold=True)
    top = GAP + line
    for row, fitted, height in zip(rows, images, heights, strict=True):
        for left, cell, image in zip(lefts, row, fitted, strict=True):
            canvas.paste(Image.fromarray(image), (left + (side - image.shape[1]) // 2, top))
            _write(draw, cell.caption, left + side // 2, top + len(image) + line // 2, side, size)
        top += height + GAP
    return np.asarray(canvas)


def _fit(image: np.ndarray, side: int) -> np.ndarray:
    """Resize so that the longer side is `side` px."""
    factor = side / max(image.shape[:2])
    size = tuple(max(1, round(length * factor)) for length in image.shape[1::-1])
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST_EXACT)


def _write(draw: ImageDraw.ImageDraw, text: str, x: int, y: int, width: int, size: int, bold: bool = False) -> None:
    """Write a line centred on (x, y), smaller and then cut where it is wider than `width` px."""
    path, text = find_font(text, bold)
    font = ImageFont.truetype(path, size)
    while font.getlength(text) > width and font.size > 9:
        font = ImageFont.truetype(path, font.size - 1)
    if font.getlength(text) > width:
        text = next(cut for end in range(len(text), -1, -1) if font.getlength(cut := f'{text[:end]}…') <= width)
    draw.text((x, y), text, INK, font, anchor='mm')


def find_font(text: str, bold: bool = False) -> tuple[Path, str]:
    """Return a font of this machine that has the characters of a text, and the text.

    Where none has them, the closest Latin letters stand for them, or else their numbers (`U+9854`): no boxes are drawn.
    """
    from matplotlib import font_manager  # an extra (`cli.EXTRAS`), and `facesr degrade` draws only previews

    dejavu = _dejavu('-Bold' * bold)
    wanted = {ord(character) for character in text if character.isprintable()}
    if wanted <= _characters(dejavu):
        return dejavu, _printable(text)
    for font in sorted({Path(entry.fname) for entry in font_manager.fontManager.ttflist}):
        if font != dejavu and wanted <= _characters(font):
            return font, _printable(text)
    return dejavu, ''.join(map(_transliterated, _printable(text)))


def _dejavu(style: str = '') -> Path:
    from matplotlib import get_data_path

    return Path(get_data_path(), 'fonts/ttf', f'DejaVuSans{style}.ttf')


def _printable(text: str) -> str:
    return ''.join(character if character.isprintable() else '?' for character in text)


def _transliterated(character: str) -> str:
    known = _characters(_dejavu())
    if ord(character) in known:
        return character
    plain = ''.join(part for part in unicodedata.normalize('NFKD', character) if ord(part) in known)
    return plain or f'U+{ord(character):04X}'


@cache
def _characters(font: Path) -> frozenset[int]:
    """Return the characters that a font has; none where it cannot be read."""
    from matplotlib import ft2font

    try:
        return frozenset(ft2font.FT2Font(str(font)).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
