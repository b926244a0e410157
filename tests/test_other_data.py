"""Training images other than those a state was saved with: noticed by what they are, not by where they lie."""

import math
import shutil
from pathlib import Path

import pytest
import torch
from small import Options, picture, put

from facesr_plugin import train
from facesr_plugin.data.fingerprint import SAMPLES, change, fingerprint
from facesr_plugin.data.image_source import open_images
from facesr_plugin.data.images import list_images, read_image, write_image
from facesr_plugin.data.lmdb_writer import image_keys, write_lmdbs
from facesr_plugin.run import checkpoint

RESUME = '--auto_resume'


def pack(folder: Path, path: Path) -> Path:
    keys = image_keys(folder)
    write_lmdbs([path], list(keys), lambda key: [read_image(keys[key])])
    return path


def of(root: Path) -> Options:
    return fingerprint(open_images(root))


# ------------------------------------------------------------------------- the fingerprint
def test_a_folder_and_its_lmdb_are_the_same(data):
    assert of(data / 'hr') == of(pack(data / 'hr', data / 'hr.lmdb'))
    assert of(data / 'hr')['images'] == 3
    assert change(of(data / 'hr'), of(data / 'hr')) is None


def test_what_is_noticed(data):
    before = of(data / 'hr')
    write_image(data / 'hr' / 'face_1.png', picture(96, seed=9))
    assert change(before, of(data / 'hr')) == 'the same pictures expected, face_1 is another'
    write_image(data / 'hr' / 'face_1.png', picture(100, seed=9))
    others = 'images of the same names, sizes and order expected, got others'
    assert change(before, of(data / 'hr')) == others
    write_image(data / 'hr' / 'face_3.png', picture())
    assert change(before, of(data / 'hr')) == '3 images expected, got 4'
    (data / 'hr' / 'face_0.png').unlink()
    assert change(before, of(data / 'hr')) == others


def test_an_image_that_could_not_be_read_is_not_another(data):
    path = data / 'hr' / 'face_3.jpg'
    write_image(path, picture())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    damaged = of(data / 'hr')
    path.write_bytes(whole)
    assert None in damaged['pixels'].values()
    assert change(damaged, of(data / 'hr')) is None


def test_few_images_are_read(tmp_path, monkeypatch):
    """Of many, some at even distances, the first among them."""

    class Images:
        def __init__(self) -> None:
            self.keys = [f'{number:05}' for number in range(70_000)]
            self.shapes = [(128, 128)] * 70_000
            self.was_read = []

        def read(self, key: str):
            self.was_read.append(key)
            return picture(8)

    images = Images()
    assert len(fingerprint(images)['pixels']) == SAMPLES
    assert images.was_read == [f'{index * 70_000 // SAMPLES:05}' for index in range(SAMPLES)]


# ------------------------------------------------------------------------------ whole runs
@pytest.fixture
def opt(opt: Options, data) -> Options:
    """Six iterations of two images, of three that it has; half of them done."""
    del opt['datasets']['val'], opt['val']
    opt['train'] |= {'total_iter': 6}
    opt['train']['scheduler']['periods'] = [6]
    opt['logger']['save_checkpoint_freq'] = 3
    return opt


def folder(data: Path) -> Path:
    return data / 'root' / 'experiments' / 'run'


def train_half(launch, opt: Options, data: Path) -> None:
    """Train to the end, and take the later half away."""
    status, _, err = launch(train.main, opt)
    assert status == 0, err
    (folder(data) / 'training_states' / '6.state').unlink()
    for label in ('6', 'latest'):
        (folder(data) / 'models' / f'net_g_{label}.pth').unlink()


def add_faces(data: Path, count: int) -> None:
    for number in range(3, 3 + count):
        write_image(data / 'hr' / f'face_{number}.png', picture(96, number))


def test_more_images_are_refused_or_go_on_to_the_end(launch, opt, data):
    """At 754be97 the loop took the state's epoch for one of the new length, and ended early with status 0."""
    train_half(launch, opt, data)
    add_faces(data, 20)
    line = 'datasets.train: 3 images expected, got 23, as the training state was saved with; --allow_other_data goes on'
    for flags in ((RESUME,), (RESUME, '--check')):
        status, out, err = launch(train.main, opt, *flags)
        assert (status, err) == (2, f'error: {line} with these\n')
    assert not (folder(data) / 'models' / 'net_g_latest.pth').exists()
    notice = '--allow_other_data: going on with other training images: 3 images expected, got 23'
    status, out, err = launch(train.main, opt, RESUME, '--check', '--allow_other_data')
    assert (status, notice in out) == (0, True)
    status, out, err = launch(train.main, opt, RESUME, '--allow_other_data')
    assert status == 0
    assert notice in err
    state = checkpoint.load(folder(data) / 'training_states' / '6.state')
    assert state['iter'] == 6
    assert state['facesr']['data']['images'] == 23
    rows = state['facesr']['monitor']['history']
    assert [(row['iter'], row['epoch']) for row in rows] == [(3, 2), (6, math.ceil(6 * 2 / 23))]


def test_fewer_images_go_on_to_the_end(launch, opt, data):
    add_faces(data, 9)
    train_half(launch, opt, data)
    for path in list_images(data / 'hr')[2:]:
        path.unlink()
    assert launch(train.main, opt, RESUME)[0] == 2
    status, _, err = launch(train.main, opt, RESUME, '--allow_other_data')
    assert status == 0, err
    assert (folder(data) / 'training_states' / '6.state').exists()


def test_the_same_images_elsewhere_go_on_exactly(launch, opt, data):
    """In another folder, and packed into an LMDB."""
    train_half(launch, opt, data)
    unbroken = folder(data).with_name('unbroken')
    results = []
    shutil.copytree(folder(data), unbroken)
    for root, backend in ((data / 'hr', 'disk'), (data / 'moved', 'disk'), (data / 'packed.lmdb', 'lmdb')):
        if root.name == 'moved':
            (data / 'hr').rename(root)
        elif backend == 'lmdb':
            pack(data / 'moved', root)
        shutil.rmtree(folder(data))
        shutil.copytree(unbroken, folder(data))
        put(opt, 'datasets.train.dataroot_gt', str(root))
        put(opt, 'datasets.train.io_backend.type', backend)
        status, _, err = launch(train.main, opt, RESUME)
        assert status == 0, err
        results.append(torch.load(folder(data) / 'models' / 'net_g_6.pth', weights_only=True)['params'])
    for other in results[1:]:
        assert all(torch.equal(results[0][name], other[name]) for name in other)


def test_a_relative_path_goes_on_when_the_experiment_has_moved(launch, opt, data, monkeypatch):
    (data / 'hr').rename(data / 'root' / 'hr')
    put(opt, 'datasets.train.dataroot_gt', 'hr')
    train_half(launch, opt, data)
    (data / 'root').rename(data / 'new')
    monkeypatch.chdir(data / 'new')
    status, _, err = launch(train.main, opt, RESUME)
    assert status == 0, err
    assert (data / 'new' / 'experiments' / 'run' / 'training_states' / '6.state').exists()


def test_a_state_that_does_not_say_is_taken_at_its_word(launch, opt, data):
    """As of 754be97."""
    train_half(launch, opt, data)
    path = folder(data) / 'training_states' / '3.state'
    state = checkpoint.load(path)
    del state['facesr']['data']
    checkpoint.save(path, state)
    add_faces(data, 1)
    status, out, _ = launch(train.main, opt, RESUME)
    assert status == 0
    assert 'The training state does not say which images it was trained on' in out
    assert checkpoint.load(folder(data) / 'training_states' / '6.state')['facesr']['data']['images'] == 4


def test_a_run_that_ends_early_says_so(launch, opt, monkeypatch):
    """Whatever the reason: here a sampler with less than the loop counts on."""
    monkeypatch.setattr(train.EpochSampler, '__iter__', lambda self: iter([]))
    status, _, err = launch(train.main, opt)
    assert status == 1
    assert err.endswith('error: train.total_iter: ended at iteration 0 of 6, with no batch left\n')
