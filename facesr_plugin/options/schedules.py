"""Learning rate and alpha as functions of the iteration, for a run that is made longer."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from basicsr.models.lr_scheduler import CosineAnnealingRestartLR, MultiStepRestartLR

from facesr_plugin.errors import UserError
from facesr_plugin.losses.alpha_schedule import AlphaSchedule
from facesr_plugin.options.types import CosineOptions, TrainOptions

EXTEND, RESTART = '--extend', '--restart_schedules'


def extend(opt: dict[str, Any], total_iter: int, restart: bool) -> None:
    """Make the run of an option file longer: the same command does it again for a run that was made longer before.

    Args:
        opt: The file's content, changed in place: `train.total_iter`, and with `restart` one more period of what ends
            with the shorter run. What is wrong with it is for the check to tell.
        total_iter: Iterations of the longer run.
        restart: Whether a cosine of the learning rate and of alpha begin anew where they end.

    Raises:
        UserError: The file's run is longer, or the curves end with it and `restart` does not say to begin them anew.
    """
    try:
        train = TrainOptions.parse(opt['train'], 'train')
    except (KeyError, TypeError, UserError):
        return
    before, ends = train.total_iter, {}
    if total_iter < before:
        raise UserError(f'{EXTEND}: at least train.total_iter = {before} expected, got {total_iter}')
    cosine, alpha = train.scheduler, train.alpha_opt
    if isinstance(cosine, CosineOptions) and sum(cosine.periods) < total_iter:
        weights = [*cosine.restart_weights, 1.0]
        ends['scheduler'] = {'periods': _one_more(cosine.periods, total_iter), 'restart_weights': weights}
    if alpha and alpha.start != alpha.end and (restart or not alpha.periods):
        periods = alpha.periods or [before]
        if sum(periods) < total_iter:
            ends['alpha_opt'] = {'periods': _one_more(periods, total_iter)}
    if ends and not restart:
        what = ' and '.join(f'train.{key}' for key in ends)
        one = len(ends) == 1
        raise UserError(
            f'{EXTEND} {total_iter}: {what} {"ends" if one else "end"} with the run of {before} iterations;'
            f' {RESTART} begins {"it" if one else "them"} anew there, or say in periods what comes then'
        )
    opt['train'] |= {'total_iter': total_iter} | {key: {**opt['train'][key], **new} for key, new in ends.items()}


def _one_more(periods: list[int], total_iter: int) -> list[int]:
    return [*periods, total_iter - sum(periods)]


def same_past(one: Mapping[str, Any], other: Mapping[str, Any], done: int) -> bool:
    """Return whether learning rate and alpha of the iterations done are the same under two blocks `train`.

    Args:
        one: `train` of an option file or of a training state.
        other: Another.
        done: Iterations.
    """
    return all(rates == others for rates, others in zip(_past(one, done), _past(other, done), strict=True))


def _past(train: Mapping[str, Any], done: int) -> Iterator[tuple[float, float]]:
    """Yield the learning rate, as BasicSR's own scheduler has it, and alpha of each iteration done."""
    options = dict(train['scheduler'])
    kind = CosineAnnealingRestartLR if options.pop('type').startswith('Cosine') else MultiStepRestartLR
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=(train.get('optim_g') or {}).get('lr', 1.0))
    scheduler, group = kind(optimizer, **options), optimizer.param_groups[0]
    alpha = AlphaSchedule(**(train.get('alpha_opt') or {'start': 0.0, 'end': 0.0}))
    for iteration in range(1, done + 1):
        scheduler.last_epoch = iteration - 1
        group['lr'] = scheduler.get_lr()[0]
        yield group['lr'], alpha.at(iteration, train['total_iter'])


def told(now: Mapping[str, Any], then: Mapping[str, Any], done: int) -> str | None:
    """Return a line on a run that goes on to another number of iterations than its state was saved for; else None.

    Args:
        now: `train`, as it is checked.
        then: That of the state.
        done: Iterations.
    """
    before, total = then.get('total_iter'), now['total_iter']
    if before in (None, total):
        return None
    begins = {
        'the learning rate': _restarts(now['scheduler'].get('periods'), done, total),
        'alpha': _restarts((now.get('alpha_opt') or {}).get('periods'), done, total),
    }
    lines = [f'{what} begins anew after iteration {", ".join(map(str, at))}' for what, at in begins.items() if at]
    curves = '; '.join(lines) or 'learning rate and alpha go on as their options say'
    return f'Going on to {total:,} iterations, the training state is of a run of {before:,}: {curves}.'


def _restarts(periods: list[int] | None, done: int, total: int) -> list[int]:
    """Return after which of the iterations to come another cycle begins."""
    ends = [sum(periods[:number]) for number in range(1, len(periods))] if periods else []
    return [end for end in ends if done <= end < total]
