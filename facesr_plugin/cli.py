"""The command `facesr`: its subcommands, a line each. What one of them needs is imported when it is chosen.

facesr --help
facesr upscale -i photo.jpg -o enlarged
"""

import argparse
import sys
from importlib import import_module

from facesr_plugin.errors import UserError, run_command
from facesr_plugin.version import __version__

COMMANDS = {  # name: the module whose `main` it is, and its line in the help
    'train': ('facesr_plugin.train', 'train a network as an option file says, with the loop of BasicSR'),
    'test': ('facesr_plugin.test', 'test a network on LR-HR pairs as an option file says'),
    'upscale': ('facesr_plugin.commands.upscale', 'enlarge pictures with a trained network'),
    'extract': ('facesr_plugin.commands.extract', 'cut aligned faces out of photographs, for training'),
    'lmdb': ('facesr_plugin.commands.lmdb', 'pack folders of images into LMDBs for training and validation'),
    'degrade': ('facesr_plugin.commands.degrade', 'degrade HR pictures as training does, or draw a preview of it'),
    'curves': ('facesr_plugin.commands.curves', 'draw loss, PSNR and alpha of trainings over the epochs'),
    'compare': ('facesr_plugin.commands.compare', 'draw LR-HR pairs beside what networks make of them'),
    'judge': ('facesr_plugin.commands.judge', 'score enlarged pictures: PSNR, SSIM, NIQE and identity'),
    'report': ('facesr_plugin.commands.report', 'gather trainings in one HTML page'),
    'export': ('facesr_plugin.commands.export', 'write a trained network as ONNX or safetensors'),
    'web': ('facesr_plugin.commands.web', 'open a page in the browser to enlarge pictures'),
}
# packages, and which extra of setup.py has them
EXTRAS = {'matplotlib': 'report', 'jinja2': 'report', 'markupsafe': 'report', 'gradio': 'web'}


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser, which reads no further than the subcommand's name."""
    parser = argparse.ArgumentParser(
        prog='facesr',
        description='Blind face super-resolution: train, test and use networks.',
        epilog='`facesr COMMAND --help` tells the options of a command.',
    )
    parser.add_argument('--version', action='version', version=f'facesr {__version__}')
    commands = parser.add_subparsers(title='commands', metavar='COMMAND', required=True)
    for name, (_, line) in COMMANDS.items():
        commands.add_parser(name, help=line, add_help=False)
    return parser


def main(argv: list[str] | None = None) -> int | None:
    """Run the subcommand that the command line names; the status is its own.

    Raises:
        UserError: It needs a package of an extra, besides what the subcommand raises.
    """
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] not in COMMANDS:
        build_parser().parse_args(words[:1])  # which ends in help or in an error
    name, *options = words
    sys.argv = [f'facesr {name}', *options]  # where parsers look for the program's name, and BasicSR for its options
    try:
        return import_module(COMMANDS[name][0]).main()
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        raise UserError(
            f"facesr {name}: needs a package: pip install -e '.[{EXTRAS[error.name]}]' ({error.name})"
        ) from error


def command() -> None:
    """Run as a console command."""
    run_command(main)


if __name__ == '__main__':
    command()
