"""The benchmark of photographs: it runs, and its numbers are those of scenes whose faces are known."""

import pytest
from photographs import sample_faces

import benchmark_photos
from facesr_plugin.errors import UserError
from facesr_plugin.faces.align import crop
from photos.scenes import compose, square_at


def test_a_table_of_each_kind(tmp_path, capsys):
    path = tmp_path / 'new' / 'photos.md'
    benchmark_photos.main(['--sizes', '64', '--scenes', '1', '--device', 'cpu', '--markdown', str(path)])
    text = capsys.readouterr().out
    assert path.read_text() == text
    degraded, clean = text.split('Clean:')
    (row,) = [line for line in clean.splitlines() if line.startswith('| 64 ')]
    _, size, found, false, bicubic, network, faces, *_ = (cell.strip() for cell in row.split('|'))
    assert (size, found, false) == ('64', '2 of 2', '0')
    assert 20 < float(bicubic) < 40
    assert float(network) > 0.5
    assert float(faces) == pytest.approx(float(network), abs=0.1)
    assert degraded.startswith('Degraded:')


def test_wrong_options():
    with pytest.raises(UserError, match='--scenes of 1 or more and --sizes of 32 or more expected, got 0'):
        benchmark_photos.main(['--scenes', '0'])


def test_scenes_hold_what_they_say():
    """A face that is not turned and not resized is there as it was, in its middle; faces do not overlap."""
    face = sample_faces()[0][::4, ::4]
    scene = compose([face, face], [128, 128], [0, 0], (200, 400), seed=1)
    for square in scene.squares:
        inner, whole = square.widened(0.5), square_at(64 + 64j, 64, 0)
        assert abs(crop(scene.pixels, inner, 64).astype(int) - crop(face, whole, 64)).mean() < 4  # between two pixels
    assert abs(scene.squares[0].corner - scene.squares[1].corner) >= 128
    with pytest.raises(ValueError, match='no room for faces of 150, 150 px in 200x200 px'):
        compose([face, face], [150, 150], [0, 0], (200, 200), seed=0)
