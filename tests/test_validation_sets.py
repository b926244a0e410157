"""Several validation and test sets: which one decides, where pictures go, what is measured without HR images."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from basicsr import test as stock
from small import Options, picture, put

from facesr_plugin import test, train
from facesr_plugin.data.images import list_images, read_image, write_image
from facesr_plugin.errors import UserError
from facesr_plugin.models.alpha_realesrnet_model import AlphaRealESRNetModel
from facesr_plugin.models.history import read_history
from facesr_plugin.options.check import check
from facesr_plugin.options.types import TrainingOptions
from facesr_plugin.run import checkpoint


def lone(data: Path, name: str) -> Options:
    return {'name': name, 'type': 'SingleImageDataset', 'dataroot_lq': str(data / 'lr'), 'io_backend': {'type': 'disk'}}


def other_pairs(opt: Options, data: Path) -> Options:
    """Return a set of other pictures under the same file names."""
    for number in range(3):
        for name, side in (('hr2', 96), ('lr2', 24)):
            write_image(data / name / f'face_{number}.png', picture(side, 50 + number))
    roots = {'dataroot_gt': str(data / 'hr2'), 'dataroot_lq': str(data / 'lr2')}
    return {**opt['datasets']['val'], **roots, 'name': 'other'}


def experiment(data: Path) -> Path:
    return data / 'root' / 'experiments' / 'run'


def best(data: Path) -> Options:
    return checkpoint.load(experiment(data) / 'models' / 'net_g_best.pth')


def psnr_of(data: Path, name: str, log: str) -> list[float]:
    """Return what the log says of a validation set, in the order of the iterations."""
    return [float(value) for value in re.findall(rf'Validation {name}, .*\n.*network  psnr: (\S+)', log)]


# --------------------------------------------------------------------------- which one decides
def test_the_first_set_with_hr_images_decides(launch, opt, data):
    """Before it stands one without; at 754be97 there was no history then, and no best."""
    train_set, pairs = opt['datasets']['train'], {**opt['datasets']['val'], 'name': 'pairs'}
    sets = {'val': lone(data, 'photos'), 'val_2': pairs, 'val_3': other_pairs(opt, data)}
    opt['datasets'] = {'train': train_set, **sets}
    status, _, err = launch(train.main, opt)
    assert status == 0, err
    found = psnr_of(data, 'pairs', err)
    assert read_history(experiment(data) / 'history.csv')['val_psnr'] == pytest.approx(found, abs=1e-4)
    assert best(data)['psnr']['params'] == pytest.approx(max(found), abs=1e-4)
    assert psnr_of(data, 'other', err) != found


def test_the_set_that_val_decides_names(launch, opt, data):
    opt['datasets']['val_2'] = other_pairs(opt, data)
    put(opt, 'val.decides', 'other')
    status, _, err = launch(train.main, opt)
    assert status == 0, err
    found = psnr_of(data, 'other', err)
    assert read_history(experiment(data) / 'history.csv')['val_psnr'] == pytest.approx(found, abs=1e-4)
    assert best(data)['psnr']['params'] == pytest.approx(max(found), abs=1e-4)


@pytest.mark.parametrize('takes_several', [True, False])
def test_basicsr_warns_of_several_sets_only_where_that_is_true(launch, opt, data, monkeypatch, takes_several):
    """It says so to every model, `SRModel` too."""
    if not takes_several:
        monkeypatch.setattr(train, 'VideoBaseModel', AlphaRealESRNetModel)
    opt['datasets']['val_2'] = other_pairs(opt, data)
    status, _, err = launch(train.main, opt)
    assert status == 0, err
    assert len(psnr_of(data, 'other', err)) == 2
    assert err.count('Multiple validation datasets are *only* supported by SRModel') == (0 if takes_several else 2)


def test_val_decides_names_no_set_with_hr_images(opt, data):
    opt['datasets']['val_2'] = lone(data, 'photos')
    put(opt, 'val.decides', 'photos')
    expected = r"^val\.decides: the name of a validation set with HR images expected \(val\), got 'photos'$"
    with pytest.raises(UserError, match=expected):
        TrainingOptions.parse(opt)


def test_no_set_has_hr_images(launch, opt, data):
    """Its history says what is known of the training."""
    opt['datasets']['val'] = lone(data, 'photos')
    opt['datasets']['val_2'] = lone(data, 'the same')
    status, _, err = launch(train.main, opt)
    assert status == 0, err
    history = read_history(experiment(data) / 'history.csv')
    assert history['iter'] == [2, 4]
    assert None not in history['train_loss']
    assert history['val_psnr'] == [None, None]


# ------------------------------------------------------------------- best belongs to its set
def test_best_starts_anew_with_another_set(launch, opt, data):
    """The old set's best, higher, would have stayed for ever."""
    put(opt, 'train.ema_decay', 0.5)
    other = other_pairs(opt, data)
    for path in list_images(data / 'lr2'):
        write_image(path, 0 * read_image(path))  # no network reaches the score of the old set here
    assert launch(train.main, opt)[0] == 0
    before = best(data)
    (experiment(data) / 'training_states' / '4.state').unlink()
    opt['datasets']['val'] = {**other, 'name': 'val'}
    status, _, err = launch(train.main, opt, '--auto_resume')
    assert status == 0, err
    assert err.count('Validation val: not what the best weights so far were chosen by (val, ') == 1
    after = best(data)
    assert after['psnr']['params'] < before['psnr']['params'] - 3
    state = checkpoint.load(experiment(data) / 'training_states' / '4.state')
    assert state['facesr']['monitor']['best']['params'] == {'psnr': after['psnr']['params'], 'iter': 4}
    last = torch.load(experiment(data) / 'models' / 'net_g_4.pth', weights_only=True)
    for kind in ('params', 'params_ema'):
        assert all(torch.equal(after[kind][name], last[kind][name]) for name in last[kind])


def test_best_goes_on_with_the_same_set_elsewhere(launch, opt, data):
    assert launch(train.main, opt)[0] == 0
    (experiment(data) / 'training_states' / '4.state').unlink()
    shutil.copytree(data / 'lr', data / 'copied')
    put(opt, 'datasets.val.dataroot_lq', str(data / 'copied'))
    before = best(data)['psnr']
    status, _, err = launch(train.main, opt, '--auto_resume')
    assert status == 0, err
    assert 'starts anew' not in err
    assert best(data)['psnr'] == before


def test_a_border_that_leaves_nothing(launch, opt, data):
    put(opt, 'val.metrics.psnr.crop_border', 100)
    status, _, err = launch(train.main, opt)
    assert status == 0, err
    assert err.count('is not finite (nothing is left to compare): no history, no best') == 1
    assert not (experiment(data) / 'models' / 'net_g_best.pth').exists()
    assert checkpoint.load(experiment(data) / 'training_states' / '4.state')['facesr']['monitor']['best'] == {}


# ------------------------------------------------------------------------------------ pictures
def test_pictures_of_equal_names_are_kept_apart(launch, opt, data):
    opt['datasets']['val_2'] = other_pairs(opt, data)
    put(opt, 'val.save_img', True)
    assert launch(train.main, opt)[0] == 0
    pictures = list_images(experiment(data) / 'visualization')
    assert len(pictures) == 2 * 3 * 2  # sets, images, iterations
    first, second = (
        read_image(experiment(data) / 'visualization' / name / 'face_0' / 'face_0_4.png') for name in ('val', 'other')
    )
    assert (first != second).any()


def test_pictures_of_one_set_lie_where_basicsr_puts_them(launch, opt, data):
    put(opt, 'val.save_img', True)
    assert launch(train.main, opt)[0] == 0
    assert (experiment(data) / 'visualization' / 'face_0' / 'face_0_4.png').exists()


def test_pictures_of_one_set_that_would_be_one_file(opt, data):
    opt['datasets']['val'] = lone(data, 'val')
    write_image(data / 'lr' / 'face_1.bmp', picture(24))
    check(opt, True)
    put(opt, 'val.save_img', True)
    with pytest.raises(UserError, match=r'lr: face_1\.png: another file name than that of face_1\.bmp expected'):
        check(opt, True)


# ---------------------------------------------------------------------------------- test sets
NIQE = {'type': 'calculate_niqe', 'crop_border': 4}


def metrics(log: str, name: str) -> list[str]:
    """Return what a test prints of a set."""
    block = re.search(rf'Validation {name}\n((?:\t # .*\n)+)', log)
    return re.findall(r'(\w+: \d+\.\d{4})\t', block[1]) if block else []


@pytest.fixture
def measuring(measuring: Options, data) -> Options:
    """Return a test with images that NIQE takes: at least two blocks of 96 px wide and high."""
    for number in range(3):
        for name, side in (('hr', 208), ('lr', 52)):
            write_image(data / name / f'face_{number}.png', picture(side, number))
    return measuring


def test_niqe_without_hr_is_what_stock_prints(launch, measuring, data):
    measuring['datasets'] = {'test': lone(data, 'photos')}
    measuring['val']['metrics'] = {'niqe': NIQE}
    measuring['val'] |= {'save_img': False, 'suffix': None}  # which stock asks for
    measuring['manual_seed'] = 0
    found = []
    for main in (lambda: stock.test_pipeline(str(data / 'root')), test.main):
        status, _, err = launch(main, measuring)
        assert status == 0, err
        found.append(metrics(err, 'photos'))
    (line,) = found[0]
    assert line.startswith('niqe: ')
    assert found[1] == found[0]


@pytest.mark.parametrize('order', [('a', 'b'), ('b', 'a')])
def test_a_set_without_hr_takes_nothing_from_the_others(launch, measuring, data, order):
    pairs = measuring['datasets']['test']
    measuring['datasets'] = dict(zip(order, ({**pairs, 'name': 'pairs'}, lone(data, 'photos')), strict=True))
    measuring['datasets'] = {f'test_{key}': block for key, block in measuring['datasets'].items()}
    measuring['val']['metrics']['niqe'] = NIQE
    status, _, err = launch(test.main, measuring)
    assert status == 0, err
    assert sorted(line.partition(':')[0] for line in metrics(err, 'pairs')) == ['niqe', 'psnr']
    assert [line.partition(':')[0] for line in metrics(err, 'photos')] == ['niqe']
    assert 'photos: no HR images (dataroot_gt), so not computed: psnr' in err


def test_only_sets_without_hr_and_metrics_that_need_them(launch, measuring, data):
    measuring['datasets'] = {'test': lone(data, 'photos')}
    status, _, err = launch(test.main, measuring)
    assert status == 0, err
    assert metrics(err, 'photos') == []
