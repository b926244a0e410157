"""Images in an LMDB, both sides of BasicSR's layout: `X.lmdb/{data.mdb, lock.mdb, meta_info.txt}`.

A line of meta_info.txt is `key.png (height,width,channels) level`, the value a PNG that stock BasicSR reads too; or
`key.raw (height,width,3) 0`, the value plain RGB bytes, which only `LmdbImages` reads: larger, nothing to decode.
"""

import os
import re
import threading
from pathlib import Path
from urllib.parse import quote, unquote

import lmdb
import numpy as np

from facesr_plugin.data.images import decode_image
from facesr_plugin.errors import UserError, each

META = re.compile(r'(?P<key>.+)\.(?P<kind>\w+) \((?P<height>\d+),(?P<width>\d+),\d+\) \d+')


def image_key(name: str | Path) -> str:
    """Return the key of an image: its relative path without suffix, percent-encoded, dots too.

    Stock BasicSR cuts a line of meta_info.txt at its first dot and encodes the key as ASCII. `urllib.parse.unquote`
    gives the path back, so different paths have different keys.

    >>> image_key('set 1/a.b.png')
    'set%201/a%2Eb'
    """
    return quote(os.fsencode(Path(name).with_suffix('').as_posix())).replace('.', '%2E')


def name_of(key: str) -> str:
    """Return the name that an image's key stands for, to be shown; bytes that are no text become a sign for that.

    Example:
        >>> name_of('J%C3%B6rg/a%2Eb')
        'Jörg/a.b'
    """
    return unquote(key, errors='replace')


class LmdbImages:
    """The images of an LMDB, PNG or raw; it can be sent to other processes and outlives a fork.

    Args:
        root: The LMDB's folder.

    Attributes:
        keys: In the order of meta_info.txt.
        names: What messages call the images.
        shapes: (height, width) of each, px.
        has_raw: Whether there are values that stock BasicSR cannot read.

    Raises:
        UserError: No complete LMDB there, or meta_info.txt does not describe it.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._meta = _read_meta(self.root)
        self.keys = list(self._meta)
        self.names = list(map(name_of, self.keys))
        self.shapes = list(map(self.shape, self.keys))
        self.has_raw = any(is_raw for _, _, is_raw in self._meta.values())
        with _environment(self.root).begin(buffers=True) as txn:
            each(lambda key: len(_get(txn, self.root, key)), self.keys)

    def shape(self, key: str) -> tuple[int, int]:
        """Return (height, width) of an image, px, as meta_info.txt says."""
        return self._meta[key][:2]

    def read(self, key: str) -> np.ndarray:
        """Return an image as uint8 RGB, shape (H, W, 3).

        Raises:
            UserError: The key is unknown, or its value no image of the size that meta_info.txt gives.
        """
        if key not in self._meta:
            raise UserError(f'{self.root}: no image {name_of(key)}')
        height, width, is_raw = self._meta[key]
        name = f'{self.root}: {name_of(key)}'
        with _environment(self.root).begin(buffers=True) as txn:
            value = _get(txn, self.root, key)
            if not is_raw:
                image = decode_image(value, name)
            elif len(value) == height * width * 3:
                image = np.frombuffer(value, np.uint8).reshape(height, width, 3).copy()
            else:
                raise UserError(f'{name}: {height * width * 3} raw bytes expected, got {len(value)}')
        if image.shape[:2] != (height, width):
            raise UserError(
                f'{name}: {width}x{height} px expected from meta_info.txt, got {image.shape[1]}x{image.shape[0]}'
            )
        return image


class SharedLmdbBackend:
    """Stands in for BasicSR's `LmdbBackend`: an LMDB may be opened any number of times, a missing key is an error.

    BasicSR opens an LMDB once per data set, and lmdb refuses the second time: training and validation on the same one
    stop with `lmdb.Error: already open in this process`. A key that is not there it hands to the decoder as None.

    Args:
        db_paths: One LMDB's folder or several.
        client_keys: What `get` calls them.
        **kwargs: Without effect: the environments are shared, and always opened alike.
    """

    def __init__(self, db_paths: str | list[str], client_keys: str | list[str] = 'default', **kwargs: object) -> None:
        self.db_paths = [str(path) for path in (db_paths if isinstance(db_paths, list) else [db_paths])]
        client_keys = client_keys if isinstance(client_keys, list) else [client_keys]
        self._paths = dict(zip(client_keys, map(Path, self.db_paths), strict=True))

    def get(self, filepath: str | Path, client_key: str) -> bytes:
        """Return the value of a key as it is stored.

        Raises:
            UserError: The LMDB cannot be opened or has no such key.
        """
        path = self._paths[client_key]
        with _environment(path).begin(buffers=True) as txn:
            return bytes(_get(txn, path, str(filepath)))

    def get_text(self, filepath: str | Path) -> str:
        """Not supported, as in BasicSR."""
        raise NotImplementedError


# Open environments by the device and inode of data.mdb: the lmdb module refuses to open a file twice in a process.
_environments: dict[tuple[int, int], lmdb.Environment] = {}
_least_sizes: dict[tuple[int, int], int] = {}  # of each file, bytes
_lock = threading.Lock()


def _forget_parents() -> None:
    """After a fork, close the parent's environments in the child: LMDB allows no other use of them there."""
    global _lock
    _lock = threading.Lock()
    for environment in _environments.values():
        environment.close()  # opened without locks: frees the child's file descriptor and map, touches no file
    _environments.clear()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_forget_parents)


def _status(path: Path) -> os.stat_result:
    """Return what the file system says of an LMDB's file; a UserError where there is none."""
    try:
        return (path / 'data.mdb').stat()
    except OSError as error:
        raise UserError(f'{path}: no LMDB there (data.mdb: {error.strerror})') from error


def _environment(path: Path) -> lmdb.Environment:
    """Return the process's one read-only environment of an LMDB, opened at the first call.

    A file that is shorter than its pages, or has become so, is refused: touching a page that is not there kills the
    process. That is looked at here, before each read; it costs a microsecond.
    """
    status = _status(path)
    identity = status.st_dev, status.st_ino
    with _lock:
        if identity not in _environments:
            try:
                environment = lmdb.open(str(path), readonly=True, lock=False, readahead=False)
            except lmdb.Error as error:
                raise UserError(f'{path}: cannot be opened as an LMDB ({error})') from error
            _environments[identity] = environment
            _least_sizes[identity] = (environment.info()['last_pgno'] + 1) * environment.stat()['psize']
        if status.st_size < (expected := _least_sizes[identity]):
            _environments.pop(identity).close()
            raise UserError(f'{path}: data.mdb is cut short: {expected} bytes expected, got {status.st_size}')
        return _environments[identity]


def close(path: Path) -> None:
    """Close the environment of an LMDB that no thread reads any more."""
    status = _status(path)
    _environments.pop((status.st_dev, status.st_ino)).close()


def _get(txn: lmdb.Transaction, path: Path, key: str) -> memoryview:
    """Return a value, valid as long as the transaction; a UserError where there is none."""
    try:
        value = txn.get(key.encode())
    except lmdb.Error as error:
        raise UserError(f'{path}: {name_of(key)}: cannot be read ({error})') from error
    if value is None:
        raise UserError(f'{path}: no image {name_of(key)}')
    return value


def _read_meta(path: Path) -> dict[str, tuple[int, int, bool]]:
    """Return the height, the width and whether it is raw of each key of meta_info.txt."""
    file = path / 'meta_info.txt'
    _status(path)
    try:
        lines = file.read_text('utf-8', errors='replace').splitlines()
    except OSError as error:
        raise UserError(f'{file}: {error.strerror}') from error
    meta = {}
    for number, line in enumerate(lines, 1):
        match = META.fullmatch(line.strip())
        if match is None:
            raise UserError(f'{file}, line {number}: "key.png (height,width,channels) level" expected, got "{line}"')
        meta[match['key']] = int(match['height']), int(match['width']), match['kind'] == 'raw'
    if not meta:
        raise UserError(f'{file}: lists no image')
    return meta
