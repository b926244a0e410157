"""Classes of other packages that an option file names: known by their registry and by what they take."""

import inspect
from collections.abc import Callable, Iterable, Mapping

import torch
from basicsr.utils.registry import ARCH_REGISTRY, Registry

from facesr_plugin.blocks import Block, OpenBlock, did_you_mean


def check_name(where: str, name: str, registry: Registry) -> list[str]:
    """Return a line if a name is not registered."""
    if name in registry:
        return []
    return [f'{where}: a registered name expected, got {name!r}{did_you_mean(name, registry.keys())}']


def check_open(where: str, block: Block | None, registry: Registry, given: Iterable[str] = ()) -> list[str]:
    """Check the keys of a block that is not ours against the parameters of its class or function.

    One that takes any keyword, as BasicSR's metrics do to share a call, is still told of a typo.
    """
    if not isinstance(block, OpenBlock):
        return []
    if problems := check_name(f'{where}.type', block.type, registry):
        return problems
    takes = parameters(registry.get(block.type))
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values())
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    known = {name: p for name, p in takes.items() if p.kind in by_name and name not in given}
    for key in block.model_extra.keys() - known.keys():
        hint = did_you_mean(str(key), known)
        if not takes_any or 'did you mean' in hint:
            problems.append(f'{where}.{key}: unknown option{hint}')
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in block.model_extra:
            problems.append(f'{where}.{name}: missing')
    return problems


def parameters(function: Callable) -> Mapping[str, inspect.Parameter]:
    """Return what a class or function takes, by name."""
    return inspect.signature(function).parameters


def build_network(block: Block, device: str = 'meta') -> torch.nn.Module:
    """Build the network of a block `network_g`, in evaluation mode."""
    # Not BasicSR's: it logs, and BasicSR opens its log file at the first log line only.
    options = block.model_dump()
    kind = options.pop('type')
    with torch.device(device):
        return ARCH_REGISTRY.get(kind)(**options).eval()
