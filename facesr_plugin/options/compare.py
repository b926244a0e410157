"""Whether a training state belongs to an option file and to its data: only then can the run go on exactly.

Options are compared as the file has them, training images by what they are (`data/fingerprint.py`), wherever they lie.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from basicsr.utils.registry import DATASET_REGISTRY

from facesr_plugin.data.fingerprint import change
from facesr_plugin.errors import UserError
from facesr_plugin.models.execution import default_precision
from facesr_plugin.options.gpus import gpus_used
from facesr_plugin.options.schedules import same_past
from facesr_plugin.options.types import TrainingOptions
from facesr_plugin.run.device import device_for

ALLOW = '--allow_other_data'
_LENGTH = 'train.total_iter'
_LENGTHS = (_LENGTH, 'train.scheduler.periods', 'train.scheduler.milestones')
_SCHEDULES = (_LENGTH, 'train.scheduler.', 'train.alpha_opt.')  # may change for what is still to come
# Options that are younger than some states, and what was done before there were any.
_BEFORE_THEM = {
    'train.grad_clip': None,
    'train.ema_decay': 0,
    'train.alpha_opt.periods': None,
    'datasets.train.weights': None,
    'network_d': None,
    **dict.fromkeys(
        f'train.{block}' for block in ('optim_d', 'gan_opt', 'gan_max_error', 'feature_opt', 'perceptual_opt')
    ),
}
_BLOCK = 'a block of options'  # in place of one, so that it differs from none
# What may change: what is recorded of the run, where it is, and how images come to the loader.
_FREE = {'name', 'model_type', 'num_gpu', 'path', 'val', 'logger', 'dist_params', 'imports'}
_LOADING = {'name', 'dataroot_gt', 'io_backend', 'phase', 'scale', 'use_shuffle', 'num_worker_per_gpu', 'prefetch_mode'}
_LOADING |= {'num_prefetch_queue', 'pin_memory', 'persistent_workers'}


def described(run: TrainingOptions) -> dict[str, Any]:
    """Return the options that decide what a run computes: those that it cannot change and still go on exactly.

    Args:
        run: A checked option file.

    Returns:
        Plain data, to be saved with the state: nested as in the file, with defaults; what is not set is None.
    """
    opt = run.model_dump(exclude=_FREE)
    opt['train']['precision'] = run.train.precision or default_precision(device_for(gpus_used(run)))
    train_set = {key: value for key, value in opt['datasets']['train'].items() if key not in _LOADING}
    if 'batch_size_per_gpu' in train_set:
        train_set['batch_size_per_gpu'] *= run.train.accumulate  # all images of an iteration
    return opt | {'datasets': {'train': train_set}}


def differences(now: Mapping[str, Any], state: Mapping[str, Any]) -> list[str]:
    """Compare options with those that a training state was saved under, as far as both say something.

    Args:
        now: As `described` returns them; what is not known yet is None: `manual_seed`, or `world_size` is missing.
        state: What a `.state` file holds. One of stock BasicSR says little of its options.

    Returns:
        One line per difference that makes it impossible to go on exactly.
    """
    saved = state.get('facesr', {}).get('options')
    if saved is None:
        return _differences_from_stock(now, state)
    done, trained, train = state['iter'], saved.get('train') or {}, now['train']
    then, now = _BEFORE_THEM | dict(_leaves(saved)), dict(_leaves(now))
    is_open = {'manual_seed': now.get('manual_seed') is None}
    is_open['train.precision'] = then.get('train.precision') is None  # which older states do not know by default
    changed = [path for path in then.keys() & now.keys() if then[path] != now[path] and not is_open.get(path)]
    of_schedules = [path for path in changed if path.startswith(_SCHEDULES)]
    if of_schedules and now[_LENGTH] < done:
        return [f'{_LENGTH}: at least {done} expected, as in the training state, got {now[_LENGTH]}']
    if of_schedules and same_past(trained, train, done):
        changed = [path for path in changed if path not in of_schedules]
    return sorted(_line(path, then[path], now[path], done) for path in changed)


def data_of(dataset: Any) -> dict[str, Any]:
    """Return the fingerprint of a training set; of a class that has none it is the number of samples."""
    return dataset.fingerprint() if hasattr(dataset, 'fingerprint') else {'images': len(dataset)}


def check_data(train_set: Mapping[str, Any], state: Mapping[str, Any], may_differ: bool) -> str | None:
    """Check that the training images are those that a state was saved with, or say that a run goes on with others.

    Args:
        train_set: `datasets.train`, as BasicSR gets it.
        state: What a `.state` file holds; one of stock BasicSR or of an older version does not say.
        may_differ: Whether to go on with others.

    Returns:
        A line on how they differ if they do.

    Raises:
        UserError: They are others, and may not be.
    """
    saved = state.get('facesr', {}).get('data')
    if saved is None:
        print('The training state does not say which images it was trained on: these are taken to be the same.')
        return None
    problem = change(saved, data_of(DATASET_REGISTRY.get(train_set['type'])(dict(train_set))))
    if problem and not may_differ:
        raise UserError(f'datasets.train: {problem}, as the training state was saved with; {ALLOW} goes on with these')
    return problem and f'{ALLOW}: going on with other training images: {problem}'


def _line(path: str, before: Any, after: Any, done: int = 0) -> str:
    words = {None: 'no value', _BLOCK: _BLOCK}
    expected, got = (words[value] if value in (None, _BLOCK) else repr(value) for value in (before, after))
    line = f'{path}: {expected} expected, as the training state was saved under, got {got}'
    if path in _LENGTHS:
        line += f' (learning rate or alpha of the {done} iterations done would have been others; see --extend)'
    return line


def _differences_from_stock(now: Mapping[str, Any], state: Mapping[str, Any]) -> list[str]:
    """Compare with what a state of stock BasicSR tells: its iteration and the cosine's periods."""
    problems = []
    total = now['train']['total_iter']
    if state['iter'] > total:
        problems.append(f'train.total_iter: at least {state["iter"]} expected, as in the training state, got {total}')
    periods = now['train']['scheduler'].get('periods')
    for scheduler in state['schedulers']:
        before = scheduler.get('periods')
        if before is not None and periods is not None and list(before) != periods:
            problems.append(_line('train.scheduler.periods', list(before), periods))
    return problems


def _leaves(block: Mapping[str, Any], above: str = '') -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested blocks by their paths, and of each block that it is one."""
    for key, value in block.items():
        if isinstance(value, Mapping):
            yield f'{above}{key}', _BLOCK
            yield from _leaves(value, f'{above}{key}.')
        else:
            yield f'{above}{key}', value
