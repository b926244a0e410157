"""The check of a whole option file: its types first, then the data, weights and state that it names."""

import importlib.util
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from basicsr.models.sr_model import SRModel
from basicsr.models.video_base_model import VideoBaseModel
from basicsr.utils.logger import initialized_logger
from basicsr.utils.registry import (
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
)
from realesrgan.models.realesrnet_model import RealESRNetModel
from torch.utils.data import default_collate

from facesr_plugin.blocks import Block, OpenBlock
from facesr_plugin.data.face_degradation_dataset import FaceDegradationDataset, FaceDegradationOptions
from facesr_plugin.data.pairs import check_file_names, check_images, check_pairs
from facesr_plugin.errors import UserError, one_line, raise_all
from facesr_plugin.faces.identity import calculate_identity, what_is_missing
from facesr_plugin.losses.regularized_l1_loss import RegularizedL1Loss
from facesr_plugin.models.alpha_realesrgan_model import AlphaRealESRGANModel
from facesr_plugin.models.alpha_realesrnet_model import AlphaRealESRNetModel
from facesr_plugin.options.classes import build_network, check_name, check_open, parameters
from facesr_plugin.options.compare import described, differences
from facesr_plugin.options.gpus import gpus_here
from facesr_plugin.options.types import OURS, PairOptions, RunOptions, TestingOptions, TrainingOptions
from facesr_plugin.run import checkpoint, state

# Data sets of the option files that come with the plugin, as they name them, and what makes them (Makefile).
_MADE_BY = {
    r'datasets/(train|val)_[hl]r\.lmdb': 'made by `make faces` in a checkout, of images of yours by `facesr lmdb`',
    r'demo/(train|val)_[hl]r\.lmdb': 'made by `make demo` in a checkout',
}
SIDE = 64  # of the image that a network is tried on, px: a multiple of what networks ask for


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
    if not problems:
        problems += [
            line for phase, block in run.datasets.items() for line in _collect(_try_dataset, phase, block, run)
        ]
    if problems:
        raise UserError('\n'.join(map(one_line, dict.fromkeys(problems))))
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
    yield from check_name('model_type', run.model_type, MODEL_REGISTRY)
    for phase, block in run.datasets.items():
        if isinstance(block, OpenBlock):
            yield from check_name(f'datasets.{phase}.type', block.type, DATASET_REGISTRY)
    yield from check_open('network_g', run.network_g, ARCH_REGISTRY)
    yield from check_open('network_d', run.network_d, ARCH_REGISTRY)
    for key in ('pixel_opt', 'gan_opt', 'perceptual_opt'):
        yield from check_open(f'train.{key}', getattr(run.train, key, None), LOSS_REGISTRY)
    yield from _check_together(run)
    for name, metric in ((run.val and run.val.metrics) or {}).items():
        yield from check_open(f'val.metrics.{name}', metric, METRIC_REGISTRY, given=('img', 'img2'))
        if metric.type == calculate_identity.__name__ and (line := what_is_missing()):
            yield f'val.metrics.{name}: {line}'


def _check_together(run: RunOptions) -> Iterator[str]:
    """Check that the model is one that gives its loss and its data set what they need."""
    if run.model_type not in MODEL_REGISTRY or not run.train:
        return
    model, loss = MODEL_REGISTRY.get(run.model_type), run.train.pixel_opt.type
    two_branches = loss in LOSS_REGISTRY and _is_a(LOSS_REGISTRY.get(loss), RegularizedL1Loss)
    for key, name, needs, base in (
        ('train.pixel_opt.type', loss, two_branches, AlphaRealESRNetModel),
        ('datasets.train.type', getattr(run.datasets.train, 'type', ''), _is_ours(run.datasets.train), RealESRNetModel),
    ):
        if needs and not issubclass(model, base):
            yield f'model_type: AlphaRealESRNetModel expected with {key} {name}, got {run.model_type!r}'
    yield from _check_second_stage(run, is_second=_is_a(model, AlphaRealESRGANModel))


def _check_second_stage(run: RunOptions, is_second: bool) -> Iterator[str]:
    """Check that a file has a discriminator and its losses if its model needs them, and not else."""
    needed = {'network_d': run.network_d, 'train.optim_d': run.train.optim_d, 'train.gan_opt': run.train.gan_opt}
    optional = ('gan_max_error', 'feature_opt', 'perceptual_opt')
    further = {f'train.{key}': getattr(run.train, key) for key in optional}
    for key, block in (needed | further).items():
        if is_second and block is None and key in needed:
            yield f'{key}: missing, model_type {run.model_type} needs it'
        elif not is_second and block is not None and run.model_type in OURS:
            yield f'{key}: expected with model_type AlphaRealESRGANModel, and only with it'


def _is_a(kind: Any, base: type) -> bool:
    return isinstance(kind, type) and issubclass(kind, base)


def _is_ours(block: Block | None) -> bool:
    return isinstance(block, FaceDegradationOptions)


# ------------------------------------------------------------------------------------ machine
def _check_machine(run: RunOptions) -> Iterator[str]:
    if run.num_gpu != 'auto' and run.num_gpu > (found := gpus_here(run)):
        yield f'num_gpu: at most {found} expected, the CUDA devices here, got {run.num_gpu}'
    uses_cuda = torch.cuda.device_count() and run.num_gpu != 0
    train = run.datasets.train
    if uses_cuda and getattr(train, 'prefetch_mode', None) == 'cuda' and getattr(train, 'pin_memory', None) is False:
        yield 'datasets.train.pin_memory: true expected with prefetch_mode cuda, got false'
    wandb = run.logger and run.logger.wandb
    if wandb and wandb.project is not None and importlib.util.find_spec('wandb') is None:
        yield 'logger.wandb: the package wandb is not installed'


# ------------------------------------------------------------------------------------ data sets
def _check_dataset(where: str, block: Block, run: RunOptions) -> list[str]:
    """Check a data set's files; the images of a validation or test are read, those of a training in their turn."""
    if problems := _check_paths(where, block):
        return problems
    if _is_ours(block):
        return _collect(FaceDegradationDataset, block.model_dump())
    if isinstance(block, OpenBlock):
        return []
    backend, lr = block.io_backend.type, Path(block.dataroot_lq).expanduser()
    names = _collect(check_file_names, lr, backend) if run.val and run.val.save_img else []
    if not isinstance(block, PairOptions):
        return names + _collect(check_images, lr, backend)
    hr, listed = Path(block.dataroot_gt).expanduser(), block.meta_info_file
    listed = listed and Path(listed).expanduser()
    return names + _collect(check_pairs, lr, hr, backend, block.filename_tmpl, run.scale, listed)


def _check_paths(where: str, block: Block) -> list[str]:
    """Check that the files and folders of a data set exist and look like what `io_backend` says."""
    values = block.model_dump()
    backend = values.get('io_backend')
    backend = backend.get('type') if isinstance(backend, dict) else None
    missing, wrong_kind = [], []
    for key in ('dataroot_gt', 'dataroot_lq', 'meta_info_file'):
        if isinstance(roots := values.get(key), list):  # each is what its name says
            missing += [
                f'{where}.{key}: no such file or folder: {root}{_how_made(root)}'
                for root in roots
                if not Path(root).expanduser().exists()
            ]
        if not isinstance(values.get(key), str):
            continue
        path = Path(values[key]).expanduser()
        if not os.path.exists(path):
            missing.append(f'{where}.{key}: no such file or folder: {values[key]}{_how_made(values[key])}')
        elif key == 'meta_info_file':
            continue
        elif backend == 'lmdb' and path.suffix != '.lmdb':
            expected = 'a folder *.lmdb expected with io_backend type lmdb'
            wrong_kind.append(f'{where}.{key}: {expected}, got {values[key]}')
        elif backend == 'disk' and (path / 'data.mdb').exists():
            expected = 'a folder of images expected with io_backend type disk'
            wrong_kind.append(f'{where}.{key}: {expected}, got {values[key]}')
    return missing + wrong_kind[:1]  # one wrong type, one line


def _how_made(path: str) -> str:
    return next((f' ({how})' for pattern, how in _MADE_BY.items() if re.fullmatch(pattern, path)), '')


def _try_dataset(phase: str, block: Block, run: RunOptions) -> None:
    """Build a data set that is not ours and take its first sample, as the loader will.

    Raises:
        UserError: That fails, or the sample lacks what the model asks for.
    """
    if not isinstance(block, OpenBlock):
        return
    values = block.model_dump()
    for key in ('dataroot_gt', 'dataroot_lq', 'meta_info_file'):
        if isinstance(values.get(key), str):
            values[key] = str(Path(values[key]).expanduser())
    does = 'cannot be built'
    try:
        with _unlogged():
            dataset = DATASET_REGISTRY.get(block.type)(values)
            does = 'gives no first sample'
            if len(dataset) == 0:
                raise IndexError('it is empty')
            sample = default_collate([dataset[0]])
    except Exception as error:
        what = ' '.join(str(error).split())
        raise UserError(f'datasets.{phase}: {block.type} {does}: {type(error).__name__}: {what}') from error
    model = MODEL_REGISTRY.get(run.model_type)
    if phase != 'train':
        needed = ('lq', 'lq_path')
    elif _is_a(model, RealESRNetModel):
        needed = ('gt', 'kernel1', 'kernel2', 'sinc_kernel')
    else:
        needed = ('lq', 'gt')
    if _is_a(model, SRModel) and not issubclass(model, VideoBaseModel):
        lacking = [key for key in needed if not isinstance(sample, dict) or key not in sample]
        raise_all([f'datasets.{phase}: {block.type} gives samples without {", ".join(lacking)}'] if lacking else [])


@contextmanager
def _unlogged() -> Iterator[None]:
    """Let nothing be logged in this context: BasicSR opens the run's log file at its first log line only."""
    known, logger = set(initialized_logger), logging.getLogger('basicsr')
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = False
        for name in set(initialized_logger) - known:
            del initialized_logger[name]
            logging.getLogger(name).handlers.clear()


# ---------------------------------------------------------------------------- weights and state
def _check_start(run: RunOptions) -> None:
    """Check the network, and what a run starts from: the state to go on from, else the weights to load."""
    net = _try_network(run)
    net_d = _try_discriminator(run) if run.network_d else None
    if isinstance(run, TrainingOptions) and run.path.resume_state:  # then the weights are the state's
        check_state(run, checkpoint.load(_existing('path.resume_state', run.path.resume_state)))
        return
    if run.path.pretrain_network_g:
        _check_weights(run, _existing('path.pretrain_network_g', run.path.pretrain_network_g), net)
    if run.path.pretrain_network_d and net_d is not None:
        path = _existing('path.pretrain_network_d', run.path.pretrain_network_d)
        weights, _ = checkpoint.load_weights(path, 'params')
        if run.path.strict_load_d:
            checkpoint.check_fit(path, weights, net_d)
        checkpoint.check_finite(path, weights)


def check_state(run: TrainingOptions, content: dict[str, Any]) -> None:
    """Check that a training state is one, and that a run can go on from it.

    Raises:
        UserError: One line per difference.
    """
    if missing := [entry for entry in state.ENTRIES if entry not in content]:
        raise UserError(f'path.resume_state: a training state expected, it lacks {", ".join(missing)}')
    if problems := differences(described(run), content):
        raise UserError('\n'.join(problems))


def _existing(where: str, name: str) -> Path:
    path = Path(name).expanduser()
    if not os.path.isfile(path):
        raise UserError(f'{where}: no such file: {path}')
    return path


def _check_weights(run: RunOptions, path: Path, net: torch.nn.Module) -> None:
    key = run.path.param_key_g
    if key == 'params_ema' and key not in checkpoint.load(path):
        key = 'params'  # as BasicSR falls back
    weights, found = checkpoint.load_weights(path, key)
    is_stock = not _is_a(MODEL_REGISTRY.get(run.model_type), AlphaRealESRNetModel)  # then BasicSR loads it
    if is_stock and not found and (key or path.suffix == '.safetensors'):
        raise UserError(f'{path}: a .pth with {key or "params"!r} expected by this model_type, got a state dict alone')
    if run.path.strict_load_g:
        checkpoint.check_fit(path, weights, net)
    checkpoint.check_finite(path, weights)


@torch.no_grad()
def _try_network(run: RunOptions) -> torch.nn.Module:
    """Build the network and run it on a small image, on the meta device, where nothing is computed, if it can.

    Returns:
        The network.

    Raises:
        UserError: It cannot be built, does not run, or does not enlarge by `scale`.
    """
    kind, model = run.network_g.type, MODEL_REGISTRY.get(run.model_type)
    takes_images = _is_a(model, SRModel) and not issubclass(model, VideoBaseModel)
    is_grey = all(getattr(block, 'color', None) == 'y' for _, block in run.datasets.items())
    for device in ('meta', 'cpu'):  # some read values of tensors while they are built or run
        net = out = None
        try:
            net = build_network(run.network_g, device)
            if takes_images:
                out = net(torch.zeros(1, 1 if is_grey else 3, SIDE, SIDE, device=device))
            break
        except Exception as error:
            failure = error
    else:
        does = 'cannot be built' if net is None else f'does not run on an image of {SIDE}x{SIDE} px'
        raise UserError(f'network_g: {kind} {does}: {" ".join(str(failure).split())}') from failure
    if isinstance(out, torch.Tensor) and out.shape[2:] != (SIDE * run.scale, SIDE * run.scale):
        own = next((f'.{key}' for key in ('scale', 'upscale') if key in parameters(ARCH_REGISTRY.get(kind))), '')
        got = 'x'.join(map(str, out.shape[:1:-1]))
        raise UserError(f'network_g{own}: {run.scale} times expected, as scale: {kind} makes {got} of {SIDE}x{SIDE} px')
    return net


@torch.no_grad()
def _try_discriminator(run: RunOptions) -> torch.nn.Module:
    """Build the discriminator and run it on a training patch, on the meta device.

    Returns:
        The network.

    Raises:
        UserError: It cannot be built or does not run.
    """
    side = run.gt_size or getattr(run.datasets.train, 'gt_size', SIDE)
    try:
        net = build_network(run.network_d)
        net(torch.zeros(1, 3, side, side, device='meta'))
    except Exception as error:
        reason = ' '.join(str(error).split())
        raise UserError(f'network_d: {run.network_d.type} does not run on patches of {side} px: {reason}') from error
    return net
