"""Picture files to pixels: one way for training, for enlarging and for scripts.

OpenCV decodes what it decodes rightly; Pillow tells what the file says of itself, and decodes the rest: palettes and
transparent colours, animations, CMYK, LAB.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageCms, TiffImagePlugin

from facesr_plugin.errors import UserError
from facesr_plugin.pictures import jpeg, metadata
from facesr_plugin.pictures.colour import fit_profile, image_to_srgb
from facesr_plugin.pictures.formats import EXTRA, PLUGINS, missing_plugin, sniff
from facesr_plugin.pictures.picture import Metadata, Picture, expand, to_8_bits

TRANSPOSED = (5, 6, 7, 8)  # of EXIF's orientations those that swap width and height
NO_IMAGE = 'cannot be read as an image'
NO_IMAGE_BYTES = f'{NO_IMAGE} (empty, damaged or another file type)'
NO_END = 'its end is missing, its pixels are all there'
CANNOT_OPEN = (*metadata.NO_EXIF, EOFError, IndexError, AttributeError, Image.DecompressionBombError)
FILLERS = (b'\0' * 64, b'\x5a' * 64)  # what may stand behind a JPEG cut short, if its pixels are all there
TIFF_KINDS = {0: 'white is 0', 1: 'black is 0', 2: 'RGB', 3: 'palette', 5: 'CMYK', 6: 'YCbCr', 8: 'LAB'}
SAMPLES = {1: 'uint', 2: 'int', 3: 'float', 4: 'void', 5: 'complex int', 6: 'complex'}


def read_file(path: str | Path) -> bytes:
    """Read a file.

    Raises:
        UserError: It is missing or not readable.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from error


def read_picture(path: Path, animation: bool = False, pages: bool = False) -> Picture:
    """Read a picture file; see `decode_picture`.

    Raises:
        UserError: The file cannot be read, is no picture, or holds a kind of pixels that cannot be turned to RGB.
    """
    return decode_picture(read_file(path), path, animation, pages)


def decode_picture(data: bytes, name: str | Path, animation: bool = False, pages: bool = False) -> Picture:
    """Decode a picture with all it has, turned upright.

    Args:
        data: The file.
        name: What an error calls it.
        animation: Whether to decode all frames of an animation; the first alone otherwise.
        pages: Whether to decode all pages of a TIFF.

    Raises:
        UserError: As `read_picture`.
    """
    kind = sniff(data[:64])
    try:
        if kind == 'jpeg':
            return fit_profile(_jpeg(data, name))
        if kind == 'tiff':
            return fit_profile(_tiff(data, name, pages))
        with _opened(data, kind, name) as image:
            picture = _frames(image, data, kind, name, animation) if image else None
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        raise UserError(f'{name}: {NO_IMAGE}: its header claims too many pixels ({error})') from error
    except (*CANNOT_OPEN, ImageCms.PyCMSError) as error:
        raise UserError(f'{name}: {NO_IMAGE_BYTES}') from error
    return fit_profile(picture or Picture([_opencv(data, name)]))


def decode_rgb(data: bytes | memoryview, name: str | Path) -> np.ndarray:
    """Decode to uint8 RGB, shape (H, W, 3): grey is repeated, alpha dropped, more than 8 bits rounded.

    PNG, and JPEG of up to three channels that is whole, take a short way to the same pixels.

    Raises:
        UserError: As `read_picture`.
    """
    kind = sniff(bytes(data[:64]))
    if kind == 'png':
        return _opencv_rgb(data, name)
    if kind == 'jpeg':
        found = jpeg.walk(bytes(data))
        if found.channels <= 3 and found.end is not None:
            return _opencv_rgb(memoryview(data)[: found.end], name)
    pixels = to_8_bits(decode_picture(bytes(data), name).pixels)
    return np.ascontiguousarray(np.repeat(pixels[..., None], 3, 2) if pixels.ndim == 2 else pixels[..., :3])


def read_shape(path: Path) -> tuple[int, int]:
    """Return an image's (height, width) as it is shown, from the header of its file.

    Raises:
        UserError: The file is missing, not readable or not an image.
    """
    try:
        with path.open('rb') as file, warnings.catch_warnings(action='ignore'):
            _load_plugin(sniff(file.read(64)), path)
            file.seek(0)
            with Image.open(file) as header:
                (width, height), turned = header.size, metadata.orientation(header)
                if header.format == 'TIFF':  # whose size newer versions of Pillow have turned already
                    width, height = header.tag_v2[256], header.tag_v2[257]
    except Image.DecompressionBombError as error:
        raise UserError(f'{path}: {NO_IMAGE}: its header claims too many pixels ({error})') from error
    except CANNOT_OPEN as error:
        if isinstance(error, UserError):
            raise
        if isinstance(error, OSError) and error.strerror:  # the file system's, not Pillow's
            raise UserError(f'{path}: {error.strerror}') from error
        return read_picture(path).pixels.shape[:2]  # OpenCV may know it
    return (width, height) if turned in TRANSPOSED else (height, width)


def turn_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation, 1 to 8: transpose from 5 on, then mirror rows, columns or both."""
    if orientation in TRANSPOSED:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def from_image(image: Image.Image, name: str | Path) -> np.ndarray:
    """Return a Pillow image's pixels as `Picture.frames` has them; other colour spaces become sRGB.

    Args:
        image: The image.
        name: What an error calls it.

    Raises:
        UserError: Its pixels are no whole numbers of 8 or 16 bits.
    """
    mode = image.mode
    if mode.startswith('I;16'):
        return np.asarray(image).astype(np.uint16)
    if mode in ('I', 'F'):
        raise UserError(f'{name}: pixels of 8 or 16 bits expected, got {"int32" if mode == "I" else "float32"}')
    if mode in ('CMYK', 'LAB'):
        return np.asarray(image_to_srgb(image, image.info.get('icc_profile')))
    if image.has_transparency_data:
        image = image.convert('RGBA')
    elif mode == '1':
        image = image.convert('L')
    elif mode not in ('L', 'RGB'):
        image = image.convert('RGB')
    return np.asarray(image)


def _load_plugin(kind: str, name: str | Path) -> None:
    """Teach Pillow the kinds of the extra."""
    package = PLUGINS.get(kind, '')
    if missing_plugin(package):
        raise UserError(f'{name}: needs a package: {EXTRA} ({package.replace("_", "-")})')
    if kind == 'heif':
        import pillow_heif

        pillow_heif.register_heif_opener()
    elif kind == 'jxl':
        import pillow_jxl  # noqa: F401  (importing it registers it)


@contextmanager
def _opened(data: bytes, kind: str, name: str | Path) -> Iterator[Image.Image | None]:
    """Open a file with Pillow, which decodes nothing yet; None where Pillow does not know it."""
    if not data:
        raise UserError(f'{name}: {NO_IMAGE_BYTES}')
    _load_plugin(kind, name)
    with warnings.catch_warnings(action='ignore'):
        try:
            image = Image.open(io.BytesIO(data))
        except Image.DecompressionBombError:
            raise
        except CANNOT_OPEN:
            yield None
            return
        with image:
            yield image


def _opencv(data: bytes | memoryview, name: str | Path, flags: int = cv2.IMREAD_UNCHANGED) -> np.ndarray:
    """Decode with OpenCV, which is not to print what it thinks of a damaged file; grey, RGB or RGBA."""
    buffer = np.frombuffer(data, np.uint8)
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        pixels = cv2.imdecode(buffer, flags) if buffer.size else None
    except cv2.error as error:  # e.g. a header that claims more pixels than OpenCV allows
        raise UserError(f'{name}: {NO_IMAGE} ({error.err})') from error
    finally:
        cv2.utils.logging.setLogLevel(level)
    if pixels is None:
        raise UserError(f'{name}: {NO_IMAGE_BYTES}')
    if pixels.dtype not in (np.uint8, np.uint16):
        raise UserError(f'{name}: pixels of 8 or 16 bits expected, got {pixels.dtype}')
    return _to_rgb(pixels) if flags == cv2.IMREAD_UNCHANGED else pixels


def _opencv_rgb(data: bytes | memoryview, name: str | Path) -> np.ndarray:
    """Decode with OpenCV to uint8 RGB, upright."""
    return cv2.cvtColor(_opencv(data, name, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def _to_rgb(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]) if pixels.ndim == 3 else pixels


def _jpeg(data: bytes, name: str | Path) -> Picture:
    """Decode the first picture of a JPEG file, whatever is behind it."""
    found, notes = jpeg.walk(data), ()
    if found.end is not None:
        data = data[: found.end]
    elif found.has_all_scans:
        if len({_pixels(data + filler + b'\xff\xd9') for filler in FILLERS}) > 1:  # so what is missing shows
            raise UserError(f'{name}: {NO_IMAGE_BYTES}')
        data, notes = data + b'\xff\xd9', (NO_END,)
    else:
        raise UserError(f'{name}: {NO_IMAGE_BYTES}')
    with _opened(data, 'jpeg', name) as image:
        if image is None:
            return Picture([_opencv(data, name)], notes=notes)
        profile, about, turned = image.info.get('icc_profile'), metadata.collect(image), metadata.orientation(image)
        pixels = from_image(image, name) if found.channels == 4 else _opencv(data, name)
    return Picture([turn_upright(pixels, turned)], profile if found.channels < 4 else None, about, notes=notes)


def _pixels(data: bytes) -> bytes:
    """Return the bytes of a JPEG's pixels, by Pillow, since OpenCV's decoder prints what is wrong with a file."""
    with Image.open(io.BytesIO(data)) as image:
        return image.tobytes()


def _frames(image: Image.Image, data: bytes, kind: str, name: str | Path, all_frames: bool) -> Picture:
    """Decode what Pillow has opened and is neither JPEG nor TIFF."""
    count = getattr(image, 'n_frames', 1) if kind in ('gif', 'png', 'webp', 'avif', 'jxl') else 1
    turned, profile = metadata.orientation(image), image.info.get('icc_profile')
    bits = _bits(data, kind)
    if count == 1 and kind == 'heif' and bits > 8:
        frames = [_heif(data)]
    elif count == 1 and _is_for_opencv(image, kind, bits):
        frames = [expand(_opencv(data, name), bits) if bits > 8 else _opencv(data, name)]
        if 'transparency' in image.info:
            frames = [_with_transparent_colour(frames[0], image.info['transparency'])]
    else:
        frames = []
    durations, images = [], range(count if all_frames else 1) if not frames else ()
    for index in images:
        image.seek(index)
        image.load()
        frames.append(from_image(image, name))
        durations.append(round(image.info.get('duration') or 0))
    notes = () if all_frames or count == 1 else (f'frame 1 of {count}',)
    if len({frame.shape for frame in frames}) > 1:  # grey and colour, or with and without alpha
        frames = [_as_rgba(frame) for frame in frames]
    return Picture(
        [turn_upright(frame, turned) for frame in frames],
        None if image.mode in ('CMYK', 'LAB') else profile,
        metadata.collect(image),
        tuple(durations) if len(durations) > 1 else (),
        image.info.get('loop', 0 if kind == 'avif' else 1) if len(durations) > 1 else 0,
        notes,
    )


def _is_for_opencv(image: Image.Image, kind: str, bits: int) -> bool:
    """Return whether OpenCV decodes a single picture as it is meant; Pillow has at most 8 bits for colours."""
    if bits > 8:
        return True
    return kind in ('png', 'webp', 'bmp') and 'transparency' not in image.info


def _bits(data: bytes, kind: str) -> int:
    """Return the bits of a channel that a file of a kind with more than 8 says it has, 8 for all others."""
    if kind == 'png':
        return data[24]
    if kind == 'avif' and (at := data.find(b'av1C')) >= 0:
        flags = data[at + 6]
        return 8 + 2 * bool(flags & 0x40) + 2 * bool(flags & 0x20)
    if kind == 'heif' and (at := data.find(b'hvcC')) >= 0:
        return 8 + (data[at + 4 + 17] & 7)
    if kind == 'jp2' and (at := data.find(b'\xff\x4f\xff\x51')) >= 0:
        return (data[at + 42] & 0x7F) + 1
    if kind == 'pnm' and data[1:2] in b'2356':
        words = b' '.join(line.split(b'#')[0] for line in data[:4096].split(b'\n')).split()
        largest = int(words[3])
        return 16 if largest == 65535 else largest.bit_length() if largest > 255 else 8
    return 8


def _heif(data: bytes) -> np.ndarray:
    """Decode HEIC of more than 8 bits, whose plugin shifts them to the upper end of 16."""
    import pillow_heif

    picture = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
    pixels, bits = np.asarray(picture), picture.info['bit_depth']
    return expand(pixels >> (16 - bits), bits)


def _with_transparent_colour(pixels: np.ndarray, colour: int | tuple[int, ...]) -> np.ndarray:
    """Make a colour of 16 bits transparent, as PNG's tRNS chunk asks."""
    if pixels.shape[2:] == (4,):
        return pixels
    rgb = np.repeat(pixels[..., None], 3, 2) if pixels.ndim == 2 else pixels
    alpha = np.where((rgb == np.asarray(colour)).all(2), 0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)
    return np.dstack([rgb, alpha])


def _as_rgba(pixels: np.ndarray) -> np.ndarray:
    if pixels.shape[2:] == (4,):
        return pixels
    rgb = np.repeat(pixels[..., None], 3, 2) if pixels.ndim == 2 else pixels
    return np.dstack([rgb, np.full(rgb.shape[:2], np.iinfo(rgb.dtype).max, rgb.dtype)])


# -------------------------------------------------------------------------- TIFF
Page = TiffImagePlugin.ImageFileDirectory_v2


def _pages(data: bytes) -> list[Page]:
    """Return the directories of a TIFF's pages."""
    header = data[:16] if data[2:4] in (b'+\0', b'\0+') else data[:8]
    first, pages, seen = Page(header), [], set()
    at = first.next
    while at and at not in seen and at < len(data):
        seen.add(at)
        page, file = Page(header), io.BytesIO(data)
        file.seek(at)
        page.load(file)
        pages.append(page)
        at = page.next
    return pages


def _tiff(data: bytes, name: str | Path, all_pages: bool) -> Picture:
    """Decode a TIFF's pages; pages that are a smaller version of another are passed over."""
    with warnings.catch_warnings(action='ignore'):
        pages = _pages(data)
    if not pages:
        raise UserError(f'{name}: {NO_IMAGE_BYTES}')
    numbers = [i for i, page in enumerate(pages) if not int(page.get(254, 0)) & 5] or [0]  # 1 smaller, 4 a mask
    with _opened(data, 'tiff', name) as image:
        chosen = numbers if all_pages else numbers[:1]
        frames = [_tiff_page(image, data, pages[number], number, len(pages), name) for number in chosen]
        about = metadata.collect(image) if image else Metadata()
        first = pages[numbers[0]]
        profile = bytes(first[34675]) if 34675 in first and int(first.get(262, 1)) in (0, 1, 2, 3, 6) else None
    notes = () if all_pages or len(numbers) == 1 else (f'page 1 of {len(numbers)}',)
    return Picture(frames, profile, about, notes=notes)


def _tiff_page(
    image: Image.Image | None, data: bytes, page: Page, number: int, count: int, name: str | Path
) -> np.ndarray:
    """Decode one page. Both decoders turn it upright; neither inverts 16 bits whose white is 0."""
    bits, kind, samples = max(page.get(258, (1,))), int(page.get(262, 1)), max(page.get(339, (1,)))
    if kind not in TIFF_KINDS:
        raise UserError(f'{name}: TIFF of grey, RGB, palette, CMYK, YCbCr or 8-bit LAB expected, got kind {kind}')
    if samples not in (1, 4) or bits > 16:
        raise UserError(f'{name}: pixels of 8 or 16 bits expected, got {SAMPLES.get(samples, "unknown")}{bits}')
    if bits <= 8:
        if image is not None:
            image.seek(number)
            image.load()
            return from_image(image, name)
        if kind in (5, 8) or count > 1:
            raise UserError(f'{name}: {NO_IMAGE_BYTES}')
        return _opencv(data, name)
    if kind not in (0, 1, 2):
        raise UserError(f'{name}: 8 bits expected of {TIFF_KINDS[kind]} TIFF, got {bits}')
    if count == 1:
        pixels = _opencv(data, name)
    else:
        done, decoded = cv2.imdecodemulti(
            np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED, range=(number, number + 1)
        )
        if not done:
            raise UserError(f'{name}: {NO_IMAGE_BYTES}')
        pixels = _to_rgb(decoded[0])
    if bits < 16:
        pixels = expand(pixels >> (16 - bits), bits)
    if kind == 0:
        pixels = ~pixels
    extra = page.get(338, ())
    if pixels.shape[2:] == (4,) and 1 in extra:  # colours that are multiplied by alpha
        alpha = pixels[..., 3:].astype(np.float32)
        straight = pixels[..., :3] * (65535 / np.maximum(alpha, 1))
        pixels = np.dstack([np.rint(straight).clip(0, 65535).astype(np.uint16), pixels[..., 3]])
    return pixels
