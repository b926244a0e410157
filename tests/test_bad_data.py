"""Bad input, a row each: it works as a user would expect, or ends in one line that names the file, exit status 2."""

import ctypes
import errno
import os
import re
import resource
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.archs import build_network
from basicsr.data.paired_image_dataset import PairedImageDataset
from PIL import Image
from small import Options, make_data, measuring_options, picture, put, training_options
from torch.utils.data import DataLoader

from facesr_plugin.commands.lmdb import main as lmdb
from facesr_plugin.data.epoch_sampler import EpochSampler
from facesr_plugin.data.face_degradation_dataset import FaceDegradationDataset
from facesr_plugin.data.images import read_image, write_image
from facesr_plugin.errors import run_command
from facesr_plugin.options.check import check
from facesr_plugin.options.load import parse_options
from facesr_plugin.run import checkpoint

ROOT = Path(__file__).parents[1]
NO_IMAGE = 'cannot be read as an image (empty, damaged or another file type)'


# ------------------------------------------------------------------------------ the means
@dataclass
class Case:
    """A folder with train/ (three faces of 96 px), hr/ and lr/ (the pairs), and options that name them."""

    folder: Path
    opt: Options
    samples: list[dict[str, Any]] = field(default_factory=list)
    pairs: list[dict[str, Any]] = field(default_factory=list)
    unprivileged: bool = False

    @property
    def train(self) -> Path:
        return self.folder / 'train'

    @property
    def face(self) -> Path:
        """The picture that rows spoil."""
        return self.train / 'face_1.png'

    def use(self) -> None:
        """Do with the data what a training does: check all, then read each picture of both sets."""
        check(self.opt, True)
        scale = self.opt.get('scale', 4)
        train_set = FaceDegradationDataset({**self.opt['datasets']['train'], 'scale': scale})
        batch = self.opt['datasets']['train']['batch_size_per_gpu']
        sampler = EpochSampler(train_set, 1, 0, seed=3, batch_size=batch)
        self.samples = [sample for sample in DataLoader(train_set, batch, sampler=sampler)]
        pairs = {**self.opt['datasets']['val'], 'phase': 'val', 'scale': scale}
        pairs['io_backend'] = dict(pairs['io_backend'])
        self.pairs = list(PairedImageDataset(pairs))

    def pixels(self, name: str = 'face_1.png') -> np.ndarray:
        """Return a training picture as the data set reads it."""
        assert sum(sample['gt_path'].count(name) for sample in self.samples) == 1
        return FaceDegradationDataset(self.opt['datasets']['train']).images.read(Path(name).stem)

    def pack(self, *flags: str) -> Path:
        """Have the training read from an LMDB, and return it."""
        path = self.folder / 'train.lmdb'
        lmdb(['--hr', str(self.train), str(path), *flags])
        self.name_lmdb(path)
        return path

    def name_lmdb(self, path: Path) -> None:
        put(self.opt, 'datasets.train.dataroot_gt', str(path))
        put(self.opt, 'datasets.train.io_backend.type', 'lmdb')

    def pack_pairs(self, *flags: str) -> None:
        hr, lr = self.folder / 'hr.lmdb', self.folder / 'lr.lmdb'
        lmdb(['--hr', str(self.folder / 'hr'), str(hr), '--lr', str(self.folder / 'lr'), str(lr), *flags])
        self.opt['datasets']['val'] |= {'dataroot_gt': str(hr), 'dataroot_lq': str(lr), 'io_backend': {'type': 'lmdb'}}

    def save_weights(
        self, change: Callable[[dict], None] = lambda weights: None, key: str = 'params', **net: Any
    ) -> Path:
        """Have the training start from a checkpoint, and return it."""
        path = self.folder / 'net.pth'
        options = {'num_feat': 4, 'num_block': 1, **net}
        weights = build_network({'type': 'MSRResNet', **options}).state_dict()
        change(weights)
        torch.save({key: weights}, path)
        put(self.opt, 'path.pretrain_network_g', str(path))
        return path


@contextmanager
def without_privileges() -> Iterator[None]:
    """Have permissions count for root too, by dropping what lets it pass over them; skip where that cannot be."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    before = sets[0]
    sets[0] &= ~(1 << 1 | 1 << 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH; effective set, this thread
    if libc.capset(header, sets) != 0:
        pytest.skip('privileges cannot be dropped here')
    try:
        yield
    finally:
        sets[0] = before
        assert libc.capset(header, sets) == 0


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def status_and_lines(main: Callable, capfd: pytest.CaptureFixture) -> tuple[int, list[str]]:
    """Run what a command does; return its exit status and its own lines on stderr (OpenCV adds some of its own)."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as end:
        run_command(main)
    err = capfd.readouterr().err
    assert 'Traceback' not in err
    return end.value.code or 0, [line for line in err.splitlines() if line.startswith('error: ')]


@pytest.fixture
def case(tmp_path, monkeypatch) -> Case:
    make_data(tmp_path)
    shutil.copytree(tmp_path / 'hr', tmp_path / 'train')
    opt = training_options(tmp_path)
    put(opt, 'datasets.train.dataroot_gt', str(tmp_path / 'train'))
    monkeypatch.chdir(tmp_path)
    return Case(tmp_path, opt)


# ------------------------------------------------------------------- how rows spoil things
def cut(path: Path, size: int | float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: size if isinstance(size, int) else int(size * len(data))])


def flip_bits(path: Path, where: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(where * len(data))] ^= 0xFF
    path.write_bytes(data)


def encode(path: Path, image: np.ndarray) -> None:
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())


def to_jpeg(case: Case) -> Path:
    path = case.face.with_suffix('.jpg')
    write_image(path, read_image(case.face))
    case.face.unlink()
    return path


def cut_jpeg(case: Case) -> None:
    cut(to_jpeg(case), 0.7)


def grey(case: Case) -> None:
    encode(case.face, picture()[:, :, 0])


def sees_grey(case: Case) -> None:
    assert np.array_equal(case.pixels(), np.repeat(picture()[:, :, :1], 3, axis=2))


def alpha(case: Case) -> None:
    encode(case.face, np.dstack([picture()[:, :, ::-1], np.zeros((96, 96), np.uint8)]))


def sees_picture(case: Case) -> None:
    assert np.array_equal(case.pixels(), picture())


def sixteen_bit(case: Case) -> None:
    encode(case.face, picture()[:, :, ::-1].astype(np.uint16) * 257)  # 0xAB becomes 0xABAB


def palette(case: Case) -> None:
    Image.fromarray(picture()).quantize(256).save(case.face)


def sees_palette(case: Case) -> None:
    assert np.abs(case.pixels().astype(int) - picture()).mean() < 4


def cmyk(case: Case) -> None:
    Image.fromarray(picture()).convert('CMYK').save(to_jpeg(case), quality=100)


def sees_cmyk(case: Case) -> None:
    expected = np.asarray(Image.fromarray(picture()).convert('CMYK').convert('RGB')).astype(int)
    assert np.abs(case.pixels('face_1.jpg') - expected).mean() < 2


def rotated(case: Case) -> None:
    """A portrait, stored lying on its side with an EXIF mark, as cameras do."""
    lying = np.ascontiguousarray(np.rot90(picture(128)[:96]))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    Image.fromarray(lying).save(case.face, exif=exif)


def sees_upright(case: Case) -> None:
    assert np.array_equal(case.pixels(), picture(128)[:96])


def tiny(case: Case) -> None:
    write_image(case.face, picture(96)[:1, :1])


def huge(case: Case) -> None:
    """A header of 100000x100000 px, its checksum right."""
    data = case.face.read_bytes()
    header = b'IHDR' + struct.pack('>II', 100_000, 100_000) + data[24:29]
    case.face.write_bytes(data[:12] + header + struct.pack('>I', zlib.crc32(header)) + data[33:])


def forbidden_face(case: Case) -> None:
    case.face.chmod(0)
    case.unprivileged = True


def odd_folder(case: Case) -> None:
    target = case.folder / 'my faces, Gesichter für é 顔'
    case.train.rename(target)
    (target / 'face_1.png').rename(target / 'Zoë Müller 1 (copy).png')
    put(case.opt, 'datasets.train.dataroot_gt', str(target))


def odd_folder_in_lmdb(case: Case) -> None:
    case.face.rename(case.train / 'Zoë Müller 1 (copy).png')
    case.pack()


def dotted(case: Case) -> None:
    case.face.rename(case.train / 'face.v1.2.png')


def dotted_in_lmdb(case: Case) -> None:
    dotted(case)
    case.pack()


def twins(case: Case) -> None:
    for name, seed in (('a', 5), ('b', 6)):
        write_image(case.train / name / 'face_1.png', picture(96, seed))


def twins_in_lmdb(case: Case) -> None:
    twins(case)
    case.pack()


def sees(count: int) -> Callable[[Case], None]:
    def check_count(case: Case) -> None:
        paths = [path for sample in case.samples for path in sample['gt_path']]
        assert len(set(paths)) == count
        images = {bytes(sample['gt'].numpy().tobytes()) for sample in case.samples}
        assert len(images) == len(case.samples)

    return check_count


def litter(case: Case) -> None:
    """What lies about in folders: a hidden copy, a note, a folder named like a picture."""
    (case.train / '._face_1.png').write_bytes(b'Mac OS X')
    (case.train / 'readme.txt').write_text('faces')
    (case.train / 'folder.png').mkdir()


def empty_folder(case: Case) -> None:
    shutil.rmtree(case.train)
    case.train.mkdir()


def large_batch(case: Case) -> None:
    put(case.opt, 'datasets.train.batch_size_per_gpu', 4)


def sees_full_batch(case: Case) -> None:
    (batch,) = case.samples
    assert batch['gt'].shape == (4, 3, 80, 80)
    assert len(set(batch['gt_path'])) == 3  # one of the three twice


def option(path: str, value: Any) -> Callable[[Case], None]:
    return lambda case: put(case.opt, path, value)


def lmdb_without(name: str) -> Callable[[Case], None]:
    return lambda case: (case.pack() / name).unlink()


def lmdb_cut(size: float) -> Callable[[Case], None]:
    return lambda case: cut(case.pack() / 'data.mdb', size)


def lmdb_with_unknown_key(case: Case) -> None:
    meta = case.pack() / 'meta_info.txt'
    meta.write_text(meta.read_text() + 'face_9.png (96,96,3) 1\n')


def lmdb_with_damaged_value(case: Case) -> None:
    data = case.pack() / 'data.mdb'
    content = bytearray(data.read_bytes())
    start = content.index(b'\x89PNG')
    content[start + 500] ^= 0xFF
    data.write_bytes(content)


def read_only_lmdb(case: Case) -> None:
    path = case.pack()
    for file in path.iterdir():
        file.chmod(0o444)
    path.chmod(0o555)
    case.unprivileged = True


def lmdb_for_folder(case: Case) -> None:
    case.pack()
    put(case.opt, 'datasets.train.io_backend.type', 'disk')


def suffix_twins(case: Case) -> None:
    write_image(case.train / 'face_1.jpg', picture(96, 5))


def suffix_twins_in_lmdb(case: Case) -> None:
    suffix_twins(case)
    case.pack()


def empty_lmdb(case: Case) -> None:
    (case.folder / 'empty.lmdb').mkdir()
    case.name_lmdb(case.folder / 'empty.lmdb')


def other_lr(side: int) -> Callable[[Case], None]:
    return lambda case: write_image(case.folder / 'lr' / 'face_1.png', picture(side))


def odd_hr(case: Case) -> None:
    write_image(case.folder / 'hr' / 'face_1.png', picture(98))


def remove(name: str) -> Callable[[Case], None]:
    return lambda case: (case.folder / name).unlink()


def several_faults(case: Case) -> None:
    """Grey with alpha is none."""
    (case.train / 'face_0.png').write_text('no picture')
    tiny(case)
    Image.fromarray(picture()).convert('LA').save(case.train / 'face_2.png')
    (case.train / 'face_3.png').write_bytes(b'')


def several_faults_in_pairs(case: Case) -> None:
    for number in range(3, 6):
        for name, side in (('hr', 96), ('lr', 24)):
            write_image(case.folder / name / f'face_{number}.png', picture(side, number))
    (case.folder / 'hr' / 'face_0.png').write_text('no picture')
    cut(case.folder / 'lr' / 'face_0.png', 0.7)
    odd_hr(case)
    cut(case.folder / 'hr' / 'face_2.png', 0.7)
    remove('lr/face_3.png')(case)
    remove('hr/face_4.png')(case)
    (case.folder / 'hr' / 'notes.txt').write_text('faces')


def lmdb_with_unknown_keys(case: Case) -> None:
    lmdb_with_unknown_key(case)
    meta = case.folder / 'train.lmdb' / 'meta_info.txt'
    meta.write_text(meta.read_text() + 'face_8.png (96,96,3) 1\n')


def no_pairs(case: Case) -> None:
    for name in ('hr', 'lr'):
        shutil.rmtree(case.folder / name)
        (case.folder / name).mkdir()


def poison(weights: dict[str, torch.Tensor]) -> None:
    weights['conv_first.weight'][0, 0, 0, 0] = float('nan')


def cut_weights(case: Case) -> None:
    cut(case.save_weights(), 0.5)


def text_as_weights(case: Case) -> None:
    case.save_weights().write_text('no weights')


def noise_as_weights(case: Case) -> None:
    case.save_weights().write_bytes(np.random.default_rng(1).bytes(5000))


def numbers_as_weights(case: Case) -> None:
    case.save_weights().write_text('1.5 2.5\n' * 100)


def empty_weights(case: Case) -> None:
    case.save_weights().write_bytes(b'')


def folder_as_weights(case: Case) -> None:
    put(case.opt, 'path.pretrain_network_g', str(case.folder))


def cut_state(case: Case) -> None:
    torch.save({'iter': 2, 'epoch': 0, 'optimizers': [], 'schedulers': []}, case.folder / '2.state')
    cut(case.folder / '2.state', 0.5)
    put(case.opt, 'path.resume_state', str(case.folder / '2.state'))


Row = tuple[Callable[[Case], Any], str | Callable[[Case], None]]
NO_TENSORS = 'a checkpoint of tensors expected, it holds something else or is damaged'
FITS = 'weights that fit FaceSRResNet expected'

# What is wrong: how it comes about, and the whole line that says so: `{}` is the folder, `…` any words. Or, where it
# works as one would expect, what a training sees.
TABLE: dict[str, Row] = {
    # training pictures
    'PNG cut short': (lambda case: cut(case.face, 0.7), f'{{}}/train/face_1.png: {NO_IMAGE}'),
    'JPEG cut short': (cut_jpeg, f'{{}}/train/face_1.jpg: {NO_IMAGE}'),
    'PNG with a wrong byte': (lambda case: flip_bits(case.face, 0.5), f'{{}}/train/face_1.png: {NO_IMAGE}'),
    'no bytes': (lambda case: cut(case.face, 0), f'{{}}/train/face_1.png: {NO_IMAGE}'),
    'text named .png': (lambda case: case.face.write_text('no picture'), f'{{}}/train/face_1.png: {NO_IMAGE}'),
    'one channel': (grey, sees_grey),
    'alpha channel': (alpha, sees_picture),
    '16 bit': (sixteen_bit, sees_picture),
    'palette': (palette, sees_palette),
    'CMYK JPEG': (cmyk, sees_cmyk),
    'rotated by EXIF': (rotated, sees_upright),
    '1x1 px': (tiny, '{}/train: face_1.png: at least 80x80 px expected (datasets.train.gt_size), got 1x1'),
    'header of 10 gigapixels': (
        huge,
        '{}/train/face_1.png: cannot be read as an image: its header claims too many pixels …',
    ),
    'several faults': (
        several_faults,
        f'{{}}/train/face_0.png: {NO_IMAGE}\n'
        '{}/train: face_1.png: at least 80x80 px expected (datasets.train.gt_size), got 1x1\n'
        f'{{}}/train/face_3.png: {NO_IMAGE}',
    ),
    'no permission to read': (forbidden_face, '{}/train/face_1.png: Permission denied'),
    'capital suffix': (lambda case: case.face.rename(case.train / 'FACE_1.PNG'), sees(3)),
    'odd names': (odd_folder, sees(3)),
    'odd names in an LMDB': (odd_folder_in_lmdb, sees(3)),
    'names with dots': (dotted, sees(3)),
    'names with dots in an LMDB': (dotted_in_lmdb, sees(3)),
    'one name in several subfolders': (twins, sees(5)),
    'one name in several subfolders in an LMDB': (twins_in_lmdb, sees(5)),
    'names that differ by suffix': (suffix_twins, sees(4)),
    'litter': (litter, sees(3)),
    'empty folder': (empty_folder, '{}/train: holds no image (.png, .jpg, .jpeg, .bmp, .webp, .tif, .tiff)'),
    'missing folder': (
        lambda case: shutil.rmtree(case.train),
        'datasets.train.dataroot_gt: no such file or folder: {}/train',
    ),
    'a file for a folder': (
        lambda case: put(case.opt, 'datasets.train.dataroot_gt', str(case.face)),
        '{}/train/face_1.png: no such folder',
    ),
    # sizes
    'batch larger than the set': (large_batch, sees_full_batch),
    'gt_size larger than the pictures': (
        option('datasets.train.gt_size', 128),
        '\n'.join(
            f'{{}}/train: face_{number}.png: at least 128x128 px expected (datasets.train.gt_size), got 96x96'
            for number in range(3)
        ),
    ),
    'gt_size not divisible': (
        option('datasets.train.gt_size', 82),
        'datasets.train.gt_size: a multiple of the scale 4 expected, got 82',
    ),
    # LMDB
    'LMDB without meta_info.txt': (
        lmdb_without('meta_info.txt'),
        '{}/train.lmdb/meta_info.txt: No such file or directory',
    ),
    'LMDB without data.mdb': (
        lmdb_without('data.mdb'),
        '{}/train.lmdb: no LMDB there (data.mdb: No such file or directory)',
    ),
    'LMDB with nothing in it': (empty_lmdb, '{}/empty.lmdb: no LMDB there (data.mdb: No such file or directory)'),
    'LMDB lacks a key of meta_info.txt': (lmdb_with_unknown_key, '{}/train.lmdb: no image face_9'),
    'LMDB lacks several keys of meta_info.txt': (
        lmdb_with_unknown_keys,
        '{}/train.lmdb: no image face_9\n{}/train.lmdb: no image face_8',
    ),
    'LMDB cut short': (lmdb_cut(0.5), '{}/train.lmdb: data.mdb is cut short: … bytes expected, got …'),
    'LMDB of no bytes': (lmdb_cut(0), '{}/train.lmdb: cannot be opened as an LMDB (…)'),
    'LMDB with a damaged picture': (lmdb_with_damaged_value, f'{{}}/train.lmdb: face_0: {NO_IMAGE}'),
    'LMDB in a read-only folder': (read_only_lmdb, sees(3)),
    'LMDB named as a folder': (
        lmdb_for_folder,
        'datasets.train.dataroot_gt: a folder of images expected with io_backend type disk, got {}/train.lmdb',
    ),
    'LMDB of names that differ by suffix': (
        suffix_twins_in_lmdb,
        '{}/train/face_1.png: differs from {}/train/face_1.jpg by its suffix only, and a key has none: rename one',
    ),
    # validation pairs
    'LR of another size': (
        other_lr(20),
        '{}/hr: face_1.png: HR of 80x80 px expected (4 times the LR), got 96x96',
    ),
    'HR not divisible': (odd_hr, '{}/hr: face_1.png: HR of 96x96 px expected (4 times the LR), got 98x98'),
    'HR without LR': (
        remove('lr/face_1.png'),
        '{}/lr: face_1.png expected, the LR image of {}/hr: face_1.png',
    ),
    'LR without HR': (remove('hr/face_1.png'), '{}/lr: face_1.png has no HR image in {}/hr'),
    'no pairs at all': (no_pairs, '{}/lr: holds no image (.png, .jpg, .jpeg, .bmp, .webp, .tif, .tiff)'),
    'damaged LR picture': (lambda case: cut(case.folder / 'lr/face_1.png', 0.7), f'{{}}/lr/face_1.png: {NO_IMAGE}'),
    'several faults in pairs': (
        several_faults_in_pairs,
        '{}/hr: notes.txt: only images expected, BasicSR reads every file here\n'
        '{}/lr: face_3.png expected, the LR image of {}/hr: face_3.png\n'
        f'{{}}/hr/face_0.png: {NO_IMAGE}\n'
        f'{{}}/lr/face_0.png: {NO_IMAGE}\n'
        '{}/hr: face_1.png: HR of 96x96 px expected (4 times the LR), got 98x98\n'
        f'{{}}/hr/face_2.png: {NO_IMAGE}\n'
        '{}/lr: face_4.png has no HR image in {}/hr',
    ),
    'pairs in LMDBs of raw pixels': (
        lambda case: case.pack_pairs('--raw'),
        '{}/lr.lmdb: PNG values expected, raw pixels are for training only: make it without --raw',
    ),
    'pairs in LMDBs': (lambda case: case.pack_pairs(), sees(3)),
    # weights and states
    'weights of another depth': (
        lambda case: case.save_weights(num_block=2),
        f'{{}}/net.pth: {FITS}: has unknown body.1.conv1.bias and 3 more',
    ),
    'weights with NaN': (
        lambda case: case.save_weights(poison),
        '{}/net.pth: finite weights expected, conv_first.weight holds NaN or infinity:'
        ' the training that made them diverged',
    ),
    'params asked for, params_ema there': (
        lambda case: case.save_weights(key='params_ema'),
        "{}/net.pth: key 'params' expected, found params_ema",
    ),
    'params_ema asked for, params there': (
        lambda case: (case.save_weights(), put(case.opt, 'path.param_key_g', 'params_ema')),
        sees(3),
    ),
    'weights cut short': (cut_weights, '{}/net.pth: damaged, or no checkpoint'),
    'text for weights': (text_as_weights, f'{{}}/net.pth: {NO_TENSORS}'),
    'noise for weights': (noise_as_weights, f'{{}}/net.pth: {NO_TENSORS}'),
    'numbers for weights': (numbers_as_weights, f'{{}}/net.pth: {NO_TENSORS}'),
    'weights of no bytes': (empty_weights, '{}/net.pth: damaged, or no checkpoint'),
    'a folder for weights': (folder_as_weights, 'path.pretrain_network_g: no such file: {}'),
    'state cut short': (cut_state, '{}/2.state: damaged, or no checkpoint'),
}


@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
@pytest.mark.parametrize('row', TABLE)
def test_bad_data(row, case, capfd):
    spoil, expected = TABLE[row]

    def command() -> None:
        spoil(case)
        with without_privileges() if case.unprivileged else small_disk(resource.RLIM_INFINITY):
            case.use()

    status, lines = status_and_lines(command, capfd)
    if isinstance(expected, str):
        patterns = [
            re.escape(f'error: {line.replace("{}", str(case.folder))}').replace('…', '.+')
            for line in expected.splitlines()
        ]
        assert (status, len(lines)) == (2, len(patterns))
        for pattern, line in zip(patterns, lines, strict=True):
            assert re.fullmatch(pattern, line), line
    else:
        assert (status, lines) == (0, [])
        expected(case)


# ------------------------------------------------------------------------- nowhere to write
@pytest.fixture
def parse(case, monkeypatch) -> Callable[[], None]:
    """Return what reads a training's command line, in a folder of its own."""
    (case.folder / 'opt.yml').write_text(yaml.safe_dump(case.opt))
    (case.folder / 'root').mkdir()
    monkeypatch.setattr('sys.argv', ['train.py', '-opt', str(case.folder / 'opt.yml')])
    return lambda: parse_options(str(case.folder / 'root'))


def test_no_permission_to_write(case, parse, capfd):
    root = case.folder / 'root'
    root.chmod(0o555)
    with without_privileges():
        status, lines = status_and_lines(parse, capfd)
    expected = f'error: {root}: no permission to write there, for {root}/experiments/run'
    assert (status, lines) == (2, [expected])


def test_file_where_a_folder_should_be(case, parse, capfd):
    path = case.folder / 'root' / 'experiments'
    path.write_text('')
    status, lines = status_and_lines(parse, capfd)
    assert (status, lines) == (2, [f'error: {path}: a folder expected, to hold {path}/run'])


def test_disk_full_while_an_lmdb_is_made(case, capfd):
    with small_disk(20_000):
        status, lines = status_and_lines(case.pack, capfd)
    assert status == 2
    (line,) = lines
    assert line.startswith(f'error: {case.folder}/train.lmdb: cannot be written (')
    assert not [path for path in case.folder.iterdir() if 'lmdb' in path.name]


def test_disk_full_while_a_picture_is_written(case, capfd, monkeypatch):
    def fail(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, 'fsync', fail)
    path = case.folder / 'out' / 'a.png'
    status, lines = status_and_lines(lambda: write_image(path, picture()), capfd)
    assert (status, lines) == (2, [f'error: {path}: No space left on device'])
    assert list(path.parent.iterdir()) == []


def test_disk_full_while_weights_are_saved(case, capfd):
    """The input was right, so the status is 1; the old file stays."""
    path = case.save_weights()
    before = path.read_bytes()
    with small_disk(1000):
        status, lines = status_and_lines(lambda: checkpoint.save(path, {'params': {'w': torch.ones(999)}}), capfd)
    assert (status, len(lines)) == (1, 1)
    assert lines[0].startswith(f'error: {path}: cannot be written: File too large')
    assert path.read_bytes() == before


# -------------------------------------------------------------------- by the real commands
def run(script: str, opt: Options, folder: Path) -> subprocess.CompletedProcess:
    (folder / 'opt.yml').write_text(yaml.safe_dump(opt))
    command = [sys.executable, str(ROOT / 'facesr_plugin' / script), '-opt', 'opt.yml']
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_error_of_a_loader_process_is_one_line(case):
    """The header is right, so it shows when a loader process decodes the picture."""
    put(case.opt, 'datasets.train.num_worker_per_gpu', 2)
    cut(case.face, 0.7)
    done = run('train.py', case.opt, case.folder)
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert lines[-1] == f'error: {case.face}: {NO_IMAGE}'
    assert sum(line.startswith('error:') for line in lines) == 1
    assert 'Traceback' not in done.stderr


def test_damaged_picture_in_a_test(case):
    cut(case.folder / 'lr' / 'face_2.png', 0.7)
    done = run('test.py', measuring_options(case.folder), case.folder)
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if 'libpng' not in line and 'WARN' not in line] == [
        f'error: {case.folder}/lr/face_2.png: {NO_IMAGE}'
    ]
    assert not (case.folder / 'results').exists()
