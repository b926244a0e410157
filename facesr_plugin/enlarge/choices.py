"""What may be chosen where pictures are enlarged. Nothing heavy is imported: command lines are checked with this."""

import argparse
from pathlib import Path

DEFAULT_WEIGHTS = Path(__file__).resolve().parents[1] / 'weights' / 'facesr_x4.pth'
HALF = 0.5  # of the dial from the first stage's weights, 0, to the second's, 1: where it stands without a word
DEVICES = ('auto', 'cpu', 'cuda', 'mps')
PRECISIONS = ('auto', 'fp32', 'bf16', 'fp16')
BACKGROUNDS = ('bicubic', 'network')  # of a photograph whose faces are enlarged on their own
OPT_HELP = 'option file with the network_g and scale of weights that are not of a FaceSRResNet'
DEVICE_HELP = 'where the network runs: auto, cpu, cuda, cuda:1 (the second GPU) or mps'


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
