import json
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from basicsr.utils.file_client import FileClient, LmdbBackend
from tiny import FACES, ROOT, run

from benchmark import cases, enlarging, models, timing
from benchmark import command as benchmark
from benchmark.rows import COLUMNS, MEASURED, as_row, format_table
from facesr_plugin.data.images import read_image, write_image
from facesr_plugin.errors import UserError
from facesr_plugin.report.machine import cpu_name

CPU = torch.device('cpu')
ENDS = ('', '_min', '_max')
KEYS = {'name', 'device', 'precision', 'stock_images_per_s', 'ours_images_per_s'}
KEYS |= {key + end for key in MEASURED for end in ENDS}


@pytest.fixture
def setup(tmp_path) -> models.Setup:
    return models.Setup(CPU, FACES, tmp_path, **benchmark.QUICK)


def test_command_writes_both_files(tmp_path, capsys):
    files = {'--json': tmp_path / 'new' / 'speed.json', '--markdown': tmp_path / 'new' / 'speed.md'}
    options = [text for name, path in files.items() for text in (name, str(path))]
    benchmark.main(['--quick', '--device', 'cpu', '--repeat', '2', '--only', 'dataset', 'validation', *options])

    rows = json.loads(files['--json'].read_text())
    assert [row['name'].split(',')[0] for row in rows] == ['data set item'] * 2 + ['validation of a 64 px pair']
    for row in rows:
        assert set(row) == KEYS
        assert row['device'] == 'cpu'
        for key in MEASURED[:3]:
            assert 0 < row[f'{key}_min'] <= row[key] <= row[f'{key}_max']
        assert all(row[key + end] is None for key in MEASURED[3:] for end in ENDS)

    printed, text = capsys.readouterr().out, files['--markdown'].read_text()
    assert printed == text
    assert text.startswith(f'PyTorch {torch.__version__}')
    assert f'CPU: {cpu_name()}, {torch.get_num_threads()} threads' in text
    table = [line.split('|') for line in text.splitlines() if line.startswith('|')]
    assert {len(line) for line in table} == {len(COLUMNS) + 2}
    assert [line[1].strip() for line in table[2:]] == [row['name'] for row in rows]


@pytest.mark.parametrize('name', ['benchmark_cpu', 'benchmark_cpu_amx'])
def test_the_tables_in_docs_are_those_of_their_rows(name):
    rows = json.loads((ROOT / 'docs' / f'{name}.json').read_text())
    assert set(rows[0]) == KEYS
    assert f'\n\n{format_table(rows)}\n\n' in (ROOT / 'docs' / f'{name}.md').read_text()


def test_without_the_device_the_rows_stand_unmeasured(setup, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    rows = benchmark.run([replace(setup, device=torch.device('cuda'))], list(cases.GROUPS), 1)
    assert {(row['device'], row['stock_ms'], row['ours_ms'], row['speedup']) for row in rows} == {
        ('cuda', None, None, None)
    }
    assert format_table(rows).count('not measured') == 2 * len(rows)


def test_without_what_windows_lacks_memory_is_not_measured(setup):
    code = (
        f'import sys; sys.modules["resource"] = None; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "scripts")!r}]\n'
        'import facesr_plugin, benchmark.command\n'
        'benchmark.command.main(["--quick", "--device", "cpu", "--repeat", "1", "--only", "memory", "pool"])'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    table = [[cell.strip() for cell in line.split('|')[1:-1]] for line in done.stdout.splitlines() if '|' in line][2:]
    unmeasured = {row[0] for row in table if 'not measured' in row}
    both = [*cases.GROUPS['memory'](setup), *cases.GROUPS['pool'](setup)]
    assert unmeasured == {case.name for case in both if case.memory}
    assert len(table) == len(both) > len(unmeasured) > 0


def test_without_a_compiler_the_compiled_rows_stand_unmeasured(capsys, monkeypatch):
    monkeypatch.setattr(cases, 'can_compile', lambda device: False)
    benchmark.main(['--quick', '--device', 'cpu', '--repeat', '1', '--only', 'compile'])
    assert capsys.readouterr().out.count('| not measured') == 4


@pytest.mark.slow
def test_compiled_rows(capsys):
    benchmark.main(['--quick', '--device', 'cpu', '--repeat', '1', '--only', 'compile'])
    out = capsys.readouterr().out
    assert out.count('concat, compiled') == 2
    assert 'not measured' not in out


def test_the_ratio_is_the_median_over_pairs(monkeypatch):
    """Ratios 1, 4 and 3; the ratio of the medians would be 2."""
    clock = iter([0, 10, 100, 110, 200, 220, 300, 305, 400, 490, 500, 530])
    monkeypatch.setattr(timing.time, 'perf_counter', lambda: next(clock) / 1000)
    order = []
    runs = [lambda number, side=side: order.append((side, number)) for side in ('stock', 'ours')]
    stock, ours = timing.time_pairs(*runs, runs=1, repeat=3, device=CPU)
    assert order[: 2 * timing.WARM_UP] == [('stock', 0), ('stock', 1), ('ours', 0), ('ours', 1)]
    assert order[2 * timing.WARM_UP :] == [(side, number) for number in (2, 3, 4) for side in ('stock', 'ours')]

    row = as_row(timing.Case('a', 'fp32', None, None, images=5), 'cpu', (stock, ours))
    expected = {'stock_ms': 20, 'stock_ms_max': 90, 'ours_ms': 10, 'ours_ms_min': 5, 'speedup': 3, 'speedup_min': 1}
    assert {key: row[key] for key in expected} == pytest.approx(expected)
    assert row['ours_images_per_s'] == pytest.approx(500)


def test_row_of_memory():
    row = as_row(timing.Case('a', '-', None, None, memory=True), 'cpu', ([30.0], [20.0]))
    assert (row['stock_mib'], row['ours_mib'], row['memory_ratio'], row['stock_ms']) == (30, 20, 1.5, None)
    assert format_table([row]).splitlines()[2].split('|')[3:6] == [' 30 MiB ', ' 20 MiB ', ' 1.5          ']


@pytest.mark.parametrize('group', ['pool', 'memory', 'enlarge'])
def test_sides_whose_memory_is_measured_reach_another_process(setup, group):
    sides = [side for case in cases.GROUPS[group](setup) if case.memory for side in (case.stock, case.ours)]
    assert sides
    for side in sides:
        again = pickle.loads(pickle.dumps(side))
        assert (getattr(again, 'func', again), vars(again)) == (getattr(side, 'func', side), vars(side))


def test_a_repetition_is_the_mean_of_its_runs(monkeypatch):
    clock = iter([0, 12, 100, 106])
    monkeypatch.setattr(timing.time, 'perf_counter', lambda: next(clock) / 1000)
    numbers = []
    times = timing.time_pairs(numbers.append, lambda number: None, runs=4, repeat=1, device=CPU)
    assert times == (pytest.approx([3]), pytest.approx([1.5]))
    assert numbers == [0, 1, 2, 3, 4, 5]


def filling(setup: models.Setup) -> timing.Run:
    return partial(torch.full, (2**24,))


def test_peak_memory_is_that_of_a_fresh_process(setup):
    """2^24 whole numbers of 8 bytes are 128 MiB; what this process holds does not count."""
    held = torch.ones(2**26)
    assert 120 < timing.peak_memory(filling, setup, keeps=False) < 150, len(held)


@pytest.mark.parametrize(('kind', 'stock_kind'), cases.PAIRINGS)
def test_both_sides_start_alike_and_do_the_same_step(setup, kind, stock_kind):
    """The same weights, the same batch and, in fp32, the same weights after it; `sampled` draws other branches."""
    with models.stock_runs(setup):
        sides = models.build_stock(setup, stock_kind), models.build_ours(setup, kind)
        assert_same_weights(*sides, atol=0)
        lq, gt = models.pairs(setup, setup.patch)
        assert lq.shape == (5, 3, 24, 24)
        assert gt.shape == (5, 3, 96, 96)
        for model in sides:
            model.lq, model.gt = lq, gt
            for group in model.optimizer_g.param_groups:
                group['eps'] = 1  # then Adam's step is smooth in the gradient
            model.optimize_parameters(1)
        if kind != 'sampled':
            assert_same_weights(*sides, atol=1e-7)


def assert_same_weights(stock, ours, atol):
    weights, others = stock.net_g.state_dict(), ours.net_g.state_dict()
    assert list(weights) == list(others)
    for name, value in weights.items():
        torch.testing.assert_close(others[name].contiguous(), value, rtol=0, atol=atol)


def test_stock_crops_at_400_px_and_larger_patches_at_theirs(setup):
    for patch, side in ((96, 400), (512, 512)):
        sized = replace(setup, patch=patch)
        with models.stock_runs(sized):
            assert models.stock_dataset(sized)[0]['gt'].shape == (3, side, side)
        assert models.our_dataset(sized, 'png')[0]['gt'].shape == (3, side, side)


def test_stock_is_left_as_it_was(setup):
    before = [(holder, holder.cuda) for holder in (torch.Tensor, torch.nn.Module)]
    get_item, filter2d = models.RealESRGANDataset.__getitem__, models.realesrnet_model.filter2D
    with models.stock_runs(setup):
        assert FileClient._backends['lmdb'] is LmdbBackend
    assert all(holder.cuda is method for holder, method in before)
    assert models.RealESRGANDataset.__getitem__ is get_item
    assert models.realesrnet_model.filter2D is filter2d
    assert FileClient._backends['lmdb'] is not LmdbBackend


def test_multiply_adds(setup):
    """Of a 3x3 convolution cin cout 9 a pixel; 24 LR px a side, 10 images, three times but for the first layer."""
    lr, feat = 24**2, 8
    body = 2 * feat * feat * lr + feat * 4 * feat * lr + feat * 4 * feat * 4 * lr + (feat * feat + feat * 3) * 16 * lr
    assert cases.count_multiply_adds(setup) == 10 * 9 * (3 * body + 2 * 3 * feat * lr)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--repeat', '0'], '--repeat: at least 1 expected, got 0'),
        (['--patch', '130'], '--patch: a multiple of the scale 4, at least 74, expected, got 130'),
        (['--patch', '72'], '--patch: a multiple of the scale 4, at least 74, expected, got 72'),
        (['--faces', 'none'], 'none: no such folder'),
        (['--faces', 'small', '--quick'], 'small/a.png: at least 400x400 px expected, got 399x400'),
        (['--quick', '--only', 'pool', '--json', 'file/x.json'], 'file/x.json: File exists'),
    ],
)
def test_errors(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    write_image(Path('small/a.png'), np.zeros((400, 399, 3), np.uint8))
    Path('file').touch()
    with pytest.raises(UserError) as caught:
        benchmark.main(['--device', 'cpu', *options])
    assert str(caught.value) == message


@pytest.mark.skipif(torch.cuda.is_available(), reason='needs a machine without CUDA')
def test_cuda_asked_for_and_not_there():
    with pytest.raises(UserError, match=r'^--device cuda: no CUDA device here$'):
        benchmark.main(['--device', 'cuda'])


def test_command(tmp_path):
    done = run('scripts/benchmark.py', '--faces', 'none', cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, 'error: none: no such folder\n')


@pytest.mark.parametrize('side', [enlarging.stock_picture, enlarging.peer_picture])
def test_both_sides_enlarge_to_the_same_picture(setup, side):
    stock, ours = side(setup, 40)(0), enlarging.our_picture(setup, 40)(0)
    assert stock.shape == ours.shape == (160, 160, 3)
    assert np.abs(stock[..., ::-1].astype(int) - ours).max() <= 1
    assert ours.std() > 20


def test_both_sides_enlarge_all_files(setup):
    enlarging.peer_files(setup, 16)(0)
    enlarging.our_files(setup, 16)(0)
    names = ['0000.png', '0001.png', '0002.png']
    for folder in (setup.folder / 'peer', setup.folder / 'ours'):
        assert sorted(path.name for path in folder.iterdir()) == names
    for name in names:
        stock, ours = (read_image(setup.folder / side / name).astype(int) for side in ('peer', 'ours'))
        assert np.abs(stock - ours).max() <= 1


def test_our_commands_work(setup):
    enlarging.our_help(setup)(0)
    enlarging.our_shell(setup, 16)(0)
    assert read_image(setup.folder / 'shell' / '0000.png').shape == (64, 64, 3)


@pytest.mark.slow
def test_rows_of_enlarging(capsys):
    benchmark.main(['--quick', '--device', 'cpu', '--repeat', '1', '--only', 'enlarge'])
    out = capsys.readouterr().out
    assert len(re.findall(r'RealESRGANer +\|', out)) == 4
    assert 'not measured' not in out
