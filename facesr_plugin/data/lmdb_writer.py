"""Writing images into LMDBs: checked, read back and compared, all of them or none."""

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from multiprocessing.pool import ThreadPool
from pathlib import Path

import cv2
import lmdb
import numpy as np
from tqdm import tqdm

from facesr_plugin.data.images import list_images
from facesr_plugin.data.lmdb_images import LmdbImages, close, image_key, name_of
from facesr_plugin.errors import UserError, raise_all
from facesr_plugin.files import sync

MAX_KEY = 511  # bytes, LMDB's limit
BATCH = 32  # images encoded side by side and written in one transaction
MAP_SIZE = 64 * 2**20  # bytes to begin with; doubled whenever full


def image_keys(folder: Path) -> dict[str, Path]:
    """Return the images below a folder by key, sorted by path.

    Raises:
        UserError: No image there, two that differ by suffix only, or a path too long for a key.
    """
    files: dict[str, Path] = {}
    for path in list_images(folder):
        key = image_key(path.relative_to(folder))
        if key in files:
            raise UserError(f'{path}: differs from {files[key]} by its suffix only, and a key has none: rename one')
        if len(key) > MAX_KEY:
            raise UserError(f'{path}: a key of at most {MAX_KEY} bytes expected, this name needs {len(key)}')
        files[key] = path
    return files


def write_lmdbs(
    paths: Sequence[Path],
    keys: Sequence[str],
    load: Callable[[str], Sequence[np.ndarray]],
    png_level: int | None = 1,
) -> None:
    """Write LMDBs of the same keys, all or none: they get their names when all was written, read back and compared.

    Args:
        paths: The LMDBs to make, `*.lmdb`; folders above them are made.
        keys: Of each; see `image_key`.
        load: Returns a key's images, one per LMDB, uint8 RGB, shape (H, W, 3); called from several threads.
        png_level: PNG compression, 0 to 9; None stores raw pixels.

    Raises:
        UserError: A path exists or is not `*.lmdb`, writing failed, or `load` raised `UserError`: then the message has
            the lines of all keys for which it did.
    """
    for path in paths:
        if path.suffix != '.lmdb':
            raise UserError(f'{path}: a name that ends in .lmdb expected')
        if path.exists():
            raise UserError(f'{path}: exists already; remove it or choose another name')
        if list(paths).count(path) > 1:
            raise UserError(f'{path}: is to be made twice; give each LMDB its own name')
    parts = [path.with_name(f'.{path.name}.{os.getpid()}') for path in paths]
    try:
        for part in parts:
            part.mkdir(parents=True)
        with ThreadPool() as pool:
            digests = _fill(parts, keys, load, png_level, pool)
            for part, path, expected in zip(parts, paths, digests, strict=True):
                _verify(part, path, expected, pool)
        for part, path in zip(parts, paths, strict=True):
            part.rename(path)
            sync(path.parent)
    except (OSError, lmdb.Error) as error:
        raise UserError(f'{", ".join(map(str, paths))}: cannot be written ({error})') from error
    finally:
        for part in parts:
            shutil.rmtree(part, ignore_errors=True)


def _fill(
    parts: list[Path],
    keys: Sequence[str],
    load: Callable[[str], Sequence[np.ndarray]],
    png_level: int | None,
    pool: ThreadPool,
) -> list[dict[str, bytes]]:
    """Write the LMDBs and return the digest of each one's pixels by key."""
    suffix, level = ('raw', 0) if png_level is None else ('png', png_level)
    digests: list[dict[str, bytes]] = [{} for _ in parts]
    lines: list[list[str]] = [[] for _ in parts]
    failures: list[str] = []

    def encode(key: str) -> list[tuple[bytes, str, bytes]] | UserError:
        try:
            return [
                (_encode(image, png_level), '({},{},{})'.format(*image.shape), _digest(image)) for image in load(key)
            ]
        except UserError as error:
            return error

    with ExitStack() as stack:
        environments = [stack.enter_context(lmdb.open(str(part), map_size=MAP_SIZE, sync=False)) for part in parts]
        bar = stack.enter_context(tqdm(total=len(keys), desc='write', unit='image'))
        for start in range(0, len(keys), BATCH):
            batch = keys[start : start + BATCH]
            results = pool.map(encode, batch)
            bar.update(len(batch))
            failures += [str(result) for result in results if isinstance(result, UserError)]
            if failures:  # nothing will be kept; read on to name them all
                continue
            for i, (environment, column) in enumerate(zip(environments, zip(*results, strict=True), strict=True)):
                _put(environment, {key: value for key, (value, _, _) in zip(batch, column, strict=True)})
                for key, (_, shape, digest) in zip(batch, column, strict=True):
                    lines[i].append(f'{key}.{suffix} {shape} {level}\n')
                    digests[i][key] = digest
        if failures:
            raise_all(failures)
        for environment in environments:
            environment.sync(True)
    for part, text in zip(parts, lines, strict=True):
        file = part / 'meta_info.txt'
        file.write_text(''.join(text), 'ascii', newline='\n')
        sync(file)
        sync(part)
    return digests


def _put(environment: lmdb.Environment, values: dict[str, bytes]) -> None:
    """Write values in one transaction, once more with twice the map whenever it is full."""
    while True:
        try:
            with environment.begin(write=True) as txn:
                for key, value in values.items():
                    txn.put(key.encode('ascii'), value)
            return
        except lmdb.MapFullError:
            environment.set_mapsize(2 * environment.info()['map_size'])


def _verify(part: Path, path: Path, expected: dict[str, bytes], pool: ThreadPool) -> None:
    """Read an LMDB's pixels back and compare their digests."""
    images = LmdbImages(part)
    digests = pool.imap(lambda key: _digest(images.read(key)), images.keys)
    for key, digest in zip(tqdm(images.keys, desc='verify', unit='image'), digests, strict=True):
        if digest != expected[key]:
            raise UserError(f'{path}: {name_of(key)}: not read back as it was written; is the disk sound?')
    close(part)


def _encode(image: np.ndarray, png_level: int | None) -> bytes:
    """Return the value of an image: a PNG, or its pixels."""
    if png_level is None:
        return image.tobytes()
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode('.png', bgr, [cv2.IMWRITE_PNG_COMPRESSION, png_level])[1].tobytes()


def _digest(image: np.ndarray) -> bytes:
    """Return a hash of the pixels."""
    return hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).digest()
