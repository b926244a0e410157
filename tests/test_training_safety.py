"""Full disks, steps that are not finite, how many states are kept."""

import errno
import fcntl
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from traceback import walk_tb

import pytest
import torch
from tiny import BREAK, ROOT, make_project, run

from facesr_plugin import files
from facesr_plugin.errors import RunError
from facesr_plugin.run import checkpoint, lock
from facesr_plugin.run.finite_guard import LIMIT, FiniteGuard


@pytest.fixture(scope='module')
def project(tmp_path_factory) -> Path:
    root = make_project(tmp_path_factory.mktemp('project'))
    text = (root / 'demo_exp1.yml').read_text()
    (root / 'demo_exp1.yml').write_text(text.replace('logger:\n', 'logger:\n  keep_states: 2\n'))
    return root


IMPATIENT = """
import sys
sys.path.insert(0, {root!r})
from facesr_plugin import train
from tensorboard.summary.writer import event_file_writer
writer = event_file_writer.EventFileWriter
stock = writer.__init__
writer.__init__ = lambda self, logdir, *args, **kwargs: stock(self, logdir, 10, 0.01)
train.command()
"""


def limit_file_size() -> None:
    """No file may grow beyond 60 kB: the log fits, a training state with its pair pool does not."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))


def test_full_disk_ends_the_run_and_keeps_what_was_there(project):
    args = ['-opt', 'demo_exp1.yml', '--auto_resume', '--force_yml', 'name=full']
    killed = subprocess.run(
        [sys.executable, BREAK, 'step', '5', '9', *args], cwd=project, capture_output=True, check=False
    )
    assert killed.returncode == -9
    folder = project / 'experiments' / 'full'
    before = {path: path.read_bytes() for path in folder.rglob('*.*') if path.suffix in ('.pth', '.state')}
    assert {path.name for path in before} == {'net_g_3.pth', 'net_g_best.pth', '3.state'}
    done = subprocess.run(
        [sys.executable, str(ROOT / 'facesr_plugin/train.py'), *args],
        capture_output=True,
        text=True,
        cwd=project,
        preexec_fn=limit_file_size,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert 'Traceback' not in done.stderr
    assert re.search(r'^error: .*6\.state: cannot be written: File too large; \d+\.\d MB needed$', done.stderr, re.M)
    assert all(path.read_bytes() == content for path, content in before.items() if path.name != 'net_g_best.pth')
    assert torch.load(folder / 'models' / 'net_g_best.pth', weights_only=True)['params']
    assert not list(folder.rglob('*.tmp'))


def test_disk_that_is_full_between_saves(project):
    """Log and curves are what is written there; TensorBoard's thread and ours meet it."""
    options = ['name=full_curves', 'train:total_iter=400', 'logger:print_freq=1', 'val:val_freq=400']
    options += ['logger:save_checkpoint_freq=400', 'logger:use_tb_logger=true', 'train:scheduler:periods=[400]']
    done = subprocess.run(
        [sys.executable, '-c', IMPATIENT.format(root=str(ROOT)), '-opt', 'demo_exp1.yml', '--force_yml', *options],
        capture_output=True,
        text=True,
        cwd=project,
        preexec_fn=limit_file_size,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert 'Traceback' not in done.stderr
    assert done.stderr.splitlines()[-1] == 'error: log or curves of the run: cannot be written: File too large'


def test_second_training_of_a_run_is_refused(project):
    """It would rename the folder that the first one writes to."""
    folder = project / 'experiments' / 'twice'
    (folder / 'models').mkdir(parents=True)
    holder = 'from facesr_plugin.run import lock; from pathlib import Path; import sys\n'
    holder += 'held = lock.take(Path(sys.argv[1])); print("locked", flush=True); sys.stdin.read()'
    command = [sys.executable, '-c', holder, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == 'locked\n'
        args = ('facesr_plugin/train.py', '-opt', 'demo_exp1.yml', '--force_yml', 'name=twice')
        second = run(*args, cwd=project)
        assert second.returncode == 2
        expected = r'error: .*/twice: another name expected, a training is running there \(.*/\.twice\.lock\)\n'
        assert re.fullmatch(expected, second.stderr)
        first.stdin.close()
    assert list((project / 'experiments').glob('twice*')) == [folder]
    assert run(*args, cwd=project).returncode == 0  # the lock is gone with the process


def test_a_worker_that_outlives_a_killed_run_holds_no_lock(tmp_path):
    """Loader processes of a run that was killed can live on for a while; the run can be gone on with all the same."""
    code = (
        'import os, signal, sys, time\n'
        'from pathlib import Path\n'
        'from facesr_plugin.run import lock\n'
        'held = lock.take(Path(sys.argv[1]))\n'
        'worker = os.fork()\n'
        'if not worker: time.sleep(60)\n'
        'print(worker, flush=True)\n'
        'os.kill(os.getpid(), signal.SIGKILL)\n'
    )
    command = [sys.executable, '-c', code, str(tmp_path / 'run')]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed:
        worker = int(killed.stdout.readline())
        assert killed.wait() == -signal.SIGKILL
        try:
            os.kill(worker, 0)  # it lives
            assert lock.take(tmp_path / 'run')
        finally:
            os.kill(worker, signal.SIGKILL)


def test_lock_without_fcntl(tmp_path):
    """As on Windows, where filelock takes the lock."""
    code = (
        'import sys; sys.modules["fcntl"] = None\n'
        'from pathlib import Path\n'
        'from facesr_plugin.run import lock\n'
        'from facesr_plugin.errors import run_command\n'
        'assert lock.fcntl is None\n'
        'held = lock.take(Path(sys.argv[1]))\n'
        'print(held.is_locked)\n'
        'run_command(lambda: lock.take(Path(sys.argv[1])))'
    )
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code, str(tmp_path / 'run')],
        capture_output=True,
        text=True,
        check=False,
    )
    expected = r'error: .*/run: another name expected, a training is running there \(.*/\.run\.lock\)\n'
    assert (done.returncode, done.stdout) == (2, 'True\n')
    assert re.fullmatch(expected, done.stderr)


def test_file_system_without_locks(tmp_path, monkeypatch):
    def fail(file, operation):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(fcntl, 'lockf', fail)
    assert lock.take(tmp_path / 'run') is None


def test_save_says_how_much_room_it_needs(tmp_path, monkeypatch):
    def full(file):
        raise OSError(28, 'No space left on device')

    checkpoint.save(tmp_path / 'a.pth', {'params': {'w': torch.ones(3)}})
    monkeypatch.setattr(files.os, 'fsync', full)
    with pytest.raises(RunError, match=r'a\.pth: cannot be written: No space left on device; 1\.0 MB needed'):
        checkpoint.save(tmp_path / 'a.pth', {'params': {'w': torch.zeros(250_000)}})
    assert torch.equal(checkpoint.load(tmp_path / 'a.pth')['params']['w'], torch.ones(3))
    assert [path.name for path in tmp_path.iterdir()] == ['a.pth']


def test_an_error_of_a_save_holds_no_buffer(tmp_path, monkeypatch):
    """Python 3.12.1 crashes where it collects one of a `BytesIO`, as it did at the end of a run on a full disk."""

    def full(file):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(files.os, 'fsync', full)
    with pytest.raises(RunError) as caught:
        checkpoint.save(tmp_path / 'a.pth', {'params': {'w': torch.zeros(9)}})
    frames = [frame for error in (caught.value, caught.value.__cause__) for frame, _ in walk_tb(error.__traceback__)]
    buffers = [value for frame in frames for value in frame.f_locals.values() if isinstance(value, memoryview)]
    assert buffers
    for buffer in buffers:
        with pytest.raises(ValueError, match='released'):
            bytes(buffer)


def test_keep_states(project):
    options = ['name=keep', 'train:total_iter=6', 'logger:save_checkpoint_freq=1']
    done = run('facesr_plugin/train.py', '-opt', 'demo_exp1.yml', '--force_yml', *options, cwd=project)
    assert done.returncode == 0, done.stderr
    folder = project / 'experiments' / 'keep'
    assert {path.name for path in (folder / 'training_states').iterdir()} == {'5.state', '6.state'}
    expected = {'net_g_5.pth', 'net_g_6.pth', 'net_g_best.pth', 'net_g_latest.pth'}
    assert {path.name for path in (folder / 'models').iterdir()} == expected


def test_diverged_run_stops_with_advice(project):
    options = ['name=diverged', 'train:total_iter=40', 'train:scheduler:periods=[40]', 'train:optim_g:lr=1.0e+30']
    done = run(
        'facesr_plugin/train.py', '-opt', 'demo_exp1.yml', '--force_yml', *options, 'val:val_freq=40', cwd=project
    )
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith('error: iteration 1')
    assert 'not finite in 10 steps in a row, all skipped; lower train.optim_g.lr' in line
    assert 'Traceback' not in done.stderr


@pytest.mark.parametrize('fused', [True, False])
@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_guard_skips_exactly_the_bad_steps(fused, bad):
    """One good step, bad ones, one good step: weights and optimiser are as after two good steps."""
    results = []
    for gradients in ([1.0, bad, bad, 2.0], [1.0, 2.0]):
        weight = torch.nn.Parameter(torch.ones(3))
        optimizer = torch.optim.AdamW([weight], lr=0.1, fused=fused)
        guard = FiniteGuard(torch.device('cpu'))
        for gradient in gradients:
            weight.grad = torch.tensor([gradient, 1.0, 1.0])
            guard.step(optimizer, torch.amp.GradScaler('cpu', enabled=False))
            guard.check(1)
        results.append((weight.detach(), optimizer.state[weight]['exp_avg'], float(optimizer.state[weight]['step'])))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert results[0][2] == results[1][2] == 2


def test_guard_goes_on_counting():
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer, scaler = torch.optim.Adam([weight], fused=True), torch.amp.GradScaler('cpu', enabled=False)
    first, second = FiniteGuard(torch.device('cpu')), FiniteGuard(torch.device('cpu'))
    for guard in [first] * (LIMIT - 1) + [second]:
        guard.check(1)
        if guard is second:
            second.load_state_dict(first.state_dict())
        weight.grad = torch.tensor([float('nan')])
        guard.step(optimizer, scaler)
    assert second.skipped == LIMIT
    with pytest.raises(RunError, match='in 10 steps in a row'):
        second.check(20)


@pytest.mark.parametrize('max_norm', [None, 3.0])
@pytest.mark.parametrize('fused', [True, False])
def test_finite_gradients_whose_norm_is_beyond_fp32(fused, max_norm):
    """Squares of 1.8e19 and more are infinite in fp32; at 754be97 such a step was taken for one with bad gradients."""
    weight = torch.nn.Parameter(torch.zeros(4))
    weight.grad = torch.tensor([1e30, -1e30, 1e30, 1e30])
    optimizer = torch.optim.Adam([weight], lr=0.1, fused=fused)
    guard = FiniteGuard(torch.device('cpu'), max_norm)
    guard.step(optimizer, torch.amp.GradScaler('cpu', enabled=False))
    assert guard.skipped == 0
    if max_norm:
        torch.testing.assert_close(weight.grad, torch.tensor([1.5, -1.5, 1.5, 1.5]))  # of the norm 3
        torch.testing.assert_close(weight.detach(), torch.tensor([-0.1, 0.1, -0.1, -0.1]))


def test_guard_counts_in_a_row():
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.Adam([weight], fused=True)
    guard, scaler = FiniteGuard(torch.device('cpu')), torch.amp.GradScaler('cpu', enabled=False)
    for bad in [True] * (LIMIT - 1) + [False] + [True] * (LIMIT - 1):
        weight.grad = torch.tensor([float('nan') if bad else 1.0])
        guard.step(optimizer, scaler)
        guard.check(1)
    weight.grad = torch.tensor([float('nan')])
    guard.step(optimizer, scaler)
    with pytest.raises(RunError, match='in 10 steps in a row'):
        guard.check(20)
    assert guard.skipped == 2 * LIMIT - 1


@pytest.mark.parametrize('fused', [True, False])
@pytest.mark.parametrize('scale', [None, 1024.0])
@pytest.mark.parametrize(
    ('max_norm', 'factor'), [(2.5, 0.5), (5.0, 1.0), (100.0, 1.0), (None, 1.0)], ids=['half', 'just', 'far', 'none']
)
def test_clipped_gradients_by_hand(fused, scale, max_norm, factor):
    """(3, 0) and (0, -4) have norm 5 together; a scaled loss is unscaled first; a bad step is skipped all the same."""
    weights = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    optimizer = torch.optim.SGD(weights, lr=1.0, fused=fused)
    scaler = torch.amp.GradScaler('cpu', init_scale=scale or 1.0, enabled=scale is not None)
    guard = FiniteGuard(torch.device('cpu'), max_norm)
    for bad in (1.0, float('nan'), float('inf')):
        gradients = [torch.tensor([3.0 * bad, 0.0]), torch.tensor([0.0, -4.0])]
        scaler.scale(sum((w * g).sum() for w, g in zip(weights, gradients, strict=True))).backward()
        guard.step(optimizer, scaler)
        optimizer.zero_grad()
    assert guard.skipped == guard.in_a_row == 2
    expected = [[-3.0 * factor, 0.0], [0.0, 4.0 * factor]]
    assert [weight.tolist() for weight in weights] == [pytest.approx(values) for values in expected]


def test_clipping_a_gradient_of_zero():
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.zeros(2)
    FiniteGuard(torch.device('cpu'), 1.0).step(
        torch.optim.SGD([weight], lr=1.0, fused=True), torch.amp.GradScaler('cpu', enabled=False)
    )
    assert weight.tolist() == [1.0, 1.0]


@pytest.mark.gpu
def test_clipping_does_not_wait_for_the_device():
    weight = torch.nn.Parameter(torch.ones(2, device='cuda'))
    weight.grad = torch.ones(2, device='cuda')
    optimizer, scaler = torch.optim.AdamW([weight], fused=True), torch.amp.GradScaler('cuda', enabled=False)
    guard = FiniteGuard(weight.device, 1.0)
    torch.cuda.set_sync_debug_mode('error')
    try:
        guard.step(optimizer, scaler)
    finally:
        torch.cuda.set_sync_debug_mode('default')


def test_fp16_scaler_is_fed():
    """It grows while gradients are finite, shrinks at one that is not, and that step is left out."""
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    scaler = torch.amp.GradScaler('cpu', init_scale=8.0, growth_interval=2)
    guard = FiniteGuard(torch.device('cpu'))
    weights, scales, skipped = [], [], []
    for gradient in (1.0, 1.0, float('inf'), float('nan'), 1.0, 1.0):
        optimizer.zero_grad()
        scaler.scale(weight * gradient).backward()
        guard.step(optimizer, scaler)
        weights.append(weight.item())
        scales.append(scaler.get_scale())
        skipped.append(guard.skipped.item())
    assert weights == [0.5, 0.0, 0.0, 0.0, -0.5, -1.0]
    assert scales == [8, 16, 8, 4, 4, 8]
    assert skipped == [0, 0, 1, 2, 2, 2]
