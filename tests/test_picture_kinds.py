"""pictures/: what a file holds is what is read, and what is written again: depth, colours, alpha, metadata, frames."""

import contextlib
import io
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin, TiffImagePlugin
from samples import make_image

from facesr_plugin.data.images import read_image
from facesr_plugin.errors import UserError
from facesr_plugin.pictures.alpha import fill_invisible
from facesr_plugin.pictures.colour import to_srgb
from facesr_plugin.pictures.formats import WRITTEN
from facesr_plugin.pictures.picture import Metadata, Picture
from facesr_plugin.pictures.read import decode_picture, decode_rgb, read_picture, read_shape
from facesr_plugin.pictures.write import encode_picture, write_picture

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def smooth(height: int = 48, width: int = 64) -> np.ndarray:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tiff(values: np.ndarray, bits: int, kind: int, **tags: object) -> bytes:
    """A TIFF of samples of any number of bits, (H, W, C)."""
    height, width, channels = values.shape
    rows = [''.join(format(int(value), f'0{bits}b') for value in row.ravel()) for row in values]
    rows = [row + '0' * (-len(row) % 8) for row in rows]
    data = b''.join(int(row, 2).to_bytes(len(row) // 8, 'big') for row in rows)
    if bits == 16:
        data = values.astype('<u2').tobytes()
    page = TiffImagePlugin.ImageFileDirectory_v2(prefix=b'II')
    page[256], page[257], page[258], page[259], page[262] = width, height, (bits,) * channels, 1, kind
    page[273], page[277], page[278], page[279] = 0, channels, height, len(data)
    for tag, value in tags.items():
        page[int(tag[1:])] = value
    return b'II*\0\x08\0\0\0' + page.tobytes(8) + data


# ----------------------------------------------------------------------- depth
@pytest.mark.parametrize('bits', [10, 12])
def test_avif_of_more_than_8_bits(bits):
    white = 2**bits - 1
    cv2.imwrite('a.avif', np.full((16, 16, 3), white, np.uint16), [cv2.IMWRITE_AVIF_DEPTH, bits])
    pixels = read_picture(Path('a.avif')).pixels
    assert pixels.dtype == np.uint16
    assert pixels.min() > 65535 * 0.995  # the encoder is lossy
    assert read_image('a.avif').min() >= 254


@pytest.mark.parametrize(
    ('largest', 'dtype'), [(100, np.uint8), (255, np.uint8), (1023, np.uint16), (65535, np.uint16)]
)
@pytest.mark.parametrize(('kind', 'channels'), [('P6', 3), ('P5', 1)])
def test_netpbm_of_any_largest_value(kind, channels, largest, dtype):
    stored = 'u1' if largest < 256 else '>u2'
    for value, expected in ((largest, 1), (largest // 2, (largest // 2) / largest)):
        values = np.full((2, 3, channels), value, stored)
        Path('a.ppm').write_bytes(f'{kind}\n# note\n3 2\n{largest}\n'.encode() + values.tobytes())
        pixels = read_picture(Path('a.ppm')).pixels
        assert (pixels.shape[:2], pixels.dtype) == ((2, 3), dtype)
        assert np.abs(pixels / np.iinfo(dtype).max - expected).max() < 1 / 255
        assert np.abs(read_image('a.ppm') / 255 - expected).max() < 1 / 128


@pytest.mark.parametrize('bits', [10, 12, 14, 16])
@pytest.mark.parametrize(('kind', 'channels'), [(1, 1), (2, 3)])
def test_tiff_of_more_than_8_bits(bits, kind, channels):
    values = np.full((4, 6, channels), 2**bits - 1)
    values[2:] = 2 ** (bits - 1)
    pixels = decode_picture(tiff(values, bits, kind), 'a.tif').pixels
    assert pixels.dtype == np.uint16
    assert pixels[0].min() == 65535
    assert np.abs(pixels[3] / 65535 - 0.5).max() < 1e-3


def test_jpeg2000_of_12_bits():
    values = np.full((64, 64), 4095, np.uint16)
    Image.fromarray(values).save('a.jp2')  # 16 bits; its header is made to say 12
    pixels = read_picture(Path('a.jp2')).pixels
    assert (pixels.dtype, pixels.max()) == (np.uint16, 4095)
    data = bytearray(Path('a.jp2').read_bytes())
    assert data[data.find(b'\xff\x4f\xff\x51') + 42] == 15


# --------------------------------------------------------------------- colours
def test_lab_tiff():
    image = smooth()
    lab = ImageCms.profileToProfile(
        Image.fromarray(image), ImageCms.createProfile('sRGB'), ImageCms.createProfile('LAB'), outputMode='LAB'
    )
    lab.save('a.tif')
    for pixels in (read_picture(Path('a.tif')).pixels, read_image('a.tif')):
        difference = pixels.astype(int) - image  # 8 bits of LAB are coarse in dark blue
        assert np.abs(difference).mean() < 2
        assert np.abs(difference.mean((0, 1))).max() < 1.5


@pytest.mark.parametrize('bits', [8, 16])
def test_grey_whose_white_is_zero(bits):
    values = np.zeros((4, 6, 1), int)
    assert decode_picture(tiff(values, bits, 0), 'a.tif').pixels.min() == 2**bits - 1


@pytest.mark.parametrize(
    ('bits', 'kind', 'message'),
    [
        (16, 5, 'a.tif: 8 bits expected of CMYK TIFF, got 16'),
        (16, 8, 'a.tif: 8 bits expected of LAB TIFF, got 16'),
        (8, 9, 'a.tif: TIFF of grey, RGB, palette, CMYK, YCbCr or 8-bit LAB expected, got kind 9'),
        (8, 32803, 'a.tif: TIFF of grey, RGB, palette, CMYK, YCbCr or 8-bit LAB expected, got kind 32803'),
    ],
)
def test_tiffs_that_nobody_can_turn_to_rgb(bits, kind, message):
    channels = {5: 4, 32803: 1}.get(kind, 3)
    with pytest.raises(UserError) as caught:
        decode_picture(tiff(np.ones((4, 6, channels), int), bits, kind), 'a.tif')
    assert str(caught.value) == message


def test_cmyk_without_a_profile():
    cmyk = Image.fromarray(smooth()).convert('CMYK')
    for kind in ('JPEG', 'TIFF'):
        data = encoded(cmyk, kind, **({'quality': 100, 'subsampling': 0} if kind == 'JPEG' else {}))
        for pixels in (decode_picture(data, 'a').pixels, decode_rgb(data, 'a')):
            assert np.abs(pixels.astype(int) - smooth()).mean() < 3


def wide_profile() -> bytes:
    """sRGB whose red and green have changed places: a profile that cannot be overlooked."""
    data = bytearray(SRGB)
    places = {}
    for i in range(int.from_bytes(data[128:132], 'big')):
        places[bytes(data[132 + 12 * i : 136 + 12 * i])] = 132 + 12 * i
    red, green = places[b'rXYZ'], places[b'gXYZ']
    data[red + 4 : red + 12], data[green + 4 : green + 12] = data[green + 4 : green + 12], data[red + 4 : red + 12]
    return bytes(data)


@pytest.mark.parametrize('kind', list(WRITTEN))
def test_profile_is_kept(kind):
    profile, image = wide_profile(), smooth()
    for source in ('PNG', 'JPEG', 'TIFF', 'WEBP'):
        picture = decode_picture(encoded(Image.fromarray(image), source, icc_profile=profile), 'a')
        assert picture.profile == profile
        again = decode_picture(encode_picture(picture, kind, 100), 'a')
        assert again.profile == profile
        assert np.abs(again.pixels.astype(int) - image).mean() < 4, 'pixels stay in its space'


def test_srgb_converts_by_the_profile():
    image = smooth()
    for dtype in (np.uint8, np.uint16):
        pixels = image.astype(dtype) * (257 if dtype == np.uint16 else 1)
        converted = to_srgb(Picture([pixels], wide_profile()))
        assert converted.profile is None
        assert np.abs(converted.pixels[..., [1, 0, 2]].astype(int) - image).max() <= 2
        assert len(converted.notes) == (dtype == np.uint16)
    with_alpha = to_srgb(Picture([np.dstack([image, image[..., 0]])], wide_profile()))
    assert np.array_equal(with_alpha.pixels[..., 3], image[..., 0])


def test_profiles_for_other_pixels_are_dropped():
    data = encoded(Image.fromarray(smooth()[..., 0]), 'PNG', icc_profile=SRGB)
    assert decode_picture(data, 'a').profile is None
    broken = Picture([smooth()], b'\0' * 16 + b'RGB ' + b'\0' * 200)
    assert to_srgb(broken).notes == ('its colour profile cannot be used and is left out',)


# ----------------------------------------------------------------------- alpha
@pytest.mark.parametrize('bits', [1, 8, 16])
def test_grey_png_with_a_transparent_value(bits):
    values = np.zeros((4, 6), np.uint16 if bits == 16 else np.uint8)
    values[:, 3:] = {1: 255, 8: 200, 16: 50000}[bits]
    image = Image.fromarray(values)
    image = image.convert('1') if bits == 1 else image
    pixels = decode_picture(encoded(image, 'PNG', transparency=0), 'a').pixels
    assert pixels.shape == (4, 6, 4)
    assert pixels.dtype == values.dtype
    assert pixels[:, :3, 3].max() == 0
    assert pixels[:, 3:, 3].min() == np.iinfo(values.dtype).max
    assert (pixels[:, 3:, :3] == values[:, 3:, None]).all()


def test_colour_png_with_a_transparent_value():
    image = smooth()
    image[:, :5] = (7, 8, 9)
    data = encoded(Image.fromarray(image), 'PNG', transparency=(7, 8, 9))
    assert (decode_picture(data, 'a').pixels[..., 3] == 0).sum() >= 48 * 5
    _, wide = cv2.imencode('.png', image[..., ::-1].astype(np.uint16) * 257)
    chunk = b'tRNS' + struct.pack('>3H', 7 * 257, 8 * 257, 9 * 257)
    from zlib import crc32

    wide = wide.tobytes()
    wide = wide[:33] + struct.pack('>I', 6) + chunk + struct.pack('>I', crc32(chunk)) + wide[33:]
    pixels = decode_picture(wide, 'a').pixels
    assert (pixels.dtype, pixels.shape[2]) == (np.uint16, 4)
    assert pixels[:, :5, 3].max() == 0
    assert pixels[:, 10:, 3].min() == 65535


def test_grey_tiff_with_alpha():
    grey = make_image(9, 7)
    Image.fromarray(np.dstack([grey, 255 - grey]), 'LA').save('a.tif')
    pixels = read_picture(Path('a.tif')).pixels
    assert np.array_equal(pixels[..., 0], grey)
    assert np.array_equal(pixels[..., 3], 255 - grey)


def test_colours_multiplied_by_alpha():
    values = np.full((4, 6, 4), (20000, 10000, 0, 32768))
    pixels = decode_picture(tiff(values, 16, 2, t338=1), 'a').pixels
    assert np.abs(pixels[0, 0].astype(int) - (40000, 20000, 0, 32768)).max() < 3


def test_invisible_colours_are_those_of_visible_neighbours():
    colours = np.zeros((9, 9, 3), np.uint8)
    alpha = np.zeros((9, 9), np.uint8)
    colours[4, 3], colours[4, 5] = (150, 60, 40), (1, 2, 3)
    alpha[4, [3, 5]] = 255
    filled = fill_invisible(colours, alpha)
    assert filled[:, :4].reshape(-1, 3).tolist() == [[150, 60, 40]] * 36
    assert filled[:, 5:].reshape(-1, 3).tolist() == [[1, 2, 3]] * 36
    assert colours[0].max() == 0
    for same in (0, 255):
        assert fill_invisible(colours, np.full_like(alpha, same)) is colours


# -------------------------------------------------------------------- metadata
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


def photo(kind: str) -> bytes:
    """A picture that lies on its side, with all that files say."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0132] = 6, 'Maker', '2020:01:02 03:04:05'
    exif[0x8769] = {0x829A: 0.01, 0xA002: 64, 0xA003: 48}
    exif[0x8825] = {1: 'N', 2: (1.0, 2.0, 3.0)}
    options = {'exif': exif, 'dpi': (300, 300)}
    if kind == 'PNG':
        text = PngImagePlugin.PngInfo()
        text.add_text('Author', 'Zoë')
        text.add_itxt('XML:com.adobe.xmp', XMP.decode())
        options['pnginfo'] = text
    elif kind == 'TIFF':
        loaded = Image.Exif()
        loaded.load(exif.tobytes())
        options = {'tiffinfo': loaded, 'dpi': (300, 300)}
    else:
        options['xmp'] = XMP
    return encoded(Image.fromarray(smooth()), kind, **options)


@pytest.mark.parametrize('kind', list(WRITTEN))
@pytest.mark.parametrize('source', ['JPEG', 'PNG', 'TIFF', 'WEBP'])
def test_metadata_is_kept(source, kind):
    picture = decode_picture(photo(source), 'a')
    assert picture.pixels.shape == (64, 48, 3)
    large = picture.with_frames([np.repeat(np.repeat(picture.pixels, 2, 0), 2, 1)])
    Path(f'out.{kind}').write_bytes(encode_picture(large, kind))
    with Image.open(f'out.{kind}') as result:
        assert result.size == (96, 128)
        exif = result.getexif()
        assert exif.get(0x0112, 1) == 1, 'orientation is applied once'
        assert (exif[0x010F], exif[0x0132]) == ('Maker', '2020:01:02 03:04:05')
        part, place = exif.get_ifd(0x8769), exif.get_ifd(0x8825)
        assert float(part[0x829A]) == 0.01
        assert (part[0xA002], part[0xA003]) == (96, 128)
        assert place[1] == 'N'
        if source != 'WEBP':
            dpi = result.info.get('dpi') or (exif[0x011A], exif[0x011B])
            assert [round(float(value)) for value in dpi] == [300, 300]
        if source != 'TIFF':
            xmp = result.info['xmp']
            assert b'tiff:Orientation="1"' in (xmp if isinstance(xmp, bytes) else xmp.encode())
        if source == kind.upper() == 'PNG':
            assert result.text['Author'] == 'Zoë'
    assert np.abs(read_picture(Path(f'out.{kind}')).pixels.astype(int) - large.pixels).mean() < 4


def test_embedded_thumbnail_is_dropped():
    thumbnail = encoded(Image.fromarray(smooth()), 'JPEG')
    exif = Image.Exif()
    exif[0x010F] = 'Maker'
    block = bytearray(exif.tobytes())
    at = 6 + 8 + 2 + 12  # where the first directory points to the next
    link = len(block) - 6
    block[at : at + 4] = struct.pack('<I' if block[6:8] == b'II' else '>I', link)
    order = '<' if block[6:8] == b'II' else '>'
    entries = [(0x0103, 3, 1, 6), (0x0201, 4, 1, link + 42), (0x0202, 4, 1, len(thumbnail))]
    block += struct.pack(order + 'H', 3)
    for tag, kind, count, value in entries:
        block += struct.pack(order + 'HHI', tag, kind, count)
        block += struct.pack(order + ('HH' if kind == 3 else 'I'), *((value, 0) if kind == 3 else (value,)))
    block += b'\0\0\0\0' + thumbnail
    data = encoded(Image.fromarray(smooth()), 'JPEG', exif=bytes(block))
    assert thumbnail in data
    result = encode_picture(decode_picture(data, 'a'), 'jpg')
    assert b'Maker' in result
    assert result.count(b'\xff\xd8\xff') == 1


def test_more_exif_than_a_jpeg_can_hold():
    exif = Image.Exif()
    exif[0x010F], exif[0x8769] = 'Maker', {0x927C: b'\1' * 100_000}
    picture = decode_picture(encoded(Image.fromarray(smooth()), 'PNG', exif=exif), 'a')
    assert b'Maker' in encode_picture(picture, 'jpg')


@pytest.mark.parametrize(('quality', 'least'), [(100, 45), (90, 35)])
def test_jpeg_of_full_chroma(quality, least):
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, ::2], image[:, 1::2] = (255, 0, 0), (0, 0, 255)
    result = decode_rgb(encode_picture(Picture([image]), 'jpg', quality), 'a')
    assert cv2.PSNR(result, image) > least
    assert cv2.PSNR(decode_rgb(encode_picture(Picture([image]), 'jpg', 89), 'a'), image) < 15


@pytest.mark.parametrize('shape', [(9, 7), (9, 7, 3), (9, 7, 4)])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_tiff_is_read_by_others_as_it_was(shape, dtype):
    image = make_image(*shape[:2], *shape[2:], dtype=dtype)
    data = encode_picture(Picture([image], SRGB, Metadata(dpi=(72, 72))), 'tif')
    assert np.array_equal(decode_picture(data, 'a').pixels, image)
    if dtype == np.uint8:
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), image)
    if dtype == np.uint16 or len(shape) < 3 or shape[2] < 4:  # OpenCV multiplies colours of 8 bits by alpha
        read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(read[..., [2, 1, 0, 3][: shape[2]]] if len(shape) > 2 else read, image)


# ------------------------------------------------------------------------ JPEG
@pytest.mark.parametrize('progressive', [False, True])
def test_jpeg_with_something_behind_it(progressive):
    data = encoded(Image.fromarray(smooth()), 'JPEG', progressive=progressive)
    expected = decode_picture(data, 'a').pixels
    rng = np.random.default_rng(1)
    for behind in (rng.bytes(2_000_000), b'\xff\xda' * 100, b'\0\0\0\x18ftypmp42' + rng.bytes(1000), data):
        assert np.array_equal(decode_picture(data + behind, 'a').pixels, expected)
        assert np.array_equal(decode_rgb(data + behind, 'a'), expected)


@pytest.mark.parametrize('progressive', [False, True])
def test_jpeg_without_its_end(progressive):
    data = encoded(Image.fromarray(smooth()), 'JPEG', progressive=progressive)
    picture = decode_picture(data[:-2], 'a')
    assert np.array_equal(picture.pixels, decode_picture(data, 'a').pixels)
    assert picture.notes == ('its end is missing, its pixels are all there',)
    assert np.array_equal(decode_rgb(data[:-2], 'a'), picture.pixels)
    for length in (len(data) // 3, len(data) // 2, len(data) - 40):
        for read in (decode_picture, decode_rgb):
            with pytest.raises(UserError, match=r'^a: cannot be read as an image'):
                read(data[:length], 'a')


@pytest.mark.parametrize('what', ['no end', 'half', 'png'])
def test_decoders_print_nothing(capfd, what):
    data = encoded(Image.fromarray(smooth()), 'PNG' if what == 'png' else 'JPEG')
    data = {'no end': data[:-2], 'half': data[: len(data) // 2], 'png': data[:8] + bytes(range(200))}[what]
    with contextlib.nullcontext() if what == 'no end' else pytest.raises(UserError, match=r'^a: cannot be read'):
        decode_picture(data, 'a')
    assert capfd.readouterr() == ('', '')


# ---------------------------------------------------------------------- frames
def frames_of(count: int = 3) -> list[Image.Image]:
    return [Image.fromarray(np.full((8, 12, 3), (60 * i + 20, 0, 200), np.uint8)) for i in range(count)]


@pytest.mark.parametrize('source', ['GIF', 'WEBP', 'PNG', 'AVIF'])
def test_animations(source):
    first, *others = frames_of()
    options = {'lossless': True} if source == 'WEBP' else {}
    data = encoded(first, source, save_all=True, append_images=others, duration=[100, 200, 300], loop=0, **options)
    one = decode_picture(data, 'a')
    assert (len(one.frames), one.notes) == (1, ('frame 1 of 3',))
    picture = decode_picture(data, 'a', animation=True)
    assert len(picture.frames) == 3
    assert (picture.durations, picture.loop) == ((100, 200, 300), 0)
    for kind in ('png', 'webp', 'tif'):
        again = decode_picture(encode_picture(picture, kind, 100), 'a', animation=True, pages=True)
        assert [round(int(frame[0, 0, 0]) / 60 - 1 / 3) for frame in again.frames] == [0, 1, 2]
        assert again.durations == ((100, 200, 300) if kind != 'tif' else ())
    assert len(decode_picture(encode_picture(picture, 'jpg'), 'a').frames) == 1


def test_pages_of_tiff():
    pages = [make_image(9, 7, 3), make_image(5, 4, dtype=np.uint16), make_image(6, 6, 4)]
    data = encode_picture(Picture(pages), 'tif')
    one = decode_picture(data, 'a')
    assert (len(one.frames), one.notes) == (1, ('page 1 of 3',))
    for page, expected in zip(decode_picture(data, 'a', pages=True).frames, pages, strict=True):
        assert page.dtype == expected.dtype
        assert np.array_equal(page, expected)


# ------------------------------------------------------------- the extra's kinds
def test_heic():
    pytest.importorskip('pillow_heif').register_heif_opener()
    image = smooth()
    Image.fromarray(image).save('a.heic', quality=95)
    assert np.abs(read_picture(Path('a.heic')).pixels.astype(int) - image).mean() < 4
    assert np.abs(read_image('a.heic').astype(int) - image).mean() < 4
    assert read_shape(Path('a.heic')) == (48, 64)


def test_heic_of_10_bits():
    pillow_heif = pytest.importorskip('pillow_heif')
    white = np.full((64, 64, 3), 65535, np.uint16)
    pillow_heif.from_bytes('RGB;16', (64, 64), white.tobytes()).save('a.heic', quality=-1)
    pixels = read_picture(Path('a.heic')).pixels
    assert (pixels.dtype, pixels.min()) == (np.uint16, 65535)


def test_jxl():
    pytest.importorskip('pillow_jxl')
    image = smooth()
    Image.fromarray(image).save('a.jxl', lossless=True)
    assert np.array_equal(read_picture(Path('a.jxl')).pixels, image)


def test_kinds_that_need_a_package_say_so(monkeypatch):
    from facesr_plugin.pictures import read

    monkeypatch.setattr(read, 'missing_plugin', bool)
    with pytest.raises(
        UserError, match=r"^a: needs a package: pip install 'facesr-plugin\[formats\]' \(pillow-heif\)$"
    ):
        decode_picture(b'\0\0\0\x18ftypheic' + bytes(100), 'a')


def test_write_leaves_nothing_half_written(monkeypatch):
    def fail(*args):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('os.fsync', fail)
    with pytest.raises(UserError, match=r'^out/a\.png: No space left on device$'):
        write_picture(Path('out/a.png'), Picture([smooth()]))
    assert list(Path('out').iterdir()) == []
