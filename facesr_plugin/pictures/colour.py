"""Colour spaces: what is not RGB becomes RGB, and profiles become sRGB where that is asked for."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from facesr_plugin.pictures.picture import Picture, to_8_bits

INTENT, FLAGS = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
SPACES = {b'RGB ': 'RGB', b'GRAY': 'L', b'CMYK': 'CMYK', b'Lab ': 'LAB'}


def space(profile: bytes | None) -> str:
    """Return the Pillow mode of the pixels that a profile is for, '' where there is none or an unknown one."""
    return SPACES.get(profile[16:20], '') if profile and len(profile) >= 128 else ''


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform:
    source = ImageCms.createProfile('LAB') if mode == 'LAB' else ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.buildTransform(source, ImageCms.createProfile('sRGB'), mode, 'RGB', INTENT, FLAGS)


def image_to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert an image of mode L, RGB, CMYK or LAB to sRGB by its profile; LAB needs none.

    CMYK without a profile that can be used is converted by rule of thumb, as viewers do.

    Raises:
        ImageCms.PyCMSError: The profile of an image that is not CMYK cannot be used.
    """
    if image.mode == 'LAB':
        return ImageCms.applyTransform(image, _transform(b'', 'LAB'))
    if image.mode == 'CMYK' and space(profile) != 'CMYK':
        return image.convert('RGB')
    try:
        return ImageCms.applyTransform(image, _transform(profile, image.mode))
    except (ImageCms.PyCMSError, OSError):
        if image.mode != 'CMYK':
            raise
        return image.convert('RGB')


def _array_to_srgb(pixels: np.ndarray, profile: bytes) -> np.ndarray:
    """Convert grey, RGB or RGBA by a profile for its colours; 16 bits become 8."""
    pixels = to_8_bits(pixels)
    colours = Image.fromarray(np.ascontiguousarray(pixels[..., :3] if pixels.ndim == 3 else pixels))
    if space(profile) == 'L':
        colours = colours.convert('L')
    converted = np.asarray(image_to_srgb(colours, profile))
    if pixels.ndim == 2:
        return converted[..., 1]
    return np.dstack([converted, pixels[..., 3]]) if pixels.shape[2] == 4 else converted


def to_srgb(picture: Picture) -> Picture:
    """Return a picture in sRGB; the same where it has no profile, or one that is for other pixels.

    Pixels that a profile converts have 8 bits afterwards.
    """
    mode = space(picture.profile)
    if not mode:
        return Picture(**{**vars(picture), 'profile': None})
    try:
        frames = [_array_to_srgb(frame, picture.profile) for frame in picture.frames]
    except (ImageCms.PyCMSError, OSError, ValueError):
        note = 'its colour profile cannot be used and is left out'
        return Picture(**{**vars(picture), 'profile': None, 'notes': (*picture.notes, note)})
    notes = ('16 bits became 8 in sRGB',) if picture.pixels.dtype == np.uint16 else ()
    return Picture(**{**vars(picture), 'profile': None, 'frames': frames, 'notes': (*picture.notes, *notes)})


def fit_profile(picture: Picture) -> Picture:
    """Return a picture whose profile is for its kind of pixels: grey for grey, RGB for RGB.

    Grey with alpha is RGBA here, so a grey profile is applied to it; one that fits in no way is dropped.
    """
    mode, is_grey = space(picture.profile), picture.pixels.ndim == 2
    if picture.profile is None or mode == ('L' if is_grey else 'RGB'):
        return picture
    if mode == 'L':
        return to_srgb(picture)
    return Picture(**{**vars(picture), 'profile': None})
