"""A run that never gets under way leaves what was there before."""

import shutil
from pathlib import Path

import pytest
import yaml
from basicsr import test as test_pipeline
from basicsr import train as train_pipeline
from samples import make_net
from small import put

from facesr_plugin import test, train
from facesr_plugin.errors import UserError
from facesr_plugin.run import checkpoint, lock
from facesr_plugin.run.archive import Archive


def tree(root: Path) -> dict[Path, str]:
    return {path: path.read_text() for path in sorted(root.rglob('*')) if path.is_file()}


def test_twice_in_a_second_and_back(tmp_path):
    folder = tmp_path / 'run'
    for content in 'abc':
        archive = Archive()
        archive.make(folder)
        (folder / 'file').write_text(content)
    assert len(list(tmp_path.glob('run_archived_*'))) == 2
    archive.undo()
    assert (folder / 'file').read_text() == 'b'
    archive.undo()  # nothing more
    assert (folder / 'file').read_text() == 'b'


def test_under_way(tmp_path):
    archive = Archive()
    archive.make(tmp_path / 'run')
    archive.keep()
    archive.undo()
    assert (tmp_path / 'run').is_dir()


@pytest.fixture
def before(data, monkeypatch) -> dict[Path, str]:
    """Return the files of an earlier run of each name."""
    for name in ('experiments/run', 'tb_logger/run', 'results/measure'):
        (data / 'root' / name).mkdir(parents=True)
        (data / 'root' / name / 'precious').write_text(name)
    monkeypatch.chdir(data / 'root')
    for pipeline in (test_pipeline, train_pipeline):
        for name, value in list(vars(pipeline).items()):
            monkeypatch.setattr(pipeline, name, value)
    return tree(data / 'root')


def start(main, opt, data, monkeypatch):
    (data / 'opt.yml').write_text(yaml.safe_dump(opt))
    monkeypatch.setattr('sys.argv', ['train.py', '-opt', str(data / 'opt.yml')])
    main()


@pytest.mark.parametrize('broken', ['data set', 'model', 'first sample'])
def test_training_that_fails_before_its_first_batch(before, opt, data, monkeypatch, broken):
    put(opt, 'logger.use_tb_logger', True)

    def fails(*args, **kwargs):
        raise ZeroDivisionError

    if broken == 'data set':
        monkeypatch.setattr(train_pipeline, 'build_dataset', fails)
    elif broken == 'model':
        monkeypatch.setattr(train, 'build_model', fails)
    else:
        monkeypatch.setattr('facesr_plugin.data.face_degradation_dataset.sample_kernels', fails)
    with pytest.raises(ZeroDivisionError):
        start(train.main, opt, data, monkeypatch)
    assert {path: text for path, text in tree(data / 'root').items() if path.name[0] != '.'} == before


@pytest.mark.parametrize('flags', [(), ('--check',), ('--auto_resume',)])
def test_weights_of_the_run_that_would_be_moved_aside(launch, opt, data, flags):
    """At 754be97 they were gone when they were to be loaded: a traceback."""
    weights = 'experiments/run/models/net_g_latest.pth'
    own = data / 'root' / 'experiments' / 'run'
    (own / 'models').mkdir(parents=True)
    checkpoint.save(own / 'models' / 'net_g_latest.pth', {'params': make_net(num_feat=4, num_block=1).state_dict()})
    put(opt, 'path.pretrain_network_g', weights)
    put(opt, 'path.param_key_g', 'params')
    status, _, err = launch(train.main, opt, *flags)
    expected = f'a place outside {own} expected, which a new run of this name moves aside'
    assert (status, err) == (2, f'error: path.pretrain_network_g: {expected}, got {weights}\n')
    assert [path.name for path in own.parent.iterdir() if path.is_dir()] == ['run']
    assert (own / 'models' / 'net_g_latest.pth').is_file()
    put(opt, 'name', 'other')
    assert launch(train.main, opt, *flags)[0] == 0


def test_pictures_of_the_test_that_would_be_moved_aside(launch, measuring, data):
    pictures = data / 'root' / 'results' / 'measure' / 'lr'
    shutil.copytree(data / 'lr', pictures)
    put(measuring, 'datasets.test.dataroot_lq', str(pictures))
    status, _, err = launch(test.main, measuring)
    assert (status, err.count('\n')) == (2, 1)
    assert err.startswith(f'error: datasets.test.dataroot_lq: a place outside {pictures.parent} expected, which a new ')


def test_a_test_that_fails_before_it_begins(before, measuring, data, monkeypatch):
    def fails(*args):
        raise ZeroDivisionError

    monkeypatch.setattr(test_pipeline, 'build_model', fails)
    with pytest.raises(ZeroDivisionError):
        start(test.main, measuring, data, monkeypatch)
    assert tree(data / 'root') == before


def test_training_that_works_archives(before, opt, data, monkeypatch):
    shutil.rmtree(data / 'root' / 'tb_logger')
    start(train.main, opt, data, monkeypatch)
    (kept,) = (data / 'root' / 'experiments').glob('run_archived_*')
    assert (kept / 'precious').read_text() == 'experiments/run'
    assert (data / 'root' / 'experiments' / 'run' / 'models' / 'net_g_latest.pth').is_file()


def test_lock_that_is_a_link(tmp_path):
    """What it names is not truncated."""
    (tmp_path / 'outside').write_text('precious')
    (tmp_path / '.run.lock').symlink_to(tmp_path / 'outside')
    with pytest.raises(UserError, match=r'\.run\.lock: Too many levels of symbolic links$'):
        lock.take(tmp_path / 'run')
    assert (tmp_path / 'outside').read_text() == 'precious'
