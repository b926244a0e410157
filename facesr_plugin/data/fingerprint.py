"""What tells training images from others: their number, keys and sizes, and the pixels of a few.

It is the same for a folder and an LMDB of its images, wherever they lie.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from facesr_plugin.data.image_source import Images
from facesr_plugin.errors import UserError

SAMPLES = 16  # images of which the pixels count; all headers are read anyway, 70,000 images are not


def fingerprint(images: Images) -> dict[str, Any]:
    """Return the fingerprint of images, plain data to be saved with a training state.

    Returns:
        `images`, their number; `listing`, a digest of their keys, sizes and order; `pixels`, digests of `SAMPLES` of
        them by key, at even distances, None of one that cannot be read.
    """
    listing = hashlib.blake2b(digest_size=16)
    for key, (height, width) in zip(images.keys, images.shapes, strict=True):
        listing.update(f'{key} {height} {width}\n'.encode())
    count = len(images.keys)
    keys = [images.keys[index * count // SAMPLES] for index in range(SAMPLES)] if count > SAMPLES else images.keys
    return {'images': count, 'listing': listing.hexdigest(), 'pixels': {key: _digest(images, key) for key in keys}}


def _digest(images: Images, key: str) -> str | None:
    try:
        image = images.read(key)
    except UserError:  # training names it in its turn
        return None
    return hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).hexdigest()


def change(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Return how images differ from those of a fingerprint, as far as both say something; None if they do not.

    Example:
        >>> change({'images': 8}, {'images': 12})
        '8 images expected, got 12'
    """
    if before['images'] != now['images']:
        return f'{before["images"]:,} images expected, got {now["images"]:,}'
    if before.get('listing') != now.get('listing'):
        return 'images of the same names, sizes and order expected, got others'
    then, pixels = before.get('pixels', {}), now.get('pixels', {})
    known = [key for key in then.keys() & pixels.keys() if then[key] and pixels[key]]
    if changed := [key for key in known if then[key] != pixels[key]]:
        return f'the same pictures expected, {min(changed)} is another'
    return None
