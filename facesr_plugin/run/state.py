"""Files of training states: written whole after an iteration, found again, thinned out.

`ITER.state` has BasicSR's entries, and the model's own under `facesr`. In a distributed run every process has random
streams, a pair pool and averages of its own. Rank 0 alone reads and writes files: it has those of the others sent, puts
them into the state under `facesr.others`, by rank, and hands them out again. So machines need no folder in common.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from basicsr.utils import check_resume

from facesr_plugin.errors import UserError
from facesr_plugin.run import checkpoint
from facesr_plugin.run.processes import from_first, gather, hand_out

ENTRIES = ('iter', 'epoch', 'optimizers', 'schedulers')
OWN = ('streams', 'pool', 'averages')


def save(folder: Path, state: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Save the state after an iteration; every process must call this.

    Args:
        folder: Of the states.
        state: What is one for all processes, of which rank 0 writes its own: `ENTRIES`, and the model's under `facesr`.
        own: What this process alone has: the entries `OWN` under `facesr`.

    Raises:
        RunError: It cannot be written.
    """
    if everyones := gather(own):
        first, *others = everyones
        model = {**first, **state['facesr'], 'others': others}
        checkpoint.save(folder / f'{state["iter"]}.state', {**state, 'facesr': model})


def prune(folder: Path, models: Path, keep: int | None) -> None:
    """Remove states and their weights before the newest `keep`; None keeps all; `best` and `latest` stay."""
    if keep is None:
        return
    for iteration in _iterations(folder)[:-keep]:
        for file in folder.glob(f'{iteration}.*'):
            file.unlink()
        for file in models.glob(f'net_?_{iteration}.pth'):
            file.unlink()


def find(opt: dict[str, Any]) -> dict[str, Any] | None:
    """Return the state that `--auto_resume` or `path.resume_state` asks for; for `basicsr.train.load_resume_state`.

    Every process must call this; each gets its own part.

    `--auto_resume` takes the newest that can be read, and says which.

    Args:
        opt: Options of the run; as in stock, its network is set to load the weights of that iteration.

    Returns:
        The state, on the CPU, or None to start anew.

    Raises:
        UserError: The state or its weights are missing, damaged or no training state.
    """
    parts: list[dict[str, Any]] = []

    def read() -> tuple[Path, Path, dict[str, Any]] | None:
        folder, models = Path(opt['path']['training_states']), Path(opt['path']['models'])
        path, state = opt['path'].get('resume_state'), None
        if opt['auto_resume']:
            path, state = newest(folder, models)
        elif path:  # of this run or of another: its weights are where it is
            models = _models_beside(Path(path), models)
            state = _read(Path(path), models)
        if state is None:
            return None
        parts.extend(_take_parts(Path(path), state, opt['world_size']))
        return Path(path), models, state

    found = from_first(read)
    if found is None:
        return None
    path, models, state = found
    opt['path']['resume_state'] = str(path)
    check_resume({**opt, 'path': (paths := {**opt['path'], 'models': str(models)})}, state['iter'])
    opt['path'] |= {**paths, 'models': opt['path']['models']}
    if 'facesr' in state:
        state['facesr'] |= hand_out(parts)
    return state


def _models_beside(path: Path, models: Path) -> Path:
    """Return the folder of the weights that go with a state: `models` beside its own folder, else that of the run."""
    beside = path.resolve().parent.parent / 'models'
    return beside if beside.is_dir() else models


def _take_parts(path: Path, state: dict[str, Any], processes: int) -> list[dict[str, Any]]:
    """Take what each process alone had out of a state; one of another number of processes is refused by its options.

    Raises:
        UserError: A file of a state saved before these parts were in it, `ITER.rankR`, is missing or damaged.
    """
    model = state.get('facesr')
    if model is None:
        return []
    others = model.pop('others', None)
    if others is None:
        ranks = range(1, (model.get('options') or {}).get('world_size', 1))
        others = [checkpoint.load(path.with_name(f'{state["iter"]}.rank{rank}')) for rank in ranks]
    first = {name: model.pop(name) for name in OWN if name in model}
    return [first, *others, *[{}] * processes][:processes]


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
