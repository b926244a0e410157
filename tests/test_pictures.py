"""enlarge/pictures.py: picture files are turned as they are meant, or refused in one line."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps
from samples import make_image

from facesr_plugin.data.images import read_image, read_shape
from facesr_plugin.errors import UserError
from facesr_plugin.pictures import png
from facesr_plugin.pictures.picture import Picture, expand, to_8_bits
from facesr_plugin.pictures.read import read_picture
from facesr_plugin.pictures.write import encode_picture, write_picture


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize('kind', ['png', 'jpg', 'webp', 'tif'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_orientation(kind, orientation):
    image = np.zeros((16, 32, 3), np.uint8)
    image[:8, :16], image[:8, 16:], image[8:, :16] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(image).save(f'a.{kind}', **({'tiffinfo': exif} if kind == 'tif' else {'exif': exif}))
    with Image.open(f'a.{kind}') as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture).convert('RGB'))
    path = Path(f'a.{kind}')
    assert read_shape(path) == expected.shape[:2] == ((16, 32) if orientation < 5 else (32, 16))
    for result in (read_picture(path).pixels, read_image(path)):
        assert result.shape == expected.shape
        assert np.abs(result.astype(int) - expected)[2:6, 2:6].max() < 30


def test_damaged_metadata_is_passed_over():
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (8, 4)).save('a.webp', exif=exif)
    data = Path('a.webp').read_bytes()
    assert b'MM\0*' in data
    Path('a.webp').write_bytes(data.replace(b'MM\0*', b'M!\0*'))
    assert read_picture(Path('a.webp')).pixels.shape == (4, 8, 3)


@pytest.mark.parametrize('kind', ['png', 'jpg', 'webp'])
def test_metadata_cut_short_is_passed_over(kind, recwarn):
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = exif.tobytes()
    for length in range(6, len(whole)):
        Image.new('RGB', (8, 4)).save(f'a.{kind}', exif=whole[:length])
        assert read_picture(Path(f'a.{kind}')).pixels.shape[2] == 3
    assert not recwarn.list


@pytest.mark.parametrize('quality', [20, 50, 95])
def test_jpeg_has_the_quality_asked_for(quality):
    """The file's quantisation table is the one that libjpeg makes for it, by Pillow too."""
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    write_picture(Path('a.jpg'), Picture([image]), quality=quality)
    Image.fromarray(image).save('b.jpg', quality=quality)
    with Image.open('a.jpg') as found, Image.open('b.jpg') as expected:
        assert found.quantization[0] == expected.quantization[0]


def test_webp_grows_with_the_quality():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    sizes = []
    for quality in (20, 50, 95):
        write_picture(Path('a.webp'), Picture([image]), quality=quality)
        sizes.append(Path('a.webp').stat().st_size)
    assert sizes == sorted(set(sizes))


def test_too_large_for_the_format():
    with pytest.raises(UserError, match=r'^a\.webp: another file type expected, webp cannot hold 20000x1 px$'):
        write_picture(Path('a.webp'), Picture([np.zeros((1, 20000, 3), np.uint8)]))
    assert not Path('a.webp').exists()


@pytest.mark.parametrize('shape', [(7, 5), (7, 5, 3), (7, 5, 4), (1, 1), (1, 9, 3)])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_png_is_read_by_others_as_it_was(monkeypatch, shape, dtype):
    """Written two rows at a time, and from an array that is not contiguous."""
    monkeypatch.setattr(png, 'BAND_BYTES', 2 * 5 * 4)
    image = make_image(*shape, dtype=dtype)[:, ::-1]
    data = encode_picture(Picture([image]), 'png')
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    order = [2, 1, 0, 3][: image.shape[2]] if image.ndim == 3 else slice(None)
    np.testing.assert_array_equal(decoded[..., order] if image.ndim == 3 else decoded, image)
    with Image.open(io.BytesIO(data)) as other:
        other.load()
        assert other.size == (shape[1], shape[0])


def test_pixels_converted_in_bands_are_as_those_at_once(monkeypatch):
    image = make_image(9, 7, 4, dtype=np.uint16)
    at_once = to_8_bits(image), expand(image >> 6, 10), encode_picture(Picture([image]), 'jpg')
    monkeypatch.setattr('facesr_plugin.pictures.picture.BAND_BYTES', 2 * 7 * 4)
    in_bands = to_8_bits(image), expand(image >> 6, 10), encode_picture(Picture([image]), 'jpg')
    np.testing.assert_array_equal(at_once[0], np.rint(image / 257))
    for one, other in zip(at_once, in_bands, strict=True):
        np.testing.assert_array_equal(one, other)
