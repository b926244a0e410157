"""The network that an option file names, for weights that do not tell it: any that is registered with BasicSR.

BasicSR is imported only for one that is not ours.
"""

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch

from facesr_plugin.errors import UserError
from facesr_plugin.options.read import find_option_file, import_modules, load_yaml

KNOWN_BY_WEIGHTS = ('FaceSRResNet', 'MSRResNet')
Named = tuple[torch.nn.Module, int]  # a network without its weights, and its scale


def read_named(path: str | Path) -> Named | None:
    """Return the network of an option file, whose `imports` are imported; see `named`.

    Raises:
        UserError: As `named`, or the file cannot be read.
    """
    with redirect_stdout(sys.stderr):  # the standard output may be a picture
        path = find_option_file(path)
        content = load_yaml(path)
        import_modules('imports', content.get('imports'))
    try:
        return named(content)
    except UserError as error:
        raise UserError('\n'.join(f'{path}: {line}' for line in str(error).splitlines())) from error


def named(content: Mapping[str, Any]) -> Named | None:
    """Return the network of an option file's content and its scale; None if it is ours, whose weights tell all.

    Raises:
        UserError: It names none, or one that is not registered, or cannot be built.
    """
    block, scale = content.get('network_g'), content.get('scale', 4)
    if not isinstance(block, dict) or not isinstance(block.get('type'), str):
        raise UserError('network_g.type: the name of a network expected')
    if block['type'] in KNOWN_BY_WEIGHTS:
        return None
    if not isinstance(scale, int) or scale < 1:
        raise UserError(f'scale: a whole number above 0 expected, got {scale!r}')
    import basicsr.archs  # noqa: F401  (it registers them)
    from basicsr.utils.registry import ARCH_REGISTRY

    from facesr_plugin.options.classes import build_network, check_open
    from facesr_plugin.options.types import OpenNetwork

    typed = OpenNetwork.parse(block, 'network_g')
    if problems := check_open('network_g', typed, ARCH_REGISTRY):
        raise UserError('\n'.join(problems))
    try:
        return build_network(typed, 'cpu'), scale
    except Exception as error:
        raise UserError(f'network_g: {typed.type} cannot be built: {" ".join(str(error).split())}') from error
