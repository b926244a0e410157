"""What an option file names, once its types are right: registered names, data, weights; and `--check`."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from basicsr.archs import build_network
from basicsr.utils import get_root_logger
from basicsr.utils.registry import DATASET_REGISTRY, LOSS_REGISTRY
from safetensors.torch import save_file
from small import SECOND_STAGE, Options, measuring_options, model_options, put
from tiny import ROOT

from facesr_plugin import AlphaRealESRNetModel, test, train
from facesr_plugin.data.images import read_image, write_image
from facesr_plugin.data.lmdb_writer import image_keys, write_lmdbs
from facesr_plugin.errors import UserError
from facesr_plugin.options.check import check


def problems(opt: Options, is_train: bool = True) -> list[str]:
    with pytest.raises(UserError) as error:
        check(opt, is_train)
    return str(error.value).splitlines()


def test_nothing_wrong(opt, measuring):
    assert check(opt, True).train.total_iter == 4
    assert check(measuring, False).network_g.num_feat == 4


def test_all_that_is_named_is_looked_at_once(opt, data):
    put(opt, 'model_type', 'Nonesuch')
    put(opt, 'datasets.train.dataroot_gt', str(data / 'none'))
    put(opt, 'val.metrics.psnr.crop_boarder', 4)
    for name in ('hr/face_0.png', 'hr/face_2.png'):
        (data / name).write_text('no picture')
    assert sorted(line.partition(': ')[0] for line in problems(opt)) == sorted(
        [
            'model_type',
            'datasets.train.dataroot_gt',
            'val.metrics.psnr.crop_boarder',
            f'{data}/hr/face_0.png',
            f'{data}/hr/face_2.png',
        ]
    )


def test_what_a_wrong_file_names_is_not_looked_at(opt, data):
    put(opt, 'datasets.train.dataroot_gt', str(data / 'none'))
    put(opt, 'train.total_iter', 0)
    assert problems(opt) == ['train.total_iter: expected greater than or equal to 1, got 0']


# ------------------------------------------------------------------- classes of other packages
@pytest.mark.parametrize(
    ('path', 'value', 'close'),
    [
        ('model_type', 'AlphaRealESRNetModell', 'AlphaRealESRNetModel'),
        ('network_g.type', 'FaceSRResnet', 'FaceSRResNet'),
        ('network_g.type', 'RRDBnet', 'RRDBNet'),
        ('train.pixel_opt.type', 'RegularizedL1Los', 'RegularizedL1Loss'),
        ('datasets.train.type', 'FaceDegradationDataSet', 'FaceDegradationDataset'),
        ('datasets.val.type', 'PairedImagesDataset', 'PairedImageDataset'),
        ('val.metrics.psnr.type', 'calculate_pnsr', 'calculate_psnr'),
    ],
)
def test_did_you_mean_a_registered_name(opt, path, value, close):
    put(opt, path, value)
    assert problems(opt) == [f'{path}: a registered name expected, got {value!r}, did you mean {close!r}?']


def test_name_like_no_registered_one(opt):
    put(opt, 'train.pixel_opt', {'type': 'Nonesuch'})
    expected = f"a registered name expected, got 'Nonesuch' (known: {', '.join(sorted(LOSS_REGISTRY.keys()))})"
    assert problems(opt) == [f'train.pixel_opt.type: {expected}']


@pytest.mark.parametrize(
    ('path', 'block', 'line'),
    [
        (
            'network_g',
            {'type': 'RRDBNet', 'num_in_ch': 3, 'num_out_ch': 3, 'num_blok': 3},
            "num_blok: unknown option, did you mean 'num_block'?",
        ),
        ('network_g', {'type': 'RRDBNet', 'num_in_ch': 3}, 'num_out_ch: missing'),
        (
            'val.metrics.psnr',
            {'type': 'calculate_psnr', 'crop_border': 0, 'test_y_chanel': True},
            "test_y_chanel: unknown option, did you mean 'test_y_channel'?",
        ),
        ('val.metrics.psnr', {'type': 'calculate_psnr', 'better': 'higher'}, 'crop_border: missing'),
    ],
)
def test_options_of_somebody_elses_class(opt, path, block, line):
    """They are its parameters; BasicSR's metrics take any keyword, and of a typo nothing would be heard."""
    put(opt, path, block)
    assert problems(opt) == [f'{path}.{line}']


def test_somebody_elses_class_that_fits(opt):
    put(opt, 'network_g', {'type': 'RRDBNet', 'num_in_ch': 3, 'num_out_ch': 3, 'num_grow_ch': 4})
    assert check(opt, True).network_g.model_dump()['num_grow_ch'] == 4


class Theirs(torch.utils.data.Dataset):
    """A data set of somebody else, with what may be wrong with one."""

    def __init__(self, opt: Options) -> None:
        self.flaw = opt.get('flaw')
        get_root_logger().info('a line of theirs')
        if self.flaw == 'file':
            raise FileNotFoundError('no such list: a.txt')

    def __len__(self) -> int:
        return 0 if self.flaw == 'empty' else 6

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if self.flaw == 'shape':
            raise ValueError('operands could not\nbe broadcast')
        sample = {'gt': torch.zeros(3, 80, 80)} | {
            f'kernel{number}': torch.zeros(21, 21) for number in ('1', '2') if self.flaw != 'kernels'
        }
        return sample | {'sinc_kernel': torch.zeros(21, 21), 'note': None if self.flaw == 'none' else 'a'}


@pytest.fixture
def theirs(opt) -> Iterator[Options]:
    DATASET_REGISTRY.register(Theirs)
    block = opt['datasets']['train']
    opt['datasets']['train'] = {key: block[key] for key in ('name', 'num_worker_per_gpu', 'batch_size_per_gpu')} | {
        'type': 'Theirs'
    }
    yield opt
    del DATASET_REGISTRY._obj_map['Theirs']


@pytest.mark.parametrize(
    ('flaw', 'line'),
    [
        ('file', 'cannot be built: FileNotFoundError: no such list: a.txt'),
        ('empty', 'gives no first sample: IndexError: it is empty'),
        ('shape', 'gives no first sample: ValueError: operands could not be broadcast'),
        ('none', 'gives no first sample: TypeError: '),
        ('kernels', 'gives samples without kernel1, kernel2'),
    ],
)
def test_data_set_of_somebody_else_is_tried(theirs, flaw, line):
    """At 754be97 it was not looked at, and the run ended in a traceback."""
    put(theirs, 'datasets.train.flaw', flaw)
    (found,) = problems(theirs)
    assert found.startswith(f'datasets.train: Theirs {line}')


def test_data_set_of_somebody_else_that_works(launch, theirs, data):
    """What it logs while it is tried neither opens the run's log file elsewhere nor keeps it from being written."""
    status, _, err = launch(train.main, theirs)
    assert status == 0, err
    assert err.count('a line of theirs') == 1
    (log,) = (data / 'root' / 'experiments' / 'run').glob('*.log')
    assert 'a line of theirs' in log.read_text()


# ------------------------------------------------------------------------------------ data
@pytest.mark.parametrize('path', ['datasets.val.dataroot_gt', 'datasets.val.dataroot_lq'])
def test_missing_data(opt, path, data):
    put(opt, path, str(data / 'none.lmdb'))
    assert problems(opt) == [f'{path}: no such file or folder: {data}/none.lmdb']


def test_folder_that_is_no_lmdb(opt, data):
    """Of two folders under one wrong `io_backend` one is told: it is one mistake."""
    put(opt, 'datasets.val.io_backend.type', 'lmdb')
    expected = f'a folder *.lmdb expected with io_backend type lmdb, got {data}/hr'
    assert problems(opt) == [f'datasets.val.dataroot_gt: {expected}']


@pytest.mark.parametrize(
    ('spoil', 'line'),
    [
        (
            lambda lr: write_image(lr / 'face_1.png', np.zeros((24, 28, 3), np.uint8)),
            '{}/hr.lmdb: face_1: HR of 112x96 px expected (4 times the LR), got 96x96',
        ),
        (
            lambda lr: (lr / 'face_2.png').unlink(),
            '{}/lr.lmdb: face_2 expected, the LR image of {}/hr.lmdb: face_2',
        ),
    ],
)
def test_pairs_in_lmdbs_that_do_not_match(opt, data, spoil: Callable, line):
    spoil(data / 'lr')
    for name, key in (('hr', 'dataroot_gt'), ('lr', 'dataroot_lq')):
        files = image_keys(data / name)
        write_lmdbs([data / f'{name}.lmdb'], list(files), lambda image, files=files: [read_image(files[image])])
        put(opt, f'datasets.val.{key}', str(data / f'{name}.lmdb'))
    put(opt, 'datasets.val.io_backend.type', 'lmdb')
    assert problems(opt) == [line.format(data, data)]


def test_lr_names_by_template(opt, data):
    for number in range(3):
        (data / 'lr' / f'face_{number}.png').rename(data / 'lr' / f'face_{number}_x4.png')
    put(opt, 'datasets.val.filename_tmpl', '{}_x4')
    check(opt, True)
    put(opt, 'datasets.val.filename_tmpl', '{}_x2')
    expected = [f'{data}/lr: face_{n}_x2.png expected, the LR image of {data}/hr: face_{n}.png' for n in range(3)]
    expected += [f'{data}/lr: face_{n}_x4.png has no HR image in {data}/hr' for n in range(3)]
    assert problems(opt) == expected


def test_validation_set_as_stock_reads_it(opt, data):
    """`PairedImageDataset` takes every file of a folder for an image, and does not look into subfolders."""
    (data / 'lr' / 'notes.txt').write_text('x')
    assert problems(opt) == [f'{data}/lr: notes.txt: only images expected, BasicSR reads every file here']
    (data / 'lr' / 'notes.txt').unlink()
    for name in ('hr', 'lr'):
        (data / name / 'more').mkdir()
        (data / name / 'face_0.png').rename(data / name / 'more' / 'face_0.png')
    assert 'more/face_0.png: no images in subfolders expected' in problems(opt)[0]


def test_validation_set_by_a_list_of_names(opt, data):
    listed = data / 'names.txt'
    put(opt, 'datasets.val.meta_info_file', str(listed))
    assert problems(opt) == [f'datasets.val.meta_info_file: no such file or folder: {listed}']
    listed.write_text('face_0.png (96,96,3)\nface_1.png (96,96,3)\n')
    check(opt, True)
    write_image(data / 'lr' / 'face_1.png', read_image(data / 'lr' / 'face_1.png')[:20])
    listed.write_text('face_9.png (96,96,3)\nface_1.png (96,96,3)\nface_1.png (96,96,3)\n')
    assert problems(opt) == [
        f"{listed}: names of images in {data}/hr expected, got 'face_9.png'",
        f'{data}/hr: face_1.png: HR of 96x80 px expected (4 times the LR), got 96x96',
    ]


# --------------------------------------------------------------------------------- weights
def save_network(opt: Options, path: Path, **options: int) -> None:
    """Save a network of the size of `opt` but for `options`, and have the run start from it."""
    net = build_network({'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, **options})
    torch.save({'params': net.state_dict()}, path)
    put(opt, 'path.pretrain_network_g', str(path))


def test_checkpoint_that_fits(opt, data):
    save_network(opt, data / 'net.pth')
    check(opt, True)


@pytest.mark.parametrize('is_train', [True, False])
def test_checkpoint_missing(opt, measuring, data, is_train):
    opt = opt if is_train else measuring
    put(opt, 'path.pretrain_network_g', str(data / 'none.pth'))
    assert problems(opt, is_train) == [f'path.pretrain_network_g: no such file: {data}/none.pth']


@pytest.mark.parametrize(
    ('other', 'difference'),
    [
        ({'upscale': 2}, 'lacks upconv2.bias and 1 more'),
        ({'num_feat': 8}, ' expected'),
    ],
)
def test_checkpoint_of_another_network(opt, data, other, difference):
    save_network(opt, data / 'net.pth', **other)
    (line,) = problems(opt)
    start, _, found = line.partition(' expected: ')
    assert start == f'{data}/net.pth: weights that fit FaceSRResNet'
    assert found.endswith(difference)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_state_dict_alone_is_not_for_stock_models(opt, measuring, data, suffix):
    """Our model starts from one; BasicSR's `SRModel` would end in a traceback."""
    weights = build_network({'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1}).state_dict()
    path = data / f'net{suffix}'
    torch.save(weights, path) if suffix == '.pth' else save_file(weights, path)
    for options in (opt, measuring):
        put(options, 'path.pretrain_network_g', str(path))
    check(opt, True)
    expected = f"{path}: a .pth with 'params' expected by this model_type, got a state dict alone"
    assert problems(measuring, False) == [expected]


# -------------------------------------------------------------------------------- --check
def test_check_says_fine_and_stops(command, opt, data, monkeypatch):
    monkeypatch.setattr(torch.distributed, 'init_process_group', None)  # calling it would fail
    fine = f'{data}/opt.yml: the file and all it names are fine\n'
    assert command(train.main, opt, '--check') == (0, fine, '')
    assert command(train.main, opt, '--check', '--launcher', 'pytorch') == (0, fine, '')
    assert command(test.main, measuring_options(data), '--check') == (0, fine, '')


@pytest.mark.parametrize('flags', [(), ('--check',), ('--launcher', 'pytorch')])
def test_wrong_file_touches_nothing(command, opt, flags, monkeypatch):
    monkeypatch.setattr(torch.distributed, 'init_process_group', None)
    put(opt, 'train.total_iters', 4)
    put(opt, 'queue_sizes', 4)
    lines = [
        "error: queue_sizes: unknown option, did you mean 'queue_size'?\n",
        "error: train.total_iters: unknown option, did you mean 'total_iter'?\n",
    ]
    status, out, err = command(train.main, opt, *flags)
    assert (status, out, sorted(err.splitlines(keepends=True))) == (2, '', lines)


def test_check_by_the_real_command(opt, data):
    (data / 'opt.yml').write_text(yaml.safe_dump(opt))
    args = [sys.executable, str(ROOT / 'facesr_plugin' / 'train.py'), '-opt', 'opt.yml', '--check']
    before = sorted(os.listdir(data))
    done = subprocess.run(args, cwd=data, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, 'opt.yml: the file and all it names are fine\n', '')
    assert sorted(os.listdir(data)) == before


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize('key', ['pretrain_network_g', 'resume_state'])
def test_pickle_is_not_run(command, opt, data, key, monkeypatch):
    """Neither as weights nor as a training state; by `pickle`, which stock uses, it would be."""
    torch.save({'params': Bomb(data / 'ran'), 'iter': 2}, data / 'file.pth')
    put(opt, f'path.{key}', str(data / 'file.pth'))
    expected = f'{data}/file.pth: a checkpoint of tensors expected, it holds something else or is damaged'
    for flags in ((), ('--check',)):
        assert command(train.main, opt, *flags) == (2, '', f'error: {expected}\n')
    assert not (data / 'ran').exists()
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '0')  # as somebody else's class would find it without us
    torch.load(data / 'file.pth', weights_only=False)
    assert (data / 'ran').exists()


# -------------------------------------------------------------- what can be known by trying only
@pytest.mark.parametrize(
    ('network', 'scale', 'line'),
    [
        ({'type': 'RRDBNet', 'num_feat': 4, 'num_block': 1}, 2, 'network_g.scale: 2 times expected, as scale: RRDBNet'),
        ({'type': 'RRDBNet', 'num_in_ch': 4}, 4, 'network_g: RRDBNet does not run on an image of 64x64 px: '),
        ({'type': 'RRDBNet', 'num_block': 1.5}, 4, 'network_g: RRDBNet cannot be built: '),
    ],
)
def test_network_that_does_not_fit(opt, data, network, scale, line):
    put(opt, 'network_g', {'num_in_ch': 3, 'num_out_ch': 3, 'num_grow_ch': 4, **network})
    put(opt, 'scale', scale)
    opt['datasets'].pop('val')
    put(opt, 'val', None)
    (found,) = problems(opt)
    assert found.startswith(line)


def test_network_that_fits_with_its_own_scale(opt):
    opt['datasets'].pop('val')
    put(opt, 'val', None)
    put(opt, 'scale', 2)
    put(opt, 'network_g', {'type': 'RRDBNet', 'num_in_ch': 3, 'num_out_ch': 3, 'num_grow_ch': 4, 'scale': 2.0})
    assert check(opt, True).network_g.model_dump()['scale'] == 2


def test_model_that_does_not_fit_its_loss(opt):
    put(opt, 'model_type', 'SRModel')
    assert problems(opt) == [
        f"model_type: AlphaRealESRNetModel expected with {key}, got 'SRModel'"
        for key in ('train.pixel_opt.type RegularizedL1Loss', 'datasets.train.type FaceDegradationDataset')
    ]


@pytest.mark.parametrize('strict', [True, False])
def test_weights_that_run_code_are_refused_loosely_too(opt, data, strict):
    torch.save({'params': Bomb(data / 'ran')}, data / 'net.pth')
    put(opt, 'path.pretrain_network_g', str(data / 'net.pth'))
    put(opt, 'path.strict_load_g', strict)
    assert problems(opt)[0].startswith(f'{data}/net.pth: a checkpoint of tensors expected')


def test_loose_weights(opt, data, tmp_path):
    """What fits is taken, read by the safe loader."""
    put(opt, 'path.strict_load_g', False)
    save_network(opt, data / 'net.pth', upscale=2)
    check(opt, True)
    changes = {'path.strict_load_g': False, 'path.pretrain_network_g': str(data / 'net.pth')}
    model = AlphaRealESRNetModel(model_options(tmp_path, changes))
    saved = torch.load(data / 'net.pth', weights_only=True)['params']
    assert torch.equal(model.net_g.state_dict()['conv_first.weight'], saved['conv_first.weight'])
    torch.save({'params': Bomb(data / 'ran')}, data / 'net.pth')
    with pytest.raises(UserError):
        AlphaRealESRNetModel(model_options(tmp_path, changes))
    assert not (data / 'ran').exists()


def test_all_images_without_a_partner_are_named(opt, data):
    for number in range(30):
        for name, side in (('hr', 96), ('lr', 24)):
            write_image(data / name / f'more_{number:02}.png', np.zeros((side, side, 3), np.uint8))
    for number in range(30):
        (data / 'lr' / f'more_{number:02}.png').unlink()
    lines = problems(opt)
    assert lines[0] == f'{data}/lr: more_00.png expected, the LR image of {data}/hr: more_00.png'
    assert (len(lines), lines[-1]) == (21, 'and 10 more like these')
    for number in range(28):
        (data / 'hr' / f'more_{number:02}.png').unlink()
    assert [line.partition(' expected')[0] for line in problems(opt)] == [
        f'{data}/lr: more_28.png',
        f'{data}/lr: more_29.png',
    ]


def test_all_training_images_that_are_too_small_are_named(opt, data):
    opt['datasets'].pop('val')
    put(opt, 'val', None)
    for number in range(2):
        write_image(data / 'hr' / f'small_{number}.png', np.zeros((40, 40, 3), np.uint8))
    assert [line.partition(': at')[0] for line in problems(opt)] == [f'{data}/hr: small_{n}.png' for n in range(2)]


def test_identity_needs_its_packages(opt, monkeypatch):
    put(opt, 'val.metrics.identity', {'type': 'calculate_identity'})
    monkeypatch.setattr('facesr_plugin.faces.identity.find_spec', lambda name: object())
    check(opt, True)
    monkeypatch.setattr('facesr_plugin.faces.identity.find_spec', lambda name: None)
    assert [line.partition('pip')[0] for line in problems(opt)] == ['val.metrics.identity: dlib is not installed: ']


# ------------------------------------------------------------------------------- second stage
@pytest.fixture
def second(opt) -> Options:
    for path, value in SECOND_STAGE.items():
        put(opt, path, value)
    return opt


def test_second_stage(second):
    run = check(second, True)
    assert (run.network_d.num_layer, run.train.gan_opt.gan_type) == (2, 'vanilla')


def test_second_stage_lacks_its_blocks(opt):
    put(opt, 'model_type', 'AlphaRealESRGANModel')
    assert problems(opt) == [
        f'{key}: missing, model_type AlphaRealESRGANModel needs it'
        for key in ('network_d', 'train.optim_d', 'train.gan_opt')
    ]


def test_first_stage_has_no_discriminator(second):
    put(second, 'model_type', 'AlphaRealESRNetModel')
    put(second, 'train.feature_opt', {'loss_weight': 1})
    assert problems(second) == [
        f'{key}: expected with model_type AlphaRealESRGANModel, and only with it'
        for key in ('network_d', 'train.optim_d', 'train.gan_opt', 'train.feature_opt')
    ]


@pytest.mark.parametrize(
    ('path', 'value', 'line'),
    [
        ('network_d', {'type': 'VGGStyleDiscriminator', 'num_in_ch': 3, 'num_feat': 4}, 'network_d: VGGStyle'),
        ('network_d', {'type': 'PatchDiscriminator', 'num_layer': 9}, 'network_d: PatchDiscriminator does not run on'),
        ('network_d', {'type': 'PatchDiscriminator', 'num_layers': 3}, 'network_d.num_layers: unknown option, did you'),
        (
            'network_d',
            {'type': 'PatchDiskriminator'},
            "network_d.type: a registered name expected, got 'PatchDiskriminator'",
        ),
        ('train.gan_opt', {'type': 'GANLoss', 'loss_weight': 0}, 'train.gan_opt.loss_weight: expected greater than 0'),
        (
            'train.gan_opt.gan_type',
            'wgan',
            "train.gan_opt.gan_type: expected 'vanilla', 'lsgan' or 'hinge', got 'wgan'",
        ),
        ('train.perceptual_opt', {'type': 'PerceptualLoss'}, 'train.perceptual_opt.layer_weights: missing'),
        ('path.pretrain_network_d', 'none.pth', 'path.pretrain_network_d: no such file: none.pth'),
    ],
)
def test_second_stage_with_something_wrong(second, path, value, line):
    put(second, path, value)
    assert problems(second)[0].startswith(line)


def test_weights_of_another_discriminator(second, data):
    torch.save({'params': {'conv.weight': torch.zeros(1)}}, data / 'd.pth')
    put(second, 'path.pretrain_network_d', str(data / 'd.pth'))
    assert problems(second)[0].startswith(f'{data}/d.pth: weights that fit PatchDiscriminator expected: lacks')
