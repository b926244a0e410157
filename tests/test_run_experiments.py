"""The grid runner: what a protocol expands to, runs of a fake trainer and one real run, and the table's numbers."""

import csv
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from fake_train import rows
from tiny import ROOT, make_project
from torch.nn import functional as F

from experiments import trainer as trainers
from experiments.clean import score_clean
from experiments.command import main
from experiments.folder import Folder
from experiments.protocol import choose, differences, load_protocol
from facesr_plugin.archs.face_srresnet_arch import FaceSRResNet
from facesr_plugin.data.images import list_images, read_image
from facesr_plugin.degradations import resize_clean
from facesr_plugin.degradations.pictures import as_batch
from facesr_plugin.enlarge.network import load_network
from facesr_plugin.enlarge.tiles import upscale_tensor
from facesr_plugin.errors import RunError, UserError
from facesr_plugin.report.records import format_table, read_record, summarise, write_record

PROTOCOLS = sorted((ROOT / 'options' / 'protocols').glob('*.yml'))
FAKE = ROOT / 'tests' / 'fake_train.py'
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
    root = make_project(tmp_path_factory.mktemp('grid'))
    torch.manual_seed(0)
    weights = [FaceSRResNet(num_feat=8, num_block=2).state_dict() for _ in range(2)]
    torch.save(dict(zip(('params', 'params_ema'), weights, strict=True)), root / 'weights.pth')
    return root


@pytest.fixture
def inside(project, monkeypatch) -> Path:
    """The project as current folder, where the fake trainer trains; handlers of signals are put back."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.chdir(project)
    monkeypatch.setattr(trainers, 'TRAIN', FAKE)
    yield project
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def grid(inside) -> Path:
    """The tiny protocol, trained into `out` by the fake trainer: copies of the first run of it."""
    for name in ('experiments', 'out'):
        shutil.rmtree(name, ignore_errors=True)
    protocol(inside / 'tiny.yml')
    if (inside / 'first').exists():
        shutil.copytree('first', '.', dirs_exist_ok=True)
    else:
        assert main(['tiny.yml', '-o', 'out', '--jobs', '2']) is None
        for name in ('experiments', 'out'):
            shutil.copytree(name, f'first/{name}')
    return inside


def protocol(path: Path, **changes) -> Path:
    path.write_text(yaml.safe_dump(TINY | changes))
    return path


def remove_clean(path: Path) -> dict:
    """Take the clean score out of a record; return the record as it was."""
    record = read_record(path)
    write_record(path, {key: value for key, value in record.items() if key != 'clean'})
    return record


# ----------------------------------------------------------------------------- protocols
@pytest.mark.parametrize('path', PROTOCOLS, ids=lambda path: path.stem)
def test_shipped_protocols_are_valid(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    for run in load_protocol(path):
        train = run.options.train  # refuses a change that names no option
        assert train.scheduler.periods == [train.total_iter]
        assert train.total_iter % run.options.val.val_freq == 0  # or the last row would be a short epoch's


@pytest.mark.parametrize('name', ['small', 'network'])
def test_the_tables_in_docs_are_those_of_their_records(name, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    docs = ROOT / 'docs' / 'experiments' / name
    shutil.copytree(docs / 'records', tmp_path / 'records')
    main([f'options/protocols/{name}.yml', '-o', str(tmp_path), '--table-only'])
    for table in ('table.md', 'table.csv'):
        assert (tmp_path / table).read_bytes() == (docs / table).read_bytes()


def test_first_seeds_of_all_cells_come_first(inside):
    runs = load_protocol(protocol(inside / 'order.yml'))
    assert [run.name for run in runs] == ['tiny_both_seed0', 'tiny_plain_seed0', 'tiny_both_seed1']
    assert runs[2].opt['manual_seed'] == 1
    assert runs[1].opt['train']['ema_decay'] == 0.5
    assert runs[1].opt['train']['optim_g']['lr'] == 0.01


def test_cells_and_seeds_are_chosen(inside):
    runs = load_protocol(protocol(inside / 'chosen.yml'))
    assert choose(runs, None, None) == runs
    assert [run.name for run in choose(runs, ['both'], [1])] == ['tiny_both_seed1']
    with pytest.raises(UserError, match=r"^--only plian: no such cell in the protocol, did you mean 'plain'"):
        choose(runs, ['plian'], None)
    with pytest.raises(UserError, match=r'^--seeds 7 8: the cells have none of them$'):
        choose(runs, None, [7, 8])


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'seeds': []}, 'seeds: expected at least 1 item, got []'),
        ({'seeds': [-1]}, 'seeds.0: expected greater than or equal to 0, got -1'),
        ({'seeds': [1, 1]}, 'seeds: each seed once expected, got [1, 1]'),
        ({'cells': {}}, 'cells: expected at least 1 item, got {}'),
        ({'cells': {'a': None}}, 'cells.a: missing'),
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


def test_differences():
    first = {'a': 1, 'b': {'c': [1, 2], 'd': 0}}
    assert differences(first, {'a': 1, 'b': {'c': [1, 2], 'd': 0}}) == []
    assert differences(first, {'a': 2, 'b': {'c': [1], 'e': 3}}) == [
        'a: 1, now 2',
        'b.c: [1, 2], now [1]',
        'b.d: 0, now None',
        'b.e: None, now 3',
    ]


# ------------------------------------------------------------------- runs of the fake trainer
def test_table_holds_what_the_histories_say(grid):
    """Of the fake's PSNR: 21.5 and 21 with seed 0, one more with seed 1; bilinear enlarging has 20."""
    with open('out/table.csv', newline='') as file:
        both, plain = csv.DictReader(file)
    expected = {'psnr': 21.5, 'psnr_std': 0.5**0.5, 'gain': 1.5, 'gain_std': 0.5**0.5, 'best_psnr': 22}
    assert {key: float(both[key]) for key in expected} == pytest.approx(expected)
    assert (both['seeds'], both['images'], both['option_file']) == ('0 1', '12', 'demo_exp1.yml')
    assert (plain['psnr_std'], plain['changes'], float(plain['raw_psnr'])) == ('', 'train.ema_decay=0.5', 18)
    for row in (both, plain):
        assert 0 < float(row['cpu_seconds']) < float(row['seconds']) + 1
    text = Path('out/table.md').read_text()
    assert '21.500 ± 0.707' in text
    assert 'without EMA' in text


def test_without_what_windows_lacks(inside, monkeypatch):
    """There the time of processors is not known."""
    monkeypatch.delattr(os, 'wait4')
    monkeypatch.delattr(signal, 'SIGHUP')
    cells = {'a': {'option_file': 'demo_exp1.yml'}}
    main([str(protocol(inside / 'windows.yml', name='windows', seeds=[0], cells=cells)), '-o', 'windows'])
    record = read_record(inside / 'windows' / 'records' / 'a_seed0.json')
    assert record['seconds'] > 0
    assert record['cpu_seconds'] is None
    with open('windows/table.csv', newline='') as file:
        (row,) = csv.DictReader(file)
    assert row['cpu_seconds'] == ''


def test_what_is_done_is_not_trained_again(grid, capsys):
    path = Path('experiments/tiny_both_seed0/history.csv')
    before = path.stat().st_mtime_ns
    assert main(['tiny.yml', '-o', 'out']) is None
    assert path.stat().st_mtime_ns == before
    assert capsys.readouterr().out == 'out: 3 of 3 runs done, in table.csv and table.md\n'


def test_record_of_other_options_is_not_overwritten(grid):
    protocol(grid / 'other.yml', set={**TINY['set'], 'train.optim_g.lr': 0.02})
    with pytest.raises(UserError, match=r'both_seed0.json: made with other options \(train.optim_g.lr: 0.01, now 0.02'):
        main(['other.yml', '-o', 'out'])


def test_damaged_record_is_named(grid):
    Path('out/records/both_seed0.json').write_text('{"cell": ')
    with pytest.raises(UserError, match=r'both_seed0.json: a record written by run_experiments.py expected'):
        main(['tiny.yml', '-o', 'out', '--table-only'])


def test_finished_run_without_a_record_is_not_given_one(grid, capsys):
    """It may have been made by other code, or timed by nobody."""
    with pytest.raises(RunError, match=r'^1 of 1 runs failed, see above$'):
        main(['tiny.yml', '-o', 'new', '--only', 'both', '--seeds', '0'])
    captured = capsys.readouterr()
    assert captured.out == 'new: 0 of 3 runs done\n'
    assert 'error: experiments/tiny_both_seed0: finished, but without a record in new/records' in captured.err
    assert not Path('new/records').exists()


def test_clean_scores_by_hand(grid):
    """What validation would say of the same faces without degradation."""
    run = next(run for run in load_protocol(Path('tiny.yml')) if run.cell == 'plain')  # it keeps a moving average
    scores = score_clean(Path('experiments/tiny_plain_seed0/models/net_g_latest.pth'), run.options, lambda: None)
    net = load_network('weights.pth', 'params_ema')
    psnr = {'network': [], 'bilinear': []}
    for hr in map(read_image, list_images(grid / 'val')):
        lr = resize_clean(as_batch(hr), 4).mul(255).round().clamp(0, 255).byte()
        bilinear = F.interpolate(lr.float(), scale_factor=4, mode='bilinear').round().clamp(0, 255)[0]
        images = {'network': upscale_tensor(net, lr)[0], 'bilinear': bilinear}
        for name, image in images.items():
            mse = np.mean((image.permute(1, 2, 0).numpy().astype(float) - hr) ** 2)
            psnr[name].append(10 * np.log10(255**2 / mse))
    for name, values in psnr.items():
        assert scores[name] == pytest.approx(statistics.fmean(values), abs=1e-3)
    assert read_record(Path('out/records/plain_seed0.json'))['clean'] == pytest.approx(scores, abs=1e-3)


def test_missing_clean_score_is_made_up_for(grid):
    path = Path('out/records/plain_seed0.json')
    record = remove_clean(path)
    main(['tiny.yml', '-o', 'out'])
    again = read_record(path)
    assert again.pop('clean') == pytest.approx(record.pop('clean'), abs=1e-3)  # by another number of threads
    assert again == record


@pytest.mark.parametrize('gone', ['history', 'weights', 'run'])
def test_clean_score_is_not_made_up(grid, gone):
    """Nothing is there to score, or the weights are those of another run."""
    path, folder = Path('out/records/plain_seed0.json'), Path('experiments/tiny_plain_seed0')
    remove_clean(path)
    if gone == 'run':
        record = read_record(path)
        write_record(path, record | {'history': record['history'] | {'iter': [1, 2]}})
    else:
        (folder / {'history': 'history.csv', 'weights': 'models/net_g_latest.pth'}[gone]).unlink()
    assert main(['tiny.yml', '-o', 'out']) is None
    assert 'clean' not in read_record(path)


def test_stopped_trainer_begins_nothing(grid):
    run, *_, last = load_protocol(Path('tiny.yml'))
    trainer = trainers.Trainer(Path('out/records'), 1)
    done, missing = (Path(f'out/records/{run.cell}_seed{run.seed}.json') for run in (run, last))
    remove_clean(done)
    missing.unlink()
    trainer.stop(signal.SIGINT)
    for one in (run, last):
        trainer.complete(one)
    assert 'clean' not in read_record(done)
    assert not missing.exists()


def test_run_stopped_after_its_last_state_goes_on(grid):
    """It was finished, then the signal came: the run's end is made up for, and the times add up."""
    record, times = Path('out/records/plain_seed0.json'), Path('experiments/tiny_plain_seed0/times.json')
    first = read_record(record)
    record.unlink()
    parts = json.loads(times.read_text())
    times.write_text(json.dumps([parts[0] | {'status': 143}]))
    main(['tiny.yml', '-o', 'out'])
    second = read_record(record)
    assert second['history'] == first['history']
    assert second['seconds'] > first['seconds']


def test_time_that_nobody_took_is_not_made_up(inside):
    """The run was begun by hand: only the part after iteration 3 is timed."""
    protocol(inside / 'by_hand.yml', name='by_hand')
    state = inside / 'experiments' / 'by_hand_both_seed0' / 'training_states' / '3.state'
    state.parent.mkdir(parents=True)
    state.touch()
    main(['by_hand.yml', '-o', 'by_hand', '--only', 'both', '--seeds', '0'])
    record = read_record(inside / 'by_hand' / 'records' / 'both_seed0.json')
    assert (record['seconds'], record['cpu_seconds']) == (None, None)
    assert record['history']['iter'] == [3, 6]


def test_failed_run_does_not_stop_the_others(inside, capsys):
    cells = {
        'diverged': {'option_file': 'demo_exp2.yml', 'set': {'train.optim_g.lr': 1e30}},
        'damaged': {'option_file': 'demo_exp2.yml'},
        'good': {'option_file': 'demo_exp2.yml'},
    }
    protocol(inside / 'fails.yml', name='fails', cells=cells, seeds=[0], set={})
    folder = inside / 'experiments' / 'fails_damaged_seed0'
    folder.mkdir(parents=True)
    (folder / 'times.json').write_text('[{')
    with pytest.raises(RunError, match=r'^2 of 3 runs failed, see above$'):
        main(['fails.yml', '-o', 'fails'])
    assert [path.name for path in (inside / 'fails' / 'records').iterdir()] == ['good_seed0.json']
    captured = capsys.readouterr()
    assert captured.out == 'fails: 1 of 3 runs done, in table.csv and table.md\n'
    assert 'error: fails_diverged_seed0: training ended with status 1: error: the loss is not finite' in captured.err
    assert 'error: experiments/fails_damaged_seed0/times.json: damaged; remove it' in captured.err


# --------------------------------------------------------------------------- a real run
def test_stopped_grid_goes_on(inside, monkeypatch):
    """Ctrl-C saves and ends with 130; the next start goes on from there, and the times add up."""
    monkeypatch.undo()
    monkeypatch.chdir(inside)
    changes = {'train.total_iter': 40, 'train.scheduler.periods': [40], 'val.val_freq': 20}
    changes |= {'logger.save_checkpoint_freq': 5}
    cells = {'long': {'option_file': 'demo_exp2.yml', 'set': {'train.ema_decay': 0.5}}}
    path = protocol(inside / 'stops.yml', name='stops', cells=cells, seeds=[0], set=changes)
    args = [str(path), '-o', 'stops', '--threads', '1']
    command = [sys.executable, str(ROOT / 'scripts' / 'run_experiments.py'), *args]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
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
    assert main(args) is None
    record = read_record(inside / 'stops' / 'records' / 'long_seed0.json')
    parts = json.loads((folder / 'times.json').read_text())
    assert len(parts) == 2
    assert parts[1]['from'] == parts[0]['to'] > 0
    for key in ('seconds', 'cpu_seconds'):
        assert record[key] == pytest.approx(sum(part[key] for part in parts))
        assert min(part[key] for part in parts) > 0.5
    with open(folder / 'history.csv', newline='') as file:
        history = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
    assert [row['iter'] for row in history] == [20, 40]
    assert record['history']['val_psnr'] == [row['val_psnr'] for row in history]
    assert set(history[0]) >= {*rows(record['opt'])[0]} - {'alpha'}  # the fake's are those of a real one
    assert 10 < record['clean']['network'] < 60


# ------------------------------------------------------------------------------- the table
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


def test_further_validation_sets_have_columns_of_their_own(grid):
    """Records of before have none, and their tables stay as they are."""
    before = (grid / 'out' / 'table.md').read_text()
    assert 'PSNR on' not in before
    for seed in (0, 1):
        path = grid / 'out' / 'records' / f'both_seed{seed}.json'
        record = read_record(path)
        assert record['further'] == {}
        further = {'hard': {'val_psnr': 24.0 + seed, 'bilinear_psnr': 23.5}}
        write_record(path, record | {'further': further})
    assert main(['tiny.yml', '-o', 'out', '--table-only']) is None
    header, _, both, plain = (grid / 'out' / 'table.md').read_text().splitlines()[:4]
    column = header.split(' | ').index('PSNR on hard')
    assert both.split(' | ')[column : column + 2] == ['24.500 \u00b1 0.707', '+1.000 \u00b1 0.707']
    assert plain.split(' | ')[column : column + 2] == ['-', '-']
    with open(grid / 'out' / 'table.csv', newline='') as file:
        both, plain = csv.DictReader(file)
    assert (both['psnr@hard'], both['gain@hard'], plain['psnr@hard']) == ('24.5', '1.0', '')


def test_further_scores_come_from_the_run(grid):
    path, record = grid / 'out' / 'records' / 'plain_seed0.json', grid / 'experiments' / 'tiny_plain_seed0'
    further = {'hard': {'val_psnr': 24.0, 'bilinear_psnr': 23.0}}
    (record / 'further.json').write_text(json.dumps(further))
    assert Folder(record).further() == further
    path.unlink()
    shutil.rmtree(record / 'training_states')  # the fake trains again, into the same folder
    assert main(['tiny.yml', '-o', 'out']) is None
    assert read_record(path)['further'] == further
    (record / 'further.json').write_text('{')
    with pytest.raises(UserError, match=r'further\.json: damaged'):
        Folder(record).further()
