"""Checkpoints: written whole or not at all, read without running code, refused in one line if they do not fit."""

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from facesr_plugin.errors import UserError
from facesr_plugin.files import write

WRAPPERS = ('model', 'state_dict', 'generator')


def save(path: str | Path, content: Mapping[str, Any]) -> None:
    """Save `content` as `torch.save` does, whole or not at all.

    Raises:
        RunError: It cannot be written; the line says how much room it needs. What was at `path` is still there.
    """
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    with buffer.getbuffer() as data:  # given back: Python 3.12 crashes where it collects it with an error's frames
        write(path, data)


def load(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint or training state onto the CPU; nothing stored in it is run.

    A `.safetensors` file holds a bare state dict.

    Raises:
        UserError: The file is missing, damaged, or holds more than tensors and plain values.
    """
    if Path(path).suffix.lower() == '.safetensors':
        return _load_safetensors(path)
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise UserError(f'{path}: {error.strerror}') from error
    except pickle.UnpicklingError as error:
        raise UserError(f'{path}: a checkpoint of tensors expected, it holds something else or is damaged') from error
    except (RuntimeError, EOFError, OSError, zipfile.BadZipFile, ValueError, LookupError, struct.error) as error:
        raise UserError(f'{path}: damaged, or no checkpoint') from error
    if not isinstance(content, dict):
        raise UserError(f'{path}: a checkpoint with "params" expected, got {type(content).__name__}')
    return content


def _load_safetensors(path: str | Path) -> dict[str, torch.Tensor]:
    try:
        import safetensors.torch
    except ModuleNotFoundError as error:
        raise UserError(f"{path}: needs a package: pip install -e '.[export]' (safetensors)") from error
    try:
        return safetensors.torch.load(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from error
    except safetensors.SafetensorError as error:
        raise UserError(f'{path}: damaged, or not in the safetensors format') from error


def load_weights(path: str | Path, key: str | None = None) -> tuple[dict[str, torch.Tensor], str]:
    """Load a network's state dict from a BasicSR checkpoint or from a bare state dict.

    Args:
        path: A `.pth` or `.safetensors`.
        key: Which of the file's entries; None takes the better one of `params` and `params_ema` by the validation
            PSNR stored beside them, or else `params_ema` where there is one, or else what other programs wrap weights
            in, `WRAPPERS`.

    Returns:
        The state dict, and which key it stood under ('' for a bare one).

    Raises:
        UserError: As `load`, or the file has no such key.
    """
    content = load(path)
    if all(isinstance(value, torch.Tensor) for value in content.values()):
        weights, key = content, ''
    else:
        if key is None:
            psnr = content['psnr'] if isinstance(content.get('psnr'), dict) else {}
            found = [name for name in ('params_ema', 'params') if name in content]
            found = found or [name for name in WRAPPERS if isinstance(content.get(name), dict)][:1]
            key = max(found, key=lambda name: psnr.get(name, float('-inf')), default='params')
        if key not in content:
            raise UserError(f'{path}: key {key!r} expected, found {", ".join(map(str, content)) or "nothing"}')
        weights = content[key]
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in weights.items()
    ):
        raise UserError(f'{path}: a state dict of tensors by name expected{f" as {key!r}" if key else ""}')
    return {name.removeprefix('module.'): value for name, value in weights.items()}, key


def check_finite(path: str | Path, weights: Mapping[str, torch.Tensor]) -> None:
    """Check that no weight is NaN or infinite.

    Raises:
        UserError: One is; the line names the first.
    """
    if broken := [name for name, value in weights.items() if not value.isfinite().all()]:
        more = f' and {len(broken) - 1} more' if len(broken) > 1 else ''
        found = f'{broken[0]}{more} holds NaN or infinity'
        raise UserError(f'{path}: finite weights expected, {found}: the training that made them diverged')


def check_fit(path: str | Path, weights: Mapping[str, torch.Tensor], net: torch.nn.Module) -> None:
    """Compare a state dict with a network.

    Raises:
        UserError: Names or shapes differ; the line says how, with the first of each.
    """
    expected = net.state_dict()
    problems = []
    for what, names in (('lacks', expected.keys() - weights.keys()), ('has unknown', weights.keys() - expected.keys())):
        if names:
            more = f' and {len(names) - 1} more' if len(names) > 1 else ''
            problems.append(f'{what} {min(names)}{more}')
    for name in expected.keys() & weights.keys():
        if expected[name].shape != weights[name].shape:
            problems.append(f'{name} is {tuple(weights[name].shape)}, {tuple(expected[name].shape)} expected')
            break
    if problems:
        raise UserError(f'{path}: weights that fit {type(net).__name__} expected: {"; ".join(problems)}')
