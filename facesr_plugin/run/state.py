"""Files of training states: written whole after an iteration, found again, thinned out.

`ITER.state` has BasicSR's entries, and the model's own under `facesr`. In a distributed run every process has random
streams and a pair pool of its own; those of rank R > 0 are in `ITER.rankR`.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from basicsr.utils import check_resume

from facesr_plugin.errors import UserError
from facesr_plugin.run import checkpoint
from facesr_plugin.run.processes import same_everywhere, wait_for_all

ENTRIES = ('iter', 'epoch', 'optimizers', 'schedulers')
VISIBLE_AFTER = 60.0  # seconds in which another machine's file system shows a new folder


def check_shared(folder: Path, rank: int, start_iter: int) -> None:
    """Check that this process shares the folder of states with rank 0, which has made it; every process must call this.

    Args:
        folder: Of the states.
        rank: Of this process.
        start_iter: Where it goes on.

    Raises:
        UserError: It does not see the folder, or other states in it.
    """
    is_same = same_everywhere(start_iter) == start_iter
    deadline = time.monotonic() + VISIBLE_AFTER
    while not folder.is_dir() and time.monotonic() < deadline:
        time.sleep(0.5)
    if not (is_same and folder.is_dir()):
        raise UserError(f'{folder}: a folder expected that all processes share (path.root), rank {rank} sees another')


def save(folder: Path, rank: int, state: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Save the state after an iteration; every process must call this.

    Args:
        folder: Of the states.
        rank: Of this process.
        state: What is one for all processes, of which rank 0 writes its own: `ENTRIES`, and the model's under `facesr`.
        own: What this process alone has, of the entries under `facesr`.

    Raises:
        RunError: It cannot be written.
    """
    if rank:
        checkpoint.save(folder / f'{state["iter"]}.rank{rank}', own)
    wait_for_all()  # a state counts from when rank 0's file is there
    if rank == 0:
        checkpoint.save(folder / f'{state["iter"]}.state', {**state, 'facesr': {**own, **state['facesr']}})


def load_own(folder: Path, rank: int, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return what this process alone had when a state was saved.

    Raises:
        UserError: Its file is missing or damaged.
    """
    return checkpoint.load(folder / f'{state["iter"]}.rank{rank}') if rank else state['facesr']


def prune(folder: Path, models: Path, keep: int | None) -> None:
    """Remove states and their weights before the newest `keep`; None keeps all; `best` and `latest` stay."""
    if keep is None:
        return
    for iteration in _iterations(folder)[:-keep]:
        for file in folder.glob(f'{iteration}.*'):
            file.unlink()
        (models / f'net_g_{iteration}.pth').unlink(missing_ok=True)


def find(opt: dict[str, Any]) -> dict[str, Any] | None:
    """Return the state that `--auto_resume` or `path.resume_state` asks for; for `basicsr.train.load_resume_state`.

    `--auto_resume` takes the newest that can be read, and says which.

    Args:
        opt: Options of the run; as in stock, its network is set to load the weights of that iteration.

    Returns:
        The state, on the CPU, or None to start anew.

    Raises:
        UserError: The state or its weights are missing, damaged or no training state.
    """
    folder, models = Path(opt['path']['training_states']), Path(opt['path']['models'])
    if opt['auto_resume']:
        path, state = newest(folder, models)
    elif path := opt['path'].get('resume_state'):  # of this run or of another: its weights are where it is
        models = _models_beside(Path(path), models)
        state = _read(Path(path), models)
    if not path:
        return None
    opt['path']['resume_state'] = str(path)
    check_resume({**opt, 'path': (paths := {**opt['path'], 'models': str(models)})}, state['iter'])
    opt['path'] |= {**paths, 'models': opt['path']['models']}
    return state


def _models_beside(path: Path, models: Path) -> Path:
    """Return the folder of the weights that go with a state: `models` beside its own folder, else that of the run."""
    beside = path.resolve().parent.parent / 'models'
    return beside if beside.is_dir() else models


def newest(folder: Path, models: Path) -> tuple[Path | None, dict[str, Any] | None]:
    """Return the newest state in a folder that can be read, with its path, and say which; None and None if none can."""
    folder = folder.resolve()
    for iteration in reversed(_iterations(folder)):
        path = folder / f'{iteration}.state'
        try:
            state = _read(path, models)
        except UserError as error:
            print(f'--auto_resume: {error}; taking the state before it', flush=True)
            continue
        print(f'--auto_resume: going on from {path}', flush=True)
        return path, state
    print(f'--auto_resume: no training state in {folder}, starting anew', flush=True)
    return None, None


def _iterations(folder: Path) -> list[int]:
    """Return the iterations of which there is a state, in order."""
    return sorted(int(file.stem) for file in folder.glob('*.state') if file.stem.isdigit())


def _read(path: Path, models: Path) -> dict[str, Any]:
    """Read a state and make sure that the weights of its iteration can be read too."""
    state = checkpoint.load(path)
    if missing := [entry for entry in ENTRIES if entry not in state]:
        raise UserError(f'{path}: a training state expected, it lacks {", ".join(missing)}')
    checkpoint.load_weights(models / f'net_g_{state["iter"]}.pth', 'params')
    return state
