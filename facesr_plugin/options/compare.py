"""Whether a training state belongs to an option file: only then can the run go on exactly as if never broken off."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from facesr_plugin.blocks import StrictBlock
from facesr_plugin.data.face_degradation_dataset import FaceDegradationOptions
from facesr_plugin.errors import UserError
from facesr_plugin.options.types import NetworkOptions, RunOptions, TrainOptions, types_of
from facesr_plugin.run import state as training_state

_BLOCKS = {'network_g': NetworkOptions, 'train': TrainOptions, 'datasets.train': FaceDegradationOptions}
_LENGTHS = ('train.total_iter', 'train.scheduler.periods', 'train.scheduler.milestones')
# What may change: how images come to the loader, and what is recorded of the run.
_LOADING = ['name', 'io_backend', 'phase', 'scale', 'use_shuffle', 'num_worker_per_gpu', 'prefetch_mode']
_LOADING += ['num_prefetch_queue', 'pin_memory', 'persistent_workers']
_RECORDING = ('name', 'model_type', 'num_gpu', 'datasets', 'path', 'val', 'logger', 'dist_params')
_MISSING = object()


def described(opt: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that decide what a run computes: those that it cannot change and still go on exactly.

    Args:
        opt: The options as the training loop sees them.

    Returns:
        Plain blocks, to be saved with the state: `network_g`, `train`, `datasets.train`, and single options.
    """
    train_set = opt['datasets']['train']
    single = [key for key in RunOptions.model_fields if key not in (*_BLOCKS, *_RECORDING)]
    return {
        **{key: opt.get(key, _default(key, opt)) for key in single},
        'network_g': dict(opt['network_g']),
        'train': dict(opt['train']),
        'datasets.train': {key: value for key, value in train_set.items() if key not in _LOADING},
        'world_size': opt.get('world_size'),
    }


def as_trained(opt: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a file as the training loop sees them: paths in full, a batch with all of an iteration."""
    train_set = dict(opt['datasets']['train'])
    train_set['dataroot_gt'] = str(Path(train_set['dataroot_gt']).expanduser())
    train_set['batch_size_per_gpu'] *= opt['train'].get('accumulate', 1)
    return {**opt, 'datasets': {**opt['datasets'], 'train': train_set}}


def check_state(opt: Mapping[str, Any], state: Mapping[str, Any]) -> list[str]:
    """Compare an option file with a training state.

    Args:
        opt: The options as the training loop sees them; `world_size` may be missing, and an open seed is the state's.
        state: What a `.state` file holds. One of stock BasicSR says little of its options.

    Returns:
        One line per difference that makes it impossible to go on exactly.
    """
    if missing := [entry for entry in training_state.ENTRIES if entry not in state]:
        return [f'path.resume_state: a training state expected, it lacks {", ".join(missing)}']
    saved = state.get('facesr', {}).get('options')
    if saved is None:
        return _check_stock(opt, state)
    now = described(opt)
    problems = []
    still_open = {key for key in ('world_size', 'manual_seed') if now[key] is None}
    for key in saved.keys() & now.keys() - still_open:
        then_flat, now_flat = _flat(key, saved[key]), _flat(key, now[key])
        for path in then_flat.keys() | now_flat.keys():
            before, after = (flat.get(path, _default(path, now)) for flat in (then_flat, now_flat))
            if before != after and not _is_popped(path, then_flat, now_flat):
                problems.append(_line(path, before, after))
    return sorted(problems)


def check_newest(opt: Mapping[str, Any], experiment: Path) -> None:
    """Check the state that `--auto_resume` would go on from, if there is one.

    Args:
        opt: The content of an option file.
        experiment: The folder of its run.

    Raises:
        UserError: One line per difference that makes it impossible to go on exactly.
    """
    path = {'training_states': str(experiment / 'training_states'), 'models': str(experiment / 'models')}
    state = training_state.load({'auto_resume': True, 'path': path})
    if state and (problems := check_state(as_trained(opt), state)):
        raise UserError('\n'.join(problems))


def _line(path: str, before: Any, after: Any) -> str:
    expected, got = ('no value' if value in (_MISSING, None) else repr(value) for value in (before, after))
    line = f'{path}: {expected} expected, as the training state was saved under, got {got}'
    if path in _LENGTHS:
        line += ' (alpha and learning rate are functions of progress, so a longer run is another run: start it anew)'
    return line


def _check_stock(opt: Mapping[str, Any], state: Mapping[str, Any]) -> list[str]:
    """Compare with what a state of stock BasicSR tells: its iteration, the cosine's periods, the number of weights."""
    problems = []
    total = opt['train']['total_iter']
    if state['iter'] > total:
        problems.append(f'train.total_iter: at least {state["iter"]} expected, as in the training state, got {total}')
    periods = opt['train']['scheduler'].get('periods')
    for scheduler in state['schedulers']:
        before = scheduler.get('periods')
        if before is not None and periods is not None and list(before) != list(periods):
            problems.append(_line('train.scheduler.periods', list(before), list(periods)))
    return problems


def _flat(key: str, value: Any) -> dict[str, Any]:
    """Return the leaves of nested blocks by their paths."""

    def leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(value, Mapping):
            for name, part in value.items():
                yield from leaves(f'{path}.{name}', part)
        elif value is not None:
            yield path, value

    return dict(leaves(key, value))


def _default(path: str, opt: Mapping[str, Any]) -> Any:
    """Return the default of the option at `path`, `_MISSING` where there is none."""
    key = next((key for key in _BLOCKS if path.startswith(f'{key}.')), None)
    block: type[StrictBlock] = _BLOCKS[key] if key else RunOptions
    if key in ('network_g', 'datasets.train') and opt[key].get('type') not in types_of(block):
        return _MISSING
    *parents, last = path.removeprefix(f'{key}.').split('.')
    for part in parents:
        if part not in block.model_fields:
            return _MISSING
        annotation = block.model_fields[part].annotation
        members = [annotation, *getattr(annotation, '__args__', ())]
        block = next(m for m in members if isinstance(m, type) and issubclass(m, StrictBlock))
    field = block.model_fields.get(last)
    return _MISSING if field is None or field.is_required() else field.default


def _is_popped(path: str, before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Return whether BasicSR took the option out of the file: it does so with types, once it has built them."""
    return path.endswith('.type') and (path not in before or path not in after)
