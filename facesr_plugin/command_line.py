"""The parser of every command: `--version`, and a help that shows a default where there is one."""

import argparse

from facesr_plugin.version import __version__


class Parser(argparse.ArgumentParser):
    """A command's parser.

    Args:
        description: What the command does, for its help.
    """

    def __init__(self, description: str) -> None:
        super().__init__(description=description, formatter_class=_Formatter)
        self.add_argument('--version', action='version', version=f'facesr {__version__}')


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        """Return the text of an option: with its default, if that says something."""
        says_nothing = action.required or action.default is None or action.default is False or action.default == []
        return action.help if says_nothing else super()._get_help_string(action)
