"""facesr report in a browser: charts and slider work by mouse, touch and keyboard, and nothing is fetched."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Locator, Page
from small import make_data
from test_report import CURVES, make_experiment, make_page

from facesr_plugin.data.images import decode_image

pytestmark = pytest.mark.slow


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


def lines(page: Page, column: str) -> Locator:
    """Return what is drawn of experiments in a chart."""
    return page.locator(f'#chart-{column} [data-line]')


def test_charts_draw_every_experiment(open_page):
    page = open_page(8)
    for column in CURVES:
        assert lines(page, column).count() == (1 if column == 'alpha' else 8)
        assert all(line.is_visible() for line in lines(page, column).all())


def test_a_single_row_is_a_point(open_page):
    page = open_page(1)
    for column in CURVES:
        assert lines(page, column).locator('use').count() == 1


@pytest.mark.parametrize('part', [0.1, 0.95])
def test_pointer_over_a_chart_reads_its_numbers(open_page, part):
    """Of the nearest iteration, which the line through the chart marks."""
    page = open_page()
    chart = page.locator('#chart-val_psnr')
    chart.scroll_into_view_if_needed()
    box, told = chart.bounding_box(), chart.get_by_role('status')
    assert not told.is_visible()
    page.mouse.move(box['x'] + part * box['width'], box['y'] + box['height'] / 2)
    point = lines(page, 'val_psnr').first.locator('use').nth(0 if part < 0.5 else 2).bounding_box()
    line = page.locator('#chart-val_psnr .pointer').bounding_box()
    assert line['x'] == pytest.approx(point['x'] + point['width'] / 2, abs=1)
    text = told.text_content()
    assert text.startswith(f'iteration {10 if part < 0.5 else 30}● a_rather_long_name_of_run_0: ')
    assert all(said in text for said in ('a_rather_long_name_of_run_1: ', 'bilinear: 24.250', 'bicubic: 24.125'))
    assert 0 <= told.bounding_box()['x'] < told.bounding_box()['x'] + told.bounding_box()['width'] < 1280
    page.mouse.move(0, 0)
    assert not told.is_visible()


def test_keys_read_a_chart(open_page):
    page = open_page()
    chart = page.locator('#chart-alpha')
    chart.focus()
    for key, iteration, alpha in (
        ('ArrowRight', 10, 0.8),
        ('ArrowRight', 20, 0.7),
        ('End', 30, 0.6),
        ('ArrowLeft', 20, 0.7),
    ):
        page.keyboard.press(key)
        expected = f'iteration {iteration}● a_rather_long_name_of_run_0: {alpha:.3f}'
        assert chart.get_by_role('status').text_content() == expected
    page.keyboard.press('Escape')
    assert not chart.get_by_role('status').is_visible()


def test_touch_reads_a_chart(open_page):
    page = open_page(width=375, has_touch=True, is_mobile=True)
    page.locator('#chart-lr').tap()
    told = page.locator('#chart-lr').get_by_role('status')
    assert told.text_content().startswith('iteration 20● ')
    assert 0 <= told.bounding_box()['x'] < told.bounding_box()['x'] + told.bounding_box()['width'] <= 375


def test_experiments_can_be_hidden(open_page):
    page = open_page()
    button = page.get_by_role('button', name='a_rather_long_name_of_run_1')
    for shown in (False, True):
        button.click()
        assert button.get_attribute('aria-pressed') == str(shown).lower()
        assert [line.is_visible() for line in lines(page, 'val_psnr').all()] == [True, shown]
        page.locator('#chart-val_psnr').focus()
        page.keyboard.press('Home')
        assert ('run_1: ' in page.locator('#chart-val_psnr').get_by_role('status').text_content()) == shown


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
    fills = {}
    for scheme in ('light', 'dark'):
        page.emulate_media(color_scheme=scheme)
        fills[scheme] = page.locator('#chart-lr text').first.evaluate('text => getComputedStyle(text).fill')
        assert fills[scheme] == page.locator('figcaption span').first.evaluate('span => getComputedStyle(span).color')
    assert fills['light'] != fills['dark']


@pytest.mark.parametrize('width', [375, 1280])
def test_labels_are_legible_and_within_the_window(open_page, width):
    labels = [label.bounding_box() for label in open_page(2, width).locator('.chart text').all()]
    assert labels
    for box in labels:
        assert box['height'] > 10
        assert 0 <= box['x'] < box['x'] + box['width'] <= width


@pytest.mark.parametrize('count', [1, 2, 8])
@pytest.mark.parametrize('width', [375, 800, 1280])
def test_nothing_is_wider_than_the_window(open_page, count, width):
    page = open_page(count, width)
    page.locator('summary').click()
    assert page.evaluate('document.documentElement.scrollWidth') == width
    tables = page.locator('.results td').all()
    assert all(cell.bounding_box()['x'] + cell.bounding_box()['width'] <= width for cell in tables)
