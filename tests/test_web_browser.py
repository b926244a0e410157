"""facesr web in a browser: real uploads, by mouse and keys; nothing is asked of anybody else, nothing is kept."""

import base64
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, TimeoutError, expect
from samples import make_image, make_net
from tiny import FACES

from facesr_plugin.enlarge.tiles import upscale_image
from facesr_plugin.pictures.read import read_picture
from facesr_plugin.run import checkpoint

pytestmark = pytest.mark.slow
SOON = 60_000  # ms; the machine may be busy
WITNESS = """# what the process of the page asks of other machines
import os, socket
def told(function, place):
    def asked(*args, **options):
        host = str(args[place][0] if isinstance(args[place], tuple) else args[place])
        if host not in ('127.0.0.1', 'localhost', '::1', '0.0.0.0', 'None', ''):
            with open(os.environ['WITNESS'], 'a') as file:
                print(function.__name__, args[place], file=file)
        return function(*args, **options)
    return asked
class Witnessed(socket.socket):
    connect, connect_ex = told(socket.socket.connect, 1), told(socket.socket.connect_ex, 1)
socket.socket = Witnessed
socket.getaddrinfo = told(socket.getaddrinfo, 0)
"""


@dataclass
class Server:
    """A running `facesr web`, its address, and the folder that it has for temporary files."""

    process: subprocess.Popen
    url: str
    folder: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(':')[2])

    def kept(self) -> list[Path]:
        return [path for path in self.folder.rglob('*') if path.is_file() or path.parent == self.folder]

    def end(self, number: int = signal.SIGINT) -> tuple[int, str]:
        """Send a signal, and return the exit status and what came after the address."""
        self.process.send_signal(number)
        said, _ = self.process.communicate(timeout=60)
        return self.process.returncode, said


def start(root: Path, *options: str) -> Server:
    """Start the command in a folder of its own, with a small network for x4."""
    folder = root / 'tmp'
    folder.mkdir(parents=True)
    net = make_net()
    checkpoint.save(root / 'net.pth', {'params': net.state_dict()})
    (root / 'sitecustomize.py').write_text(WITNESS)
    paths = os.pathsep.join([str(root), *sys.path])
    env = os.environ | {'TMPDIR': str(folder), 'PYTHONPATH': paths, 'WITNESS': str(root / 'asked')}
    words = ['web', '--no-browser', '--port', '0', '--weights', str(root / 'net.pth'), '--device', 'cpu', *options]
    process = subprocess.Popen(
        [sys.executable, '-m', 'facesr_plugin.cli', *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=env,
        cwd=root,
        preexec_fn=partial(signal.signal, signal.SIGHUP, signal.SIG_DFL),  # under nohup it would be ignored
    )
    line = process.stdout.readline()
    if not (found := re.fullmatch(r'(http://127\.0\.0\.1:\d+)  \(Ctrl-C ends it\)\n', line)):
        pytest.fail(line + process.communicate()[0])
    return Server(process, found[1], folder)


@pytest.fixture(scope='module')
def server(tmp_path_factory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp('web')
    server = start(root, '--megapixels', '0.2')
    yield server
    assert server.end() == (130, '')
    assert server.kept() == []
    assert not (root / 'asked').exists(), (root / 'asked').read_text()


@pytest.fixture
def open_page(browser, server) -> Iterator[Callable[..., Page]]:
    """Open the page; in the end nothing may have been fetched from elsewhere, and nothing gone wrong."""
    contexts, fetched, said = [], [], []

    def open_page(width: int = 1280, at: Server = server, **options) -> Page:
        contexts.append(browser.new_context(viewport={'width': width, 'height': 900}, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(SOON)
        page.on('request', lambda request: fetched.append(request.url))
        page.on('console', lambda message: message.type == 'error' and said.append(message.text))
        page.on('pageerror', lambda error: said.append(str(error)))
        page.goto(at.url)
        page.locator('#start').wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in fetched if not url.startswith(('http://127.0.0.1:', 'data:', 'blob:'))] == []


@pytest.fixture
def pictures(tmp_path) -> list[Path]:
    """Return two faces of 96x96 px: a JPEG that has to be turned, with EXIF, and a PNG of 16 bits."""
    first, second = (cv2.imread(str(FACES / f'face_3_00000{i}.jpg')) for i in range(2))
    small = [cv2.resize(face, (96, 80), interpolation=cv2.INTER_AREA) for face in (first, second)]
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = 'a camera', 6
    Image.fromarray(small[0][..., ::-1]).save(tmp_path / 'turned.jpg', exif=exif, quality=95)
    cv2.imwrite(str(tmp_path / 'deep.png'), small[1].astype(np.uint16) * 257)
    return [tmp_path / 'turned.jpg', tmp_path / 'deep.png']


def choose(page: Page, *paths: Path, faces: bool = False) -> None:
    """Choose pictures, and what of them the network enlarges."""
    page.get_by_label('Faces' if faces else 'Whole picture', exact=True).check()
    listed = page.locator('#files tr.file').count()
    page.set_input_files('#files input[type=file]', [str(path) for path in paths])
    expect(page.locator('#files tr.file')).to_have_count(listed + len(paths), timeout=SOON)


def enlarge(page: Page, line: str) -> None:
    """Press the button and wait for the line that the queue ends with."""
    page.locator('#start').click()
    expect(page.locator('#status [role=status]')).to_have_text(line, timeout=SOON)


def download(page: Page, number: int, folder: Path) -> Path:
    with page.expect_download() as coming:
        page.locator('#results a').nth(number).click()
    target = folder / 'downloads' / coming.value.suggested_filename
    coming.value.save_as(target)
    return target


def wait_for_line(page: Page, low: int, high: int) -> None:
    """Wait for the line between before and after, % of the picture's frame; until the picture has loaded it is at 0."""
    at = "Number(document.querySelector('#slider [role=slider]')?.getAttribute('aria-valuenow'))"
    page.wait_for_function(f'([low, high]) => low <= {at} && {at} <= high', arg=[low, high], timeout=SOON)


def fits(page: Page) -> bool:
    return page.evaluate('document.documentElement.scrollWidth <= innerWidth')


def test_pictures_of_a_queue_to_results(open_page, pictures, tmp_path):
    page = open_page()
    (tmp_path / 'notes.txt').write_text('no picture')
    cv2.imwrite(str(tmp_path / 'large.png'), make_image(500, 402))
    choose(page, *pictures, tmp_path / 'notes.txt', tmp_path / 'large.png')
    enlarge(page, '2 of 4 done, 2 failed')
    assert page.locator('#status li').all_text_contents() == [
        'turned.jpg: 80x96 to 320x384 px',
        'deep.png: 96x80 to 384x320 px',
        'notes.txt: cannot be read as an image (empty, damaged or another file type)',
        'large.png: 0.2 megapixels at most expected, got 0.201 (402x500)',
    ]
    first, second = (download(page, number, tmp_path) for number in range(2))
    assert (first.name, second.name) == ('turned_x4.jpg', 'deep_x4.png')
    with Image.open(first) as image:
        assert (image.size, image.getexif()[0x010F], image.getexif().get(0x0112, 1)) == ((320, 384), 'a camera', 1)
    expected = upscale_image(make_net(), read_picture(pictures[1]).pixels)
    assert np.abs(read_picture(second).pixels.astype(int) - expected).max() <= 2


def test_nothing_is_kept_in_the_browser(open_page, pictures):
    """Gradio's history of runs, which lies there, is switched off."""
    page = open_page()
    choose(page, pictures[0])
    enlarge(page, '1 of 1 done')
    expect(page.locator('#slider img').first).to_be_visible(timeout=SOON)
    page.wait_for_timeout(2000)
    kept = 'Promise.all([indexedDB.databases(), caches.keys(), Object.keys(localStorage), Object.keys(sessionStorage)])'
    assert page.evaluate(kept) == [[], [], [], []]
    assert page.context.cookies() == []


def test_before_and_after(open_page, pictures):
    """The line follows the mouse and the keys; another picture can be chosen, by keys too."""
    page = open_page()
    choose(page, *pictures)
    enlarge(page, '2 of 2 done')
    sizes = 'pictures => pictures.map((each) => each.decode().then(() => [each.naturalWidth, each.naturalHeight]))'
    shown = page.locator('#slider img')
    expect(shown).to_have_count(2, timeout=SOON)
    assert page.evaluate(f'Promise.all(({sizes})([...document.querySelectorAll("#slider img")]))') == [[320, 384]] * 2
    wait_for_line(page, 50, 50)
    line = page.locator('#slider [role=slider]')
    line.focus()
    for key, expected in (('ArrowRight', 52), ('ArrowLeft', 50), ('PageUp', 70)):
        page.keyboard.press(key)
        wait_for_line(page, expected, expected)
    page.keyboard.press('Home')
    wait_for_line(page, 0, 34)
    page.keyboard.press('End')
    wait_for_line(page, 66, 100)
    box = line.bounding_box()
    page.mouse.move(box['x'] + box['width'] / 2, box['y'] + box['height'] / 2)
    page.mouse.down()
    page.mouse.move(*(lambda b: (b['x'] + 0.4 * b['width'], b['y'] + 200))(page.locator('#slider').bounding_box()))
    page.mouse.up()
    wait_for_line(page, 36, 44)
    page.locator('#shown input').focus()
    for key in ('ArrowDown', 'Enter'):
        page.keyboard.press(key)
    expect(page.locator('#slider')).to_contain_text('deep.png', timeout=SOON)
    assert page.evaluate(f'Promise.all(({sizes})([...document.querySelectorAll("#slider img")]))') == [[384, 320]] * 2


def test_faces(open_page, pictures, tmp_path):
    """Each is shown with its result; of a picture without one that is told."""
    page = open_page()
    assert page.get_by_label('Faces', exact=True).is_checked()
    image = np.full((200, 420, 3), 128, np.uint8)
    for number, left in ((2, 20), (3, 230)):
        face = cv2.imread(str(FACES / f'face_3_00000{number}.jpg'))
        image[20:180, left : left + 160] = cv2.resize(face, (160, 160), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(tmp_path / 'two.png'), image)
    cv2.imwrite(str(tmp_path / 'none.png'), make_image(60, 70, 3))
    choose(page, tmp_path / 'two.png', tmp_path / 'none.png', faces=True)
    enlarge(page, '2 of 2 done')
    assert page.locator('#status li').all_text_contents() == [
        'two.png: 420x200 to 1680x800 px; 2 faces',
        'none.png: 70x60 to 280x240 px; no face of 48 px or more found, all of it is enlarged plainly',
    ]
    shown = page.locator('#faces button.thumbnail-item')
    expect(shown).to_have_count(2, timeout=SOON)
    page.wait_for_function("document.querySelector('#faces img').naturalWidth >= 1024", timeout=SOON)
    shown.nth(1).focus()
    page.keyboard.press('Enter')
    expect(page.locator('#faces')).to_contain_text(re.compile(r'2\. \d+ px'), timeout=SOON)
    expect(page.locator('#faces [data-testid=detailed-image]')).to_be_visible(timeout=SOON)
    page.locator('#shown input').focus()
    for key in ('ArrowDown', 'Enter'):
        page.keyboard.press(key)
    expect(page.locator('#faces')).to_be_hidden(timeout=SOON)


def test_settings_are_followed(open_page, pictures, tmp_path):
    page = open_page()
    choose(page, pictures[0])
    page.get_by_label('1.5x', exact=True).check()
    page.get_by_label('webp', exact=True).check()
    page.get_by_label('number input for Strength').fill('0')
    page.keyboard.press('Tab')
    enlarge(page, '1 of 1 done')
    result = download(page, 0, tmp_path)
    assert result.name == 'turned_x1.5.webp'
    plain = cv2.resize(read_picture(pictures[0]).pixels, (120, 144), interpolation=cv2.INTER_CUBIC).astype(int)
    assert np.abs(read_picture(result).pixels - plain).mean() < 2


def put(page: Page, path: Path, how: str) -> None:
    """Paste a picture, or drop it where files are dropped."""
    page.evaluate(
        """([name, data, how]) => {
          const held = new DataTransfer();
          held.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name, { type: 'image/png' }));
          const more = { bubbles: true, cancelable: true };
          const paste = () => new ClipboardEvent('paste', { clipboardData: held, ...more });
          const drag = (kind) => new DragEvent(kind, { dataTransfer: held, ...more });
          if (how === 'paste') document.body.dispatchEvent(paste());
          else for (const kind of ['dragenter', 'dragover', 'drop'])
            document.querySelector('#files button').dispatchEvent(drag(kind));
        }""",
        [path.name, base64.b64encode(path.read_bytes()).decode(), how],
    )


@pytest.mark.parametrize('how', ['paste', 'drop'])
def test_pasted_and_dropped(open_page, pictures, how):
    page = open_page()
    page.get_by_label('Whole picture', exact=True).check()
    put(page, pictures[0], how)
    expect(page.locator('#files tr.file')).to_have_count(1, timeout=SOON)
    if how == 'paste':  # more can be pasted
        put(page, pictures[1], how)
        expect(page.locator('#files tr.file')).to_have_count(2, timeout=SOON)
    enlarge(page, '2 of 2 done' if how == 'paste' else '1 of 1 done')


def test_keys_alone(open_page, pictures, tmp_path):
    page = open_page()
    page.locator('#head').click()

    def tab_to(selector: str) -> None:
        for _ in range(60):
            page.keyboard.press('Tab')
            if page.evaluate('(selector) => document.activeElement.matches(selector)', selector):
                return
        pytest.fail(f'no tab stop: {selector}')

    def enter(selector: str, expected: Callable) -> Any:
        for _ in range(4):  # on a busy machine a key may come while Gradio draws anew what has the focus
            tab_to(selector)
            try:
                with expected(timeout=15_000) as coming:
                    page.keyboard.press('Enter')
            except TimeoutError:
                continue
            return coming.value
        pytest.fail(f'nothing came of Enter: {selector}')

    enter('#files button', page.expect_file_chooser).set_files(str(pictures[0]))
    expect(page.locator('#files tr.file')).to_have_count(1, timeout=SOON)
    tab_to('#start')
    page.keyboard.press('Enter')
    expect(page.locator('#status [role=status]')).to_have_text('1 of 1 done', timeout=SOON)
    tab_to('#slider [role=slider]')
    wait_for_line(page, 50, 50)
    page.keyboard.press('ArrowRight')
    wait_for_line(page, 52, 52)
    assert enter('#results a', page.expect_download).suggested_filename == 'turned_x4.jpg'


def test_nothing_chosen_is_told(open_page):
    page = open_page()
    page.locator('#start').click()
    expect(page.locator('#status [role=alert]')).to_have_text('Choose pictures first.', timeout=SOON)
    assert page.locator('#start').is_enabled()


def test_a_file_beyond_the_limit_is_told(open_page, pictures, tmp_path):
    page = open_page()
    assert 'each up to 0.2 megapixels and 100 MB' in page.locator('#limits').text_content()
    with open(tmp_path / 'large.png', 'wb') as file:
        file.truncate(101 * 10**6)
    told = page.locator('#limits [role=alert]')
    page.set_input_files('#files input[type=file]', str(tmp_path / 'large.png'))
    expect(told).to_have_text('large.png: at most 100 MB expected', timeout=SOON)
    assert page.locator('#files tr.file').count() == 0
    choose(page, pictures[0])
    expect(told).to_have_text('')
    page.set_input_files('#files input[type=file]', [str(tmp_path / 'large.png'), str(pictures[1])])
    expect(page.locator('#files tr.file')).to_have_count(2, timeout=SOON)
    expect(told).to_have_text('large.png: at most 100 MB expected')


def test_stop(open_page, tmp_path):
    """What is done stays, the rest is not done; and it can be begun again."""
    page = open_page()
    paths = [tmp_path / f'{i}.png' for i in range(40)]
    for path in paths:
        cv2.imwrite(str(path), make_image(400, 450, 3))
    choose(page, *paths)
    assert page.locator('#stop').is_disabled()
    page.locator('#start').click()
    expect(page.locator('#status li').first).to_be_visible(timeout=SOON)
    expect(page.locator('#status progress')).to_be_visible(timeout=SOON)
    assert page.locator('#start').is_disabled()
    page.locator('#stop').click()
    told = page.locator('#status [role=status]')
    expect(told).to_have_text(re.compile(r'\d+ of 40 done, \d+ stopped'), timeout=SOON)
    done, stopped = map(int, re.findall(r'\d+(?= of| stopped)', told.text_content()))
    assert (done + stopped, done > 0, stopped > 0) == (40, True, True)
    assert page.locator('#results tr.file').count() == done
    assert page.locator('#start').is_enabled()
    page.locator('#files [aria-label=Clear]').click()
    choose(page, paths[0])
    enlarge(page, '1 of 1 done')


@pytest.mark.parametrize('width', [1280, 375])
def test_it_fits(open_page, pictures, tmp_path, width):
    page = open_page(width)
    assert fits(page)
    (tmp_path / f'{"a_long_name" * 9}.png').write_text('no picture')
    choose(page, *pictures, tmp_path / f'{"a_long_name" * 9}.png')
    enlarge(page, '2 of 3 done, 1 failed')
    assert fits(page)
    for name in ('#start', '#slider', '#results', '#status'):
        box = page.locator(name).bounding_box()
        assert 0 <= box['x'] < box['x'] + box['width'] <= width


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_text_can_be_read(open_page, pictures, tmp_path, scheme):
    """Contrast of 4.5 to 1 at least, WCAG's for text, in the colours that the system asks for."""
    page = open_page(color_scheme=scheme)
    (tmp_path / 'notes.txt').write_text('no picture')
    choose(page, pictures[0], tmp_path / 'notes.txt')
    enlarge(page, '1 of 2 done, 1 failed')

    def luminance(colour: str) -> float:
        values = np.array([float(value) for value in re.findall(r'[\d.]+', colour)[:3]]) / 255
        return float(
            np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
        )

    ground = """(element) => { while (getComputedStyle(element).backgroundColor === 'rgba(0, 0, 0, 0)')
        element = element.parentElement; return getComputedStyle(element).backgroundColor; }"""
    for name in ('#head h1', '#head p', '#limits p', '#status [role=status]', '#status li', '#status .wrong', '#start'):
        found = page.locator(name).first
        text = luminance(found.evaluate('(element) => getComputedStyle(element).color'))
        back = luminance(found.evaluate(ground))
        if name == '#head h1':
            assert (back > text) == (scheme == 'light')
        assert (max(text, back) + 0.05) / (min(text, back) + 0.05) >= 4.5, name


def test_a_closed_tab_leaves_no_result(open_page, server, pictures):
    page = open_page()
    choose(page, *pictures)
    enlarge(page, '2 of 2 done')
    results = [path for path in server.kept() if path.name == 'turned_x4.jpg']
    assert len(results) == 1
    page.reload()
    deadline = time.monotonic() + 60
    while results[0].exists():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_closed_tab_lets_others_go_on(open_page, pictures, tmp_path):
    first, second = open_page(), open_page()
    paths = [tmp_path / f'{i}.png' for i in range(200)]
    for path in paths:
        cv2.imwrite(str(path), make_image(400, 450, 3))
    choose(first, *paths)
    choose(second, pictures[0])
    first.locator('#start').click()
    expect(first.locator('#status li').first).to_be_visible(timeout=SOON)
    second.locator('#start').click()
    told = second.locator('#status [role=status]')
    expect(told).to_have_text('Waits until the pictures of another tab are done', timeout=SOON)
    first.close()
    expect(told).to_have_text('1 of 1 done', timeout=SOON)


def ask(server: Server, path: str, method: str = 'GET', **headers: str) -> int:
    connection = HTTPConnection('127.0.0.1', server.port)
    connection.request(method, path, headers=headers)
    return connection.getresponse().status


def test_others_are_not_answered(server):
    """Neither names that lead here, nor other sites in the same browser, nor other machines."""
    assert ask(server, '/') == 200
    assert ask(server, '/', Host='example.org') == 400
    assert ask(server, '/gradio_api/upload', 'POST', Origin='http://example.org') == 403
    assert ask(server, '/gradio_api/file=/etc/passwd') == 403
    with socket.socket() as elsewhere, pytest.raises(ConnectionRefusedError):
        elsewhere.connect(('127.0.0.2', server.port))


def test_a_port_that_is_taken(server):
    command = [sys.executable, '-m', 'facesr_plugin.cli', 'web', '--no-browser', '--port', str(server.port)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    expected = f'error: --port {server.port}: Address already in use; another one expected, 0 takes any that is free\n'
    assert (done.returncode, done.stdout, done.stderr) == (2, '', expected)


def test_between_the_two_stages(open_page, pictures, tmp_path, server):
    """The slider is there where the second stage's weights are, and stands where the command line says."""
    other = make_net(1)
    checkpoint.save(tmp_path / 'other.pth', {'params': other.state_dict()})
    own = start(tmp_path / 'web', '--natural-weights', str(tmp_path / 'other.pth'), '--natural', '0.25')
    page = open_page(at=own)
    place = page.get_by_label('number input for Natural')
    expect(place).to_have_value('0.25')
    place.fill('1')
    choose(page, pictures[1])
    enlarge(page, '1 of 1 done')
    found = read_picture(download(page, 0, tmp_path)).pixels
    expected = upscale_image(other, read_picture(pictures[1]).pixels, precision='auto')
    assert np.abs(found.astype(int) - expected).max() <= 257
    page.context.close()
    own.end()
    expect(open_page().get_by_label('number input for Natural')).to_have_count(0)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_kept(open_page, tmp_path, number):
    """Whatever ends the command, while it works."""
    server = start(tmp_path / 'web')
    page = open_page(at=server)
    cv2.imwrite(str(tmp_path / 'a.png'), make_image(1200, 1600, 3))
    choose(page, tmp_path / 'a.png')
    page.locator('#start').click()
    expect(page.locator('#status [role=status]')).to_have_text(re.compile(r'1 of 1: a\.png, [1-9].*'), timeout=SOON)
    assert server.kept() != []
    page.context.close()
    status, said = server.end(number)
    assert (status, said) == (130 if number == signal.SIGINT else 143, '')
    assert server.kept() == []
