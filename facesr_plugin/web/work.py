"""What the page asks for: pictures of a queue, one after the other, to files, previews and faces. No Gradio here."""

import queue
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from facesr_plugin.archs.face_srresnet_arch import FaceSRResNet
from facesr_plugin.enlarge.files import Enlarger
from facesr_plugin.enlarge.tiles import Tile, upscale_image
from facesr_plugin.errors import UserError, is_out_of_memory, one_line
from facesr_plugin.pictures.formats import sniff
from facesr_plugin.pictures.picture import Picture, to_8_bits
from facesr_plugin.pictures.read import read_shape
from facesr_plugin.pictures.write import write_picture

SAME = {'jpeg': 'jpg', 'png': 'png', 'webp': 'webp', 'tiff': 'tif'}  # kinds that stay; others become png
SHOWN = 2048  # px, the longest side of what the page shows


@dataclass(frozen=True)
class Settings:
    """How pictures are enlarged.

    Attributes:
        scale: How much larger results are, at most the network's own factor.
        strength: The network's part in the result, 0 to 1; the rest is bicubic enlarging.
        kind: Format of the results, one of `formats.WRITTEN`; None for that of the picture where it is one of these,
            else png.
    """

    scale: float = 4.0
    strength: float = 1.0
    kind: str | None = None


class Step(NamedTuple):
    """How far the queue is: picture `number` of `count`, of which `done` parts of `total` are computed."""

    number: int
    count: int
    name: str
    done: int
    total: int


@dataclass(frozen=True)
class Result:
    """A picture that is done.

    Attributes:
        name: Of the picture's file.
        path: The file to download.
        about: Sizes before and after, and what the reader has to tell.
        before: Preview of the picture, enlarged plainly; PNG, `SHOWN` px at most.
        after: Preview of the result, of the same size.
    """

    name: str
    path: Path
    about: str
    before: Path
    after: Path


class Failed(NamedTuple):
    """A picture that could not be enlarged, and why, in one line."""

    name: str
    why: str


class Waits(NamedTuple):
    """The pictures of another queue come first."""


class StoppedError(Exception):
    """The person does not want to wait for the rest."""


Event = Step | Result | Failed | Waits


class Queue:
    """Pictures that are enlarged one after the other, in a thread, once.

    Args:
        net: The network, on the device that is to work.
        folder: Where results go; it is made.
        megapixels: Largest picture that is taken, all frames together.
        turn: What queues share that take turns.
    """

    def __init__(
        self, net: FaceSRResNet, folder: Path, megapixels: float = 16.0, turn: threading.Semaphore | None = None
    ) -> None:
        self.net, self.folder, self.megapixels = net, folder, megapixels
        self.turn = turn or threading.Semaphore()
        self.stopped = threading.Event()
        self.thread: threading.Thread | None = None

    def run(self, paths: Sequence[Path], settings: Settings) -> Iterator[Event]:
        """Yield what happens until all is done or stopped; what is done then stays."""
        told: queue.SimpleQueue = queue.SimpleQueue()

        def work() -> None:
            try:
                self._work(paths, settings, told.put)
            except BaseException as error:
                told.put(error)
            told.put(None)

        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()
        try:
            while (event := told.get()) is not None:
                if isinstance(event, BaseException):
                    raise event
                yield event
        finally:
            self.stop()

    def stop(self) -> None:
        """Have the work end at the next tile."""
        self.stopped.set()

    def close(self) -> None:
        """Stop, wait until the work has ended, and remove the results."""
        self.stop()
        if self.thread:
            self.thread.join()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _work(self, paths: Sequence[Path], settings: Settings, tell: Callable[[Event], None]) -> None:
        if not self.turn.acquire(blocking=False):
            tell(Waits())
            while not self.turn.acquire(timeout=0.2):
                if self.stopped.is_set():
                    return
        try:
            for number, path in enumerate(paths, 1):
                tell(self._attempt(path, settings, number, len(paths), tell))
        except StoppedError:
            pass
        finally:
            self.turn.release()

    def _attempt(
        self, path: Path, settings: Settings, number: int, count: int, tell: Callable[[Event], None]
    ) -> Result | Failed:
        """Return what comes of a picture."""

        def step(done: int, total: int) -> None:
            if self.stopped.is_set():
                raise StoppedError
            tell(Step(number, count, path.name, done, total))

        try:
            return self.enlarge(path, self.folder / str(number), settings, step)
        except UserError as error:
            return Failed(path.name, one_line(str(error).replace(str(path), path.name).removeprefix(f'{path.name}: ')))

    def enlarge(
        self, path: Path, folder: Path, settings: Settings, step: Callable[[int, int], None] = lambda done, total: None
    ) -> Result:
        """Enlarge one picture into a folder of its own.

        Args:
            path: The picture's file.
            folder: Where the result and its previews go.
            settings: How.
            step: Called with the parts that are done and all; what it raises ends the work.

        Raises:
            UserError: The picture cannot be read, enlarged or written.
        """
        step(0, 1)
        self.check_size(*read_shape(path))
        kind = settings.kind or same_kind(path)
        enlarger = Enlarger(self.net, kind=kind, outscale=settings.scale, quiet=True)
        picture = enlarger.read(path)
        height, width = picture.pixels.shape[:2]
        self.check_size(height, width, len(picture.frames))
        try:
            result = picture.with_frames(list(self.frames(enlarger, picture, settings.strength, step)))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(f'{path}: out of memory, a smaller picture expected') from error
        target = folder / f'{path.stem}_x{settings.scale:g}.{kind}'
        write_picture(target, result)
        before, after = folder / 'before.png', folder / 'after.png'
        big = result.pixels.shape[:2]
        write_picture(before, preview(picture, big))
        write_picture(after, preview(result, big))
        about = f'{width}x{height} to {big[1]}x{big[0]} px'
        about = '; '.join([about, *(one_line(note) for note in picture.notes)])
        return Result(path.name, target, about, before, after)

    def frames(
        self, enlarger: Enlarger, picture: Picture, strength: float, step: Callable[[int, int], None]
    ) -> Iterator[np.ndarray]:
        """Yield the frames of a picture, each enlarged and blended with plain enlarging."""
        for number, frame in enumerate(picture.frames):

            def watched(tiles: list[Tile], first: int = number) -> Iterable[Tile]:
                for done, tile in enumerate(tiles, first * len(tiles)):
                    step(done, len(picture.frames) * len(tiles))
                    yield tile

            plain = fit(frame, enlarger.size(frame))
            if strength == 0:
                yield plain
                continue
            out = enlarger.fit(upscale_image(self.net, frame, enlarger.tile, progress=watched, precision='auto'), frame)
            yield cv2.addWeighted(out, strength, plain, 1 - strength, 0) if strength < 1 else out

    def check_size(self, height: int, width: int, frames: int = 1) -> None:
        """Check a picture's size.

        Raises:
            UserError: It is too large; the line lacks the file's name.
        """
        pixels = height * width * frames / 1e6
        if pixels > self.megapixels:
            many = f' in {frames} frames' if frames > 1 else ''
            raise UserError(
                f'{self.megapixels:g} megapixels at most expected, got {pixels:.3g} ({width}x{height}{many})'
            )


def same_kind(path: Path) -> str:
    """Return the format of a result that is to have its picture's: png where that cannot be written."""
    with path.open('rb') as file:
        return SAME.get(sniff(file.read(64)), 'png')


def fit(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return pixels in another (height, width), plainly: bicubic where they grow, averaged where they shrink."""
    if pixels.shape[:2] == shape:
        return pixels
    grows = shape[0] > pixels.shape[0] or shape[1] > pixels.shape[1]
    return cv2.resize(pixels, shape[::-1], interpolation=cv2.INTER_CUBIC if grows else cv2.INTER_AREA)


def preview(picture: Picture, shape: tuple[int, int]) -> Picture:
    """Return the first frame as the page shows it: of a (height, width), but `SHOWN` px at most, without metadata."""
    part = min(1.0, SHOWN / max(shape))
    pixels = fit(picture.pixels, tuple(max(1, round(side * part)) for side in shape))
    return Picture([to_8_bits(pixels)], profile=picture.profile)
