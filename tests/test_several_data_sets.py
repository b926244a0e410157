"""Several training data sets with weights: each a folder or an LMDB."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from small import Options, picture, put

from facesr_plugin import train
from facesr_plugin.data.epoch_sampler import EpochSampler, Share
from facesr_plugin.data.face_degradation_dataset import FaceDegradationDataset
from facesr_plugin.data.images import read_image, write_image
from facesr_plugin.data.lmdb_writer import image_keys, write_lmdbs
from facesr_plugin.errors import UserError
from facesr_plugin.options.check import check
from facesr_plugin.run import checkpoint


@pytest.fixture
def opt(opt: Options, data: Path) -> Options:
    """Options with a folder of three images and an LMDB of five, one of them of the same name."""
    for number in range(2, 7):
        write_image(data / 'more' / f'face_{number}.png', picture(96, number))
    keys = image_keys(data / 'more')
    write_lmdbs([data / 'more.lmdb'], list(keys), lambda key: [read_image(keys[key])])
    put(opt, 'datasets.train.dataroot_gt', [str(data / 'hr'), str(data / 'more.lmdb')])
    opt['datasets']['train']['weights'] = [3, 1]
    return opt


def test_images_of_both(opt, data):
    dataset = FaceDegradationDataset(opt['datasets']['train'])
    assert len(dataset) == 8
    names = [f'{data}/hr: face_{n}.png' for n in range(3)] + [f'{data}/more.lmdb: face_{n}' for n in range(2, 7)]
    assert [dataset[index]['gt_path'] for index in range(8)] == names
    for index, number in enumerate((0, 1, 2, 2, 3, 4, 5, 6)):
        assert (dataset.images.read(dataset.images.keys[index]) == picture(96, number)).all()
    assert dataset.shares() == [Share(f'{data}/hr', 3, 0.75), Share(f'{data}/more.lmdb', 5, 0.25)]


def test_weights_are_kept_in_every_epoch():
    """Of 40 samples 30 are of the first three images, ten times each, the others once or none."""
    shares = [Share('a', 3, 0.75), Share('b', 15, 0.25)]
    sampler = EpochSampler(range(18), 1, 0, ratio=2, batch_size=4, seed=1, shares=shares)
    assert len(sampler) == 36
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
        counts = Counter(map(int, orders[-1]))
        assert [counts[index] for index in range(3)] == [9, 9, 9]
        assert sorted(counts[index] for index in range(3, 18)) == [0] * 6 + [1] * 9
    assert orders[0] != orders[1]
    sampler.set_epoch(0)
    assert list(sampler) == orders[0]
    resumed = EpochSampler(range(18), 1, 0, ratio=2, batch_size=4, seed=1, shares=shares, start_iter=5)
    assert list(resumed) == orders[0][20:]
    ranks = [list(EpochSampler(range(18), 2, rank, ratio=2, batch_size=2, seed=1, shares=shares)) for rank in (0, 1)]
    assert [index for pair in zip(*ranks, strict=True) for index in pair] == orders[0]


def test_training_goes_on_exactly_and_counts_them(launch, opt, data):
    status, _, err = launch(train.main, opt)
    assert status == 0, err
    assert f'Training images of {data}/hr: 3, 75.0% of the samples' in err
    assert f'Training images of {data}/more.lmdb: 5, 25.0% of the samples' in err
    folder = data / 'root' / 'experiments' / 'run'
    expected = torch.load(folder / 'models' / 'net_g_4.pth', weights_only=True)['params']
    (folder / 'training_states' / '4.state').unlink()
    status, _, err = launch(train.main, opt, '--auto_resume')
    assert status == 0, err
    found = torch.load(folder / 'models' / 'net_g_4.pth', weights_only=True)['params']
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert checkpoint.load(folder / 'training_states' / '4.state')['facesr']['data']['images'] == 8

    (folder / 'training_states' / '4.state').unlink()
    put(opt, 'datasets.train.weights', [1, 1])
    status, _, err = launch(train.main, opt, '--auto_resume')
    line = 'error: datasets.train.weights: [3.0, 1.0] expected, as the training state was saved under, got [1.0, 1.0]'
    assert (status, err) == (2, f'{line}\n')
    put(opt, 'datasets.train.weights', [3, 1])
    opt['datasets']['train']['dataroot_gt'].reverse()
    status, _, err = launch(train.main, opt, '--auto_resume')
    assert (status, 'order expected' in err) == (2, True)


def test_without_weights_every_image_counts_alike(launch, opt, data):
    del opt['datasets']['train']['weights']
    status, _, err = launch(train.main, opt)
    assert status == 0, err
    assert f'Training images of {data}/hr: 3, 37.5% of the samples' in err


def test_what_is_wrong_is_named(opt, data):
    put(opt, 'datasets.train.weights', [1, 2, 3])
    expected = r'^datasets\.train\.weights: 2 numbers expected, one per dataroot_gt, got \[1, 2, 3\]$'
    with pytest.raises(UserError, match=expected):
        check(opt, True)
    put(opt, 'datasets.train.weights', [1, 2, 3])
    opt['datasets']['train']['dataroot_gt'].append('nowhere')
    with pytest.raises(UserError, match=r'^datasets\.train\.dataroot_gt: no such file or folder: nowhere$'):
        check(opt, True)
    opt['datasets']['train']['dataroot_gt'][2] = str(data / 'lr')
    with pytest.raises(UserError, match=rf'^{data}/lr: face_0\.png: at least 80x80 px expected'):
        check(opt, True)
    (data / 'hr' / 'face_1.png').write_text('no picture')
    (data / 'empty').mkdir()
    opt['datasets']['train']['dataroot_gt'] = [str(data / 'empty'), str(data / 'hr'), str(data / 'lr')]
    with pytest.raises(UserError) as caught:
        check(opt, True)
    small = 'at least 80x80 px expected (datasets.train.gt_size), got 24x24'
    assert str(caught.value).splitlines() == [
        f'{data}/empty: holds no image (.png, .jpg, .jpeg, .bmp, .webp, .tif, .tiff)',
        f'{data}/hr/face_1.png: cannot be read as an image (empty, damaged or another file type)',
        *(f'{data}/lr: face_{number}.png: {small}' for number in range(3)),
    ]
    for number in range(30):
        write_image(data / 'small' / f'face_{number}.png', picture(24, number))
    opt['datasets']['train']['dataroot_gt'][2] = str(data / 'small')
    with pytest.raises(UserError) as caught:
        check(opt, True)
    lines = str(caught.value).splitlines()
    assert (len(lines), lines[-1]) == (21, 'and 12 more like these')
    put(opt, 'datasets.train.dataroot_gt', [])
    with pytest.raises(UserError, match=r'^datasets\.train\.dataroot_gt: expected .*at least 1 item'):
        check(opt, True)
