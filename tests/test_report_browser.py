"""scripts/report.py in a browser: charts and slider work by mouse, touch and keyboard, and nothing is fetched."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from small import make_data
from test_report import CURVES, make_experiment, make_page

from facesr_plugin.data.images import decode_image

pytestmark = pytest.mark.slow
BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')


@pytest.fixture(scope='module')
def browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.fail(f'a browser is needed to test the report: one of {", ".join(BROWSERS)} on PATH')
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=path) as browser:
        yield browser


@pytest.fixture(scope='module')
def reports(tmp_path_factory) -> dict[int, Path]:
    """Reports of one experiment, with a single row, of two, and of eight."""
    root = tmp_path_factory.mktemp('reports')
    make_data(root)
    folders = [make_experiment(root / f'a_rather_long_name_of_run_{i}', root, seed=i) for i in range(8)]
    short = make_experiment(root / 'one_row', root, rows=1)
    for count, experiments in ((1, [short]), (2, folders[:2]), (8, folders)):
        make_page(root / str(count), *experiments)
    return {count: root / str(count) / 'pages' / 'report.html' for count in (1, 2, 8)}


@pytest.fixture
def open_page(browser, reports) -> Iterator:
    """Open a report; in the end nothing may have been fetched, and nothing gone wrong, not even in the console."""
    contexts, fetched, said = [], [], []

    def open_page(count: int = 2, width: int = 1280, **options) -> Page:
        contexts.append(browser.new_context(viewport={'width': width, 'height': 900}, **options))
        page = contexts[-1].new_page()
        page.on('request', lambda request: fetched.append(request.url))
        page.on('console', lambda message: said.append(message.text))
        page.on('pageerror', lambda error: said.append(str(error)))
        page.goto(reports[count].as_uri())
        page.wait_for_function("document.querySelectorAll('.chart .main-svg').length > 0")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
    own = {path.as_uri() for path in reports.values()}
    assert [url for url in fetched if not url.startswith('data:') and url not in own] == []


def position(page: Page) -> float:
    """Return where the line is, as a part of the picture's width."""
    line, stage = page.locator('#divider').bounding_box(), page.locator('#stage').bounding_box()
    return (line['x'] + line['width'] / 2 - stage['x']) / stage['width']


def shoot(page: Page, left: str, right: str) -> np.ndarray:
    """Return how the stage looks with these two pictures and the line in the middle."""
    page.select_option('#left', label=left)
    page.select_option('#right', label=right)
    page.evaluate("Promise.all([...document.querySelectorAll('#stage img')].map((picture) => picture.decode()))")
    return decode_image(page.locator('#stage').screenshot(), 'stage')


def test_charts_draw_every_experiment(open_page):
    page = open_page(8)
    for column in CURVES:
        points = page.locator(f'#chart-{column} .scatterlayer .trace:has(.points path)')
        assert points.count() == (1 if column == 'alpha' else 8)
    assert page.locator('#chart-val_psnr .scatterlayer .trace').count() == 10


def test_a_single_row_is_a_point(open_page):
    page = open_page(1)
    for column in CURVES:
        assert page.locator(f'#chart-{column} .points path').count() == 1


def test_pointer_over_a_chart_reads_its_numbers(open_page):
    page = open_page()
    page.locator('#chart-val_psnr').scroll_into_view_if_needed()
    point = page.locator('#chart-val_psnr .points path').nth(1).bounding_box()
    page.mouse.move(point['x'] + 5, point['y'] + 5)
    text = page.locator('#chart-val_psnr .hoverlayer .legend').text_content()
    assert all(name in text for name in ('a_rather_long_name_of_run_0 : ', 'bilinear : 24.250', 'bicubic : 24.125'))


def test_charts_offer_nothing_that_sends_them_away(open_page):
    titles = (
        open_page().locator('#chart-lr .modebar-btn').evaluate_all('buttons => buttons.map((b) => b.dataset.title)')
    )
    assert titles == ['Zoom', 'Pan', 'Reset axes']


def test_experiments_can_be_hidden(open_page):
    page = open_page()
    traces = page.locator('#chart-val_psnr .scatterlayer .trace')
    button = page.get_by_role('button', name='a_rather_long_name_of_run_1')
    for count in (3, 4):
        button.click()
        assert traces.count() == count
        assert button.get_attribute('aria-pressed') == str(count == 4).lower()


def test_mouse_moves_the_line(open_page):
    page = open_page()
    stage = page.locator('#stage')
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    assert position(page) == pytest.approx(0.5, abs=0.01)
    middle = box['y'] + box['height'] / 2
    page.mouse.move(box['x'] + box['width'] / 2, middle)
    page.mouse.down()
    for part in (0.25, 0.8):
        page.mouse.move(box['x'] + part * box['width'], middle)
        assert position(page) == pytest.approx(part, abs=0.01)
    page.mouse.up()
    page.mouse.move(box['x'], middle)
    assert position(page) == pytest.approx(0.8, abs=0.01)


def test_keys_move_the_line(open_page):
    page = open_page()
    page.get_by_role('slider').focus()
    for _ in range(10):
        page.keyboard.press('ArrowRight')
    assert position(page) == pytest.approx(0.55, abs=0.01)
    page.keyboard.press('Home')
    assert position(page) == pytest.approx(0, abs=0.01)


def test_touch_moves_the_line(open_page):
    page = open_page(width=375, has_touch=True, is_mobile=True)
    stage = page.locator('#stage')
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    page.touchscreen.tap(box['x'] + 0.7 * box['width'], box['y'] + 40)
    assert position(page) == pytest.approx(0.7, abs=0.01)


def test_each_side_of_the_line_shows_its_picture(open_page):
    page = open_page()
    both = shoot(page, 'LR, enlarged', 'HR')
    lr, hr = (shoot(page, name, name) for name in ('LR, enlarged', 'HR'))
    left, right = np.s_[20:-20, 20:225], np.s_[20:-20, 285:-20]  # without the line and the round corners
    np.testing.assert_array_equal(both[left], lr[left])
    np.testing.assert_array_equal(both[right], hr[right])
    assert (lr[left] != hr[left]).any()
    assert (lr[right] != hr[right]).any()


def test_captions_are_the_psnr_of_the_chosen_face(open_page):
    page = open_page()
    for face in (0, 2):
        page.locator(f'[name=face][value="{face}"]').check(force=True)
        cells = page.locator(f'.psnr tbody [data-face="{face}"]').all_text_contents()
        assert page.locator('.psnr tbody .current').all_text_contents() == cells
        assert page.locator('#left-caption').text_content() == f'{cells[1]} dB'
        assert page.locator('#right-caption').text_content() == f'{cells[2]} dB'
    page.select_option('#right', label='HR')
    assert page.locator('#right-caption').text_content() == 'reference'


def test_charts_follow_the_colour_scheme(open_page):
    page = open_page(color_scheme='light')
    ink, ticks = {}, {}
    for scheme in ('light', 'dark'):
        page.emulate_media(color_scheme=scheme)
        ink[scheme] = page.evaluate('getComputedStyle(document.body).color')
        page.wait_for_function(
            "ink => getComputedStyle(document.querySelector('#chart-lr .xtick text')).fill === ink", arg=ink[scheme]
        )
        ticks[scheme] = page.evaluate("getComputedStyle(document.querySelector('#chart-lr .xtick text')).fill")
    assert ink == ticks
    assert ink['light'] != ink['dark']


@pytest.mark.parametrize('count', [1, 2, 8])
@pytest.mark.parametrize('width', [375, 800, 1280])
def test_nothing_is_wider_than_the_window(open_page, count, width):
    page = open_page(count, width)
    page.locator('summary').click()
    assert page.evaluate('document.documentElement.scrollWidth') == width
    tables = page.locator('.results td').all()
    assert all(cell.bounding_box()['x'] + cell.bounding_box()['width'] <= width for cell in tables)
