"""The grid runner: what a protocol expands to, real trainings of tiny size, and the numbers of the table."""

import csv
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from experiments.clean import score_clean
from experiments.command import Trainer, main
from experiments.protocol import differences, load_protocol
from tiny import BREAK, ROOT, make_project
from torch.nn import functional as F

from facesr_plugin.commands.compare import Images
from facesr_plugin.data.face_degradation_dataset import FaceDegradationOptions
from facesr_plugin.degradations import resize_clean
from facesr_plugin.enlarge.network import load_network
from facesr_plugin.enlarge.tiles import upscale_tensor
from facesr_plugin.errors import RunError, UserError
from facesr_plugin.options.types import RunOptions
from facesr_plugin.report.grid import as_batch
from facesr_plugin.report.records import format_table, read_record, summarise, write_record

PROTOCOLS = sorted((ROOT / 'options' / 'protocols').glob('*.yml'))
TINY = {
    'name': 'tiny',
    'seeds': [0, 1],
    'set': {'datasets.train.num_worker_per_gpu': 1, 'train.optim_g.lr': 0.01},
    'cells': {
        'both': {'option_file': 'demo_exp1.yml'},
        'plain': {'option_file': 'demo_exp2.yml', 'set': {'train.ema_decay': 0.5}, 'seeds': [0]},
    },
}


@pytest.fixture(scope='module')
def project(tmp_path_factory) -> Path:
    return make_project(tmp_path_factory.mktemp('grid'))


@pytest.fixture
def inside(project, monkeypatch) -> Path:
    monkeypatch.chdir(project)
    return project


def protocol(path: Path, **changes) -> Path:
    path.write_text(yaml.safe_dump(TINY | changes))
    return path


@pytest.fixture(scope='module')
def table(project) -> list[dict[str, str]]:
    """Train the tiny protocol with the real command."""
    path = protocol(project / 'tiny.yml')
    command = [sys.executable, str(ROOT / 'scripts' / 'run_experiments.py'), str(path), '-o', 'out']
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == 'out: 3 of 3 runs done, in table.csv and table.md\n'
    with open(project / 'out' / 'table.csv', newline='') as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize('path', PROTOCOLS, ids=lambda path: path.stem)
def test_shipped_protocols_are_valid(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    for run in load_protocol(path):
        train = run.opt['train']
        assert train['scheduler']['periods'] == [train['total_iter']]
        assert train['total_iter'] % run.opt['val']['val_freq'] == 0  # or the last row would be a short epoch's
        RunOptions.parse(run.opt)  # refuses a change that names no option
        FaceDegradationOptions.pick(run.opt['datasets']['train'])
        assert set(run.opt['datasets']['train']) <= {*FaceDegradationOptions.model_fields}


def test_first_seeds_of_all_cells_come_first(inside):
    runs = load_protocol(protocol(inside / 'order.yml'))
    assert [run.name for run in runs] == ['tiny_both_seed0', 'tiny_plain_seed0', 'tiny_both_seed1']
    assert runs[2].opt['manual_seed'] == 1
    assert runs[1].opt['train']['ema_decay'] == 0.5
    assert runs[1].opt['train']['optim_g']['lr'] == 0.01
    assert [run.name for run in load_protocol(inside / 'order.yml', ['both'], [1])] == ['tiny_both_seed1']


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'seeds': []}, 'seeds: expected at least 1 item, got []'),
        ({'seeds': [-1]}, 'seeds.0: expected greater than or equal to 0, got -1'),
        ({'seeds': [1, 1]}, 'seeds: each seed once expected, got [1, 1]'),
        ({'cells': {}}, 'cells: expected at least 1 item, got {}'),
        ({'cells': {'a': None}}, 'cells.a: expected a dictionary of options, got None'),
        ({'sedes': [1]}, "sedes: unknown option, did you mean 'seeds'?"),
        (
            {'set': {'trian.ema_decay': 0}},
            'cells.both: demo_exp1.yml: trian.ema_decay: no block trian in the option file',
        ),
        ({'cells': {'a': {'option_file': 'none.yml'}}}, 'none.yml: No such file or directory'),
        ({'cells': {'a': {}}}, 'cells.a.option_file: missing'),
    ],
)
def test_wrong_protocols(inside, changes, message):
    with pytest.raises(UserError) as error:
        load_protocol(protocol(inside / 'wrong.yml', **changes))
    assert str(error.value) == message


def test_all_cells_are_checked_before_any_is_trained(inside):
    cells = {
        'a': {'option_file': 'demo_exp1.yml'},
        'b': {'option_file': 'demo_exp1.yml', 'set': {'train.total_itre': 3}},
        'c': {'option_file': 'demo_exp2.yml', 'set': {'datasets.train.dataroot_gt': 'nowhere'}},
        'd': {'option_file': 'demo_exp2.yml', 'set': {'path.root': 'elsewhere'}},
    }
    with pytest.raises(UserError) as error:
        main([str(protocol(inside / 'checked.yml', name='checked', cells=cells)), '-o', 'checked'])
    assert [line.partition(' ')[0] for line in str(error.value).splitlines()] == ['b:', 'c:', 'd:']
    assert not (inside / 'experiments' / 'checked_a_seed0').exists()


def test_unknown_cell_and_seed(inside):
    path = protocol(inside / 'unknown.yml')
    with pytest.raises(UserError, match=r"--only plian: no such cell in .*unknown.yml, did you mean 'plain'"):
        load_protocol(path, ['plian'])
    with pytest.raises(UserError, match='--seeds 7: none of them is in'):
        load_protocol(path, None, [7])


def test_table_holds_what_the_histories_say(project, table):
    assert [row['cell'] for row in table] == ['both', 'plain']
    both = []
    for seed in (0, 1):
        with open(project / 'experiments' / f'tiny_both_seed{seed}' / 'history.csv', newline='') as file:
            both.append(list(csv.DictReader(file)))
    psnr = [float(rows[-1]['val_psnr']) for rows in both]
    gain = [value - float(rows[-1]['bilinear_psnr']) for value, rows in zip(psnr, both, strict=True)]
    row = table[0]
    assert float(row['psnr']) == pytest.approx(statistics.fmean(psnr))
    assert float(row['psnr_std']) == pytest.approx(statistics.stdev(psnr))
    assert float(row['gain']) == pytest.approx(statistics.fmean(gain), abs=1e-6)
    assert float(row['best_psnr']) == pytest.approx(
        statistics.fmean(max(float(entry['val_psnr']) for entry in rows) for rows in both)
    )
    assert (row['seeds'], row['images'], row['option_file']) == ('0 1', '12', 'demo_exp1.yml')
    assert table[1]['psnr_std'] == ''
    assert table[1]['changes'] == 'train.ema_decay=0.5'
    assert table[1]['raw_psnr'] != table[1]['psnr']
    assert psnr[0] != psnr[1]
    text = (project / 'out' / 'table.md').read_text()
    assert f'{float(row["psnr"]):.3f} ± {float(row["psnr_std"]):.3f}' in text
    assert 'without EMA' in text


def test_time_is_measured(table):
    for row in table:
        assert 0 < float(row['seconds']) < 600
        assert 0.5 < float(row['cpu_seconds']) < 600


def test_what_is_done_is_not_trained_again(project, table, inside, capsys):
    path = inside / 'experiments' / 'tiny_both_seed0' / 'history.csv'
    before = path.stat().st_mtime_ns
    assert main(['tiny.yml', '-o', 'out']) is None
    assert path.stat().st_mtime_ns == before
    assert '3 of 3' in capsys.readouterr().out


def test_record_of_other_options_is_not_overwritten(project, table, inside):
    other = protocol(inside / 'other.yml', set={**TINY['set'], 'train.optim_g.lr': 0.02})
    with pytest.raises(UserError, match=r'both_seed0.json: made with other options \(train.optim_g.lr: 0.01, now 0.02'):
        main([str(other), '-o', 'out'])


def test_second_run_of_a_cell_gives_the_same_numbers(project, table, inside):
    """Under another name, so that everything is trained again."""
    main([str(protocol(inside / 'again.yml', name='again')), '-o', 'again', '--only', 'both', '--seeds', '1'])
    first, second = (read_record(inside / folder / 'records' / 'both_seed1.json') for folder in ('out', 'again'))
    assert first['history'] == second['history']


def test_finished_run_without_a_record_is_not_given_one(project, table, inside, capsys):
    """It may have been made by other code, or timed by nobody."""
    with pytest.raises(RunError, match=r'^1 of 1 runs failed, see above$'):
        main(['tiny.yml', '-o', 'new', '--only', 'both', '--seeds', '0'])
    captured = capsys.readouterr()
    assert captured.out == 'new: 0 of 3 runs done\n'
    assert 'error: experiments/tiny_both_seed0: finished, but without a record in new/records' in captured.err
    assert not (inside / 'new' / 'records').exists()


def test_clean_scores_by_hand(project, table, inside):
    """What validation would say of the same faces without degradation."""
    record = read_record(inside / 'out' / 'records' / 'plain_seed0.json')  # it keeps a moving average
    folder = inside / 'experiments' / 'tiny_plain_seed0'
    opt = record['opt'] | {'train': record['opt']['train'] | {'precision': 'fp32'}}
    scores = score_clean(folder, opt, lambda: None)
    net = load_network(folder / 'models' / 'net_g_latest.pth', 'params_ema')
    faces = Images(Path(opt['datasets']['val']['dataroot_gt']))
    psnr = {'network': [], 'bilinear': []}
    for hr in map(faces.read, faces.keys):
        lr = resize_clean(as_batch(hr), 4).mul(255).round().clamp(0, 255).byte()
        bilinear = F.interpolate(lr.float(), scale_factor=4, mode='bilinear').round().clamp(0, 255)[0]
        images = {'network': upscale_tensor(net, lr)[0], 'bilinear': bilinear}
        for name, image in images.items():
            mse = np.mean((image.permute(1, 2, 0).numpy().astype(float) - hr) ** 2)
            psnr[name].append(10 * np.log10(255**2 / mse))
    for name, values in psnr.items():
        assert scores[name] == pytest.approx(statistics.fmean(values), abs=1e-3)
    assert record['clean'] == pytest.approx(scores, abs=0.05)  # in the training's precision
    row = next(row for row in table if row['cell'] == 'plain')
    assert float(row['clean_psnr']) == record['clean']['network']


def test_missing_clean_score_is_made_up_for(project, table, inside):
    """As long as the weights are those of the record."""
    path = inside / 'out' / 'records' / 'plain_seed0.json'
    record = read_record(path)
    stripped = {key: value for key, value in record.items() if key != 'clean'}
    other = stripped | {'history': record['history'] | {'iter': [1, 2]}}
    for given, expected in ((stripped, record), (other, other)):
        write_record(path, given)
        main(['tiny.yml', '-o', 'out'])
        assert read_record(path) == expected
    write_record(path, record)


def test_scoring_can_be_stopped(project, table, inside):
    run = next(run for run in load_protocol(Path('tiny.yml')) if run.cell == 'plain')
    trainer = Trainer(Path('out/records'), 1)
    path = trainer.record_path(run)
    record = read_record(path)
    write_record(path, {key: value for key, value in record.items() if key != 'clean'})
    trainer.stop(signal.SIGINT)
    assert trainer.complete(run) is None
    assert 'clean' not in read_record(path)
    write_record(path, record)


def test_run_stopped_after_its_last_state_goes_on(project, table, inside):
    """It was finished, then the signal came: nothing is trained, the run's end is made up for."""
    path = protocol(inside / 'late.yml', name='late')
    args = [str(path), '-o', 'late', '--only', 'plain', '--seeds', '0']
    main(args)
    record = inside / 'late' / 'records' / 'plain_seed0.json'
    first = read_record(record)
    record.unlink()
    times = inside / 'experiments' / 'late_plain_seed0' / 'times.json'
    parts = json.loads(times.read_text())
    times.write_text(json.dumps([parts[0] | {'status': 143}]))
    main(args)
    second = read_record(record)
    assert second['history'] == first['history']
    assert second['seconds'] > first['seconds']


def test_time_that_nobody_took_is_not_made_up(project, table, inside):
    """The run was begun by hand: only the part after iteration 3 is timed."""
    path = protocol(inside / 'by_hand.yml', name='by_hand')
    args = ['-opt', 'demo_exp1.yml', '--force_yml', 'name=by_hand_both_seed0', 'datasets:train:num_worker_per_gpu=1']
    args += ['train:optim_g:lr=0.01', 'manual_seed=0']
    command = [sys.executable, BREAK, 'step', '5', str(signal.SIGKILL.value), *args]
    assert subprocess.run(command, cwd=inside, capture_output=True, check=False).returncode == -signal.SIGKILL
    main([str(path), '-o', 'by_hand', '--only', 'both', '--seeds', '0'])
    record = read_record(inside / 'by_hand' / 'records' / 'both_seed0.json')
    assert (record['seconds'], record['cpu_seconds']) == (None, None)
    assert record['history']['iter'] == [3, 6]


def test_damaged_record_is_named(project, table, inside):
    (inside / 'broken' / 'records').mkdir(parents=True)
    (inside / 'broken' / 'records' / 'both_seed0.json').write_text('{"cell": ')
    with pytest.raises(UserError, match=r'both_seed0.json: a record written by run_experiments.py expected'):
        main(['tiny.yml', '-o', 'broken', '--table-only'])


def test_failed_training_does_not_stop_the_others(inside, capsys):
    cells = {
        'bad': {'option_file': 'demo_exp2.yml', 'set': {'train.optim_g.lr': 1e30, 'train.total_iter': 30}},
        'good': {'option_file': 'demo_exp2.yml'},
    }
    cells['bad']['set'] |= {'train.scheduler.periods': [30]}
    path = protocol(inside / 'fails.yml', name='fails', cells=cells, seeds=[0], set={})
    with pytest.raises(RunError, match=r'^1 of 2 runs failed, see above$'):
        main([str(path), '-o', 'fails'])
    assert [path.name for path in (inside / 'fails' / 'records').iterdir()] == ['good_seed0.json']
    captured = capsys.readouterr()
    assert '1 of 2 runs' in captured.out
    assert re.search('error: fails_bad_seed0: training ended with status 1: error: .*not finite', captured.err)


def test_stopped_grid_goes_on(project, inside):
    """Ctrl-C saves and ends with 130; the next start goes on from there, and the times add up."""
    cells = {'long': {'option_file': 'demo_exp2.yml'}}
    changes = {'train.total_iter': 120, 'train.scheduler.periods': [120], 'val.val_freq': 60}
    path = protocol(inside / 'stops.yml', name='stops', cells=cells, seeds=[0], set=changes)
    command = [sys.executable, str(ROOT / 'scripts' / 'run_experiments.py'), str(path), '-o', 'stops']
    process = subprocess.Popen(command, cwd=inside, stderr=subprocess.PIPE, text=True, start_new_session=True)
    folder = inside / 'experiments' / 'stops_long_seed0'
    deadline = time.monotonic() + 120
    while not list(folder.glob('training_states/*.state')):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert 'Traceback' not in stderr
    assert not (inside / 'stops' / 'records').exists()
    assert main([str(path), '-o', 'stops']) is None
    record = read_record(inside / 'stops' / 'records' / 'long_seed0.json')
    parts = json.loads((folder / 'times.json').read_text())
    assert record['seconds'] == pytest.approx(sum(part['seconds'] for part in parts))
    assert len(parts) == 2
    assert parts[1]['from'] == parts[0]['to'] > 0
    assert record['history']['iter'] == [60, 120]


def test_folder_without_history_or_with_damaged_times(project, table, inside):
    """What is left of a run: weights alone are not scored, times that cannot be read are named."""
    path = protocol(inside / 'left.yml', name='left', cells={'plain': {'option_file': 'demo_exp2.yml'}}, seeds=[0])
    main([str(path), '-o', 'left'])
    record, folder = inside / 'left' / 'records' / 'plain_seed0.json', inside / 'experiments' / 'left_plain_seed0'
    record.write_text(json.dumps({key: value for key, value in read_record(record).items() if key != 'clean'}))
    (folder / 'history.csv').unlink()
    assert main([str(path), '-o', 'left']) is None
    assert 'clean' not in read_record(record)
    record.unlink()
    (folder / 'times.json').write_text('[{')
    with pytest.raises(UserError, match=r'^experiments/left_plain_seed0/times\.json: damaged; remove it'):
        main([str(path), '-o', 'left'])


def test_differences():
    first = {'a': 1, 'b': {'c': [1, 2], 'd': 0}}
    assert differences(first, {'a': 1, 'b': {'c': [1, 2], 'd': 0}}) == []
    assert differences(first, {'a': 2, 'b': {'c': [1], 'e': 3}}) == [
        'a: 1, now 2',
        'b.c: [1, 2], now [1]',
        'b.d: 0, now None',
        'b.e: None, now 3',
    ]


def test_table_by_hand():
    def record(seed: int, psnr: float) -> dict:
        columns = ('val_psnr', 'raw_psnr', 'val_ssim', 'residual', 'bilinear_psnr', 'bicubic_psnr', 'iter')
        values = (psnr, psnr, 0.5, 2.0, 25.0, 24.5, 10.0)
        history = {name: [value] for name, value in zip(columns, values, strict=True)}
        rest = {'option_file': 'a.yml', 'changes': {}, 'commit': 'abc', 'hardware': 'CPU', 'threads': 1}
        known = {'images': 80, 'seconds': 10.0 * (seed + 1), 'cpu_seconds': None}
        return {'cell': 'x', 'seed': seed, 'history': history, **rest, **known}

    records = [record(0, 25.5), record(1, 26.5)]
    row = summarise(records)
    assert (row['psnr'], row['gain'], row['seconds'], row['cpu_seconds']) == (26.0, 1.0, 15.0, None)
    assert row['psnr_std'] == pytest.approx(0.5**0.5)
    line = format_table([row]).splitlines()[2]
    assert line == (
        '| x | 26.000 ± 0.707 | +1.000 ± 0.707 | 26.000 | 0.5000 | 2 | 10 | 80 | 15 | - | 0 1 | `a.yml` |  | abc |'
    )
    for one, psnr in zip(records, (30.0, 31.0), strict=True):
        one['clean'] = {'network': psnr, 'bilinear': 29.0, 'bicubic': 29.5}
    header, _, line, *rest = format_table([summarise(records), row]).splitlines()
    assert (header.split(' | ')[6], line.split(' | ')[6]) == ('clean PSNR', '30.500 ± 0.707')
    assert rest[0].split(' | ')[6] == '-'
    assert 'on clean input bilinear 29.000, bicubic 29.500 dB.' in '\n'.join(rest)
