"""report/grid.py: texts in pictures are drawn with a font that has them, or in letters that stand for them."""

import pytest
from matplotlib import font_manager

from facesr_plugin.data.lmdb_images import name_of
from facesr_plugin.report.grid import _characters, find_font


@pytest.mark.parametrize('text', ['Jörg', 'Żółć', 'лицо', 'πρόσωπο', '顔', 'ﬁ', '😀 a', 'a\n', '\ud800'])
@pytest.mark.parametrize('fonts', [True, False])
def test_no_boxes(monkeypatch, text, fonts):
    if not fonts:
        monkeypatch.setattr(font_manager.fontManager, 'ttflist', [])
    font, drawn = find_font(text)
    assert {ord(character) for character in drawn} <= _characters(font)


def test_texts_stay_where_a_font_has_them(monkeypatch):
    monkeypatch.setattr(font_manager.fontManager, 'ttflist', [])
    assert find_font('Jörg лицо')[1] == 'Jörg лицо'
    assert find_font('顔 a')[1] == 'U+9854 a'


@pytest.mark.parametrize(('key', 'name'), [('J%C3%B6rg/a%2Eb', 'Jörg/a.b'), ('plain', 'plain'), ('%FF', '\ufffd')])
def test_names_are_shown_without_percent_codes(key, name):
    assert name_of(key) == name
