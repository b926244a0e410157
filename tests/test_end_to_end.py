"""From a folder of faces through training and validation to stock BasicSR's test: the real commands, tiny sizes."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from tiny import ROOT, make_project, run

from facesr_plugin.data.images import read_image
from facesr_plugin.models.history import COLUMNS


@pytest.fixture(scope='module')
def project(tmp_path_factory) -> Path:
    return make_project(tmp_path_factory.mktemp('project'))


@pytest.fixture(scope='module')
def trained(project) -> dict[str, subprocess.CompletedProcess]:
    runs = {
        name: run('facesr_plugin/train.py', '-opt', f'{name}.yml', cwd=project) for name in ('demo_exp1', 'demo_exp2')
    }
    for done in runs.values():
        assert done.returncode == 0, done.stderr
    return runs


def rows(project: Path, name: str) -> list[dict[str, str]]:
    with open(project / 'experiments' / name / 'history.csv', newline='') as file:
        return list(csv.DictReader(file))


def test_history_has_a_row_per_validation(project, trained):
    for name in trained:
        history = rows(project, name)
        assert tuple(history[0]) == COLUMNS
        assert [(row['epoch'], row['iter']) for row in history] == [('1', '3'), ('2', '6')]  # 6 faces, batches of 2
        for row in history:
            assert all(row[key] for key in COLUMNS if key != 'alpha')
            assert 10 < float(row['val_psnr']) < 40
            assert 0 < float(row['train_loss']) < 0.5
    assert [float(row['alpha']) for row in rows(project, 'demo_exp1')] == pytest.approx(
        [0.6 + 0.2 * 0.5, 0.6 - 0.2 * 3**0.5 / 2]  # 0.4 + 0.2 (1 + cos(pi / 3)) after 2 of 6 steps, then cos(5 pi / 6)
    )
    assert [row['alpha'] for row in rows(project, 'demo_exp2')] == ['', '']


def test_baselines_are_those_of_plain_enlarging(project, trained):
    """Expected values by hand: cv2-free, straight from the LMDB's images."""
    from facesr_plugin.data.lmdb_images import LmdbImages

    lr, hr = LmdbImages(project / 'demo' / 'val_lr.lmdb'), LmdbImages(project / 'demo' / 'val_hr.lmdb')
    psnr = []
    for key in hr.keys:
        lq = torch.from_numpy(lr.read(key)).permute(2, 0, 1)[None] / 255
        out = torch.nn.functional.interpolate(lq, scale_factor=4, mode='bilinear', align_corners=False)
        gt = torch.from_numpy(hr.read(key)).permute(2, 0, 1)[None].double()
        mse = ((out * 255).round().double() - gt).square().mean()
        psnr.append(10 * torch.log10(255**2 / mse))
    expected = float(sum(psnr) / len(psnr))
    assert float(rows(project, 'demo_exp1')[0]['bilinear_psnr']) == pytest.approx(expected, abs=1e-3)


def test_log_shows_alpha_losses_speed_and_baselines(trained):
    log = trained['demo_exp1'].stderr
    line = next(line for line in log.splitlines() if 'iter:       2,' in line)
    for key in ('l_pix:', 'l_degraded:', 'l_clean:', 'alpha:', 'img_per_s:', 'eta:'):
        assert key in line
    assert '[eta: 0:00:00, ' in next(line for line in log.splitlines() if 'iter:       6,' in line)
    assert '# bilinear  psnr:' in log
    assert '# bicubic  psnr:' in log
    assert 'l_clean:' not in trained['demo_exp2'].stderr


def test_best_is_the_best_rows_weights(project, trained):
    for name in trained:
        history = rows(project, name)
        models = project / 'experiments' / name / 'models'
        best = torch.load(models / 'net_g_best.pth', weights_only=True)
        row = max(history, key=lambda row: float(row['val_psnr']))
        assert best['psnr']['params'] == pytest.approx(float(row['val_psnr']), abs=1e-5)
        kept = torch.load(models / f'net_g_{row["iter"]}.pth', weights_only=True)['params']
        assert all(torch.equal(best['params'][key], kept[key]) for key in kept)
        assert {path.name for path in models.iterdir()} == {
            'net_g_3.pth',
            'net_g_6.pth',
            'net_g_best.pth',
            'net_g_latest.pth',
        }


def test_tensorboard_holds_the_history(project, trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(project / 'tb_logger' / 'demo_exp1'))
    events.Reload()
    history = rows(project, 'demo_exp1')
    for key in ('alpha', 'train_loss', 'val_loss', 'val_psnr', 'bicubic_psnr'):
        values = [scalar.value for scalar in events.Scalars(f'history/{key}')]
        assert values == pytest.approx([float(row[key]) for row in history], rel=1e-5)


def metrics(output: str) -> list[str]:
    return re.findall(r'# (psnr: \d+\.\d{4}|ssim: \d\.\d{4})', output)


def test_stock_and_plugin_test_agree_to_the_printed_digit(project, trained):
    """`python basicsr/test.py` as set-up places it, without the plugin, on our checkpoint."""
    (project / 'basicsr').symlink_to(ROOT / 'basicsr')
    command = [sys.executable, 'basicsr/test.py', '-opt', 'demo_test.yml']
    stock = subprocess.run(command, capture_output=True, text=True, cwd=project, check=False)
    assert stock.returncode == 0, stock.stderr
    ours = run('facesr_plugin/test.py', '-opt', 'demo_test.yml', cwd=project)
    assert ours.returncode == 0, ours.stderr
    assert len(metrics(stock.stderr)) == 2
    assert metrics(ours.stderr) == metrics(stock.stderr)
    best = torch.load(project / 'experiments/demo_exp1/models/net_g_best.pth', weights_only=True)['psnr']['params']
    assert metrics(stock.stderr)[0] == f'psnr: {best:.4f}'
    pictures = list((project / 'results' / 'test_demo_exp1').rglob('*.png'))
    assert len(pictures) == 2
    assert read_image(pictures[0]).shape == (256, 256, 3)


def test_runs_are_reproducible(project, trained):
    """The same seed, one loader process instead of two: the same weights."""
    args = ('-opt', 'demo_exp1.yml', '--force_yml', 'name=again', 'datasets:train:num_worker_per_gpu=1')
    done = run('facesr_plugin/train.py', *args, cwd=project)
    assert done.returncode == 0, done.stderr
    first, second = (
        torch.load(project / 'experiments' / name / 'models' / 'net_g_latest.pth', weights_only=True)['params']
        for name in ('demo_exp1', 'again')
    )
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert rows(project, 'demo_exp1') == rows(project, 'again')


@pytest.mark.parametrize(('factor', 'collapsed'), [(0, True), (4, False)])
def test_collapsed_residual_path_is_reported(project, trained, factor, collapsed):
    """Weights of zero make the network bilinear upsampling, and validation says so; large ones do not."""
    weights = torch.load(project / 'experiments/demo_exp2/models/net_g_latest.pth', weights_only=True)['params']
    name = f'times_{factor}'
    torch.save({'params': {key: factor * value for key, value in weights.items()}}, project / f'{name}.pth')
    steps = ['train:total_iter=100', 'train:scheduler:periods=[100]', 'val:val_freq=50']
    args = (f'path:pretrain_network_g={name}.pth', f'name={name}', 'train:optim_g:lr=1.0e-9', *steps)
    done = run('facesr_plugin/train.py', '-opt', 'demo_exp2.yml', '--force_yml', *args, cwd=project)
    assert done.returncode == 0, done.stderr
    assert ('the output equals bilinear upsampling' in done.stderr) == collapsed
    row = rows(project, name)[0]
    assert (abs(float(row['val_psnr']) - float(row['bilinear_psnr'])) < 1e-3) == collapsed


def test_no_validation_set_leaves_its_columns_empty(project):
    opt = yaml.safe_load((project / 'demo_exp1.yml').read_text())
    opt['name'] = 'no_val'
    del opt['datasets']['val'], opt['val']
    (project / 'no_val.yml').write_text(yaml.safe_dump(opt))
    done = run('facesr_plugin/train.py', '-opt', 'no_val.yml', cwd=project)
    assert done.returncode == 0, done.stderr
    history = rows(project, 'no_val')
    assert [row['iter'] for row in history] == ['3', '6']
    assert all(row['train_loss'] and row['train_psnr'] and not row['val_psnr'] for row in history)


def test_last_scores_of_a_further_validation_set_are_kept(project):
    """Of the same pairs under another name: those of the history's last row."""
    opt = yaml.safe_load((project / 'demo_exp1.yml').read_text())
    opt['name'] = 'further'
    opt['datasets']['val_more'] = {**opt['datasets']['val'], 'name': 'more'}
    opt['train']['ema_decay'] = 0.5
    (project / 'further.yml').write_text(yaml.safe_dump(opt))
    done = run('facesr_plugin/train.py', '-opt', 'further.yml', cwd=project)
    assert done.returncode == 0, done.stderr
    kept = json.loads((project / 'experiments' / 'further' / 'further.json').read_text())
    last = rows(project, 'further')[-1]
    columns = ('iter', 'val_psnr', 'val_ssim', 'raw_psnr', 'bilinear_psnr', 'bicubic_psnr')
    assert kept == {'more': {name: pytest.approx(float(last[name]), rel=1e-7) for name in columns}}
    assert kept['more']['val_psnr'] != kept['more']['raw_psnr']


def test_user_mistake_is_one_line_and_status_2(project):
    done = run('facesr_plugin/train.py', '-opt', 'demo_exp1.yml', '--force_yml', 'scale=fuor', cwd=project)
    assert done.returncode == 2
    assert done.stderr == "error: scale: expected a whole number, got 'fuor'\n"
    done = run('facesr_plugin/train.py', '-opt', 'none.yml', cwd=project)
    assert done.returncode == 2
    assert done.stderr.startswith('error: none.yml: no such file, and none of those that come with the plugin: demo_')
