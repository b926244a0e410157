"""Run the training command and break it at a chosen point; a script for the tests of resuming.

    python run_and_break.py POINT COUNT SIGNAL[,SIGNAL] -opt ...

At the COUNT-th time that POINT is reached the process sends itself SIGNAL, and a second one when that counts as one. A
negative one goes to its whole group, the loader's processes included, and then to itself again, as `timeout` does. At 0
memory runs out. `loader` kills a process of the loader with the signal instead.

In the environment FACESR_START_METHOD is multiprocessing's start method; under torchrun FACESR_BREAK_RANK is the one
process that breaks, and with FACESR_BREAK_AGENT torchrun itself gets the signal.
"""

import multiprocessing
import os
import sys
import time

import facesr_plugin  # noqa: F401

# isort: split
from facesr_plugin import files, train
from facesr_plugin.data import workers
from facesr_plugin.errors import run_command
from facesr_plugin.models import alpha_realesrnet_model

Model = alpha_realesrnet_model.AlphaRealESRNetModel


def send(number: int) -> None:
    """Send this process a signal, or its group."""
    if number == 0:
        raise MemoryError
    if 'FACESR_BREAK_AGENT' in os.environ:
        os.kill(os.getppid(), number)
        return
    if number < 0:
        os.killpg(0, -number)
    os.kill(os.getpid(), abs(number))


class Break:
    """Breaks the run at a point.

    Args:
        point: Its name.
        count: The how-manieth time.
        numbers: Signals.
    """

    def __init__(self, point: str, count: str, numbers: str) -> None:
        self.point, self.left = point, int(count)
        self.numbers = [int(number) for number in numbers.split(',')]

    def reach(self, name: str) -> None:
        """Note that a point is reached."""
        rank = os.environ.get('RANK')
        if name != self.point or os.environ.get('FACESR_BREAK_RANK', rank) != rank:
            return
        self.left -= 1
        if self.left == 0 and name == 'loader':
            os.kill(multiprocessing.active_children()[0].pid, *self.numbers)
        elif self.left == 0:
            send(self.numbers[0])
            for number in self.numbers[1:]:
                time.sleep(train.AGAIN_AFTER + 0.5)
                send(number)

    def before(self, owner: object, function: str, name: str) -> None:
        """Make a function a point."""
        original = getattr(owner, function)

        def wrapper(*args, **kwargs):
            self.reach(name)
            return original(*args, **kwargs)

        setattr(owner, function, wrapper)


def main() -> int | None:
    """Train, and break."""
    if method := os.environ.get('FACESR_START_METHOD'):
        multiprocessing.set_start_method(method)
    breaking = Break(*sys.argv[1:4])
    sys.argv[1:4] = []
    breaking.before(Model, 'optimize_parameters', 'step')  # between the degradation's draws and the update
    breaking.before(Model, 'optimize_parameters', 'loader')
    breaking.before(files.os, 'fsync', 'sync')  # a temporary file is written, but has not its name yet
    breaking.before(alpha_realesrnet_model, 'evaluate_baselines', 'validation')
    breaking.before(Model, '_keep_best', 'best')  # the history has its row, the best weights are not kept yet
    breaking.before(Model, 'save_training_state', 'state')  # the weights are saved, their state is not
    breaking.before(workers.resource_tracker, 'ensure_running', 'workers')  # start; not by fork
    return train.main()


if __name__ == '__main__':
    run_command(main)
