"""The check of a whole option file, with the data and the weights that it names, before anything starts."""

import importlib.util
import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY, Registry

from facesr_plugin.blocks import StrictBlock, did_you_mean
from facesr_plugin.data.face_degradation_dataset import FaceDegradationDataset, FaceDegradationOptions
from facesr_plugin.data.image_source import check_images, check_pairs
from facesr_plugin.degradations import smallest_side
from facesr_plugin.errors import UserError
from facesr_plugin.options.compare import as_trained, check_state
from facesr_plugin.options.types import NetworkOptions, PairOptions, RunOptions, types_of
from facesr_plugin.run import checkpoint


def check(opt: dict[str, Any], is_train: bool) -> RunOptions:
    """Check a whole option file, and that the data, weights and training state it names are there and fit.

    Args:
        opt: Its content.
        is_train: For training, else for a test.

    Returns:
        The typed top level.

    Raises:
        UserError: One line per problem.
    """
    found = _Check(opt, is_train)
    if found.problems:
        raise UserError('\n'.join(dict.fromkeys(found.problems)))
    return found.run


class _Check:
    """The problems of an option file.

    What concerns several keys, or a file, is looked at once each of the keys concerned is right (`_are_right`).
    """

    def __init__(self, opt: dict[str, Any], is_train: bool) -> None:
        self.opt, self.is_train = opt, is_train
        self.run, self.problems = RunOptions.examine(opt)
        self.datasets = {str(phase): block for phase, block in _mapping(opt.get('datasets')).items()}
        self._check_purpose()
        self._check_name('model_type', opt.get('model_type'), MODEL_REGISTRY)
        for phase, block in self.datasets.items():
            if self._are_right(f'datasets.{phase}'):
                self._check_dataset(phase, block)
        self._check_set_names()
        if self._are_right('network_g') and isinstance(opt.get('network_g'), dict):
            self._check_network(opt['network_g'])
        for name, block in _mapping(_mapping(opt.get('val')).get('metrics')).items():
            if self._are_right(f'val.metrics.{name}'):
                self._check_metric(f'val.metrics.{name}', block)
        self._check_machine()
        if isinstance(opt.get('train'), dict):
            self._check_train(opt['train'])
        if is_train and 'train' in self.datasets:
            self._check_sizes()
        for phase, block in self.datasets.items():
            if self._are_right(f'datasets.{phase}', 'scale'):
                self._check_images(phase, block)
        self._check_files()

    def _are_right(self, *keys: str) -> bool:
        """Return whether no problem was found with any of `keys` or what lies below them."""
        return not any(line.startswith((f'{key}:', f'{key}.')) for line in self.problems for key in keys)

    def _collect(self, function: Any, *args: Any) -> Any:
        """Call `function` and take its UserError as problems; return what it returns."""
        try:
            return function(*args)
        except UserError as error:
            self.problems += str(error).splitlines()
            return None

    # ------------------------------------------------------------------ the file itself
    def _check_purpose(self) -> None:
        """Check that the blocks are there that training or a test needs."""
        val = _mapping(self.opt.get('val'))
        if self.is_train:
            self.problems += [f'{key}: missing' for key in ('train', 'logger') if not self.opt.get(key)]
            if 'train' not in self.datasets:
                self.problems.append('datasets.train: missing')
            has_val = any(phase.startswith('val') for phase in self.datasets)
            if (has_val or val) and val.get('val_freq') is None:
                self.problems.append('val.val_freq: missing, it goes with datasets.val')
        elif self.opt.get('val') is None:
            self.problems.append('val: missing')
        elif not self.datasets and self._are_right('datasets'):
            self.problems.append('datasets.test: missing')

    def _check_name(self, where: str, name: Any, registry: Registry) -> bool:
        """Check that a class or function is registered, and return whether it is."""
        if not isinstance(name, str) or name in registry:
            return isinstance(name, str)
        self.problems.append(f'{where}: a registered name expected, got {name!r}{did_you_mean(name, registry.keys())}')
        return False

    def _check_dataset(self, phase: str, block: Any) -> None:
        where = f'datasets.{phase}'
        if phase.split('_')[0] not in (('train', 'val') if self.is_train else ('test', 'val')):
            expected = 'train or val, val_NAME' if self.is_train else 'test or test_NAME'
            self.problems.append(f'{where}: {expected} expected')
            return
        ours = FaceDegradationOptions if phase == 'train' else PairOptions
        if self._is_of(block, ours):
            self.problems += ours.examine(block, where)[1]
        else:
            self._check_name(f'{where}.type', block['type'], DATASET_REGISTRY)
        self._check_paths(where, block)
        if phase == 'train' and self._are_right(where):
            uses_cuda = torch.cuda.is_available() and self.opt.get('num_gpu') != 0
            if uses_cuda and block.get('prefetch_mode') == 'cuda' and not block.get('pin_memory'):
                self.problems.append(f'{where}.pin_memory: true expected with prefetch_mode cuda, got false')
            if block.get('persistent_workers') and not block.get('num_worker_per_gpu'):
                self.problems.append(f'{where}.persistent_workers: needs num_worker_per_gpu of at least 1, got 0')

    def _check_set_names(self) -> None:
        """Check that validation or test sets have names of their own: scores and results are told apart by them."""
        first: dict[str, str] = {}
        for phase, block in self.datasets.items():
            name = _mapping(block).get('name')
            if phase != 'train' and isinstance(name, str) and first.setdefault(name, phase) != phase:
                self.problems.append(f'datasets.{phase}.name: another name expected than that of {first[name]}: {name}')

    def _check_paths(self, where: str, block: dict[str, Any]) -> None:
        """Check that the files and folders of a data set exist and look like what `io_backend` says."""
        backend = _mapping(block.get('io_backend')).get('type')
        wrong_kind = []
        for key in ('dataroot_gt', 'dataroot_lq', 'meta_info_file'):
            path = block.get(key)
            if not isinstance(path, str):
                continue
            if not Path(path).expanduser().exists():
                self.problems.append(f'{where}.{key}: no such file or folder: {path}')
            elif key == 'meta_info_file':
                continue
            elif backend == 'lmdb' and Path(path).suffix != '.lmdb':
                wrong_kind.append(f'{where}.{key}: a folder *.lmdb expected with io_backend type lmdb, got {path}')
            elif backend == 'disk' and (Path(path).expanduser() / 'data.mdb').exists():
                wrong_kind.append(f'{where}.{key}: a folder of images expected with io_backend type disk, got {path}')
        self.problems += wrong_kind[:1]  # one wrong type, one line

    def _check_network(self, block: dict[str, Any]) -> None:
        if self._is_of(block, NetworkOptions):
            self.problems += NetworkOptions.examine(block, 'network_g')[1]
            if self.is_train and self._are_right('network_g'):
                for key in ('num_in_ch', 'num_out_ch'):
                    if (got := block.get(key, 3)) != 3:
                        self.problems.append(f'network_g.{key}: 3 expected, images are RGB, got {got}')
        elif self._check_name('network_g.type', block['type'], ARCH_REGISTRY):
            self._check_call('network_g', block, ARCH_REGISTRY.get(block['type']), ())

    def _check_metric(self, where: str, block: dict[str, Any]) -> None:
        if self._check_name(f'{where}.type', block['type'], METRIC_REGISTRY):
            function = METRIC_REGISTRY.get(block['type'])
            self._check_call(where, {k: v for k, v in block.items() if k != 'better'}, function, ('img', 'img2'))

    def _check_call(self, where: str, block: dict[str, Any], function: Any, given: Iterable[str]) -> None:
        """Check a block's keys against the parameters of somebody else's class or function.

        One that takes any keyword, as BasicSR's metrics do to share a call, is still told of a typo.
        """
        parameters = inspect.signature(function).parameters.values()
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        known = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        known = {name: parameter for name, parameter in known.items() if name not in given}
        for key in block.keys() - {'type', *known}:
            hint = did_you_mean(str(key), known)
            if not takes_any or 'did you mean' in hint:
                self.problems.append(f'{where}.{key}: unknown option{hint}')
        for name, parameter in known.items():
            if parameter.default is parameter.empty and name not in block:
                self.problems.append(f'{where}.{name}: missing')

    def _is_of(self, block: dict[str, Any], ours: type[StrictBlock]) -> bool:
        """Return whether a block is one for our type of it, and not for a class of somebody else's."""
        return block.get('type') in types_of(ours) or not isinstance(block.get('type'), str)

    # ------------------------------------------------------- what keys mean to each other
    def _check_machine(self) -> None:
        if self.run is None or not self._are_right('num_gpu', 'logger'):
            return
        found = torch.cuda.device_count()
        if self.run.num_gpu not in ('auto', 0, 1):
            expected = '0, 1 or auto expected, for each process (torchrun starts one a GPU)'
            self.problems.append(f'num_gpu: {expected}, got {self.run.num_gpu}')
        elif self.run.num_gpu != 'auto' and self.run.num_gpu > found:
            self.problems.append(f'num_gpu: at most {found} expected, the CUDA devices here, got {self.run.num_gpu}')
        wandb = self.run.logger and self.run.logger.wandb
        if wandb and wandb.project is not None:
            if not self.run.logger.use_tb_logger:
                self.problems.append('logger.use_tb_logger: true expected with logger.wandb, got false')
            if importlib.util.find_spec('wandb') is None:
                self.problems.append('logger.wandb: the package wandb is not installed')

    def _check_train(self, block: dict[str, Any]) -> None:
        """Check the schedules against the length of the run, and that alpha and its loss come together."""
        has_alpha, loss = block.get('alpha_opt') is not None, _mapping(block.get('pixel_opt')).get('type')
        if self._are_right('train.pixel_opt', 'train.alpha_opt') and has_alpha != (loss == 'RegularizedL1Loss'):
            self.problems.append('train.alpha_opt: expected with pixel_opt type RegularizedL1Loss, and only with it')
        if not self._are_right('train.total_iter', 'train.scheduler'):
            return
        total, scheduler = block['total_iter'], block['scheduler']
        if 'periods' in scheduler and sum(scheduler['periods']) < total:
            expected = f'a sum of at least total_iter = {total} expected'
            self.problems.append(f'train.scheduler.periods: {expected}, got {sum(scheduler["periods"])}')
        if late := [iteration for iteration in scheduler.get('milestones', []) if iteration >= total]:
            expected = f'iterations before total_iter = {total} expected'
            self.problems.append(f'train.scheduler.milestones: {expected}, got {late}')

    def _check_sizes(self) -> None:
        """Check the sizes of images, batches and pool against each other."""
        block = self.datasets['train']
        if self.run is None or not self._are_right('datasets.train', 'scale'):
            return
        if not self._is_of(block, FaceDegradationOptions):
            return
        run, train = self.run, FaceDegradationOptions.parse(block)
        size, batch = train.gt_size, train.batch_size_per_gpu * (run.train.accumulate if run.train else 1)
        for key, value in (('datasets.train.gt_size', size), ('gt_size', run.gt_size or run.scale)):
            if value % run.scale:
                self.problems.append(f'{key}: a multiple of the scale {run.scale} expected, got {value}')
        least = smallest_side(run, train, run.scale)
        if size < least and self._are_right('resize_range', 'datasets.train'):
            self.problems.append(
                f'datasets.train.gt_size: at least {least} expected with these resize ranges, got {size}'
            )
        if run.gt_size and run.gt_size > size:
            self.problems.append(f'gt_size: at most datasets.train.gt_size = {size} expected, got {run.gt_size}')
        if 0 < run.queue_size < batch and self._are_right('train.accumulate'):
            self.problems.append(f'queue_size: 0 or at least the batch size {batch} expected, got {run.queue_size}')

    # --------------------------------------------------------------------------- files
    def _check_images(self, phase: str, block: dict[str, Any]) -> None:
        """Open a data set; the images of a validation or test are read, those of a training when their turn comes."""
        scale = self.opt.get('scale', 4)
        if phase == 'train':
            if self._is_of(block, FaceDegradationOptions):
                self._collect(FaceDegradationDataset, {**block, 'scale': scale})
        elif self._is_of(block, PairOptions):
            backend = block['io_backend']['type']
            lr = Path(block['dataroot_lq']).expanduser()
            if block['type'] == 'SingleImageDataset':
                self._collect(check_images, lr, backend)
                return
            hr, listed = Path(block['dataroot_gt']).expanduser(), block.get('meta_info_file')
            template = block.get('filename_tmpl', '{}')
            self._collect(check_pairs, lr, hr, backend, template, scale, listed and Path(listed).expanduser())

    def _check_files(self) -> None:
        """Check that the weights to load and the state to go on from exist and fit."""
        if self.run is None or not self._are_right('path', 'network_g'):
            return
        upscale = self.run.network_g.get('upscale', self.run.scale)
        if upscale != self.run.scale and self._are_right('scale'):
            self.problems.append(f'network_g.upscale: {self.run.scale} expected, as scale, got {upscale}')
        elif self.is_train and self.run.path.resume_state:  # then the weights are the state's
            self._check_state(Path(self.run.path.resume_state).expanduser())
        elif self.run.path.pretrain_network_g:
            self._collect(self._check_weights, Path(self.run.path.pretrain_network_g).expanduser())

    def _check_weights(self, path: Path) -> None:
        if not path.is_file():
            raise UserError(f'path.pretrain_network_g: no such file: {path}')
        if not self.run.path.strict_load_g:
            return
        key = self.run.path.param_key_g
        if key == 'params_ema' and key not in checkpoint.load(path):
            key = 'params'  # as BasicSR falls back
        weights, found = checkpoint.load_weights(path, key)
        is_stock = self.opt['model_type'] != 'AlphaRealESRNetModel'  # then BasicSR loads it
        if is_stock and not found and (key or path.suffix == '.safetensors'):
            raise UserError(
                f'{path}: a .pth with {key or "params"!r} expected by this model_type, got a state dict alone'
            )
        checkpoint.check_fit(path, weights, self._build_network())
        broken = [name for name, value in weights.items() if not value.isfinite().all()]
        if broken:
            more = f' and {len(broken) - 1} more' if len(broken) > 1 else ''
            raise UserError(f'{path}: finite weights expected, {broken[0]}{more} holds NaN or infinity')

    def _build_network(self) -> torch.nn.Module:
        # Not build_network: it logs, and BasicSR opens its log file at the first log line only.
        block = self.run.network_g
        kwargs = {key: value for key, value in block.items() if key != 'type'}
        try:  # ours take no memory; somebody else's may read values of tensors while it is built
            with torch.device('meta' if self._is_of(block, NetworkOptions) else 'cpu'):
                return ARCH_REGISTRY.get(block['type'])(**kwargs)
        except Exception as error:
            raise UserError(f'network_g: {block["type"]} cannot be built: {" ".join(str(error).split())}') from error

    def _check_state(self, path: Path) -> None:
        if not path.is_file():
            self.problems.append(f'path.resume_state: no such file: {path}')
            return
        state = self._collect(checkpoint.load, path)
        if state is not None and self._are_right('train', 'datasets.train'):
            self.problems += check_state(as_trained(self.opt), state)


def _mapping(value: Any) -> dict:
    return value if isinstance(value, dict) else {}
