"""Export a trained network for other programs: ONNX, with any batch size, height and width, and safetensors.

    facesr export -o facesr_x4.onnx facesr_x4.safetensors
    facesr export --weights experiments/exp1_lsr/models/net_g_best.pth -o net_g.onnx

What a file computes or holds is compared with the network before it is written.
"""

import argparse
from pathlib import Path

from facesr_plugin.command_line import Parser
from facesr_plugin.commands.network_options import add_network_options, chosen_network
from facesr_plugin.enlarge.export import FORMATS, check_outputs, describe, export


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = Parser('Export a trained network: ONNX, with any batch size, height and width, and safetensors.')
    parser.add_argument(
        '-o',
        '--output',
        type=Path,
        nargs='+',
        action='extend',
        required=True,
        metavar='FILE',
        help=f'files to make, {" or ".join(FORMATS)}',
    )
    add_network_options(parser)
    parser.add_argument('--license', default='Apache-2.0', help='what the files say; of your own weights it is yours')
    parser.add_argument('--overwrite', action='store_true', help='replace files that exist')
    return parser


def main(argv: list[str] | None = None) -> int | None:
    """Run the command.

    Raises:
        UserError: An output or the checkpoint is not as expected.
        RunError: A file would not be what the network is, or cannot be written; it is not, then.
    """
    args = build_parser().parse_args(argv)
    check_outputs(args.output, args.overwrite)
    net = chosen_network(args)
    metadata = describe(net, args.weights, args.license)
    for path in args.output:
        print(f'{path}: {export(net, path, metadata)}')
    return None
