"""The check of a whole option file: its types first, then the data, weights and state that it names."""

import importlib.util
import inspect
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from basicsr.utils.registry import (
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
    Registry,
)

from facesr_plugin.blocks import Block, OpenBlock, did_you_mean
from facesr_plugin.data.face_degradation_dataset import FaceDegradationDataset, FaceDegradationOptions
from facesr_plugin.data.pairs import check_file_names, check_images, check_pairs
from facesr_plugin.errors import UserError
from facesr_plugin.options.compare import described, differences
from facesr_plugin.options.types import FaceSRResNetOptions, PairOptions, RunOptions, TestingOptions, TrainingOptions
from facesr_plugin.run import checkpoint, state


def check(opt: dict[str, Any], is_train: bool) -> RunOptions:
    """Check a whole option file, and that the data, weights and training state it names are there and fit.

    Args:
        opt: Its content.
        is_train: For training, else for a test.

    Returns:
        The typed file.

    Raises:
        UserError: One line per problem: of the file itself, or if that is right of what it names.
    """
    run = (TrainingOptions if is_train else TestingOptions).parse(opt)
    names = [*_check_names(run), *_check_machine(run)]
    files = [line for phase, block in run.datasets.items() for line in _check_dataset(f'datasets.{phase}', block, run)]
    problems = [*names, *files]
    if not names:
        problems += _collect(_check_start, run)
    if problems:
        raise UserError('\n'.join(dict.fromkeys(problems)))
    return run


def _collect(function: Callable, *args: Any) -> list[str]:
    """Call `function` and return its UserError as problems."""
    try:
        function(*args)
    except UserError as error:
        return str(error).splitlines()
    return []


# ------------------------------------------------------------------- classes of other packages
def _check_names(run: RunOptions) -> Iterator[str]:
    """Check what names a class or function: that it is registered, and that it takes its options if it is not ours."""
    yield from _check_name('model_type', run.model_type, MODEL_REGISTRY)
    for phase, block in run.datasets.items():
        if isinstance(block, OpenBlock):
            yield from _check_name(f'datasets.{phase}.type', block.type, DATASET_REGISTRY)
    yield from _check_open('network_g', run.network_g, ARCH_REGISTRY)
    if run.train:
        yield from _check_open('train.pixel_opt', run.train.pixel_opt, LOSS_REGISTRY)
    for name, metric in ((run.val and run.val.metrics) or {}).items():
        yield from _check_open(f'val.metrics.{name}', metric, METRIC_REGISTRY, given=('img', 'img2'), free=('better',))


def _check_name(where: str, name: str, registry: Registry) -> list[str]:
    if name in registry:
        return []
    return [f'{where}: a registered name expected, got {name!r}{did_you_mean(name, registry.keys())}']


def _check_open(
    where: str, block: Block, registry: Registry, given: Iterable[str] = (), free: Iterable[str] = ()
) -> list[str]:
    """Check the keys of a block that is not ours against the parameters of its class or function.

    One that takes any keyword, as BasicSR's metrics do to share a call, is still told of a typo.
    """
    if not isinstance(block, OpenBlock):
        return []
    if problems := _check_name(f'{where}.type', block.type, registry):
        return problems
    parameters = inspect.signature(registry.get(block.type)).parameters.values()
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    known = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    known = {name: parameter for name, parameter in known.items() if name not in given}
    for key in block.model_extra.keys() - {*free, *known}:
        hint = did_you_mean(str(key), known)
        if not takes_any or 'did you mean' in hint:
            problems.append(f'{where}.{key}: unknown option{hint}')
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in block.model_extra:
            problems.append(f'{where}.{name}: missing')
    return problems


# ------------------------------------------------------------------------------------ machine
def _check_machine(run: RunOptions) -> Iterator[str]:
    found = torch.cuda.device_count()
    if run.num_gpu != 'auto' and run.num_gpu > found:
        yield f'num_gpu: at most {found} expected, the CUDA devices here, got {run.num_gpu}'
    uses_cuda = found and run.num_gpu != 0
    train = run.datasets.train
    if uses_cuda and getattr(train, 'prefetch_mode', None) == 'cuda' and not getattr(train, 'pin_memory', False):
        yield 'datasets.train.pin_memory: true expected with prefetch_mode cuda, got false'
    wandb = run.logger and run.logger.wandb
    if wandb and wandb.project is not None and importlib.util.find_spec('wandb') is None:
        yield 'logger.wandb: the package wandb is not installed'


# ------------------------------------------------------------------------------------ data sets
def _check_dataset(where: str, block: Block, run: RunOptions) -> list[str]:
    """Check a data set's files; the images of a validation or test are read, those of a training in their turn."""
    if problems := _check_paths(where, block):
        return problems
    if isinstance(block, FaceDegradationOptions):
        return _collect(FaceDegradationDataset, block.model_dump())
    if isinstance(block, OpenBlock):
        return []
    backend, lr = block.io_backend.type, Path(block.dataroot_lq).expanduser()
    if run.val and run.val.save_img and (problems := _collect(check_file_names, lr, backend)):
        return problems
    if not isinstance(block, PairOptions):
        return _collect(check_images, lr, backend)
    hr, listed = Path(block.dataroot_gt).expanduser(), block.meta_info_file
    listed = listed and Path(listed).expanduser()
    return _collect(check_pairs, lr, hr, backend, block.filename_tmpl, run.scale, listed)


def _check_paths(where: str, block: Block) -> list[str]:
    """Check that the files and folders of a data set exist and look like what `io_backend` says."""
    values = block.model_dump()
    backend = values.get('io_backend')
    backend = backend.get('type') if isinstance(backend, dict) else None
    missing, wrong_kind = [], []
    for key in ('dataroot_gt', 'dataroot_lq', 'meta_info_file'):
        if isinstance(roots := values.get(key), list):  # each is what its name says
            missing += [
                f'{where}.{key}: no such file or folder: {root}'
                for root in roots
                if not Path(root).expanduser().exists()
            ]
        if not isinstance(values.get(key), str):
            continue
        path = Path(values[key]).expanduser()
        if not path.exists():
            missing.append(f'{where}.{key}: no such file or folder: {values[key]}')
        elif key == 'meta_info_file':
            continue
        elif backend == 'lmdb' and path.suffix != '.lmdb':
            expected = 'a folder *.lmdb expected with io_backend type lmdb'
            wrong_kind.append(f'{where}.{key}: {expected}, got {values[key]}')
        elif backend == 'disk' and (path / 'data.mdb').exists():
            expected = 'a folder of images expected with io_backend type disk'
            wrong_kind.append(f'{where}.{key}: {expected}, got {values[key]}')
    return missing + wrong_kind[:1]  # one wrong type, one line


# ---------------------------------------------------------------------------- weights and state
def _check_start(run: RunOptions) -> None:
    """Check what a run starts from: the state to go on from, else the weights to load."""
    if isinstance(run, TrainingOptions) and run.path.resume_state:  # then the weights are the state's
        path = Path(run.path.resume_state).expanduser()
        if not path.is_file():
            raise UserError(f'path.resume_state: no such file: {path}')
        check_state(run, checkpoint.load(path))
    elif run.path.pretrain_network_g:
        _check_weights(run, Path(run.path.pretrain_network_g).expanduser())


def check_state(run: TrainingOptions, content: dict[str, Any]) -> None:
    """Check that a training state is one, and that a run can go on from it.

    Raises:
        UserError: One line per difference.
    """
    if missing := [entry for entry in state.ENTRIES if entry not in content]:
        raise UserError(f'path.resume_state: a training state expected, it lacks {", ".join(missing)}')
    if problems := differences(described(run), content):
        raise UserError('\n'.join(problems))


def _check_weights(run: RunOptions, path: Path) -> None:
    if not path.is_file():
        raise UserError(f'path.pretrain_network_g: no such file: {path}')
    if not run.path.strict_load_g:
        return
    key = run.path.param_key_g
    if key == 'params_ema' and key not in checkpoint.load(path):
        key = 'params'  # as BasicSR falls back
    weights, found = checkpoint.load_weights(path, key)
    is_stock = run.model_type != 'AlphaRealESRNetModel'  # then BasicSR loads it
    if is_stock and not found and (key or path.suffix == '.safetensors'):
        raise UserError(f'{path}: a .pth with {key or "params"!r} expected by this model_type, got a state dict alone')
    checkpoint.check_fit(path, weights, _build_network(run.network_g))
    checkpoint.check_finite(path, weights)


def _build_network(block: Block) -> torch.nn.Module:
    # Not build_network: it logs, and BasicSR opens its log file at the first log line only.
    options = block.model_dump()
    kind = options.pop('type')
    try:  # ours take no memory; somebody else's may read values of tensors while it is built
        with torch.device('meta' if isinstance(block, FaceSRResNetOptions) else 'cpu'):
            return ARCH_REGISTRY.get(kind)(**options)
    except Exception as error:
        raise UserError(f'network_g: {kind} cannot be built: {" ".join(str(error).split())}') from error
