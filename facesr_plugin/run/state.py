"""What a run needs to go on exactly: saved whole after an iteration, found again, restored.

`ITER.state` has BasicSR's entries, and under `facesr` the model's own: random streams, pair pool, record. In a
distributed run every process has streams and a pool of its own; those of rank R > 0 are in `ITER.rankR`.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from basicsr.utils import check_resume, get_root_logger

from facesr_plugin.errors import UserError
from facesr_plugin.run import checkpoint
from facesr_plugin.run.processes import same_everywhere, wait_for_all

if TYPE_CHECKING:
    from facesr_plugin.models.alpha_realesrnet_model import AlphaRealESRNetModel

ENTRIES = ('iter', 'epoch', 'optimizers', 'schedulers')
VISIBLE_AFTER = 60.0  # seconds in which another machine's file system shows a new folder


def check_shared(opt: dict[str, Any], start_iter: int) -> None:
    """Check that this process shares the folder of states with rank 0, which has made it; every process must call this.

    Args:
        opt: Options of the run.
        start_iter: Where this process goes on.

    Raises:
        UserError: It does not see the folder, or other states in it.
    """
    folder, rank = Path(opt['path']['training_states']), opt['rank']
    is_same = same_everywhere(start_iter) == start_iter
    deadline = time.monotonic() + VISIBLE_AFTER
    while not folder.is_dir() and time.monotonic() < deadline:
        time.sleep(0.5)
    if not (is_same and folder.is_dir()):
        raise UserError(f'{folder}: a folder expected that all processes share (path.root), rank {rank} sees another')


def save(model: 'AlphaRealESRNetModel', epoch: int, current_iter: int) -> None:
    """Save the state after an iteration; every process must call this.

    Raises:
        RunError: It cannot be written.
    """
    folder, rank = Path(model.opt['path']['training_states']), model.opt['rank']
    own = {'streams': model.streams.state_dict(), 'pool': model.pool.state_dict() if model.pool else None}
    if rank:
        checkpoint.save(folder / f'{current_iter}.rank{rank}', own)
    wait_for_all()  # a state counts from when rank 0's file is there
    if rank == 0:
        state = {
            'epoch': epoch,
            'iter': current_iter,
            'optimizers': [optimizer.state_dict() for optimizer in model.optimizers],
            'schedulers': [scheduler.state_dict() for scheduler in model.schedulers],
            'facesr': {
                **own,
                'options': model.described,
                'scaler': model.scaler.state_dict(),
                'guard': model.guard.state_dict(),
                'monitor': model.monitor.state_dict(),
            },
        }
        checkpoint.save(folder / f'{current_iter}.state', state)


def restore(model: 'AlphaRealESRNetModel', state: dict[str, Any]) -> None:
    """Put the model's own part of a state back; one that stock BasicSR wrote has none.

    Raises:
        UserError: The file of this process is missing, or its pool does not fit.
    """
    model.current_iter = state['iter']
    own = state.get('facesr')
    if own is None:
        get_root_logger().warning('The training state is of another model: pair pool and history start anew.')
        return
    model.scaler.load_state_dict(own['scaler'])
    if 'guard' in own:  # states saved before it was part of them lack it
        model.guard.load_state_dict(own['guard'])
    model.monitor.load_state_dict(own['monitor'], model.device)
    if rank := model.opt['rank']:
        own = checkpoint.load(Path(model.opt['path']['training_states']) / f'{state["iter"]}.rank{rank}')
    try:
        model.streams.load_state_dict(own['streams'])
        if model.pool and own['pool']:
            model.pool.load_state_dict(own['pool'], model.device)
    except ValueError as error:
        raise UserError(f'path.resume_state: {error}') from error


def prune(opt: dict[str, Any], current_iter: int) -> None:
    """Remove states and their weights before the newest `logger.keep_states`; `best` and `latest` stay."""
    keep = opt['logger'].get('keep_states')
    if keep is None or opt['rank'] != 0:
        return
    for iteration in _iterations(opt)[:-keep]:
        for file in Path(opt['path']['training_states']).glob(f'{iteration}.*'):
            file.unlink()
        (Path(opt['path']['models']) / f'net_g_{iteration}.pth').unlink(missing_ok=True)


def load(opt: dict[str, Any]) -> dict[str, Any] | None:
    """Return the state that `--auto_resume` or `path.resume_state` asks for; for `basicsr.train.load_resume_state`.

    `--auto_resume` takes the newest that can be read, and says which.

    Args:
        opt: Options of the run; as in stock, its network is set to load the weights of that iteration.

    Returns:
        The state, on the CPU, or None to start anew.

    Raises:
        UserError: The state or its weights are missing, damaged or no training state.
    """
    path = opt['path'].get('resume_state')
    if opt['auto_resume']:
        path, state = _newest(opt)
    elif path:
        state = _read(Path(path), opt)
    if not path:
        return None
    opt['path']['resume_state'] = str(path)
    check_resume(opt, state['iter'])
    return state


def _iterations(opt: dict[str, Any]) -> list[int]:
    """Return the iterations of which there is a state, in order."""
    files = Path(opt['path']['training_states']).glob('*.state')
    return sorted(int(file.stem) for file in files if file.stem.isdigit())


def _newest(opt: dict[str, Any]) -> tuple[Path | None, dict[str, Any] | None]:
    folder = Path(opt['path']['training_states']).resolve()
    for iteration in reversed(_iterations(opt)):
        path = folder / f'{iteration}.state'
        try:
            state = _read(path, opt)
        except UserError as error:
            print(f'--auto_resume: {error}; taking the state before it', flush=True)
            continue
        print(f'--auto_resume: going on from {path}', flush=True)
        return path, state
    print(f'--auto_resume: no training state in {folder}, starting anew', flush=True)
    return None, None


def _read(path: Path, opt: dict[str, Any]) -> dict[str, Any]:
    """Read a state and make sure that the weights of its iteration can be read too."""
    state = checkpoint.load(path)
    if missing := [entry for entry in ENTRIES if entry not in state]:
        raise UserError(f'{path}: a training state expected, it lacks {", ".join(missing)}')
    checkpoint.load_weights(Path(opt['path']['models']) / f'net_g_{state["iter"]}.pth', 'params')
    return state
