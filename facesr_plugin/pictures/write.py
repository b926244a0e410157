"""Pictures to files, whole or not at all, with what their format can hold."""

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facesr_plugin.errors import UserError
from facesr_plugin.files import replace_file
from facesr_plugin.pictures import png, tiff
from facesr_plugin.pictures.formats import WRITTEN, size_problem
from facesr_plugin.pictures.metadata import exif_for
from facesr_plugin.pictures.picture import Metadata, Picture, in_bands, to_8_bits

FULL_CHROMA = 90  # JPEG quality from which on colours have the resolution of brightness
SEGMENT = 65000  # bytes that fit in a segment of JPEG, less its name


def encode_picture(picture: Picture, kind: str, quality: int = 95) -> bytes:
    """Return the file of a picture; see `encode_parts`."""
    return b''.join(encode_parts(picture, kind, quality))


def encode_parts(picture: Picture, kind: str, quality: int = 95) -> Iterable[bytes]:
    """Encode a picture with profile and metadata, PNG and TIFF part by part.

    JPEG and WebP hold 8 bits, so 16 are rounded; JPEG holds no alpha, so the picture is laid on white, and one frame.

    Args:
        picture: The picture.
        kind: One of `formats.WRITTEN`.
        quality: Of JPEG and WebP, 1 to 100.

    Raises:
        UserError: The format cannot hold this size; the line lacks the file's name.
    """
    limit, frames = WRITTEN[kind], picture.frames
    if not (limit.pages or (limit.animation and picture.durations)):
        frames = frames[:1]
    if limit.bits == 8 or (kind == 'png' and len(frames) > 1):
        frames = [to_8_bits(frame) for frame in frames]
    if not limit.alpha:
        frames = [in_bands(_on_white, frame) if frame.shape[2:] == (4,) else frame for frame in frames]
    height, width = frames[0].shape[:2]
    if problem := size_problem(kind, height, width, sum(frame.nbytes for frame in frames) // (height * width)):
        raise UserError(problem)
    about = picture.metadata
    exif = exif_for(about, height, width, SEGMENT if kind == 'jpg' else 2**31, with_dpi=kind == 'webp')
    if kind == 'tif':
        return tiff.encode(frames, picture.profile, about, exif)
    if kind == 'png':
        chunks = png.about(picture.profile, about, exif)
        if len(frames) > 1:
            return [png.with_chunks(_animation(picture, frames, 'PNG'), chunks)]
        return png.encode(frames[0], chunks)
    options: dict[str, Any] = {'quality': quality, 'icc_profile': picture.profile}
    if exif:
        options['exif'] = b'Exif\0\0' + exif if kind == 'jpg' else exif
    if about.xmp and (kind == 'webp' or len(about.xmp) <= SEGMENT):
        options['xmp'] = about.xmp
    if kind == 'webp':
        if len(frames) > 1:
            return [_animation(picture, frames, 'WEBP', options)]
        return [_pillow(frames[0], 'WEBP', options)]
    return [_pillow(frames[0], 'JPEG', options | _jpeg_options(about, quality))]


def write_picture(path: Path, picture: Picture, quality: int = 95) -> None:
    """Write a picture as its suffix says; its folder is made.

    Raises:
        UserError: The format cannot hold this size, or the file cannot be written.
    """
    try:
        parts = encode_parts(picture, path.suffix[1:], quality)
    except UserError as error:
        raise UserError(f'{path}: {error}') from None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, parts)
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from error


def _jpeg_options(about: Metadata, quality: int) -> dict[str, Any]:
    options: dict[str, Any] = {'subsampling': 0 if quality >= FULL_CHROMA else 2}
    if about.dpi:
        options['dpi'] = tuple(min(round(dpi), 65535) for dpi in about.dpi)
    if comment := about.text.get('Comment'):
        options['comment'] = comment.encode('utf-8', 'replace')[:SEGMENT]
    return options


def _on_white(frame: np.ndarray) -> np.ndarray:
    alpha = frame[..., 3:] / np.float32(255)
    return np.rint(frame[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


def _pillow(frame: np.ndarray, kind: str, options: Mapping[str, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, kind, **options)
    return file.getvalue()


def _animation(
    picture: Picture, frames: list[np.ndarray], kind: str, options: Mapping[str, Any] | None = None
) -> bytes:
    images, file = [Image.fromarray(frame) for frame in frames], io.BytesIO()
    durations = list(picture.durations) or [1000] * len(frames)  # pages become a slide show
    images[0].save(
        file, kind, save_all=True, append_images=images[1:], duration=durations, loop=picture.loop, **(options or {})
    )
    return file.getvalue()
