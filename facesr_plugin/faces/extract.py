"""Faces for training: cut out of photographs, aligned, one file each, with a table of where they come from.

What was found in a photograph is kept in a record beside the faces (`RECORDS`), so a stopped run goes on, and the
result does not depend on the order in which photographs are done.
"""

import csv
import io
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facesr_plugin.errors import UserError
from facesr_plugin.faces.align import Alignment, align, crop
from facesr_plugin.faces.detect import Face, load_detector
from facesr_plugin.faces.search import find_faces, to_rgb
from facesr_plugin.files import replace_file
from facesr_plugin.pictures.picture import Picture
from facesr_plugin.pictures.read import read_picture
from facesr_plugin.pictures.write import write_picture

RECORDS, TABLE = '.extract', 'faces.csv'
LOOKED_FOR = 128  # px across the aligned square; smaller faces are of no use for training, and are not counted
CUT_OFF = 0.15  # of the square's area that may lie beyond the picture
SHARP = 2.5  # generated faces have 4.4 to 7.8; blurred by 1 px (standard deviation) 2 to 2.9, by 2 px 1.2 to 2.4
ALIKE = 24  # of 256 bits in which two pictures of one face differ at most
REASONS = ('too small', 'cut off', 'blurred', 'repeated')
MULTIPLE = 4  # of the sides of faces at native size, so that pairs can be made of them at x4
LANDMARKS = ('left_eye', 'right_eye', 'nose', 'left_mouth', 'right_mouth')


@dataclass(frozen=True)
class Wanted:
    """Which faces are kept, and as what.

    Attributes:
        size: Side of the pictures of faces, px; None for each face's native size.
        min_side: Least native size, px across the aligned square.
        sharpness: Least `sharpness_of`.
        kind: `png` or `jpg`.
        quality: Of jpg, 1 to 100.
        detector: A name of `detect.DETECTORS`.
    """

    size: int | None = 512
    min_side: float = 512
    sharpness: float = SHARP
    kind: str = 'png'
    quality: int = 95
    detector: str = 'centerface'


def sharpness_of(face: np.ndarray) -> float:
    """Return how sharp an aligned face is, where eyes, nose and mouth are, whatever its size and contrast.

    It is how much detail there is beside what a blur of 1.5 px (standard deviation) leaves: the relation of their
    Laplacians' standard deviations, without the part that rounding to whole levels has in it.

    Args:
        face: uint8 RGB (n, n, 3).
    """
    inner = slice(len(face) // 4, -(-len(face) * 3 // 4))
    grey = cv2.cvtColor(np.ascontiguousarray(face[inner, inner]), cv2.COLOR_RGB2GRAY).astype(np.float32)
    rounding = (4**2 + 4) / 12  # the Laplacian's coefficients squared, times the variance of a rounding
    detail, left = (cv2.Laplacian(image, cv2.CV_32F).var() for image in (grey, cv2.GaussianBlur(grey, (0, 0), 1.5)))
    return math.sqrt(max(detail - rounding, 0) / max(left, 1e-3))


def fingerprint(face: np.ndarray) -> str:
    """Return 256 bits of an aligned face as hexadecimal digits: where it becomes lighter from left to right."""
    grey = cv2.resize(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), (17, 16), interpolation=cv2.INTER_AREA).astype(int)
    return np.packbits(np.diff(grey, axis=1) > 0).tobytes().hex()


def part_inside(square: Alignment, shape: tuple[int, ...]) -> float:
    """Return which part of a square lies within a picture, 0 to 1."""
    height, width = shape[:2]
    frame = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    return cv2.intersectConvexConvex(square.corners().astype(np.float32), frame)[0] / square.size**2


def extract(
    sources: Mapping[Path, Path], folder: Path, wanted: Wanted, workers: int, done: Callable[[str | None], None]
) -> Counter[str]:
    """Cut the faces out of photographs.

    Args:
        sources: The photograph of each name in `folder`, whose faces become `NAME_00`, `NAME_01` and so on.
        folder: For the faces, their table and the records.
        wanted: Which faces.
        workers: How many photographs at once.
        done: Called after each photograph, with what there is to say about it, or None.

    Returns:
        How many faces there are (`kept`), were left out for each of `REASONS`, and how many photographs could not be
        read (`unreadable`).

    Raises:
        UserError: The detector is not there, or a file cannot be written.
    """
    load_detector(wanted.detector)
    folder.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    rows = []

    def attempt(item: tuple[Path, Path]) -> list[dict[str, Any]] | UserError:
        try:
            return _of_photograph(*item, folder, wanted)
        except UserError as error:
            return error

    with ThreadPoolExecutor(workers) as pool:
        try:
            for faces in pool.map(attempt, sorted(sources.items())):
                if isinstance(faces, UserError):
                    counts['unreadable'] += 1
                    done(f'skipped: {faces}')
                else:
                    rows += faces
                    done(None)
        except BaseException:  # Ctrl-C: what has not begun does not begin
            pool.shutdown(cancel_futures=True)
            raise
    _set_repeated_aside(rows, folder)
    kept = [row for row in rows if not row['reason'] and (folder / row['file']).exists()]
    _write_table(folder / TABLE, kept)
    counts.update(row['reason'] for row in rows if row['reason'])
    counts['kept'] = len(kept)
    return counts


def _of_photograph(target: Path, path: Path, folder: Path, wanted: Wanted) -> list[dict[str, Any]]:
    """Return the faces of a photograph, from its record or by looking."""
    name = target.relative_to(folder).with_suffix('')
    record = folder / RECORDS / name.parent / f'{name.name}.json'
    try:
        about = path.stat()
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from error
    key = {'source': str(path), 'bytes': about.st_size, 'changed': about.st_mtime_ns, 'wanted': asdict(wanted)}
    known = _known(record)
    if known.get('key') == key:
        return known['faces']
    for row in known.get('faces', ()):  # of other options, or of another photograph
        (folder / row['file']).unlink(missing_ok=True)
    picture = read_picture(path)
    faces = [
        _of_face(picture, face, f'{name.as_posix()}_{index:02d}.{wanted.kind}', path, folder, wanted)
        for index, face in enumerate(find_faces(picture.pixels, min(LOOKED_FOR, wanted.min_side), wanted.detector))
    ]
    record.parent.mkdir(parents=True, exist_ok=True)
    replace_file(record, json.dumps({'key': key, 'faces': faces}).encode())
    return faces


def _known(record: Path) -> dict[str, Any]:
    """Return a record, empty where there is none or one that is cut short."""
    try:
        return json.loads(record.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}


def _of_face(picture: Picture, face: Face, name: str, path: Path, folder: Path, wanted: Wanted) -> dict[str, Any]:
    """Write a face if it is wanted; return what is known of it."""
    square = align(face)
    side = wanted.size or max(MULTIPLE, int(square.size) // MULTIPLE * MULTIPLE)
    row: dict[str, Any] = {'file': name, 'source': str(path), 'reason': None, 'score': round(face.score, 4)}
    row |= {key: round(v, 2) for key, v in zip(('left', 'top', 'right', 'bottom'), face.box, strict=True)}
    for landmark, point in zip(LANDMARKS, face.landmarks, strict=True):
        row |= {f'{landmark}_{axis}': round(v, 2) for axis, v in zip('xy', point, strict=True)}
    row |= {'size': round(square.size, 2), 'degrees': round(square.degrees, 2)}
    if square.size < wanted.min_side:
        return row | {'reason': 'too small'}
    if part_inside(square, picture.pixels.shape) < 1 - CUT_OFF:
        return row | {'reason': 'cut off'}
    colours = picture.pixels[..., :3] if picture.pixels.ndim == 3 else picture.pixels
    pixels = crop(colours, square, side)
    seen = to_rgb(pixels)
    row |= {'sharpness': round(sharpness_of(seen), 3), 'fingerprint': fingerprint(seen)}
    if row['sharpness'] < wanted.sharpness:
        return row | {'reason': 'blurred'}
    write_picture(folder / name, Picture([pixels], picture.profile), wanted.quality)
    return row


def _set_repeated_aside(rows: list[dict[str, Any]], folder: Path) -> None:
    """Mark faces that are the same picture as an earlier one, and move their files out of the way, or back."""
    seen = np.empty((0, 32), np.uint8)
    for row in rows:
        if row['reason']:
            continue
        bits = np.frombuffer(bytes.fromhex(row['fingerprint']), np.uint8)
        here, aside = folder / row['file'], folder / RECORDS / 'repeated' / row['file']
        if len(seen) and np.unpackbits(seen ^ bits, axis=1).sum(axis=1).min() <= ALIKE:
            row['reason'] = 'repeated'
            _move(here, aside)
        else:
            seen = np.vstack([seen, bits])
            if not here.exists():
                _move(aside, here)


def _move(path: Path, to: Path) -> None:
    if path.exists():
        to.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, to)


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    points = [f'{landmark}_{axis}' for landmark in LANDMARKS for axis in 'xy']
    names = ['file', 'source', 'left', 'top', 'right', 'bottom', *points, 'size', 'degrees', 'sharpness', 'score']
    table = csv.DictWriter(text, names, extrasaction='ignore', lineterminator='\n')
    table.writeheader()
    table.writerows(rows)
    replace_file(path, text.getvalue().encode())
