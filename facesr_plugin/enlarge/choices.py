"""What may be chosen where pictures are enlarged. Nothing heavy is imported: command lines are checked with this."""

import argparse
from pathlib import Path

WEIGHTS = Path(__file__).resolve().parents[1] / 'weights'
DEFAULT_WEIGHTS = WEIGHTS / 'facesr_x4.pth'
NATURAL_WEIGHTS = WEIGHTS / 'facegan_x4.pth'  # of the second stage, which began with the default ones
DEVICES = ('auto', 'cpu', 'cuda', 'mps')
PRECISIONS = ('auto', 'fp32', 'bf16', 'fp16')
BACKGROUNDS = ('bicubic', 'network')  # of a photograph whose faces are enlarged on their own
OPT_HELP = 'option file with the network_g and scale of weights that are not of a FaceSRResNet'
DEVICE_HELP = 'where the network runs: auto, cpu, cuda, cuda:1 (the second GPU) or mps'


def second_stage(weights: str | Path, natural_weights: str | Path | None) -> Path | None:
    """Return the second stage's weights: those that are given, or those that belong to the first stage's.

    Args:
        weights: Of the first stage.
        natural_weights: Those that are given.
    """
    if natural_weights is not None:
        return Path(natural_weights)
    return NATURAL_WEIGHTS if Path(weights).resolve() == DEFAULT_WEIGHTS else None


def is_device(name: str) -> bool:
    """Return whether a name is one of `DEVICES`, or one with a number.

    Example:
        >>> is_device('cuda:1'), is_device('cuda:x'), is_device('auto:1')
        (True, False, False)
    """
    kind, colon, index = name.partition(':')
    return kind in DEVICES and (not colon or (kind != 'auto' and index.isdecimal()))


def device_name(name: str) -> str:
    """Return the name of a device from the command line.

    Raises:
        ArgumentTypeError: It is none.
    """
    if not is_device(name):
        raise argparse.ArgumentTypeError(f'{", ".join(DEVICES)} or e.g. cuda:1 expected, got {name!r}')
    return name
