"""What the page asks for: pictures of a queue, one after the other, to files, previews and faces. No Gradio here."""

import queue
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from facesr_plugin.enlarge.files import Enlarger
from facesr_plugin.enlarge.network import Dial
from facesr_plugin.enlarge.photograph import EnlargedFace, FaceOptions, upscale_photograph
from facesr_plugin.enlarge.photograph_files import PAIRS, save_faces
from facesr_plugin.enlarge.tiles import Progress, upscale_image
from facesr_plugin.errors import UserError, is_out_of_memory, one_line
from facesr_plugin.faces.search import MIN_FACE
from facesr_plugin.pictures.alpha import fill_invisible
from facesr_plugin.pictures.formats import sniff
from facesr_plugin.pictures.picture import Picture, to_8_bits
from facesr_plugin.pictures.read import read_shape
from facesr_plugin.pictures.write import write_picture

SAME = {'jpeg': 'jpg', 'png': 'png', 'webp': 'webp', 'tiff': 'tif'}  # kinds that stay; others become png
SHOWN = 2048  # px, the longest side of what the page shows
FACES = 60  # of a picture that are shown one by one


@dataclass(frozen=True)
class Settings:
    """How pictures are enlarged.

    Attributes:
        faces: Whether faces are found, enlarged on their own and put back; the rest is enlarged plainly.
        scale: How much larger results are, at most the network's own factor.
        strength: The network's part in the result, 0 to 1; the rest is bicubic enlarging.
        kind: Format of the results, one of `formats.WRITTEN`; None for that of the picture where it is one of these,
            else png.
        natural: The network's place between the two stages, 0 to 1.
    """

    faces: bool = False
    scale: float = 4.0
    strength: float = 1.0
    kind: str | None = None
    natural: float = 0.0


class Step(NamedTuple):
    """How far the queue is: picture `number` of `count`, of which a part, 0 to 1, is computed."""

    number: int
    count: int
    name: str
    part: float


class FacePair(NamedTuple):
    """A face as the network saw it beside what it made of it, one PNG, and its size in the picture, px."""

    path: Path
    side: int


@dataclass(frozen=True)
class Result:
    """A picture that is done.

    Attributes:
        name: Of the picture's file.
        path: The file to download.
        about: Sizes before and after, and what the reader has to tell.
        before: Preview of the picture, enlarged plainly; PNG, `SHOWN` px at most.
        after: Preview of the result, of the same size.
        faces: The largest faces of the first frame, `FACES` at most.
    """

    name: str
    path: Path
    about: str
    before: Path
    after: Path
    faces: tuple[FacePair, ...] = ()


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
        dial: The networks, on the device that is to work.
        folder: Where results go; it is made.
        megapixels: Largest picture that is taken, all frames together.
        turn: What queues share that take turns.
    """

    def __init__(
        self, dial: Dial, folder: Path, megapixels: float = 16.0, turn: threading.Semaphore | None = None
    ) -> None:
        self.dial, self.folder, self.megapixels = dial, folder, megapixels
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

        def step(part: float) -> None:
            if self.stopped.is_set():
                raise StoppedError
            tell(Step(number, count, path.name, part))

        try:
            return self.enlarge(path, self.folder / str(number), settings, step)
        except UserError as error:
            return Failed(path.name, one_line(str(error).replace(str(path), path.name).removeprefix(f'{path.name}: ')))

    def enlarge(
        self, path: Path, folder: Path, settings: Settings, step: Callable[[float], None] = lambda part: None
    ) -> Result:
        """Enlarge one picture into a folder of its own.

        Args:
            path: The picture's file.
            folder: Where the result and its previews go.
            settings: How.
            step: Called with the part that is done, 0 to 1; what it raises ends the work.

        Raises:
            UserError: The picture cannot be read, enlarged or written.
        """
        step(0)
        self.check_size(*read_shape(path))
        kind = settings.kind or same_kind(path)
        enlarger = Enlarger(self.dial.at(settings.natural), kind=kind, outscale=settings.scale, quiet=True)
        picture = enlarger.read(path)
        height, width = picture.pixels.shape[:2]
        self.check_size(height, width, len(picture.frames))
        found: list[EnlargedFace] | None = None
        frames = []
        try:
            for number, frame in enumerate(picture.frames):
                watch = Watch(step, number, len(picture.frames))
                out, faces = self.enlarge_frame(enlarger, frame, settings, watch)
                found = faces if number == 0 else found
                frames.append(out)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(f'{path}: out of memory, a smaller picture expected') from error
        result = picture.with_frames(frames)
        target = folder / f'{path.stem}_x{settings.scale:g}.{kind}'
        write_picture(target, result)
        before, after = folder / 'before.png', folder / 'after.png'
        big = result.pixels.shape[:2]
        write_picture(before, preview(picture, big))
        write_picture(after, preview(result, big))
        save_faces(folder, 'face', (found or [])[:FACES], picture.profile)
        pairs = [
            FacePair(folder / PAIRS / f'face_{index:02d}.png', round(face.square.size))
            for index, face in enumerate((found or [])[:FACES])
        ]
        about = [f'{width}x{height} to {big[1]}x{big[0]} px']
        about += [] if found is None else [faces_told(len(found))]
        about += [one_line(note) for note in picture.notes]
        return Result(path.name, target, '; '.join(about), before, after, tuple(pairs))

    def enlarge_frame(
        self, enlarger: Enlarger, frame: np.ndarray, settings: Settings, watch: Progress
    ) -> tuple[np.ndarray, list[EnlargedFace] | None]:
        """Return a frame enlarged as asked for, and its faces; None where they are not looked for."""
        if settings.faces:
            options = FaceOptions(strength=settings.strength)
            return upscale_photograph(
                enlarger.net, frame, options, settings.scale, enlarger.tile, progress=watch, precision='auto'
            )
        plain = fit(frame, enlarger.size(frame))
        if settings.strength == 0:
            return plain, None
        out = enlarger.fit(upscale_image(enlarger.net, frame, enlarger.tile, progress=watch, precision='auto'), frame)
        part = settings.strength
        return cv2.addWeighted(out, part, plain, 1 - part, 0) if part < 1 else out, None

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


class Watch:
    """Goes through tiles and faces, within which there may be tiles, and tells before each how far all frames are.

    Args:
        step: Called with that, 0 to 1; what it raises ends the work.
        number: Of the frame, from 0.
        count: Of the frames.
    """

    def __init__(self, step: Callable[[float], None], number: int = 0, count: int = 1) -> None:
        self.step, self.places = step, [(number, count)]

    def __call__(self, items: Sequence[Any]) -> Iterator[Any]:
        """Yield each of the items."""
        for index, item in enumerate(items):
            self.places.append((index, len(items)))
            part = 0.0
            for done, total in reversed(self.places):
                part = (done + part) / total
            self.step(part)
            yield item
            self.places.pop()


def faces_told(count: int) -> str:
    """Return how many faces were found, and what was done without one.

    Example:
        >>> faces_told(0)
        'no face of 48 px or more found, all of it is enlarged plainly'
    """
    if not count:
        return f'no face of {MIN_FACE} px or more found, all of it is enlarged plainly'
    return '1 face' if count == 1 else f'{count} faces'


def same_kind(path: Path) -> str:
    """Return the format of a result that is to have its picture's: png where that cannot be written."""
    with path.open('rb') as file:
        return SAME.get(sniff(file.read(64)), 'png')


def fit(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return pixels in another (height, width), plainly: bicubic where they grow, averaged where they shrink."""
    if pixels.shape[:2] == shape:
        return pixels
    if pixels.shape[2:] == (4,):  # whose invisible colours are not to bleed into visible ones
        pixels = np.dstack([fill_invisible(pixels[..., :3], pixels[..., 3]), pixels[..., 3]])
    grows = shape[0] > pixels.shape[0] or shape[1] > pixels.shape[1]
    return cv2.resize(pixels, shape[::-1], interpolation=cv2.INTER_CUBIC if grows else cv2.INTER_AREA)


def preview(picture: Picture, shape: tuple[int, int]) -> Picture:
    """Return the first frame as the page shows it: of a (height, width), but `SHOWN` px at most, without metadata."""
    part = min(1.0, SHOWN / max(shape))
    pixels = fit(picture.pixels, tuple(max(1, round(side * part)) for side in shape))
    return Picture([to_8_bits(pixels)], profile=picture.profile)
