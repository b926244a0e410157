"""Option files: what may stand in one, how it is read, and the command line of `train.py` and `test.py`.

Every block is a type that refuses unknown keys. `parse_options` replaces BasicSR's: the same flags and the same result,
but a YAML file is only data, and all that is wrong with it is said before anything starts.
"""

import argparse
import os
import random
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import yaml
from basicsr.utils import set_random_seed
from basicsr.utils.dist_util import get_dist_info
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, MODEL_REGISTRY
from pydantic import ConfigDict, Field, model_validator

from facesr_plugin.data.face_degradation_dataset import FaceDegradationOptions, IoBackend
from facesr_plugin.data.image_source import check_pairs
from facesr_plugin.degradations import DegradationRanges, smallest_side
from facesr_plugin.errors import UserError
from facesr_plugin.models import checkpoint
from facesr_plugin.strict import Count, PositiveCount, Probability, StrictBlock

PositiveNumber = Annotated[float, Field(gt=0)]


class OpenBlock(StrictBlock):
    """A block of a type that is not ours: its further keys are that type's business."""

    model_config = ConfigDict(extra='allow')

    type: str


class PairOptions(StrictBlock):
    """`datasets.val*` and `datasets.test*` for BasicSR's `PairedImageDataset` and `SingleImageDataset`."""

    name: str = Field(description='what the log calls it')
    type: Literal['PairedImageDataset', 'SingleImageDataset']
    dataroot_gt: str | None = Field(None, description='LMDB or folder of HR images; not for SingleImageDataset')
    dataroot_lq: str = Field(description='LMDB or folder of LR images')
    io_backend: IoBackend
    filename_tmpl: str = Field('{}', description='LR file name for an HR name, without the suffix')
    meta_info_file: str | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    color: Literal['y'] | None = None

    @model_validator(mode='after')
    def _check(self) -> 'PairOptions':
        if self.type == 'PairedImageDataset' and self.dataroot_gt is None:
            raise ValueError('dataroot_gt: missing')
        return self


class NetworkOptions(StrictBlock):
    """`network_g` for `FaceSRResNet` and stock's `MSRResNet`."""

    type: Literal['FaceSRResNet', 'MSRResNet']
    num_in_ch: PositiveCount = Field(3, description='channels of the LR image')
    num_out_ch: PositiveCount = Field(3, description='channels of the result')
    num_feat: PositiveCount = Field(64, description='channels of the features')
    num_block: PositiveCount = Field(20, description='residual blocks (MSRResNet: 16 unless set)')
    upscale: Literal[2, 3, 4] = Field(4, description='scale factor, as `scale`')


class PathOptions(StrictBlock):
    """`path`: weights and states to start from."""

    pretrain_network_g: str | None = Field(None, description='checkpoint to start from or to test')
    param_key_g: Literal['params', 'params_ema'] | None = Field('params', description='which weights in it')
    strict_load_g: bool = Field(True, description='every weight must fit')
    resume_state: str | None = Field(None, description='training state to go on from; --auto_resume finds the newest')
    ignore_resume_networks: list[str] | None = None


class OptimizerOptions(StrictBlock):
    """`train.optim_g`."""

    type: Literal['Adam', 'AdamW']
    lr: PositiveNumber = Field(description='learning rate at the start')
    weight_decay: Annotated[float, Field(ge=0)] = Field(0, description='Adam: L2 in the gradient; AdamW: decoupled')
    betas: list[Probability] = Field([0.9, 0.999], description='decay of the moment estimates')
    eps: PositiveNumber = Field(1e-8, description='added to the denominator')
    fused: bool | None = Field(None, description='update all parameters in one kernel; default: on CPU and CUDA')


class SchedulerOptions(StrictBlock):
    """`train.scheduler`: the learning rate over the run."""

    type: Literal['CosineAnnealingRestartLR', 'MultiStepLR', 'MultiStepRestartLR']
    periods: list[PositiveCount] | None = Field(None, description='cosine: iterations of each cycle')
    restart_weights: list[float] | None = Field(None, description='factor of each cycle')
    eta_min: Annotated[float, Field(ge=0)] | None = Field(None, description='cosine: learning rate at the end')
    milestones: list[Count] | None = Field(None, description='multi-step: iterations at which it falls')
    gamma: PositiveNumber | None = Field(None, description='multi-step: factor of each fall')
    restarts: list[Count] | None = Field(None, description='multi-step: iterations at which it restarts')

    @model_validator(mode='after')
    def _check(self) -> 'SchedulerOptions':
        if self.type == 'CosineAnnealingRestartLR':
            if self.periods is None:
                raise ValueError('periods: missing')
            if len(self.periods) != len(self.restart_weights or [1]):
                raise ValueError(f'restart_weights: {len(self.periods)} numbers expected, one per period')
        elif self.milestones is None:
            raise ValueError('milestones: missing')
        return self


class AlphaOptions(StrictBlock):
    """`train.alpha_opt`: weight of the clean branch, on half a cosine over the run."""

    start: Probability = Field(0.8, description='alpha of the first iteration')
    end: Probability = Field(0.4, description='alpha towards the last iteration')


class PixelLossOptions(StrictBlock):
    """`train.pixel_opt` for `RegularizedL1Loss`, and for BasicSR's pixel losses, which take no branches."""

    type: Literal['RegularizedL1Loss', 'L1Loss', 'MSELoss', 'CharbonnierLoss']
    loss_weight: PositiveNumber = Field(1.0, description='factor of the loss')
    reduction: Literal['mean', 'sum'] | None = Field(None, description='BasicSR losses: over all elements')
    eps: PositiveNumber | None = Field(None, description='CharbonnierLoss: curvature near zero')
    forward: Literal['concat', 'sequential', 'sampled'] | None = Field(None, description='how both branches run')
    clean_mode: Literal['bicubic', 'bilinear', 'area'] | None = Field(None, description='how R resizes')

    @model_validator(mode='after')
    def _check(self) -> 'PixelLossOptions':
        ours, stock = ('forward', 'clean_mode'), ('reduction', 'eps')
        for key in stock if self.type == 'RegularizedL1Loss' else ours:
            if getattr(self, key) is not None:
                raise ValueError(f'{key}: not an option of {self.type}')
        return self


class TrainOptions(StrictBlock):
    """`train`: optimisation."""

    total_iter: PositiveCount = Field(description='iterations of the run')
    warmup_iter: int = Field(-1, description='iterations of linear warm-up; -1: none')
    precision: Literal['fp32', 'bf16', 'fp16'] | None = Field(
        None, description='of the network; default: bf16 where the device computes it natively, else fp32'
    )
    channels_last: bool = Field(True, description='memory layout of the network')
    compile: bool = Field(False, description='torch.compile the network')
    accumulate: PositiveCount = Field(1, description='batches whose gradients make one iteration')
    ema_decay: Probability = Field(0, description='decay of the moving average of the weights; 0: none')
    optim_g: OptimizerOptions
    scheduler: SchedulerOptions
    pixel_opt: PixelLossOptions
    alpha_opt: AlphaOptions | None = Field(None, description='with RegularizedL1Loss, and only with it')

    @model_validator(mode='after')
    def _check(self) -> 'TrainOptions':
        if (self.pixel_opt.type == 'RegularizedL1Loss') != (self.alpha_opt is not None):
            raise ValueError('alpha_opt: expected with pixel_opt type RegularizedL1Loss, and only with it')
        if self.scheduler.periods and sum(self.scheduler.periods) < self.total_iter:
            raise ValueError(
                f'scheduler.periods: a sum of at least total_iter = {self.total_iter} expected,'
                f' got {sum(self.scheduler.periods)}'
            )
        return self


class MetricOptions(OpenBlock):
    """`val.metrics.NAME`: a metric of BasicSR and its options."""


class ValOptions(StrictBlock):
    """`val`: validation while training, and the measuring of a test."""

    val_freq: PositiveCount | None = Field(None, description='iterations between validations')
    save_img: bool = Field(False, description='write the results as PNG')
    suffix: str | None = Field(None, description='of the PNG names of a test; otherwise the name of the run')
    pbar: bool = Field(False, description='progress bar')
    metrics: dict[str, MetricOptions] | None = None


class WandbOptions(StrictBlock):
    """`logger.wandb`."""

    project: str | None = None
    resume_id: str | None = None


class LoggerOptions(StrictBlock):
    """`logger`."""

    print_freq: PositiveCount = Field(description='iterations between log lines')
    save_checkpoint_freq: PositiveCount = Field(description='iterations between checkpoints')
    keep_states: PositiveCount | None = Field(None, description='training states and their weights kept; none: all')
    use_tb_logger: bool = Field(False, description='TensorBoard files in tb_logger/')
    wandb: WandbOptions | None = None


class RunOptions(DegradationRanges):
    """The top level of an option file, for training and for testing."""

    name: Annotated[str, Field(min_length=1)] = Field(description='name of the run and of its folder')
    model_type: str = Field(description='AlphaRealESRNetModel to train; SRModel to test')
    scale: PositiveCount = Field(4, description='HR size / LR size')
    num_gpu: Count | Literal['auto'] = Field('auto', description='0: CPU; auto: all that are visible, else CPU')
    manual_seed: Count | None = Field(None, description='seed of all randomness; none: a random one')
    gt_usm: bool = Field(False, description='sharpen the HR targets')
    gt_size: PositiveCount | None = Field(None, description='crop pairs to this HR size after the degradation')
    queue_size: Count = Field(180, description='pairs in the training pair pool; 0: no pool')
    datasets: dict[str, dict[str, Any]]
    network_g: dict[str, Any]
    path: PathOptions = PathOptions()
    train: TrainOptions | None = None
    val: ValOptions | None = None
    logger: LoggerOptions | None = None
    dist_params: dict[str, Any] | None = None
    find_unused_parameters: bool = False


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, refusing a key that stands twice in a mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f'key {key!r} stands twice', key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read an option file as plain data.

    Raises:
        UserError: The file is missing, is no YAML mapping, or holds a tag that would make Python objects.
    """
    try:
        with open(path, encoding='utf-8') as file:
            opt = yaml.load(file, Loader=_Loader)
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from error
    except UnicodeDecodeError as error:
        raise UserError(f'{path}: a UTF-8 text file expected') from error
    except yaml.YAMLError as error:
        mark, problem = getattr(error, 'problem_mark', None), getattr(error, 'problem', None) or error
        where = f':{mark.line + 1}' if mark else ''
        raise UserError(f'{path}{where}: not a valid option file: {" ".join(str(problem).split())}') from error
    if not isinstance(opt, dict):
        raise UserError(f'{path}: a mapping of options expected, got {type(opt).__name__}')
    return opt


def override(opt: dict[str, Any], entry: str) -> None:
    """Set an existing key from `a:b:c=value`, the value read as YAML.

    Raises:
        UserError: `entry` has another form, the key does not exist, or the value is no YAML.

    Example:
        >>> opt = {'train': {'total_iter': 10}}
        >>> override(opt, 'train:total_iter=20')
        >>> opt
        {'train': {'total_iter': 20}}
    """
    path, separator, text = entry.partition('=')
    *parents, last = (part.strip() for part in path.split(':'))
    if not separator:
        raise UserError(f'--force_yml {entry}: KEY:SUBKEY=VALUE expected')
    block: Any = opt
    for part in parents:
        block = block.get(part) if isinstance(block, dict) else None
    if not isinstance(block, dict) or last not in block:
        raise UserError(f'--force_yml {path}: no such key in the option file')
    try:
        block[last] = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise UserError(f'--force_yml {entry}: the value is not valid YAML') from error


def check(opt: dict[str, Any], is_train: bool) -> RunOptions:
    """Check a whole option file before anything starts.

    Args:
        opt: Its content.
        is_train: For training, else for a test.

    Returns:
        The typed top level.

    Raises:
        UserError: One line per problem.
    """
    problems: list[str] = []

    def collect(function: Any, *args: Any) -> Any:
        try:
            return function(*args)
        except UserError as error:
            problems.extend(str(error).splitlines())
            return None

    run = collect(RunOptions.parse, opt)
    for phase, block in _mapping(opt.get('datasets')).items():
        collect(_check_dataset, phase, block, is_train)
    collect(_check_registered, 'model_type', opt.get('model_type'), MODEL_REGISTRY)
    network = opt.get('network_g')
    if isinstance(network, dict):
        collect(_check_block, 'network_g', network, NetworkOptions, ARCH_REGISTRY)
    if is_train:
        problems += [f'{key}: missing' for key in ('train', 'logger') if not opt.get(key)]
        if 'train' not in _mapping(opt.get('datasets')):
            problems.append('datasets.train: missing')
        has_val = any(phase.startswith('val') for phase in _mapping(opt.get('datasets')))
        if has_val and _mapping(opt.get('val')).get('val_freq') is None:
            problems.append('val.val_freq: missing, it goes with datasets.val')
    elif 'val' not in opt:
        problems.append('val: missing')
    if run is not None and not problems:
        collect(_check_machine, run)
        collect(_check_sizes, run, is_train)
        collect(_check_weights, run)
        for block in run.datasets.values():
            collect(_check_pairs, block, run.scale)
    if problems:
        raise UserError('\n'.join(dict.fromkeys(problems)))
    return run


def _mapping(value: Any) -> dict:
    return value if isinstance(value, dict) else {}


def _check_registered(where: str, name: Any, registry: Any) -> None:
    if name is not None and name not in registry:
        known = ', '.join(sorted(registry.keys()))
        raise UserError(f'{where}: a registered name expected, got {name!r} (known: {known})')


def _check_block(where: str, block: dict[str, Any], ours: type[StrictBlock], registry: Any) -> None:
    """Check a block against our type of it, or, for a class of somebody else's, that the class is registered."""
    types = ours.model_fields['type'].annotation.__args__
    if block.get('type') in types or 'type' not in block:
        ours.parse(block, where)
    else:
        _check_registered(f'{where}.type', block['type'], registry)


def _check_dataset(phase: str, block: Any, is_train: bool) -> None:
    where = f'datasets.{phase}'
    if phase.split('_')[0] not in (('train', 'val') if is_train else ('test', 'val')):
        expected = 'train or val, val_NAME' if is_train else 'test or test_NAME'
        raise UserError(f'{where}: {expected} expected')
    if not isinstance(block, dict):
        raise UserError(f'{where}: a block of options expected, got {block!r}')
    _check_block(where, block, FaceDegradationOptions if phase == 'train' else PairOptions, DATASET_REGISTRY)
    is_lmdb = _mapping(block.get('io_backend')).get('type') == 'lmdb'
    for key in ('dataroot_gt', 'dataroot_lq'):
        root = block.get(key)
        if root is None:
            continue
        if not Path(root).expanduser().exists():
            raise UserError(f'{where}.{key}: no such file or folder: {root}')
        if is_lmdb and Path(root).suffix != '.lmdb':
            raise UserError(f'{where}.{key}: a folder *.lmdb expected with io_backend type lmdb, got {root}')


def _check_pairs(block: dict[str, Any], scale: int) -> None:
    if block['type'] == 'PairedImageDataset' and not block.get('meta_info_file'):
        lr, hr = (Path(block[key]).expanduser() for key in ('dataroot_lq', 'dataroot_gt'))
        check_pairs(lr, hr, block['io_backend']['type'], block.get('filename_tmpl', '{}'), scale)


def _check_machine(run: RunOptions) -> None:
    found = torch.cuda.device_count()
    if run.num_gpu != 'auto' and run.num_gpu > found:
        raise UserError(f'num_gpu: at most {found} expected, the CUDA devices here, got {run.num_gpu}')


def _check_sizes(run: RunOptions, is_train: bool) -> None:
    upscale = run.network_g.get('upscale', run.scale)
    if upscale != run.scale:
        raise UserError(f'network_g.upscale: {run.scale} expected, as scale, got {upscale}')
    if not is_train:
        return
    if run.datasets['train'].get('type') != 'FaceDegradationDataset':
        return
    train = FaceDegradationOptions.parse(run.datasets['train'])
    size, batch = train.gt_size, train.batch_size_per_gpu
    for key, value in (('datasets.train.gt_size', size), ('gt_size', run.gt_size or run.scale)):
        if value % run.scale:
            raise UserError(f'{key}: a multiple of the scale {run.scale} expected, got {value}')
    least = smallest_side(run, train, run.scale)
    if size < least:
        raise UserError(f'datasets.train.gt_size: at least {least} expected with these resize ranges, got {size}')
    if run.gt_size and run.gt_size > size:
        raise UserError(f'gt_size: at most datasets.train.gt_size = {size} expected, got {run.gt_size}')
    if 0 < run.queue_size < batch:
        raise UserError(f'queue_size: 0 or at least the batch size {batch} expected, got {run.queue_size}')


def _check_weights(run: RunOptions) -> None:
    """Check that the weights to load exist and fit, before folders are made or data is read."""
    path = run.path.pretrain_network_g
    if path is None:
        return
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f'path.pretrain_network_g: no such file: {path}')
    if run.path.strict_load_g:
        key = run.path.param_key_g
        if key == 'params_ema' and key not in checkpoint.load(path):
            key = 'params'  # as BasicSR falls back
        weights, _ = checkpoint.load_weights(path, key)
        with torch.device('meta'):
            # Not build_network: it logs, and BasicSR opens its log file at the first log line only.
            kwargs = {key: value for key, value in run.network_g.items() if key != 'type'}
            net = ARCH_REGISTRY.get(run.network_g['type'])(**kwargs)
        checkpoint.check_fit(path, weights, net)


def build_parser(is_train: bool) -> argparse.ArgumentParser:
    """Return the command line of `train.py` or `test.py`: BasicSR's flags."""
    parser = argparse.ArgumentParser(
        description=f'{"Train" if is_train else "Test"} with the loop of BasicSR.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('-opt', required=True, help='option file, YAML')
    parser.add_argument('--launcher', choices=['none', 'pytorch'], default='none', help='pytorch: under torchrun')
    parser.add_argument('--auto_resume', action='store_true', help='go on from the newest training state of this run')
    parser.add_argument('--debug', action='store_true', help='a short cycle of log, save and validation, named debug_*')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by launchers; not used')
    parser.add_argument('--force_yml', nargs='+', default=[], metavar='KEY:SUBKEY=VALUE', help='set keys of the file')
    return parser


def parse_options(root_path: str, is_train: bool = True) -> tuple[dict[str, Any], argparse.Namespace]:
    """Read the command line and its option file; stands in for `basicsr.utils.options.parse_options`.

    Args:
        root_path: Where `experiments/` and `results/` lie.
        is_train: For training, else for a test.

    Returns:
        The options as BasicSR's pipelines expect them, and the parsed command line.

    Raises:
        UserError: One line per problem.
    """
    args = build_parser(is_train).parse_args()
    opt = load_yaml(args.opt)
    for entry in args.force_yml:
        override(opt, entry)
    check(opt, is_train)

    opt['dist'] = args.launcher != 'none'
    if opt['dist']:
        _init_process_group()
    opt['rank'], opt['world_size'] = get_dist_info()
    if opt.get('manual_seed') is None:
        opt['manual_seed'] = random.randint(1, 10000)
    set_random_seed(opt['manual_seed'] + opt['rank'])

    opt['auto_resume'], opt['is_train'] = args.auto_resume, is_train
    opt.setdefault('scale', 4)
    if args.debug and not opt['name'].startswith('debug'):
        opt['name'] = f'debug_{opt["name"]}'
        opt['logger'] |= {'print_freq': 1, 'save_checkpoint_freq': 8}
        if opt.get('val'):
            opt['val']['val_freq'] = 8
    if opt.get('num_gpu', 'auto') == 'auto':
        opt['num_gpu'] = torch.cuda.device_count()
    for phase, block in opt['datasets'].items():
        block['phase'] = phase.split('_')[0]
        block['scale'] = opt['scale']
        for key in ('dataroot_gt', 'dataroot_lq'):
            if block.get(key):
                block[key] = str(Path(block[key]).expanduser())
        if block.get('prefetch_mode') == 'cuda' and opt['num_gpu'] == 0:
            print(f'datasets.{phase}.prefetch_mode: cuda needs a CUDA device, none is used here; going on without')
            block['prefetch_mode'] = None

    if opt.get('val'):
        opt['val'].setdefault('save_img', False)
    if opt.get('logger'):
        opt['logger'].setdefault('use_tb_logger', False)
    path = opt.setdefault('path', {})
    path.setdefault('resume_state', None)
    for key in ('pretrain_network_g', 'resume_state'):
        if path.get(key):
            path[key] = str(Path(path[key]).expanduser())
    root = Path(root_path) / ('experiments' if is_train else 'results') / opt['name']
    path['log'] = str(root)
    path['visualization'] = str(root / 'visualization')
    if is_train:
        path['experiments_root'] = str(root)
        path['models'] = str(root / 'models')
        path['training_states'] = str(root / 'training_states')
    else:
        path['results_root'] = str(root)
    return opt, args


def _init_process_group() -> None:
    """Join the processes that torchrun started: nccl on CUDA devices, gloo on CPUs."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ['LOCAL_RANK']))
        torch.distributed.init_process_group('nccl')
    else:
        torch.distributed.init_process_group('gloo')
