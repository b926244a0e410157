"""What a run tells and keeps of itself: averages for the log, rows of `history.csv`, which weights were best."""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from basicsr.utils import get_root_logger

from facesr_plugin.files import write
from facesr_plugin.models.history import History
from facesr_plugin.models.step import Outcome
from facesr_plugin.models.validation import Scores
from facesr_plugin.run.device import widest_float
from facesr_plugin.run.processes import sum_over_processes

LABELS = {'params': 'network', 'params_ema': 'EMA'}
LEARNS_BY = 100  # iterations; before, a residual path that does nothing yet is no news


class Averages:
    """Sums and counts by name, kept on the device: adding never waits for it, reading does, once."""

    def __init__(self) -> None:
        self._totals: dict[str, torch.Tensor] = {}  # by name: sum and count, (2,), in the widest float

    def add(self, name: str, values: torch.Tensor, chosen: torch.Tensor | None = None) -> None:
        """Add values, (n,), those that are finite, as of a skipped step they are not, and chosen, bool (n,)."""
        counts = torch.isfinite(values) if chosen is None else torch.isfinite(values) & chosen
        wide = widest_float(values.device)
        total = torch.stack([torch.where(counts, values, 0).sum(dtype=wide), counts.sum(dtype=wide)])
        self._totals[name] = self._totals[name] + total if name in self._totals else total

    def take(self) -> dict[str, float]:
        """Return the averages over all processes and start anew; what has no value is left out."""
        if not self._totals:
            return {}
        totals = torch.stack(list(self._totals.values()))
        totals = sum_over_processes(totals, totals.device).tolist()
        averages = {name: total / count for name, (total, count) in zip(self._totals, totals, strict=True) if count}
        self._totals = {}
        return averages

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return sums and counts, for the training state."""
        return {name: total.cpu().double() for name, total in self._totals.items()}

    def load_state_dict(self, state: dict[str, torch.Tensor], device: torch.device) -> None:
        """Go on adding where `state` was taken."""
        self._totals = {name: total.to(widest_float(device)).to(device) for name, total in state.items()}


@dataclass(frozen=True)
class BestRule:
    """Which weights are the best so far.

    Attributes:
        metric: Name of the metric that they are chosen by.
        less_is_better: Of that metric, as of NIQE.
        least_psnr: dB; weights below are never the best.
    """

    metric: str = 'psnr'
    less_is_better: bool = False
    least_psnr: float = -math.inf

    @classmethod
    def from_options(cls, val: dict[str, Any]) -> 'BestRule':
        """Take `val.best` and `val.least_psnr`."""
        metric = val.get('best', 'psnr')
        options = (val.get('metrics') or {}).get(metric, {})
        usual = 'lower' if options.get('type') in ('calculate_niqe', 'calculate_identity') else 'higher'
        return cls(metric, options.get('better', usual) == 'lower', val.get('least_psnr', -math.inf))

    def is_better(self, score: dict[str, float], best: dict[str, float] | None) -> bool:
        """Return whether a score, by metric, beats the best so far; None where there is none."""
        if score['psnr'] < self.least_psnr:
            return False
        if best is None or self.metric not in best:
            return True
        gain = score[self.metric] - best[self.metric]
        return gain < 0 if self.less_is_better else gain > 0


class Record:
    """The record of a run.

    Args:
        folder: The experiment's folder, for `history.csv`, and for `further.json`: the last scores of each further
            validation set.
        rule: Which weights are the best.

    Attributes:
        best: The score of the best weights of each kind and its iteration: PSNR, dB, and what else they are chosen by:
            `best['params']['psnr']`.
        best_of: What it was measured on: name and fingerprint of the set, options of the metric; None if not known.
        validated: The iteration at which each validation set was last gone through.
    """

    def __init__(self, folder: Path, rule: BestRule = BestRule()) -> None:
        self.rule = rule
        self.history = History(folder / 'history.csv')
        self._further, self._further_path = {}, folder / 'further.json'
        self.best: dict[str, dict[str, float]] = {}
        self.best_of: dict[str, Any] | None = None
        self.validated: dict[str, int] = {}
        self._since_log, self._since_row = Averages(), Averages()
        self._images, self._started = 0, time.perf_counter()
        self._told_not_finite = False

    def add(self, outcomes: list[Outcome], images: int) -> None:
        """Add an optimisation step on so many images to the averages."""
        self._images += images
        loss = torch.stack([outcome.loss for outcome in outcomes]).sum()
        for averages in (self._since_log, self._since_row):
            averages.add('l_pix', loss.expand(images))
        for outcome in outcomes:
            self._since_log.add('l_degraded', outcome.per_image, ~outcome.is_clean)
            self._since_log.add('l_clean', outcome.per_image, outcome.is_clean)
            self._since_row.add('psnr', outcome.psnr, ~outcome.is_clean)

    def note(self, values: dict[str, torch.Tensor]) -> None:
        """Add a step's scalars, by their names in the log."""
        for name, value in values.items():
            self._since_log.add(name, value.reshape(1))

    def take_log(self, world_size: int) -> dict[str, float]:
        """Return the averages since the last log line, and images per second over all processes."""
        log, now = self._since_log.take(), time.perf_counter()
        log['img_per_s'] = self._images * world_size / (now - self._started)
        self._images, self._started = 0, now
        return log

    def take_training(self) -> dict[str, float]:
        """Return the averages since the last row, as columns of the history; every process must call this."""
        averages = self._since_row.take()
        return {'train_loss': averages.get('l_pix'), 'train_psnr': averages.get('psnr')}

    def add_row(self, row: dict[str, Any], tb_logger: Any) -> None:
        """Add a row to `history.csv`, and its values to TensorBoard; one that is not finite stays empty."""
        row = {name: value if value is None or math.isfinite(value) else None for name, value in row.items()}
        self.history.append(**row)
        if tb_logger:
            for name, value in row.items():
                if value is not None and name != 'iter':
                    tb_logger.add_scalar(f'history/{name}', value, row['iter'])

    def keep_further(
        self, dataset: str, current_iter: int, scores: dict[str, Scores], baselines: dict[str, float]
    ) -> None:
        """Keep the last scores of a further validation set, under the names of the history's columns.

        They are of no state: a run that goes on from one validates all sets again.
        """
        reported, raw = list(scores.values())[-1], scores['params']
        self._further[dataset] = {
            'iter': current_iter,
            'val_psnr': reported.metrics['psnr'],
            'val_ssim': reported.metrics['ssim'],
            'raw_psnr': raw.metrics['psnr'],
            **{f'{mode}_psnr': value for mode, value in baselines.items()},
        }
        write(self._further_path, (json.dumps(self._further, indent=1) + '\n').encode())

    def begin_validation(self, dataset: str, current_iter: int) -> bool:
        """Note that a set is gone through; return False if it was at this very iteration."""
        is_new = self.validated.get(dataset) != current_iter
        self.validated[dataset] = current_iter
        return is_new

    def measure_on(self, what: dict[str, Any]) -> None:
        """Say what the next scores are of, as `best_of`: the best of anything else, whatever its name, is void."""
        before, self.best_of = self.best_of, what
        if self.best and before is not None and {**before, 'name': what['name']} != what:
            scores = ', '.join(f'{score[self.rule.metric]:.4f} @ {score["iter"]:,}' for score in self.best.values())
            get_root_logger().warning(
                f'Validation {what["name"]}: not what the best weights so far were chosen by ({before["name"]}, or its'
                f' images or psnr then; best {scores}): the best starts anew'
            )
            self.best = {}

    def improved(self, scores: dict[str, Scores], current_iter: int) -> list[str]:
        """Note which kinds of weights are the best so far, and return them; only finite scores count."""
        better = []
        for name, score in scores.items():
            chosen = {metric: score.metrics[metric] for metric in {'psnr', self.rule.metric}}
            bad = [(metric, value) for metric, value in chosen.items() if not math.isfinite(value)]
            for metric, value in bad[: not self._told_not_finite]:
                self._told_not_finite = True
                why = 'an image that is met exactly' if value == math.inf else 'nothing is left to compare'
                get_root_logger().warning(
                    f'Validation: {metric} {value} of the {LABELS[name]} is not finite ({why}): no history, no best'
                )
            if not bad and self.rule.is_better(chosen, self.best.get(name)):
                self.best[name] = {**chosen, 'iter': current_iter}
                better.append(name)
        return better

    def state_dict(self) -> dict[str, Any]:
        """Return the record, for the training state."""
        return {
            'history': self.history.rows,
            'best': self.best,
            'best_of': self.best_of,
            'validated': self.validated,
        }

    def averages(self) -> dict[str, Any]:
        """Return the sums and counts of this process, for the training state."""
        return {'since_log': self._since_log.state_dict(), 'since_row': self._since_row.state_dict()}

    def load_state_dict(
        self,
        state: dict[str, Any],
        averages: dict[str, dict[str, torch.Tensor]] | None,
        rank: int,
        device: torch.device,
    ) -> None:
        """Go on from a training state; later rows of `history.csv` go.

        Args:
            state: As `state_dict`.
            averages: As `averages`, of this process; None in a state saved before each had its own: it holds rank 0's.
            rank: Of this process; 0 writes the history.
            device: Where averages are formed.
        """
        self.history.restore(state['history'], is_written=rank == 0)
        self.best = {name: best for name, best in state['best'].items() if math.isfinite(best['psnr'])}
        self.best_of, self.validated = state.get('best_of'), state['validated']  # older states lack the first
        if averages is None:
            averages = {
                kind: {name: total if rank == 0 else torch.zeros_like(total) for name, total in state[kind].items()}
                for kind in ('since_log', 'since_row')
            }
        self._since_log.load_state_dict(averages['since_log'], device)
        self._since_row.load_state_dict(averages['since_row'], device)


def report(
    dataset: str,
    current_iter: int | str,
    scores: dict[str, Scores],
    baselines: dict[str, float],
    best: dict[str, dict[str, float]],
    tb_logger: Any,
    optimizer: torch.optim.Optimizer | None = None,
) -> None:
    """Log each network's scores beside plain enlarging, and warn where it does no more than that.

    Args:
        dataset: Name of the validation set.
        current_iter: Iteration, or in a test the name of the run.
        scores: By kind of weights.
        baselines: PSNR by `validation.BASELINES`, dB; empty without HR images.
        best: As `Record.best`; empty in a test or for a further validation set.
        tb_logger: TensorBoard writer or None.
        optimizer: What trains the network, for the advice in the warning; None in a test.
    """
    at = f'iter {current_iter:,}' if isinstance(current_iter, int) else current_iter
    lines, scalars = [f'Validation {dataset}, {at}:'], {}
    for name, score in scores.items():
        values = '  '.join(f'{metric}: {value:.4f}' for metric, value in score.metrics.items())
        record = ''
        if name in best:
            *_, metric = best[name].keys() - {'iter', 'psnr'} or ['psnr']
            record = f'  best {metric}: {best[name][metric]:.4f} @ {best[name]["iter"]:,}'
        loss = f'  loss: {score.loss:.5f}' if baselines else ''
        lines.append(f'\t # {LABELS[name]}  {values}{loss}{record}')
        suffix = '_ema' if name == 'params_ema' else ''
        values = {**score.metrics, 'loss': score.loss} if baselines else score.metrics
        scalars |= {f'{metric}{suffix}': value for metric, value in values.items()}
    last = list(scores)[-1]
    for mode, value in baselines.items():
        gain = scores[last].metrics['psnr'] - value
        lines.append(f'\t # {mode}  psnr: {value:.4f}  ({LABELS[last]} {gain:+.4f} dB)')
        scalars[f'{mode}_psnr'] = value
    logger = get_root_logger()
    logger.info('\n'.join(lines))
    is_early = isinstance(current_iter, int) and current_iter < LEARNS_BY
    for name, score in scores.items():
        if score.collapsed and not is_early:
            logger.warning(
                f'{LABELS[name]}: the output equals bilinear upsampling but for a constant colour (mean distance'
                f' {score.residual:.5f} of 255 grey levels): the residual path does nothing yet, or no more.'
                f' {_advice(optimizer)}'
            )
    if tb_logger:
        for name, value in scalars.items():
            tb_logger.add_scalar(f'metrics/{dataset}/{name}', value, current_iter)


def _advice(optimizer: torch.optim.Optimizer | None) -> str:
    """Return what to do about a network that does no more than enlarge bilinearly."""
    if isinstance(optimizer, torch.optim.AdamW) or (optimizer and not optimizer.param_groups[0]['weight_decay']):
        return 'A learning rate that is too high can keep it from learning (train.optim_g.lr).'
    return (
        "Adam's weight_decay shrinks it to nothing: use AdamW or weight_decay 0; a learning rate that is too high can"
        ' keep it from learning too.'
    )
