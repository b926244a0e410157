import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from basicsr.data import build_dataset
from torch.utils.data import DataLoader

from facesr_plugin.data.epoch_sampler import EpochSampler, SampleIndex
from facesr_plugin.data.face_degradation_dataset import FaceDegradationDataset
from facesr_plugin.data.images import read_image, write_image
from facesr_plugin.data.lmdb_writer import image_keys, write_lmdbs
from facesr_plugin.errors import UserError

HEIGHT, WIDTH = 72, 80
KERNELS = ('kernel1', 'kernel2', 'sinc_kernel')


def coordinates(number: int) -> np.ndarray:
    """Return an image whose pixels spell where they are: red = column, green = row, blue = the image's number."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.uint8)
    return np.stack([columns, rows, np.full_like(rows, number)], 2)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Return a folder of six images, one in a subfolder."""
    for number in range(6):
        name = f'more/face_{number}.png' if number == 5 else f'face_{number}.png'
        write_image(tmp_path / 'faces' / name, coordinates(number))
    return tmp_path / 'faces'


def options(root: Path, **changes: Any) -> dict[str, Any]:
    return {
        'name': 'faces',
        'type': 'FaceDegradationDataset',
        'dataroot_gt': str(root),
        'io_backend': {'type': 'disk'},
        'gt_size': 64,
        'num_worker_per_gpu': 0,
        'batch_size_per_gpu': 2,
        **changes,
    }


def equal(samples: list[dict], others: list[dict]) -> bool:
    names = ('gt', *KERNELS)
    return all(torch.equal(a[name], b[name]) for a, b in zip(samples, others, strict=True) for name in names)


def batches(dataset: FaceDegradationDataset, workers: int, seed: int = 3, **sampler_options) -> list[dict]:
    """Return the batches of the second epoch."""
    sampler = EpochSampler(dataset, 1, 0, seed=seed, batch_size=2, **sampler_options)
    sampler.set_epoch(1)
    iterator = iter(DataLoader(dataset, batch_size=2, sampler=sampler, num_workers=workers))
    try:
        return list(iterator)
    finally:
        if workers:  # an error would keep the iterator, and the next loader's workers inherit it and wait for its own
            iterator._shutdown_workers()


def test_registered(folder):
    assert isinstance(build_dataset({**options(folder), 'phase': 'train', 'scale': 4}), FaceDegradationDataset)


def test_sample(folder):
    dataset = FaceDegradationDataset(options(folder))
    sample = dataset[SampleIndex(5, seed=(0, 9))]
    assert len(dataset) == 6
    assert set(sample) == {'gt', *KERNELS, 'gt_path'}
    assert (sample['gt'].dtype, sample['gt'].shape) == (torch.uint8, (3, 64, 64))
    assert sample['gt'][2].unique().tolist() == [5]
    assert sample['gt_path'] == 'more/face_5.png'
    for name in KERNELS:
        assert (sample[name].dtype, sample[name].shape) == (torch.float32, (21, 21))


# -------------------------------------------------------------------------------- patches
@pytest.mark.parametrize('gt_size', [4, 20, 52, 72])
def test_patch_of_any_size(folder, gt_size):
    """A patch is a window of the image, half of them mirrored, and windows lie everywhere."""
    dataset = FaceDegradationDataset(options(folder, gt_size=gt_size))
    corners, flips = set(), 0
    for position in range(60):
        red, green, _ = dataset[SampleIndex(0, (0, position))]['gt'].int()
        flipped = int(red[0, 0] > red[0, 1])
        columns = red[0].flip(0) if flipped else red[0]
        left, top = int(columns[0]), int(green[0, 0])
        assert torch.equal(columns, torch.arange(left, left + gt_size, dtype=torch.int32))
        assert torch.equal(green[:, 0], torch.arange(top, top + gt_size, dtype=torch.int32))
        assert (red == red[:1]).all()
        assert (green == green[:, :1]).all()
        corners.add((left, top))
        flips += flipped
    assert 18 <= flips <= 42  # within 3 standard deviations of 30
    assert max(left for left, _ in corners) > (WIDTH - gt_size) * 0.8
    assert min(left for left, _ in corners) < (WIDTH - gt_size) * 0.2
    assert len({top for _, top in corners}) > min(10, HEIGHT - gt_size)


def test_image_of_the_patch_size_is_used_whole(tmp_path):
    write_image(tmp_path / 'square.png', coordinates(1)[:, :72])
    gt = FaceDegradationDataset(options(tmp_path, gt_size=72, use_hflip=False))[SampleIndex(0, (0, 0))]['gt']
    np.testing.assert_array_equal(gt.permute(1, 2, 0).numpy(), coordinates(1)[:, :72])


def test_without_flip(folder):
    dataset = FaceDegradationDataset(options(folder, use_hflip=False))
    for position in range(20):
        red = dataset[SampleIndex(0, (0, position))]['gt'][0].int()
        assert (red.diff(dim=1) == 1).all()


def test_rotations(folder):
    """All eight orientations occur."""
    dataset = FaceDegradationDataset(options(folder, use_rot=True))
    orientations = set()
    for position in range(80):
        red, green, _ = dataset[SampleIndex(0, (0, position))]['gt'].int()
        orientations.add(
            (*(int(step) for plane in (red, green) for step in (plane[0, 1] - plane[0, 0], plane[1, 0] - plane[0, 0])),)
        )
    straight = {(x, 0, 0, y) for x in (1, -1) for y in (1, -1)}
    transposed = {(0, x, y, 0) for x in (1, -1) for y in (1, -1)}
    assert orientations == straight | transposed


# ----------------------------------------------------------------------- reproducible
@pytest.mark.parametrize('workers', [1, 2])
def test_same_samples_whatever_the_workers(folder, workers):
    dataset = FaceDegradationDataset(options(folder))
    found, expected = batches(dataset, workers), batches(dataset, 0)
    assert equal(found, expected)
    assert [batch['gt_path'] for batch in found] == [batch['gt_path'] for batch in expected]


def test_same_samples_for_a_resumed_run(folder):
    dataset = FaceDegradationDataset(options(folder))
    assert equal(batches(dataset, 2, start_iter=5), batches(dataset, 0)[2:])


def test_function_of_seed_and_position(folder):
    dataset = FaceDegradationDataset(options(folder))
    sample = dataset[SampleIndex(2, (3, 14))]
    torch.rand(5), np.random.rand()
    assert equal([dataset[SampleIndex(2, (3, 14))]], [sample])
    for seed in ((3, 15), (4, 14)):
        assert not torch.equal(dataset[SampleIndex(2, seed)]['kernel1'], sample['kernel1'])


def test_other_samplers_follow_the_processs_seed(folder):
    dataset = FaceDegradationDataset(options(folder))
    random.seed(1)
    first = [dataset[i] for i in range(3)]
    random.seed(1)
    assert equal([dataset[i] for i in range(3)], first)
    assert not torch.equal(dataset[0]['kernel1'], first[0]['kernel1'])


@pytest.mark.parametrize('png_level', [1, None])
def test_lmdb_and_folder_give_the_same(folder, tmp_path, png_level):
    keys = image_keys(folder)
    path = tmp_path / 'faces.lmdb'
    write_lmdbs([path], list(keys), lambda key: [read_image(keys[key])], png_level)
    from_lmdb = FaceDegradationDataset(options(path, io_backend={'type': 'lmdb'}))
    from_folder = FaceDegradationDataset(options(folder))
    for workers in (0, 2):
        assert equal(batches(from_lmdb, workers), batches(from_folder, workers))


# ----------------------------------------------------------------------------- errors
def refusal(root: Path, **changes: Any) -> str:
    with pytest.raises(UserError) as error:
        FaceDegradationDataset(options(root, **changes))
    return str(error.value)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'gt_sizes': 64}, "datasets.train.gt_sizes: unknown option, did you mean 'gt_size'?"),
        ({'gt_size': 0}, 'datasets.train.gt_size: expected greater than or equal to 1, got 0'),
        ({'gt_size': 62}, 'datasets.train.gt_size: a multiple of the scale 4 expected, got 62'),
        ({'gt_size': 9, 'scale': 2}, 'datasets.train.gt_size: a multiple of the scale 2 expected, got 9'),
        ({'blur_sigma': [3, 1]}, 'datasets.train.blur_sigma: expected [low, high] with low <= high, got [3, 1]'),
        (
            {'io_backend': {'type': 'memcached'}},
            "datasets.train.io_backend.type: expected 'lmdb' or 'disk', got 'memcached'",
        ),
    ],
)
def test_exception_options(folder, changes, message):
    assert refusal(folder, **changes) == message


def test_exception_too_small(folder):
    expected = 'at least 76x76 px expected (datasets.train.gt_size), got 80x72'
    names = [*(f'face_{number}.png' for number in range(5)), 'more/face_5.png']
    assert refusal(folder, gt_size=76).splitlines() == [f'{folder}: {name}: {expected}' for name in names]


def test_exception_no_folder(tmp_path):
    assert refusal(tmp_path / 'none') == f'{tmp_path}/none: no such folder'


def test_exception_empty_folder(tmp_path):
    assert refusal(tmp_path) == f'{tmp_path}: holds no image (.png, .jpg, .jpeg, .bmp, .webp, .tif, .tiff)'


def test_exception_no_image(folder):
    (folder / 'face_3.png').write_text('not a picture')
    message = refusal(folder)
    assert message.startswith(f'{folder}/face_3.png: cannot be read as an image (')
    assert '\n' not in message


def test_exception_no_lmdb(folder):
    message = refusal(folder, io_backend={'type': 'lmdb'})
    assert message == f'{folder}: no LMDB there (data.mdb: No such file or directory)'


@pytest.mark.parametrize('workers', [0, 2])
def test_exception_while_loading_is_one_line(folder, workers):
    """An image that is damaged later on; also out of a worker, which sends its whole traceback."""
    dataset = FaceDegradationDataset(options(folder))
    (folder / 'face_3.png').write_text('not a picture')
    with pytest.raises(UserError) as error:
        batches(dataset, workers)
    reason = 'cannot be read as an image (empty, damaged or another file type)'
    assert str(error.value) == f'{folder}/face_3.png: {reason}'


@pytest.mark.parametrize('workers', [0, 2])
def test_exception_file_gone_while_loading(folder, workers):
    dataset = FaceDegradationDataset(options(folder))
    (folder / 'face_2.png').unlink()
    with pytest.raises(UserError) as error:
        batches(dataset, workers)
    assert str(error.value) == f'{folder}/face_2.png: No such file or directory'
