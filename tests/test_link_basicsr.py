"""scripts/link_basicsr.py on a stand-in for the installed BasicSR."""

from pathlib import Path

import pytest

import link_basicsr
from facesr_plugin.errors import UserError


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    package = tmp_path / 'site' / 'basicsr'
    (package / 'data').mkdir(parents=True)
    (package / 'data' / 'degradations.py').write_text(f'import cv2\n{link_basicsr.BROKEN}\nrest = 1\n')
    monkeypatch.setattr(link_basicsr, 'installed_basicsr', lambda: package)
    monkeypatch.chdir(tmp_path)
    return package


def test_fixes_the_one_line_and_links(package, capsys):
    for _ in range(2):  # the second time nothing is left to fix, and the link is made anew
        link_basicsr.main([])
    assert Path('basicsr').is_symlink()
    assert Path('basicsr').samefile(package)
    text = (package / 'data' / 'degradations.py').read_text()
    assert text == f'import cv2\n{link_basicsr.FIXED}\nrest = 1\n'
    assert capsys.readouterr().out.count('applied its upstream fix') == 1


def test_leaves_what_is_no_link(package):
    Path('basicsr').mkdir()
    with pytest.raises(UserError, match=r'^basicsr: a link expected, or nothing; move it away first$'):
        link_basicsr.main([])
    assert not Path('basicsr').is_symlink()


def test_names_a_file_of_another_version(package):
    path = package / 'data' / 'degradations.py'
    path.write_text('import cv2\n')
    with pytest.raises(UserError, match=r'degradations.py: BasicSR 1.4.2 expected, this file lacks its import of'):
        link_basicsr.main([])
    assert path.read_text() == 'import cv2\n'


def test_finds_the_installed_one(tmp_path):
    assert (link_basicsr.installed_basicsr() / 'train.py').is_file()
