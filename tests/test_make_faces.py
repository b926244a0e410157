"""scripts/make_faces.py without OpenVINO or the generator's weights: a stand-in paints the faces."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from tiny import FACES, ROOT, run

import make_faces
from facesr_plugin.data.images import list_images, read_image, write_image
from facesr_plugin.errors import UserError


class Painter:
    """Paints face `index` of set `seed` in a grey of its own, 8 px wide; remembers what it was asked for."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.asked: list[tuple[int, int]] = []
        self.fail_at = fail_at

    def __call__(self, seed: int, index: int) -> np.ndarray:
        if index == self.fail_at:
            raise KeyboardInterrupt
        self.asked.append((seed, index))
        return np.full((8, 8, 3), 10 * seed + index, np.uint8)


@pytest.fixture
def painter(monkeypatch) -> Painter:
    painter = Painter()
    monkeypatch.setattr(make_faces, 'FaceGenerator', lambda psi: painter)
    return painter


def test_latent_is_a_function_of_seed_and_index():
    z = make_faces.face_latent(3, 7)
    assert z.shape == (1, 512)
    assert z.dtype == np.float32
    np.testing.assert_array_equal(z, make_faces.face_latent(3, 7))


def test_latents_of_all_sets_differ():
    latents = {make_faces.face_latent(seed, index).tobytes() for seed in range(8) for index in range(64)}
    assert len(latents) == 8 * 64


def test_latents_are_standard_normal():
    z = np.concatenate([make_faces.face_latent(0, index) for index in range(400)])  # 204800 numbers
    assert abs(z.mean()) < 5 / np.sqrt(z.size)
    assert abs(z.var() - 1) < 5 * np.sqrt(2 / z.size)
    assert abs(np.corrcoef(z[:-1].ravel(), z[1:].ravel())[0, 1]) < 5 / np.sqrt(z.size)  # neighbours are unrelated


def test_writes_count_faces_of_the_size_asked(painter, tmp_path, capsys):
    assert not make_faces.main([str(tmp_path / 'new' / 'faces'), '--count', '3', '--seed', '2', '--size', '4'])
    files = list_images(tmp_path / 'new' / 'faces')
    assert [file.name for file in files] == ['face_2_000000.png', 'face_2_000001.png', 'face_2_000002.png']
    for index, file in enumerate(files):
        np.testing.assert_array_equal(read_image(file), np.full((4, 4, 3), 20 + index, np.uint8))
    assert capsys.readouterr().out == f'{tmp_path / "new" / "faces"}: 3 faces made, 0 were there\n'


def test_downscaling_averages_areas(tmp_path):
    image = np.zeros((8, 8, 3), np.uint8)
    image[::2, ::2] = 200  # one pixel of four
    make_faces.make_faces(lambda seed, index: image, {0: tmp_path / 'a.png'}, seed=0, size=4)
    np.testing.assert_array_equal(read_image(tmp_path / 'a.png'), np.full((4, 4, 3), 200 / 4, np.uint8))


def test_a_longer_run_adds_to_a_shorter_one(painter, tmp_path, capsys):
    make_faces.main([str(tmp_path), '--count', '2', '--size', '8'])
    before = {file: file.stat().st_mtime_ns for file in list_images(tmp_path)}
    make_faces.main([str(tmp_path), '--count', '4', '--size', '8'])
    assert painter.asked == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert capsys.readouterr().out.endswith('2 faces made, 2 were there\n')


def test_nothing_to_do_needs_no_generator(monkeypatch, painter, tmp_path, capsys):
    make_faces.main([str(tmp_path), '--count', '2', '--size', '8'])
    monkeypatch.setattr(make_faces, 'FaceGenerator', None)
    make_faces.main([str(tmp_path), '--count', '2', '--size', '8'])
    assert capsys.readouterr().out.endswith('0 faces made, 2 were there\n')


def test_stopped_run_goes_on_where_it_stopped(monkeypatch, tmp_path):
    monkeypatch.setattr(make_faces, 'FaceGenerator', lambda psi: Painter(fail_at=2))
    with pytest.raises(KeyboardInterrupt):
        make_faces.main([str(tmp_path), '--count', '4', '--size', '8'])
    assert len(list_images(tmp_path)) == 2
    painter = Painter()
    monkeypatch.setattr(make_faces, 'FaceGenerator', lambda psi: painter)
    make_faces.main([str(tmp_path), '--count', '4', '--size', '8'])
    assert painter.asked == [(0, 2), (0, 3)]


def test_half_written_face_does_not_count(monkeypatch, painter, tmp_path):
    def stop_half_way(path: Path, image: np.ndarray, params: tuple[int, ...]) -> None:
        path.write_bytes(b'half a picture')
        raise KeyboardInterrupt

    monkeypatch.setattr(make_faces, 'write_image', stop_half_way)
    with pytest.raises(KeyboardInterrupt):
        make_faces.main([str(tmp_path), '--count', '1', '--size', '8'])
    with pytest.raises(UserError, match='holds no image'):
        list_images(tmp_path)

    monkeypatch.setattr(make_faces, 'write_image', write_image)
    make_faces.main([str(tmp_path), '--count', '1', '--size', '8'])
    assert [file.name for file in tmp_path.iterdir()] == ['face_0_000000.png']


def test_jpeg_quality_is_used(monkeypatch, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    monkeypatch.setattr(make_faces, 'FaceGenerator', lambda psi: lambda seed, index: noise)
    for quality in ('10', '95'):
        make_faces.main([str(tmp_path / quality), '--count', '1', '--size', '64', '--format=jpg', '--quality', quality])
    low, high = (tmp_path / quality / 'face_0_000000.jpg' for quality in ('10', '95'))
    assert low.stat().st_size < high.stat().st_size / 2


@pytest.mark.parametrize(
    ('option', 'value', 'allowed'),
    [
        ('count', '0', '1 to 4294967296'),
        ('size', '2048', '4 to 1024'),
        ('psi', '1.5', '0 to 1'),
        ('seed', '-1', '0 to 4294967295'),
        ('quality', '0', '1 to 100'),
    ],
)
def test_option_out_of_range(tmp_path, option, value, allowed):
    with pytest.raises(UserError) as caught:
        make_faces.main([str(tmp_path / 'new'), f'--{option}', value])
    assert str(caught.value) == f'--{option}: {allowed} expected, got {value}'
    assert not (tmp_path / 'new').exists()


@pytest.mark.parametrize('package', ['openvino', 'random_face'])
def test_missing_package_says_what_to_install(monkeypatch, tmp_path, package):
    found = make_faces.importlib.util.find_spec
    monkeypatch.setattr(make_faces.importlib.util, 'find_spec', lambda name: None if name == package else found('json'))
    with pytest.raises(UserError) as caught:
        make_faces.main([str(tmp_path / 'new')])
    assert str(caught.value) == (
        f"{package} is not installed: pip install -e '.[faces]' && pip install --no-deps random_face==2021.7.21.1"
    )


def test_command_ends_with_one_line_and_status_2(tmp_path):
    done = run('scripts/make_faces.py', '.', '--psi', '2', cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr.splitlines()[-1] == 'error: --psi: 0 to 1 expected, got 2.0'


def test_sample_faces_are_small():
    files = list_images(FACES)
    assert len(files) == 32
    assert {read_image(file).shape for file in files} == {(512, 512, 3)}
    assert max(file.stat().st_size for file in files) < 150_000
    assert sum(file.stat().st_size for file in files) < 4_000_000


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        ([], {('datasets/faces/train', '1000', '0', None), ('datasets/faces/val', '100', '1', None)}),
        (
            ['FACES=4000'],
            {
                ('datasets/faces/train_4000/psi_0.7', '$((4000 / 2))', '0', None),
                ('datasets/faces/train_4000/psi_1.0', '$((4000 / 2))', '2', '1.0'),
                ('datasets/faces/val', '100', '1', None),
                ('datasets/faces/val_psi1', '100', '3', '1.0'),
            },
        ),
    ],
)
def test_make_makes_the_sets_of_both_sizes(options, expected, tmp_path):
    """In an empty folder, without doing it."""
    command = ['make', '--no-print-directory', '-n', '-f', str(ROOT / 'Makefile'), 'faces', *options]
    for name in ('setup.py', 'scripts'):
        (tmp_path / name).symlink_to(ROOT / name)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    pattern = r'make_faces\.py (\S+) --count (\d+|\$\(\(.*?\)\)) --seed (\d)(?: --psi (\S+))?$'
    found = {match for line in done.stdout.splitlines() for match in re.findall(pattern, line)}
    assert {(*words, psi or None) for *words, psi in found} == expected
    packed = 'train_4000 datasets/train_4000_hr.lmdb' if options else 'train datasets/train_hr.lmdb'
    assert f'facesr lmdb --raw --hr datasets/faces/{packed}\n' in done.stdout
