"""A machine with MPS, played on the CPU: tensors say that they are there, and what MPS cannot do is an error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_leaves, tree_map_only

MPS = torch.device('mps')
LACKING = ('poisson', 'fft', 'numpy')  # parts of functions' names, of which MPS has none, or not in every PyTorch
CPU = torch.device('cpu')
DEVICES = (MPS, CPU, 'mps', 'cpu')
MOVING = ('to', 'cpu', 'copy_', '_has_compatible_shallow_copy_type')


class OnMps(torch.Tensor):
    """A tensor that says it is on MPS."""

    __torch_function__ = torch._C._disabled_torch_function_impl


def there(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.dtype is torch.float64:
        raise TypeError('MPS has no float64')
    return tensor if isinstance(tensor, OnMps) else tensor.as_subclass(OnMps)


def _on_cpu(device: Any) -> Any:
    return CPU if device in (MPS, 'mps') else device


class _Machine(TorchFunctionMode):
    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if function in (torch.device, torch._C._nn._parse_to):  # which only name a device
            return function(*args, **kwargs)
        name = resolve_name(function) or function.__name__
        leaves = tree_leaves((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        here = [tensor for tensor in tensors if isinstance(tensor, OnMps)]
        moves = name.rpartition('.')[2] in MOVING
        if name == 'torch.Tensor.device.__get__':
            return MPS if here else function(*args)
        if here and (any(part in name for part in LACKING) or kwargs.get('antialias')):
            raise NotImplementedError(f'{name} on MPS')
        apart = [tensor for tensor in tensors if tensor.dim() and not isinstance(tensor, OnMps)]
        if here and apart and not moves:
            raise RuntimeError(f'{name}: all tensors on MPS expected')
        named = [leaf for leaf in leaves if isinstance(leaf, str | torch.device)]
        devices = [torch.device(leaf) for leaf in named if leaf in DEVICES]
        goes_there = devices[0] == MPS if devices else bool(here) and not name.endswith('.cpu')
        args, kwargs = tree_map_only((str, torch.device), _on_cpu, (args, kwargs))
        result = function(*args, **kwargs)
        if goes_there:
            return tree_map_only(torch.Tensor, there, result)
        return tree_map_only(OnMps, lambda tensor: tensor.as_subclass(torch.Tensor), result)


@contextmanager
def fake_mps() -> Iterator[None]:
    """Be a machine with MPS and without CUDA."""
    moved = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # parameters are of another class there
    here = mock.patch.object(torch.backends.mps, 'is_available', return_value=True)
    try:
        with here, mock.patch.object(torch.cuda, 'device_count', return_value=0), _Machine():
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(moved)
