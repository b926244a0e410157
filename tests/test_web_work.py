"""facesr_plugin/web/work.py: what the page asks for, without the page and without Gradio."""

import threading
from functools import partial

import cv2
import numpy as np
import pytest
from PIL import Image
from samples import make_image, make_net
from tiny import FACES

from facesr_plugin.enlarge.files import Enlarger
from facesr_plugin.enlarge.network import Dial
from facesr_plugin.enlarge.tiles import upscale_image
from facesr_plugin.errors import UserError
from facesr_plugin.faces.detect import load_detector
from facesr_plugin.faces.search import find_faces
from facesr_plugin.pictures.picture import Picture
from facesr_plugin.pictures.read import read_picture
from facesr_plugin.pictures.write import write_picture
from facesr_plugin.web.words import status
from facesr_plugin.web.work import SHOWN, Failed, Queue, Result, Settings, Step, Waits, fit, preview


@pytest.fixture
def net():
    return make_net()


@pytest.fixture
def work(net, tmp_path) -> Queue:
    return Queue(Dial(net), tmp_path / 'queue', megapixels=0.01)


def write(path, *shape, seed=None, dtype=np.uint8):
    image = make_image(*shape, dtype=dtype)
    write_picture(path, Picture([image]))
    return image


def close(a: np.ndarray, b: np.ndarray, levels: int = 1) -> bool:
    """Return whether two pictures are the same but for what bf16 changes."""
    return a.shape == b.shape and np.abs(a.astype(int) - b).max() <= levels


def test_a_result_is_what_the_network_makes(net, work, tmp_path):
    image = write(tmp_path / 'a.png', 20, 30, 3)
    (first, step, done) = work.run([tmp_path / 'a.png'], Settings())
    assert first == step == Step(1, 1, 'a.png', 0)
    assert (done.name, done.path.name, done.about) == ('a.png', 'a_x4.png', '30x20 to 120x80 px')
    assert close(read_picture(done.path).pixels, upscale_image(net, image, precision='auto'))


def test_strength_blends_with_bicubic_enlarging(net, tmp_path):
    image = write(tmp_path / 'a.png', 20, 30, 3)
    full, plain = (
        upscale_image(net, image, precision='auto'),
        cv2.resize(image, (120, 80), interpolation=cv2.INTER_CUBIC),
    )
    for strength, expected in ((0, plain), (0.25, 0.25 * full + 0.75 * plain)):
        (*_, done) = Queue(Dial(net), tmp_path / 'queue').run([tmp_path / 'a.png'], Settings(strength=strength))
        assert close(read_picture(done.path).pixels, np.rint(expected).astype(int))
    assert not close(full, plain, 20)


@pytest.mark.parametrize('natural', [0.0, 0.5, 1.0])
def test_between_the_two_stages(net, tmp_path, natural):
    image = write(tmp_path / 'a.png', 20, 30, 3)
    dial = Dial(net, make_net(1).state_dict())
    (*_, done) = Queue(dial, tmp_path / 'queue').run([tmp_path / 'a.png'], Settings(natural=natural))
    assert close(read_picture(done.path).pixels, upscale_image(dial.at(natural), image, precision='auto'))


@pytest.mark.parametrize(('scale', 'size'), [(1, (30, 20)), (1.5, (45, 30)), (3, (90, 60))])
def test_scale(work, tmp_path, scale, size):
    write(tmp_path / 'a.png', 20, 30, 3)
    (*_, done) = work.run([tmp_path / 'a.png'], Settings(scale=scale, strength=0.5))
    assert Image.open(done.path).size == Image.open(done.before).size == Image.open(done.after).size == size
    assert done.path.name == f'a_x{scale}.png'


@pytest.mark.parametrize(
    ('name', 'kind', 'expected'),
    [
        ('a.jpg', None, 'JPEG'),
        ('a.webp', None, 'WEBP'),
        ('a.tif', None, 'TIFF'),
        ('a.gif', None, 'PNG'),
        ('a.jpg', 'png', 'PNG'),
    ],
)
def test_format_is_that_of_the_picture_unless_another_is_asked_for(work, tmp_path, name, kind, expected):
    Image.fromarray(make_image(8, 9, 3)).save(tmp_path / name)
    (tmp_path / name).rename(tmp_path / 'misnamed.bin')
    (*_, done) = work.run([tmp_path / 'misnamed.bin'], Settings(kind=kind))
    assert Image.open(done.path).format == expected


def test_depth_and_alpha_are_kept(work, tmp_path):
    image = make_image(8, 9, 4, dtype=np.uint16)
    image[..., 3] = 65535
    write_picture(tmp_path / 'a.png', Picture([image]))
    (*_, done) = work.run([tmp_path / 'a.png'], Settings(strength=0.5))
    result = read_picture(done.path).pixels
    assert (result.dtype, result.shape) == (np.uint16, (32, 36, 4))
    assert len(np.unique(result % 257)) > 100  # and no 8 bits in between


def test_metadata_is_kept(work, tmp_path):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = 'a camera', 6
    Image.fromarray(make_image(8, 9, 3)).save(tmp_path / 'b.jpg', exif=exif, dpi=(300, 300))
    (*_, done) = work.run([tmp_path / 'b.jpg'], Settings())
    with Image.open(done.path) as shown:
        assert (shown.format, shown.size, shown.info['dpi'], shown.getexif()[0x010F]) == (
            'JPEG',
            (32, 36),
            (300, 300),
            'a camera',
        )
        assert shown.getexif().get(0x0112, 1) == 1  # it has been turned
    with Image.open(done.before) as before:
        assert (before.size, dict(before.getexif())) == ((32, 36), {})


def test_all_frames_of_an_animation(work, tmp_path):
    frames = [Image.fromarray(make_image(8, 9 + i, 3)[:, :9]) for i in range(3)]
    frames[0].save(tmp_path / 'a.webp', save_all=True, append_images=frames[1:], duration=100, lossless=True)
    *steps, done = work.run([tmp_path / 'a.webp'], Settings())
    assert Image.open(done.path).n_frames == 3
    assert [step.part for step in steps] == pytest.approx([0, 0, 1 / 3, 2 / 3])


def test_a_queue_goes_on_after_what_cannot_be_read(work, tmp_path):
    write(tmp_path / 'a.png', 8, 9, 3)
    write(tmp_path / 'large.png', 101, 100, 3)
    (tmp_path / 'none.png').write_text('no picture')
    (tmp_path / 'b').mkdir()
    write(tmp_path / 'b' / 'a.png', 9, 8, 3)
    paths = [tmp_path / name for name in ('none.png', 'a.png', 'large.png', 'gone.png', 'b/a.png')]
    none, first, large, gone, second = [each for each in work.run(paths, Settings()) if not isinstance(each, Step)]
    assert none == Failed('none.png', 'cannot be read as an image (empty, damaged or another file type)')
    assert large == Failed('large.png', '0.01 megapixels at most expected, got 0.0101 (100x101)')
    assert gone == Failed('gone.png', 'No such file or directory')
    assert first.path.name == second.path.name == 'a_x4.png'
    assert (Image.open(first.path).size, Image.open(second.path).size) == ((36, 32), (32, 36))


def test_frames_count_for_the_limit(work, tmp_path):
    frames = [Image.fromarray(make_image(50, 60 + i, 3)[:, :60]) for i in range(4)]
    frames[0].save(tmp_path / 'a.webp', save_all=True, append_images=frames[1:], duration=100, lossless=True)
    (_, failed) = work.run([tmp_path / 'a.webp'], Settings())
    assert failed.why == '0.01 megapixels at most expected, got 0.012 (60x50 in 4 frames)'


def test_stopped_between_tiles(net, tmp_path, monkeypatch):
    monkeypatch.setattr('facesr_plugin.web.work.Enlarger', partial(Enlarger, tile=16))
    work = Queue(Dial(net), tmp_path / 'queue')
    write(tmp_path / 'a.png', 64, 64, 3)
    write(tmp_path / 'b.png', 256, 256, 3)
    seen = []
    for event in work.run([tmp_path / 'a.png', tmp_path / 'b.png'], Settings()):
        seen.append(event)
        if isinstance(event, Result):
            work.stop()
    assert [step.part for step in seen[:4]] == [0, 0, 1 / 16, 2 / 16]
    assert [event.name for event in seen if isinstance(event, Result)] == ['a.png']
    assert Step(2, 2, 'b.png', 255 / 256) not in seen
    assert [path.name for path in work.folder.iterdir()] == ['1']
    work.close()
    assert not work.folder.exists()


def test_closed_while_it_runs_leaves_nothing(net, tmp_path):
    write(tmp_path / 'a.png', 300, 300, 3)
    work = Queue(Dial(net), tmp_path / 'queue')
    events = work.run([tmp_path / 'a.png'] * 50, Settings())
    next(event for event in events if isinstance(event, Result))
    work.close()
    assert (work.thread.is_alive(), work.folder.exists()) == (False, False)
    assert not any(isinstance(event, Result) and event.path.exists() for event in events)


def test_queues_take_turns(net, tmp_path):
    write(tmp_path / 'a.png', 8, 9, 3)
    turn = threading.Semaphore()
    first, second, third = (Queue(Dial(net), tmp_path / name, turn=turn) for name in ('first', 'second', 'third'))
    turn.acquire()
    waiting, stopped = first.run([tmp_path / 'a.png'], Settings()), third.run([tmp_path / 'a.png'], Settings())
    assert next(waiting) == next(stopped) == Waits()
    third.stop()
    assert list(stopped) == []
    turn.release()
    assert [type(event) for event in waiting] == [Step, Step, Result]
    assert [type(event) for event in second.run([tmp_path / 'a.png'], Settings())] == [Step, Step, Result]


def test_out_of_memory_is_a_line(work, tmp_path, monkeypatch):
    def fail(*args, **options):
        raise MemoryError

    write(tmp_path / 'a.png', 8, 9, 3)
    monkeypatch.setattr('facesr_plugin.web.work.upscale_image', fail)
    (*_, failed) = work.run([tmp_path / 'a.png'], Settings())
    assert failed == Failed('a.png', 'out of memory, a smaller picture expected')


def test_a_fault_of_ours_is_raised_and_the_turn_given_back(work, tmp_path, monkeypatch):
    def fail(*args, **options):
        raise ZeroDivisionError

    write(tmp_path / 'a.png', 8, 9, 3)
    monkeypatch.setattr('facesr_plugin.web.work.upscale_image', fail)
    with pytest.raises(ZeroDivisionError):
        list(work.run([tmp_path / 'a.png'], Settings()))
    assert work.turn.acquire(blocking=False)


def test_a_large_preview_is_smaller_and_keeps_its_profile():
    shown = preview(Picture([make_image(2, 4, dtype=np.uint16)], profile=b'profile'), (2 * SHOWN, 4 * SHOWN))
    assert (shown.pixels.shape, shown.pixels.dtype, shown.profile) == ((SHOWN // 2, SHOWN), np.uint8, b'profile')


def test_fit_averages_where_it_shrinks():
    image = make_image(8, 8)
    assert close(fit(image, (4, 4)), np.rint(image.reshape(4, 2, 4, 2).mean((1, 3))).astype(int))
    assert fit(image, (8, 8)) is image


def test_a_result_that_its_format_cannot_hold_is_a_line(net, tmp_path):
    write(tmp_path / 'a.png', 1, 4096, 3)
    (*_, failed) = Queue(Dial(net), tmp_path / 'queue').run([tmp_path / 'a.png'], Settings(kind='webp'))
    assert failed == Failed('a.png', 'another file type expected, webp cannot hold 16384x4 px')
    with pytest.raises(UserError, match='another file type expected'):
        Queue(Dial(net), tmp_path / 'queue').enlarge(tmp_path / 'a.png', tmp_path / 'x', Settings(kind='webp'))


def test_what_the_page_says_is_escaped():
    said = status('<i>', [Failed('<b>.png', 'a & b')], Step(2, 4, 'x', 0.5), 'x < y')
    for part in ('&lt;i&gt;', '<b>&lt;b&gt;.png</b>: a &amp; b', 'x &lt; y'):
        assert part in said
    assert 'value="0.3750"' in said  # one of four done, and half of the second


@pytest.fixture
def photograph(tmp_path):
    """A grey picture with a face of 128 px at its right."""
    face = cv2.resize(cv2.imread(str(FACES / 'face_3_000000.jpg')), (128, 128), interpolation=cv2.INTER_AREA)
    image = np.full((160, 260, 3), 128, np.uint8)
    image[16:144, 116:244] = face
    cv2.imwrite(str(tmp_path / 'photograph.png'), image)
    return tmp_path / 'photograph.png'


def test_faces_are_found_enlarged_and_put_back(net, photograph, tmp_path):
    work = Queue(Dial(net), tmp_path / 'queue')
    (*_, done) = work.run([photograph], Settings(faces=True, scale=2))
    assert done.about == '260x160 to 520x320 px; 1 face'
    (face,) = done.faces
    assert face.side == pytest.approx(128, abs=13)
    with Image.open(face.path) as pair:
        assert pair.size[0] == 2 * pair.size[1] >= 400
    image, result = read_picture(photograph).pixels, read_picture(done.path).pixels
    changed = np.abs(result - cv2.resize(image, (520, 320), interpolation=cv2.INTER_CUBIC).astype(int)).max(2) > 2
    assert changed[:, :200].sum() == 0  # left of the face
    assert changed[80:240, 280:440].mean() > 0.5
    (*_, plain) = Queue(Dial(net), tmp_path / 'plain').run([photograph], Settings(faces=True, scale=2, strength=0))
    assert len(plain.faces) == 1
    assert close(read_picture(plain.path).pixels, cv2.resize(image, (520, 320), interpolation=cv2.INTER_CUBIC))


def test_the_tiles_of_a_face_are_parts_of_it(net, photograph, tmp_path, monkeypatch):
    monkeypatch.setattr('facesr_plugin.web.work.Enlarger', partial(Enlarger, tile=64))
    (*steps, _) = Queue(Dial(net), tmp_path / 'queue').run([photograph], Settings(faces=True))
    parts = [step.part for step in steps]
    assert parts == sorted(parts)
    assert len(set(parts)) > 4
    assert 0.5 < parts[-1] < 1


def test_a_picture_without_a_face_is_enlarged_plainly(work, tmp_path):
    image = write(tmp_path / 'a.png', 60, 70, 3)
    (*_, done) = work.run([tmp_path / 'a.png'], Settings(faces=True))
    assert done.about == '70x60 to 280x240 px; no face of 48 px or more found, all of it is enlarged plainly'
    assert done.faces == ()
    assert close(read_picture(done.path).pixels, cv2.resize(image, (280, 240), interpolation=cv2.INTER_CUBIC))


def test_without_a_detector_it_is_told_how_to_get_one(work, tmp_path, monkeypatch):
    monkeypatch.setattr('facesr_plugin.faces.detect.find_spec', lambda name: None)
    load_detector.cache_clear()
    write(tmp_path / 'a.png', 60, 70, 3)
    (*_, failed) = work.run([tmp_path / 'a.png'], Settings(faces=True))
    load_detector.cache_clear()
    assert (failed.name, 'pip install' in failed.why) == ('a.png', True)


def test_no_more_faces_than_can_be_looked_at_are_shown(net, photograph, tmp_path, monkeypatch):
    monkeypatch.setattr('facesr_plugin.web.work.FACES', 2)
    found = find_faces(read_picture(photograph).pixels)
    monkeypatch.setattr('facesr_plugin.enlarge.photograph.find_faces', lambda *args: found * 3)
    (*_, done) = Queue(Dial(net), tmp_path / 'queue').run([photograph], Settings(faces=True))
    assert (done.about, len(done.faces)) == ('260x160 to 1040x640 px; 3 faces', 2)
    assert all(face.path.exists() for face in done.faces)


def test_invisible_colours_do_not_bleed():
    image = np.zeros((4, 8, 4), np.uint8)
    image[:, :4] = (200, 100, 50, 255)
    assert (fit(image, (16, 32))[..., :3] == (200, 100, 50)).all()
