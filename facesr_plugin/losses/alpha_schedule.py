"""The weight alpha of the clean branch over a run: a pure function of progress, so that a resumed run agrees."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


def cosine_alpha(progress: float, start: float = 0.8, end: float = 0.4) -> float:
    """Return alpha at `progress`, on half a cosine from `start` to `end`.

    alpha(p) = end + (start - end) / 2 * (1 + cos(pi * p)); with 0.8 and 0.4 that is the method's
    0.4 + 0.2 * (1 + cos(pi * p)), p = (N * epoch + i) / (N * epochs).

    Args:
        progress: Images seen so far / images of the whole run, in [0, 1].
        start: alpha at progress 0.
        end: alpha at progress 1.

    Raises:
        ValueError: `progress` lies outside [0, 1].

    Example:
        >>> cosine_alpha(0.0), round(cosine_alpha(0.5), 6), round(cosine_alpha(1.0), 6)
        (0.8, 0.6, 0.4)
        >>> round(cosine_alpha(1 / 3), 6)  # cos(pi / 3) = 1/2, so 0.4 + 0.2 * 1.5
        0.7
    """
    if not 0 <= progress <= 1:
        raise ValueError(f'progress in [0, 1] expected, got {progress}')
    return end + (start - end) / 2 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class AlphaSchedule:
    """`cosine_alpha` with its end points. YAML: `train.alpha_opt: {start: 0.8, end: 0.4}`.

    Attributes:
        start: alpha of the first iteration, in [0, 1].
        end: alpha towards which the run goes, in [0, 1].
        periods: Iterations of each cycle from `start` to `end`, after the last of which alpha stays at `end`; None is
            one over the run. With periods alpha is a function of the iteration, whatever the length of the run.
    """

    start: float = 0.8
    end: float = 0.4
    periods: Sequence[int] | None = None

    def __post_init__(self) -> None:
        for key in ('start', 'end'):
            if not 0 <= getattr(self, key) <= 1:
                raise ValueError(f'{key}: a number in [0, 1] expected, got {getattr(self, key)}')

    def __call__(self, progress: float) -> float:
        """Return alpha at `progress` in [0, 1]; see `cosine_alpha`."""
        return cosine_alpha(progress, self.start, self.end)

    def at(self, current_iter: int, total_iter: int) -> float:
        """Return alpha at an iteration, 1 to `total_iter`: of the first the progress is 0.

        Iterations before and after the run have the alpha of its ends.

        Example:
            >>> AlphaSchedule(0.8, 0.4).at(current_iter=4, total_iter=6)  # half of the run is done
            0.6000000000000001
            >>> AlphaSchedule(0.8, 0.4, [3, 6]).at(current_iter=7, total_iter=9)  # half of the second cycle is
            0.6000000000000001
        """
        *cycles, last = self.periods or [total_iter]
        done = current_iter - 1
        for period in cycles:
            if done < period:
                return self(max(done / period, 0.0))
            done -= period
        return self(min(max(done / last, 0.0), 1.0))
