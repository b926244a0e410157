"""Option files as YAML, `--force_yml`, and what the command line makes of both."""

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from packaging.version import Version
from small import Options, put

from facesr_plugin.errors import UserError
from facesr_plugin.options.load import as_opt, build_parser, copy_option_file, parse_options
from facesr_plugin.options.read import load_yaml, override
from facesr_plugin.options.types import TrainingOptions
from facesr_plugin.run import processes


def write(folder: Path, text: str) -> Path:
    path = folder / 'opt.yml'
    path.write_text(text)
    return path


# ------------------------------------------------------------------------------- YAML
@pytest.mark.parametrize(
    ('text', 'problem'),
    [
        ('name: [1\n', ':2: not a valid option file: expected'),
        ('name: run\n\tscale: 4\n', ':2: not a valid option file: found character'),
        ('? [a]\n: 1\n', ':1: not a valid option file: a text expected as key'),
        ('a: 1\nb:\n  c: 1\n  c: 2\n', ":4: not a valid option file: key 'c' stands twice"),
        ('a: ' + '[' * 3000, ': not a valid option file: nested too deeply'),
        ('- name\n', ': a mapping of options expected, got list'),
        ('', ': a mapping of options expected, got NoneType'),
        ('\udcff\udcfe\x00\udc81', ': a UTF-8 text file expected'),
        (None, ': No such file or directory'),
    ],
)
def test_no_option_file(tmp_path, text, problem):
    path = tmp_path / 'opt.yml'
    if text is not None:
        path.write_text(text, errors='surrogateescape')
    with pytest.raises(UserError) as error:
        load_yaml(path)
    assert str(error.value).startswith(f'{path}{problem}')
    assert '\n' not in str(error.value)


def test_what_yaml_may_hold(tmp_path):
    """Merged mappings; a date is text, and so is a number that YAML 1.1 knows no better."""
    text = 'a: &base {b: 1, c: 2}\nd:\n  <<: *base\n  c: 3\nname: 2024-01-01\nlr: [1e-4, !!float 1e-4]\n'
    read = load_yaml(write(tmp_path, text))
    assert (read['d'], read['name'], read['lr']) == ({'b': 1, 'c': 3}, '2024-01-01', ['1e-4', 1e-4])


def test_yaml_runs_nothing(tmp_path):
    path = write(tmp_path, f'name: !!python/object/apply:os.mkdir ["{tmp_path}/ran"]\n')
    with pytest.raises(UserError) as error:
        load_yaml(path)
    assert str(error.value).startswith(f'{path}:1: not a valid option file: could not determine a constructor')
    assert '\n' not in str(error.value)
    assert not (tmp_path / 'ran').exists()
    yaml.unsafe_load(path.read_text())  # no dud: PyYAML's unsafe loader, which stock uses, runs it
    assert (tmp_path / 'ran').exists()


# -------------------------------------------------------------------------- --force_yml
@pytest.mark.parametrize(
    ('entry', 'path', 'value'),
    [
        ('name=other', 'name', 'other'),
        ('train:total_iter=20', 'train.total_iter', 20),
        ('train:optim_g:lr=!!float 1e-4', 'train.optim_g.lr', 1e-4),
        ('train:optim_g:lr=1e-4', 'train.optim_g.lr', 1e-4),
        ('noise_range=[2, 3]', 'noise_range', [2, 3]),
        ('noise_range=[-2E5, +.5e1, 1.e+0]', 'noise_range', [-2e5, 5.0, 1.0]),
        ('train:scheduler={periods: [1e4]}', 'train.scheduler', {'periods': [1e4]}),
        ("name='1e4'", 'name', '1e4'),
        ('name=1e4x', 'name', '1e4x'),
        ('name=e4', 'name', 'e4'),
        ('path:pretrain_network_g=~', 'path.pretrain_network_g', None),
        ('train:total_iter=010', 'train.total_iter', '010'),
        ('name=a=b', 'name', 'a=b'),
        ('train:compile=true', 'train.compile', True),  # the file leaves it to its default
        ("name=__import__('os').mkdir('ran')", 'name', "__import__('os').mkdir('ran')"),  # stock puts it through `exec`
    ],
)
def test_override(opt, entry, path, value, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    expected = copy.deepcopy(opt)
    put(expected, path, value)
    override(opt, entry)
    assert opt == expected
    assert not Path('ran').exists()


def test_numbers_with_an_exponent_are_whole_where_that_is_asked(opt):
    for entry in ('queue_size=1e1', 'train:total_iter=2E3', 'train:scheduler:periods=[2e3]', 'train:optim_g:lr=1e-4'):
        override(opt, entry)
    run = TrainingOptions.parse(opt)
    assert (run.queue_size, run.train.total_iter, run.train.scheduler.periods) == (10, 2000, [2000])
    assert all(type(value) is int for value in (run.queue_size, run.train.total_iter, *run.train.scheduler.periods))
    assert run.train.optim_g.lr == 1e-4
    override(opt, 'queue_size=1e-1')
    with pytest.raises(UserError, match=r'^queue_size: expected a whole number, got 0\.1$'):
        TrainingOptions.parse(opt)


@pytest.mark.parametrize(
    ('entry', 'problem'),
    [
        ('trains:total_iter=3', 'trains:total_iter: no block trains in the option file'),
        ('train:total_iter:deeper=3', 'train:total_iter:deeper: no block train.total_iter in the option file'),
        (':a=3', ':a: no block  in the option file'),
        ('name', 'name: KEY:SUBKEY=VALUE expected'),
        ('name=[1', 'name=[1: the value is not valid YAML'),
        (
            'name=!!python/object/apply:os.mkdir ["ran"]',
            'name=!!python/object/apply:os.mkdir ["ran"]: the value is not valid YAML',
        ),
    ],
)
def test_wrong_override(opt, entry, problem, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    before = copy.deepcopy(opt)
    with pytest.raises(UserError) as error:
        override(opt, entry)
    assert str(error.value) == f'--force_yml {problem}'
    assert opt == before
    assert not Path('ran').exists()


# ------------------------------------------------------------------------ command line
@pytest.fixture
def parse(data, monkeypatch) -> Callable:
    """Return a function that runs `parse_options` on options and further arguments."""

    def run(opt: Options, *arguments: str, is_train: bool = True) -> Options:
        path = write(data, yaml.safe_dump(opt))
        monkeypatch.setattr('sys.argv', ['train.py', '-opt', str(path), *arguments])
        return parse_options(str(data / 'root'), is_train)[0]

    return run


def test_parse_options(opt, parse, data):
    parsed = parse(opt, '--force_yml', 'train:total_iter=3', 'name=other', '--auto_resume')
    root = data / 'root' / 'experiments' / 'other'
    assert parsed['train']['total_iter'] == 3
    assert (parsed['is_train'], parsed['auto_resume'], parsed['dist'], parsed['rank']) == (True, True, False, 0)
    assert (parsed['world_size'], parsed['num_gpu'], parsed['manual_seed']) == (1, 0, 3)
    assert parsed['path'] == {
        'pretrain_network_g': None,
        'param_key_g': 'params',
        'strict_load_g': True,
        'pretrain_network_d': None,
        'strict_load_d': True,
        'resume_state': None,
        'experiments_root': str(root),
        'log': str(root),
        'models': str(root / 'models'),
        'training_states': str(root / 'training_states'),
        'visualization': str(root / 'visualization'),
    }
    assert {key: parsed['datasets'][key]['phase'] for key in parsed['datasets']} == {'train': 'train', 'val': 'val'}
    assert parsed['datasets']['train']['scale'] == 4
    assert not root.exists()  # BasicSR makes it


def test_parse_options_of_a_test(measuring, parse, data):
    parsed = parse(measuring, is_train=False)
    assert parsed['path']['results_root'] == str(data / 'root' / 'results' / 'measure')
    assert parsed['is_train'] is False
    assert (parsed['datasets']['test']['phase'], parsed['val']['suffix']) == ('test', None)
    assert parse(measuring, '--debug', is_train=False)['name'] == 'debug_measure'


def test_what_basicsr_gets_has_defaults_and_nothing_that_is_not_set(opt, parse):
    put(opt, 'datasets.val', {**opt['datasets']['val'], 'mean': None})
    put(opt, 'network_g', {'type': 'FaceSRResNet', 'num_feat': 4})
    parsed = parse(opt)
    assert parsed['network_g'] == {
        'type': 'FaceSRResNet',
        'num_in_ch': 3,
        'num_out_ch': 3,
        'num_feat': 4,
        'num_block': 20,
        'upscale': 4,
    }
    assert parsed['train']['optim_g'] == {
        'type': 'AdamW',
        'lr': 1e-3,
        'weight_decay': 0,
        'betas': [0.9, 0.999],
        'eps': 1e-8,
    }
    assert 'mean' not in parsed['datasets']['val']


def test_parse_options_seeds(opt, parse):
    parse(opt)
    first = torch.rand(3), np.random.rand()
    torch.manual_seed(99)
    parse(opt)
    assert torch.equal(torch.rand(3), first[0])
    assert np.random.rand() == first[1]


def test_parse_options_checks_what_is_forced_too(opt, parse):
    with pytest.raises(UserError, match=r'^train\.epochs: unknown option'):
        parse(opt, '--force_yml', 'train:epochs=3')


def test_one_gpu_a_process(opt, parse, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 4)
    put(opt, 'num_gpu', 'auto')
    assert parse(opt)['num_gpu'] == 1


def test_processes_that_cannot_join(opt, parse, monkeypatch):
    for name in processes.SET_BY_TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('RANK', '0')
    expected = (
        r'^--launcher pytorch: a start by torchrun expected, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT not set$'
    )
    with pytest.raises(UserError, match=expected):
        parse(opt, '--launcher', 'pytorch')
    for name in processes.SET_BY_TORCHRUN:
        monkeypatch.setenv(name, '1')
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    expected = r'^torchrun --nproc_per_node: at most 1 expected, the CUDA devices of this machine$'
    with pytest.raises(UserError, match=expected):
        processes.join(uses_cuda=True)


def test_debug(opt, parse):
    parsed = parse(opt, '--debug')
    assert parsed['name'] == 'debug_run'
    assert parsed['logger'] == {'print_freq': 1, 'save_checkpoint_freq': 8, 'use_tb_logger': False}
    assert parsed['val']['val_freq'] == 8


@pytest.mark.parametrize(
    ('mode', 'why'),
    [
        ('cuda', 'needs a CUDA device, none is used here'),
        ('cpu', 'is not used'),  # BasicSR's thread waits for ever once the loader has failed
    ],
)
def test_prefetch_that_is_not_used(opt, parse, capsys, mode, why):
    put(opt, 'datasets.train.prefetch_mode', mode)
    assert 'prefetch_mode' not in parse(opt)['datasets']['train']
    assert capsys.readouterr().out == f'datasets.train.prefetch_mode: {mode} {why}; going on without\n'


@pytest.mark.parametrize('flag', ['--local_rank', '--local-rank'])
def test_both_spellings_of_local_rank(flag):
    assert build_parser(True).parse_args(['-opt', 'x.yml', flag, '2']).local_rank == 2


# ------------------------------------------------------------------------- bombs and copies
def bomb(line: str) -> str:
    """Return nine levels, each ten times the one before."""
    return 'a0: &a0 {k0: 1, k: 2}\n' + ''.join(
        line.format(n=n + 1, before=', '.join([f'*a{n}'] * 10)) for n in range(9)
    )


@pytest.mark.parametrize(
    'text',
    [bomb('a{n}: &a{n} [{before}]\n'), 'a: &a [*a]\n'],
    ids=['lists', 'itself'],
)
def test_alias_bomb(tmp_path, text):
    path = write(tmp_path, text)
    with pytest.raises(UserError) as error:
        load_yaml(path)
    assert str(error.value).startswith(str(path))
    assert str(error.value).endswith('more than 100000 values, with all aliases written out')


def test_merges_of_merges(tmp_path):
    """Newer versions of PyYAML merge a key once; with older ones the file is refused."""
    path = write(tmp_path, bomb('a{n}: &a{n} {{k{n}: 1, <<: [{before}]}}\n'))
    if Version(yaml.__version__) >= Version('6.0.4'):
        assert len(load_yaml(path)['a9']) == 11
    else:
        with pytest.raises(UserError, match=r'more than 100000 values, with all aliases written out$'):
            load_yaml(path)


def test_a_block_is_switched_off(opt):
    override(opt, 'train:alpha_opt=~')
    override(opt, 'datasets:val=~')
    override(opt, 'val:metrics:psnr=~')
    assert 'alpha_opt' not in opt['train']
    assert list(opt['datasets']) == ['train']
    assert opt['val']['metrics'] == {}


def test_copy_of_the_option_file(tmp_path):
    """Of a copy too, with its lines on top renewed; where a link lies, what it names is left alone."""
    (tmp_path / 'outside').write_text('precious')
    copy_to = tmp_path / 'opt.yml'
    copy_to.symlink_to(tmp_path / 'outside')
    copy_option_file('# first\n\nname: x\n', copy_to)
    first = copy_to.read_text()
    copy_option_file(first, copy_to)
    assert copy_to.read_text().splitlines()[1:] == first.splitlines()[1:]
    assert first.endswith('\n\n# first\n\nname: x\n')
    assert first.count('GENERATE TIME') == 1
    assert (tmp_path / 'outside').read_text() == 'precious'
    assert not copy_to.is_symlink()


# -------------------------------------------------------------------------------- imports
def test_import_that_fails(opt, parse, data, monkeypatch):
    monkeypatch.chdir(data)
    (data / 'own_broken.py').write_text('a = 1\nb = 1 / 0\n')
    expected = rf'^--import own_broken: cannot be imported: ZeroDivisionError: .* \({data}/own_broken.py, line 2\)$'
    with pytest.raises(UserError, match=expected):
        parse(opt, '--import', 'own_broken')
    put(opt, 'imports', ['no_such_module'])
    with pytest.raises(UserError, match=r'^imports no_such_module: cannot be imported: ModuleNotFoundError'):
        parse(opt)
    put(opt, 'imports', 'os')
    with pytest.raises(UserError, match=r"^imports: expected a list, got 'os'$"):
        parse(opt)


@pytest.mark.parametrize(('devices', 'said', 'pinned'), [(1, None, True), (1, False, False), (0, None, None)])
def test_memory_is_pinned_where_cuda_is_used(opt, data, monkeypatch, devices, said, pinned):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: devices)
    opt |= {'num_gpu': 'auto'}
    if said is not None:
        put(opt, 'datasets.train.pin_memory', said)
    assert as_opt(TrainingOptions.parse(opt), data, True)['datasets']['train'].get('pin_memory') is pinned
