"""Run the training command and break it at a chosen point; a script for the tests of resuming.

    python run_and_break.py POINT COUNT SIGNAL -opt ...

At the COUNT-th time that POINT is reached the process sends itself SIGNAL; a negative one goes to its whole group, the
loader's processes included, as Ctrl-C in a terminal does. At 0 memory runs out.
"""

import os
import sys

point, count, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
sys.argv[1:4] = []

import facesr_plugin  # noqa: E402, F401

# isort: split
from facesr_plugin import files, train  # noqa: E402
from facesr_plugin.errors import run_command  # noqa: E402
from facesr_plugin.models import alpha_realesrnet_model  # noqa: E402

Model = alpha_realesrnet_model.AlphaRealESRNetModel
reached = 0


def reach(name: str) -> None:
    global reached
    if name == point:
        reached += 1
        if reached == count:
            if number == 0:
                raise MemoryError
            os.kill(os.getpid(), number) if number > 0 else os.killpg(0, -number)


def before(owner: object, function: str, name: str) -> None:
    original = getattr(owner, function)

    def wrapper(*args, **kwargs):
        reach(name)
        return original(*args, **kwargs)

    setattr(owner, function, wrapper)


before(Model, 'optimize_parameters', 'step')  # between the degradation's draws and the update
before(files.os, 'fsync', 'sync')  # a temporary file is written, but has not its name yet
before(alpha_realesrnet_model, 'evaluate_baselines', 'validation')
before(Model, '_keep_best', 'best')  # the history has its row, the best weights are not kept yet
before(Model, 'save_training_state', 'state')  # the weights are saved, their state is not

run_command(train.main)
