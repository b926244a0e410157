"""The options of commands that take one network, and the network that they name."""

import argparse
from pathlib import Path
from typing import Any

from facesr_plugin.enlarge.choices import DEFAULT_WEIGHTS, OPT_HELP, second_stage
from facesr_plugin.errors import UserError

NATURAL_HELP = 'from 0, faithful, without it, to 1, which looks more natural and makes more up'


def part(text: str) -> float:
    """Return a number of the command line that is a part of 1.

    Raises:
        ArgumentTypeError: It is none.

    Example:
        >>> part('.25')
        0.25
    """
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f'0 to 1 expected, got {text!r}')
    return number


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Add what `chosen_network` names: which weights, of which network."""
    parser.add_argument('--weights', type=Path, default=DEFAULT_WEIGHTS, help='checkpoint, .pth or .safetensors')
    parser.add_argument('--key', help='which entry of it holds the weights; the better ones without')
    parser.add_argument('--opt', help=OPT_HELP)
    parser.add_argument('--natural', type=part, default=0.0, metavar='PART', help=NATURAL_HELP)
    parser.add_argument('--natural-weights', type=Path, metavar='FILE', help='second stage of --weights: what 1 is')


def check_network_options(args: argparse.Namespace) -> None:
    """Check what needs no network.

    Raises:
        UserError: An option lacks another one, or a file is not there.
    """
    natural_weights = second_stage(args.weights, args.natural_weights)
    if args.natural and natural_weights is None:
        raise UserError('--natural: --natural-weights expected with it, the second stage of --weights')
    for weights in filter(None, (args.weights, natural_weights)):
        if not weights.exists():
            raise UserError(f'{weights}: No such file or directory')


def chosen_dial(args: argparse.Namespace, device: Any = 'cpu', is_turned: bool = True) -> Any:
    """Load the `Dial` of the networks that a command line names; see `add_network_options`.

    Args:
        args: The command line.
        device: Where the networks are to work.
        is_turned: Whether more than the first stage's is needed.

    Raises:
        UserError: One of its options is not as expected.
    """
    check_network_options(args)
    from facesr_plugin.enlarge.network import load_dial
    from facesr_plugin.options.named import read_named

    natural_weights = second_stage(args.weights, args.natural_weights) if is_turned else None
    return load_dial(args.weights, natural_weights, args.key, args.opt and read_named(args.opt), device)


def chosen_network(args: argparse.Namespace, device: Any = 'cpu') -> Any:
    """Load the `Network` that a command line asks for; see `chosen_dial`."""
    return chosen_dial(args, device, is_turned=args.natural > 0).at(args.natural)
