"""Many picture files, each enlarged: while the network computes, others are decoded and encoded."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from facesr_plugin.enlarge.other import Network
from facesr_plugin.enlarge.plan import STDIO
from facesr_plugin.enlarge.tiles import Progress, Tile, default_tile, upscale_image, upscale_images
from facesr_plugin.errors import UserError, is_out_of_memory
from facesr_plugin.pictures.colour import to_srgb
from facesr_plugin.pictures.formats import WRITTEN, size_problem
from facesr_plugin.pictures.picture import Metadata, Picture
from facesr_plugin.pictures.read import decode_picture, read_file
from facesr_plugin.pictures.write import encode_parts, write_picture

BATCH_PIXELS = 16 * 128**2  # of the pictures that run through the network at once
AHEAD_BYTES, AHEAD_COUNT = 2**26, 32  # decoded and waiting
BEHIND_BYTES, BEHIND_COUNT = 2**27, 4  # being encoded
DECODED = 10  # bytes in memory of a byte in a file, about
Say = Callable[[str], None]


@dataclass(frozen=True)
class Enlarger:
    """A network and how results are made.

    Attributes:
        net: The network, on the device that is to work.
        kind: Format of the results, one of `formats.WRITTEN`.
        quality: Of JPEG and WebP, 1 to 100.
        tile: Side of the squares that pictures are cut into, px of the input; None for what memory allows.
        outscale: How much larger results are; None for as much as the network makes them.
        precision: See `tiles`.
        srgb: Whether colours are converted to sRGB.
        strip: Whether metadata is dropped; the colour profile stays.
        quiet: Whether no progress is shown.
    """

    net: Network
    kind: str = 'png'
    quality: int = 95
    tile: int | None = None
    outscale: float | None = None
    precision: str = 'auto'
    srgb: bool = False
    strip: bool = False
    quiet: bool = False

    def read(self, path: Path) -> Picture:
        """Read a picture as far as the output format can hold it.

        Raises:
            UserError: It cannot be read, or its result would be too large for the format.
        """
        name = 'stdin' if path == STDIO else path
        data = sys.stdin.buffer.read() if path == STDIO else read_file(path)
        limit = WRITTEN[self.kind]
        picture = decode_picture(data, name, limit.animation, limit.pages)
        height, width = self.size(picture.pixels)
        if problem := size_problem(self.kind, height, width, sum(f[0, 0].nbytes for f in picture.frames)):
            raise UserError(f'{name}: {problem}')
        if self.srgb:
            picture = to_srgb(picture)
        return Picture(**{**vars(picture), 'metadata': Metadata()}) if self.strip else picture

    def size(self, pixels: np.ndarray) -> tuple[int, int]:
        """Return the height and width of a picture's result."""
        return tuple(max(1, round(side * (self.outscale or self.net.upscale))) for side in pixels.shape[:2])

    def enlarge(self, picture: Picture, name: str) -> Picture:
        """Enlarge all frames of one picture.

        Raises:
            UserError: Memory ran out.
        """

        def enlarge_frame(frame: np.ndarray, progress: Progress) -> np.ndarray:
            result = upscale_image(self.net, frame, self.tile, progress=progress, precision=self.precision)
            return self.fit(result, frame)

        return self.enlarge_frames(picture, name, enlarge_frame)

    def enlarge_frames(
        self, picture: Picture, name: str, enlarge_frame: Callable[[np.ndarray, Progress], np.ndarray]
    ) -> Picture:
        """Return a picture of enlarged frames.

        Raises:
            UserError: Memory ran out.
        """
        progress = partial(_progress, name=name, quiet=self.quiet)
        try:
            frames = [enlarge_frame(frame, progress) for frame in picture.frames]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            tile = self.tile or default_tile(self.net, next(self.net.parameters()).device)
            raise UserError(f'{name}: out of memory; a --tile below {tile} needs less') from error
        return picture.with_frames(frames)

    def enlarge_batch(self, pictures: list[Picture]) -> list[Picture] | None:
        """Enlarge pictures of one size at once; None where memory ran out."""
        try:
            arrays = upscale_images(self.net, [p.pixels for p in pictures], self.tile, precision=self.precision)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None
        pairs = zip(pictures, arrays, strict=True)
        return [picture.with_frames([self.fit(array, picture.pixels)]) for picture, array in pairs]

    def fit(self, result: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        """Return a result in the size that is asked for, averaged over areas."""
        height, width = self.size(pixels)
        if (height, width) == result.shape[:2]:
            return result
        return cv2.resize(result, (width, height), interpolation=cv2.INTER_AREA)

    def write(self, target: Path, picture: Picture) -> None:
        """Write a result.

        Raises:
            UserError: It cannot be written, or not in this format.
        """
        if target != STDIO:
            write_picture(target, picture, self.quality)
            return
        sys.stdout.buffer.writelines(encode_parts(picture, self.kind, self.quality))
        sys.stdout.buffer.flush()


class Job(NamedTuple):
    """One picture on its way."""

    target: Path
    path: Path
    picture: Picture


def upscale_files(enlarger: Enlarger, sources: Mapping[Path, Path]) -> int:
    """Enlarge pictures; those that cannot be read, enlarged or written are named on stderr and passed over.

    Args:
        enlarger: The network and how results are made.
        sources: The picture that each output file is made of; see `plan`.

    Returns:
        How many are missing.
    """
    failed = 0
    with tqdm(total=len(sources), unit='image', disable=enlarger.quiet or not sources) as bar:

        def say(line: str) -> None:
            bar.write(line, sys.stderr)

        def fail(error: UserError) -> None:
            nonlocal failed
            failed += 1
            say(f'skipped: {error}')
            bar.update()

        def finish(writing: Future) -> None:
            try:
                writing.result()
            except UserError as error:
                fail(error)
            else:
                bar.update()

        with ThreadPoolExecutor(1) as readers, ThreadPoolExecutor(2) as writers:
            behind: deque[tuple[Future, int]] = deque()
            try:
                for batch in _batches(_read_ahead(enlarger, sources, readers, fail, say)):
                    for job, result in _enlarged(enlarger, batch, fail):
                        size = sum(frame.nbytes for frame in result.frames)
                        behind.append((writers.submit(enlarger.write, job.target, result), size))
                        del result  # a large one is gone once it is written, before the next is made
                        while len(behind) > BEHIND_COUNT or sum(size for _, size in behind) > BEHIND_BYTES:
                            finish(behind.popleft()[0])
                for writing, _ in behind:
                    finish(writing)
            except BaseException:  # Ctrl-C: what has not begun does not begin
                readers.shutdown(cancel_futures=True)
                writers.shutdown(cancel_futures=True)
                raise
    return failed


def _enlarged(enlarger: Enlarger, batch: list[Job], fail: Callable[[UserError], None]) -> Iterator[tuple[Job, Picture]]:
    """Yield jobs of one size with their results."""
    results = enlarger.enlarge_batch([job.picture for job in batch]) if len(batch) > 1 else None
    if results is not None:
        yield from zip(batch, results, strict=True)
        return
    for job in batch:
        try:
            result = enlarger.enlarge(job.picture, 'stdin' if job.path == STDIO else str(job.path))
        except UserError as error:
            fail(error)
            continue
        yield job, result
        del result


def _progress(tiles: list[Tile], name: str, quiet: bool) -> Iterable[Tile]:
    return tqdm(tiles, desc=name, unit='tile', leave=False, disable=quiet or len(tiles) == 1)


def _read_ahead(
    enlarger: Enlarger,
    sources: Mapping[Path, Path],
    readers: ThreadPoolExecutor,
    fail: Callable[[UserError], None],
    say: Say,
) -> Iterator[Job | None]:
    """Yield pictures as they are read, some of which wait; None where the next is not there yet."""
    left, waiting = iter(sources.items()), deque()

    def submit() -> None:
        while len(waiting) < AHEAD_COUNT and (len(waiting) < 2 or sum(size for *_, size in waiting) < AHEAD_BYTES):
            if (item := next(left, None)) is None:
                return
            target, path = item
            waiting.append((target, path, readers.submit(enlarger.read, path), _decoded_size(path)))

    submit()
    while waiting:
        if not waiting[0][2].done():
            yield None
        target, path, reading, _ = waiting.popleft()
        try:
            picture = reading.result()
        except UserError as error:
            fail(error)
        else:
            for note in picture.notes:
                say(f'{"stdin" if path == STDIO else path}: {note}')
            submit()
            yield Job(target, path, picture)
        submit()


def _decoded_size(path: Path) -> int:
    """Guess how many bytes a picture takes in memory."""
    try:
        return DECODED * path.stat().st_size
    except OSError:
        return 0


def _batches(jobs: Iterable[Job | None]) -> Iterator[list[Job]]:
    """Gather pictures of one shape that follow each other, as far as they are there."""
    batch: list[Job] = []
    for job in jobs:
        if job is None or (batch and not _fits(batch, job)):
            if batch:
                yield batch
            batch = []
        if job is not None:
            batch.append(job)
    if batch:
        yield batch


def _fits(batch: list[Job], job: Job) -> bool:
    """Return whether a picture may run through the network with others."""
    first, pixels = batch[0].picture, job.picture.pixels
    same = pixels.shape == first.pixels.shape and pixels.dtype == first.pixels.dtype
    single = len(first.frames) == len(job.picture.frames) == 1
    return same and single and (len(batch) + 1) * pixels.shape[0] * pixels.shape[1] <= BATCH_PIXELS
