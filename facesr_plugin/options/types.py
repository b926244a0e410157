"""The types of an option file's blocks: what may stand in each, within which bounds, and what it means.

Defaults stand here and nowhere else; the dump of a whole file is what BasicSR's pipelines get. A rule between keys
stands at the later one.
"""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Len
from basicsr.utils.registry import (
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
)
from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema

from facesr_plugin.blocks import (
    Block,
    ByType,
    Count,
    FileName,
    FilePath,
    OpenBlock,
    PositiveCount,
    PositiveNumber,
    Probability,
    RuleError,
    did_you_mean,
)
from facesr_plugin.data.face_degradation_dataset import FaceDegradationOptions, IoBackend
from facesr_plugin.degradations import DegradationRanges, smallest_side
from facesr_plugin.losses.regularized_l1_loss import CleanMode, Forward, check_alpha

Decay = Annotated[float, Field(ge=0, lt=1)]


# --------------------------------------------------------------------------- data sets
class SingleOptions(Block):
    """`datasets.val*` and `datasets.test*` for BasicSR's `SingleImageDataset`: LR images alone."""

    name: FileName = Field(description='what the log and the folder of its results call it')
    type: Literal['SingleImageDataset']
    dataroot_lq: FilePath = Field(description='LMDB or folder of LR images')
    io_backend: IoBackend
    meta_info_file: FilePath | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    color: Literal['y'] | None = None

    phase: Literal['val', 'test'] = Field('val', description='set by BasicSR')
    scale: PositiveCount = Field(4, description='set by BasicSR from the top level')


class PairOptions(SingleOptions):
    """`datasets.val*` and `datasets.test*` for BasicSR's `PairedImageDataset`."""

    type: Literal['PairedImageDataset']
    dataroot_gt: FilePath = Field(description='LMDB or folder of HR images')
    filename_tmpl: str = Field('{}', description='LR file name for an HR name, without the suffix')


class OpenSet(OpenBlock):
    """`datasets.val*` and `datasets.test*` for a class that is not ours."""

    registry: ClassVar[Any] = DATASET_REGISTRY

    name: FileName = Field(description='what the log and the folder of its results call it')
    io_backend: IoBackend | None = None
    dataroot_gt: FilePath | None = None
    dataroot_lq: FilePath | None = None
    meta_info_file: FilePath | None = None

    @classmethod
    def annotations(cls, theirs: type | None) -> dict[str, Any]:
        """Return those of our own data set: one takes a single block, of which its signature tells nothing."""
        return {key: field.annotation for key, field in FaceDegradationOptions.model_fields.items()}


class OpenTrainSet(OpenSet):
    """`datasets.train` for a class that is not ours, with what BasicSR's loader needs."""

    num_worker_per_gpu: Count = Field(description='loader processes; 0 loads in the training process')
    batch_size_per_gpu: PositiveCount = Field(description='images an iteration and process')
    dataset_enlarge_ratio: PositiveCount = Field(1, description='passes over the set that count as one epoch')
    prefetch_mode: Literal['cpu', 'cuda'] | None = None
    num_prefetch_queue: PositiveCount = Field(1, description='as in files of BasicSR; not used')
    pin_memory: bool | None = Field(None, description='prefetch_mode cuda needs it; default: on CUDA')
    persistent_workers: bool = Field(False, description='keep the loader processes between epochs')


TrainSet = ByType.of(FaceDegradationOptions, others=OpenTrainSet)
OtherSet = ByType.of(PairOptions, SingleOptions, others=OpenSet)


def _phase(expected: str, *names: str) -> Any:
    """Return the annotation of the keys of data sets, NAME or NAME_ANYTHING."""

    def check(key: str) -> str:
        if kind_of(key) not in names:
            raise RuleError('', f'{expected} expected')
        return key

    return Annotated[str, AfterValidator(check)]


def kind_of(phase: str) -> str:
    """Return what a data set is for.

    Example:
        >>> kind_of('val_small')
        'val'
    """
    return phase.split('_')[0]


class DataSets(Block):
    """`datasets`: `train`, and any number of `val`, `val_NAME`, `test` and `test_NAME`."""

    model_config = ConfigDict(extra='allow')

    train: TrainSet | None = None
    __pydantic_extra__: dict[str, OtherSet] = Field(init=False)

    def items(self) -> Iterator[tuple[str, Block]]:
        """Yield phases and blocks."""
        if self.train is not None:
            yield 'train', self.train
        yield from self.model_extra.items()

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler.resolve_ref_schema(handler(core_schema))
        pairs = schema.pop('additionalProperties')
        return schema | {'patternProperties': {'^(val|test)(_|$)': pairs}, 'additionalProperties': False}


class TrainingSets(DataSets):
    """`datasets` of an option file for training."""

    train: TrainSet
    __pydantic_extra__: dict[_phase('train or val, val_NAME', 'val'), OtherSet] = Field(init=False)


class TestingSets(DataSets):
    """`datasets` of an option file for a test."""

    __pydantic_extra__: dict[_phase('test or test_NAME', 'test', 'val'), OtherSet] = Field(init=False)


# ----------------------------------------------------------------------------- network
class FaceSRResNetOptions(Block):
    """`network_g` for `FaceSRResNet`."""

    type: Literal['FaceSRResNet']
    num_in_ch: PositiveCount = Field(3, description='channels of the LR image')
    num_out_ch: PositiveCount = Field(3, description='channels of the result')
    num_feat: PositiveCount = Field(64, description='channels of the features')
    num_block: PositiveCount = Field(20, description='residual blocks')
    upscale: Literal[1, 2, 3, 4, 8] = Field(4, description='scale factor, as `scale`')


class MSRResNetOptions(FaceSRResNetOptions):
    """`network_g` for stock's `MSRResNet`."""

    type: Literal['MSRResNet']
    num_block: PositiveCount = Field(16, description='residual blocks')
    upscale: Literal[2, 3, 4] = Field(4, description='scale factor, as `scale`')


class OpenNetwork(OpenBlock):
    """`network_g` or `network_d` for a class that is not ours."""

    registry: ClassVar[Any] = ARCH_REGISTRY


class PatchDiscriminatorOptions(Block):
    """`network_d` for `PatchDiscriminator`."""

    type: Literal['PatchDiscriminator']
    num_in_ch: Literal[3] = Field(3, description='channels of the image')
    num_feat: PositiveCount = Field(32, description='channels of the first layer')
    num_layer: PositiveCount = Field(4, description='strided convolutions')


class UNetDiscriminatorOptions(Block):
    """`network_d` for stock's `UNetDiscriminatorSN`."""

    type: Literal['UNetDiscriminatorSN']
    num_in_ch: Literal[3] = Field(3, description='channels of the image')
    num_feat: PositiveCount = Field(64, description='channels of the first layer')
    skip_connection: bool = Field(True, description='between the halves of the U')


class PathOptions(Block):
    """`path`: weights and states to start from."""

    root: FilePath | None = Field(
        None, description='holds experiments/, results/, tb_logger/; default: the current folder'
    )
    pretrain_network_g: FilePath | None = Field(None, description='checkpoint to start from or to test')
    param_key_g: Literal['params', 'params_ema'] | None = Field('params', description='which weights in it')
    strict_load_g: bool = Field(True, description='every weight must fit')
    pretrain_network_d: FilePath | None = Field(None, description="checkpoint of the discriminator's weights")
    strict_load_d: bool = Field(True, description='every weight of it must fit')
    resume_state: FilePath | None = Field(
        None, description='training state to go on from; --auto_resume finds the newest'
    )
    ignore_resume_networks: list[str] | None = None


# ---------------------------------------------------------------------------- training
class OptimizerOptions(Block):
    """`train.optim_g`, and `train.optim_d` of the discriminator."""

    type: Literal['Adam', 'AdamW']
    lr: PositiveNumber = Field(description='learning rate at the start')
    weight_decay: Annotated[float, Field(ge=0)] = Field(0, description='Adam: L2 in the gradient; AdamW: decoupled')
    betas: Annotated[list[Decay], Len(2, 2)] = Field([0.9, 0.999], description='decay of the moment estimates')
    eps: PositiveNumber = Field(1e-8, description='added to the denominator')
    fused: bool | None = Field(
        None,
        description='update all in one kernel; default: on CPU and CUDA, where each step else waits for the device',
    )


def _one_weight_each(weights: list[float], info: ValidationInfo) -> list[float]:
    """Check that there are as many restart weights as cycles."""
    for key in ('periods', 'restarts'):
        if key in info.data and len(info.data[key]) != len(weights):
            raise ValueError(f'{len(info.data[key])} numbers expected, one per {key[:-1]}')
    return weights


RestartWeights = Annotated[list[float], AfterValidator(_one_weight_each)]


class CosineOptions(Block):
    """`train.scheduler` for a learning rate that falls on half a cosine, once or in cycles."""

    type: Literal['CosineAnnealingRestartLR']
    periods: Annotated[list[PositiveCount], Len(1)] = Field(description='iterations of each cycle')
    eta_min: Annotated[float, Field(ge=0)] = Field(0, description='learning rate at the end')
    restart_weights: RestartWeights = Field([1.0], description='factor of each cycle')


class MultiStepOptions(Block):
    """`train.scheduler` for a learning rate that falls in steps."""

    type: Literal['MultiStepLR', 'MultiStepRestartLR']
    milestones: list[Count] = Field(description='iterations at which it falls')
    gamma: PositiveNumber = Field(0.1, description='factor of each fall')
    restarts: list[Count] = Field([0], description='iterations at which it starts again')
    restart_weights: RestartWeights = Field([1.0], description='factor of each restart')


class RegularizedL1Options(Block):
    """`train.pixel_opt` for `RegularizedL1Loss`."""

    type: Literal['RegularizedL1Loss']
    loss_weight: PositiveNumber = Field(1.0, description='factor of the loss')
    forward: Forward = Field('concat', description='how both branches run')
    clean_mode: CleanMode = Field('bicubic', description='how R resizes')


class PlainLossOptions(Block):
    """`train.pixel_opt` for BasicSR's pixel losses of the degraded branch."""

    type: Literal['L1Loss', 'MSELoss']
    loss_weight: PositiveNumber = Field(1.0, description='factor of the loss')
    reduction: Literal['mean', 'sum'] = Field('mean', description='over all elements')


class CharbonnierOptions(PlainLossOptions):
    """`train.pixel_opt` for BasicSR's `CharbonnierLoss`."""

    type: Literal['CharbonnierLoss']
    eps: PositiveNumber = Field(1e-12, description='curvature near zero')


class AlphaOptions(Block):
    """`train.alpha_opt`: weight of the clean branch, on half a cosine over the run, or in cycles."""

    start: Probability = Field(0.8, description='alpha of the first iteration')
    end: Probability = Field(0.4, description='alpha towards the last iteration')
    periods: Annotated[list[PositiveCount], Len(1)] | None = Field(
        None, description='iterations of each cycle from start to end, then it stays there; default: one over the run'
    )


class OpenLoss(OpenBlock):
    """`train.pixel_opt` for a class that is not ours, and `train.perceptual_opt`."""

    registry: ClassVar[Any] = LOSS_REGISTRY


class GanOptions(Block):
    """`train.gan_opt` for BasicSR's `GANLoss`."""

    type: Literal['GANLoss']
    gan_type: Literal['vanilla', 'lsgan', 'hinge'] = Field('vanilla', description='which loss')
    real_label_val: float = Field(1.0, description='label of originals')
    fake_label_val: float = Field(0.0, description='label of results')
    loss_weight: PositiveNumber = Field(description="factor in the generator's loss")


class FeatureOptions(Block):
    """`train.feature_opt`: feature matching on the discriminator's layers."""

    loss_weight: PositiveNumber = Field(description="factor in the generator's loss")


class TrainOptions(Block):
    """`train`: optimisation."""

    total_iter: PositiveCount = Field(description='iterations of the run')
    warmup_iter: Annotated[int, Field(ge=-1)] = Field(-1, description='iterations of linear warm-up; -1: none')
    precision: Literal['fp32', 'bf16', 'fp16'] | None = Field(
        None, description='of the network; default: bf16 where the device computes it natively, else fp32 (CUDA: TF32)'
    )
    channels_last: bool = Field(True, description='memory layout of the network; MPS: always off')
    compile: bool = Field(False, description='torch.compile the network')
    accumulate: PositiveCount = Field(1, description='batches whose gradients make one iteration')
    grad_clip: PositiveNumber | None = Field(None, description='largest norm of all gradients together; none: any')
    ema_decay: Decay = Field(0, description='decay of the moving average of the weights; 0: none')
    optim_g: OptimizerOptions
    scheduler: ByType.one_of(CosineOptions, MultiStepOptions)
    pixel_opt: ByType.of(RegularizedL1Options, PlainLossOptions, CharbonnierOptions, others=OpenLoss)
    alpha_opt: AlphaOptions | None = Field(None, description='with RegularizedL1Loss, and only with it')
    optim_d: OptimizerOptions | None = Field(None, description='of the discriminator')
    gan_opt: ByType.of(GanOptions, others=OpenLoss) | None = Field(None, description='adversarial loss')
    gan_max_error: PositiveNumber | None = Field(
        None, description='mean absolute error of results, in [0, 1], above which they are not judged; none: all are'
    )
    feature_opt: FeatureOptions | None = None
    perceptual_opt: OpenLoss | None = Field(None, description="BasicSR's PerceptualLoss, which downloads its weights")

    @field_validator('scheduler')
    @classmethod
    def _lasts(cls, scheduler: CosineOptions | MultiStepOptions, info: ValidationInfo) -> Block:
        total = info.data.get('total_iter')
        if total is None:
            return scheduler
        if isinstance(scheduler, CosineOptions) and sum(scheduler.periods) < total:
            expected = f'a sum of at least total_iter = {total} expected'
            raise RuleError('periods', f'{expected}, got {sum(scheduler.periods)}')
        if late := [iteration for iteration in getattr(scheduler, 'milestones', []) if iteration > total]:
            raise RuleError('milestones', f'iterations up to total_iter = {total} expected, got {late}')
        return scheduler

    @field_validator('alpha_opt')
    @classmethod
    def _goes_with_its_loss(cls, alpha: AlphaOptions | None, info: ValidationInfo) -> AlphaOptions | None:
        if 'pixel_opt' in info.data and (loss := info.data['pixel_opt'].type) in LOSS_REGISTRY:
            try:
                check_alpha(LOSS_REGISTRY.get(loss), alpha is not None)
            except ValueError as error:
                raise RuleError('', str(error)) from error
        return alpha


# --------------------------------------------------------------- validation and logging
class MetricOptions(OpenBlock):
    """`val.metrics.NAME`: a metric of BasicSR and its options."""

    registry: ClassVar[Any] = METRIC_REGISTRY

    better: Literal['higher', 'lower'] | None = Field(
        None, description='for val.best; default: higher, of NIQE and identity lower'
    )


def _part_of_a_name(text: str) -> str:
    if '/' in text:
        raise ValueError('expected a part of a file name')
    return text


class ValOptions(Block):
    """`val`: validation while training, and the measuring of a test."""

    val_freq: PositiveCount | None = Field(None, description='iterations between validations')
    decides: str | None = Field(
        None, description='name of the data set that best weights and history go by; default: the first with HR images'
    )
    best: str = Field('psnr', description='metric that the best weights are chosen by, one of those below')
    least_psnr: float | None = Field(None, description='dB; weights below are never the best')
    save_img: bool = Field(False, description='write the results as PNG')
    suffix: Annotated[str, Len(0, 50), AfterValidator(_part_of_a_name)] | None = Field(
        None, description='of the PNG names of a test; otherwise the name of the run'
    )
    pbar: bool = Field(False, description='progress bar')
    metrics: dict[str, MetricOptions] | None = None

    @field_validator('metrics')
    @classmethod
    def _has_what_the_best_is_chosen_by(
        cls, metrics: dict[str, MetricOptions] | None, info: ValidationInfo
    ) -> dict[str, MetricOptions] | None:
        known = {'psnr', 'ssim', *(metrics or {})}
        if (best := info.data.get('best', 'psnr')) not in known:
            raise RuleError(best, f'missing, best is chosen by it (known: {", ".join(sorted(known))})')
        return metrics


class WandbOptions(Block):
    """`logger.wandb`."""

    project: str | None = None
    resume_id: str | None = None


class LoggerOptions(Block):
    """`logger`."""

    print_freq: PositiveCount = Field(description='iterations between log lines')
    save_checkpoint_freq: PositiveCount = Field(description='iterations between checkpoints')
    keep_states: PositiveCount | None = Field(None, description='training states and their weights kept; none: all')
    use_tb_logger: bool = Field(False, description='TensorBoard files in tb_logger/')
    wandb: WandbOptions | None = None

    @field_validator('wandb')
    @classmethod
    def _needs_tensorboard(cls, wandb: WandbOptions | None, info: ValidationInfo) -> WandbOptions | None:
        if wandb and wandb.project is not None and info.data.get('use_tb_logger') is False:
            raise RuleError('project', 'use_tb_logger: true expected with it, got false')
        return wandb


# ------------------------------------------------------------------------- a whole file
# What a training needs besides what every file does; a test needs `val` instead.
_BY_PURPOSE = {
    'patternProperties': {'^x-': True},
    'additionalProperties': False,
    'if': {'properties': {'datasets': {'required': ['train']}}},
    'then': {'required': ['train', 'logger']},
    'else': {'required': ['val']},
}


OURS = ('AlphaRealESRNetModel', 'AlphaRealESRGANModel', 'SRModel')  # models whose options all stand here


def _of_the_model(key: str, info: ValidationInfo) -> str:
    """Let a model that is not ours have keys of its own at the top level."""
    model = info.data.get('model_type')
    if model in OURS or model not in MODEL_REGISTRY:
        raise RuleError('', f'unknown option{did_you_mean(key, RunOptions.model_fields)}')
    return key


class RunOptions(DegradationRanges):
    """The top level of an option file, for training and for testing.

    Keys `x-NAME` are for YAML anchors and are passed over.
    """

    model_config = ConfigDict(title='Option file', extra='allow', json_schema_extra=_BY_PURPOSE)
    __pydantic_extra__: dict[Annotated[str, AfterValidator(_of_the_model)], Any] = Field(init=False)

    name: FileName = Field(description='name of the run and of its folder')
    model_type: str = Field(
        description='AlphaRealESRNetModel to train, AlphaRealESRGANModel the second stage; SRModel to test'
    )
    scale: PositiveCount = Field(4, description='HR size / LR size')
    num_gpu: Count | Literal['auto'] = Field(
        'auto',
        description='of each process; 0: CPU; auto: 1, without a GPU (or MPS) 0; several: a process each, by torchrun',
    )
    manual_seed: Count | None = Field(None, description='seed of all randomness; none: a random one')
    datasets: DataSets
    network_g: ByType.of(FaceSRResNetOptions, MSRResNetOptions, others=OpenNetwork)
    network_d: ByType.of(PatchDiscriminatorOptions, UNetDiscriminatorOptions, others=OpenNetwork) | None = Field(
        None, description='the discriminator, of the second stage alone'
    )
    path: PathOptions = PathOptions()
    train: TrainOptions | None = None
    gt_usm: bool = Field(False, description='sharpen the HR targets')
    gt_size: PositiveCount | None = Field(None, description='crop pairs to this HR size after the degradation')
    queue_size: Count = Field(180, description='pairs in the training pair pool; 0: no pool')
    val: ValOptions | None = None
    logger: LoggerOptions | None = None
    imports: list[str] = Field([], description='modules of your own to import first: they register classes')
    dist_params: dict[str, Any] | None = Field(None, description='as in files of BasicSR; not used, torchrun says it')
    find_unused_parameters: bool = False

    @model_validator(mode='before')
    @classmethod
    def _without_anchors(cls, values: dict[Any, Any]) -> dict[Any, Any]:
        return {key: value for key, value in values.items() if not str(key).startswith('x-')}

    @field_validator('num_gpu')
    @classmethod
    def _one_a_process(cls, num_gpu: int | str) -> int | str:
        if num_gpu not in ('auto', 0, 1):
            raise RuleError('', f'0, 1 or auto expected, for each process (torchrun starts one a GPU), got {num_gpu}')
        return num_gpu

    @field_validator('datasets', mode='before')
    @classmethod
    def _tell_phase_and_scale(cls, datasets: Any, info: ValidationInfo) -> Any:
        """Give each data set what BasicSR's parser gives it."""
        if not isinstance(datasets, dict):
            return datasets
        scale = {'scale': info.data['scale']} if 'scale' in info.data else {}
        kinds = {phase: kind_of(str(phase)) for phase in datasets}
        known = {phase: {'phase': kind} for phase, kind in kinds.items() if kind in ('train', 'val', 'test')}
        return {
            phase: {**block, **scale, **known.get(phase, {})} if isinstance(block, dict) else block
            for phase, block in datasets.items()
        }

    @field_validator('datasets')
    @classmethod
    def _have_names_of_their_own(cls, datasets: DataSets) -> DataSets:
        """Scores and results are told apart by them."""
        first: dict[str, str] = {}
        for phase, block in datasets.model_extra.items():
            name = getattr(block, 'name', None)
            if isinstance(name, str) and first.setdefault(name, phase) != phase:
                raise RuleError(f'{phase}.name', f'another name expected than that of {first[name]}: {name}')
        return datasets

    @field_validator('network_g')
    @classmethod
    def _has_the_scale(cls, network: Block, info: ValidationInfo) -> Block:
        scale = info.data.get('scale')
        if scale is not None and (upscale := getattr(network, 'upscale', scale)) != scale:
            raise RuleError('upscale', f'{scale} expected, as scale, got {upscale}')
        return network

    @field_validator('gt_size')
    @classmethod
    def _is_cut_out_of_the_patch(cls, gt_size: int | None, info: ValidationInfo) -> int | None:
        scale, train = info.data.get('scale'), _our_train_set(info)
        if gt_size and scale and gt_size % scale:
            raise ValueError(f'a multiple of the scale {scale} expected')
        if gt_size and train and gt_size > train.gt_size:
            raise ValueError(f'at most datasets.train.gt_size = {train.gt_size} expected')
        return gt_size

    @field_validator('queue_size')
    @classmethod
    def _holds_a_batch(cls, queue_size: int, info: ValidationInfo) -> int:
        if (train_set := _our_train_set(info)) and (train := info.data.get('train')):
            batch = train_set.batch_size_per_gpu * train.accumulate
            if 0 < queue_size < batch:
                raise ValueError(f'0 or at least the batch size {batch} expected')
        return queue_size


def _our_train_set(info: ValidationInfo) -> FaceDegradationOptions | None:
    train = info.data['datasets'].train if 'datasets' in info.data else None
    return train if isinstance(train, FaceDegradationOptions) else None


class TrainingOptions(RunOptions):
    """An option file for training."""

    datasets: TrainingSets
    train: TrainOptions
    logger: LoggerOptions

    @field_validator('datasets')
    @classmethod
    def _fill_the_patch(cls, datasets: DataSets, info: ValidationInfo) -> DataSets:
        train, scale = datasets.train, info.data.get('scale')
        if isinstance(train, FaceDegradationOptions) and scale and {'resize_range'} <= info.data.keys():
            ranges = DegradationRanges(resize_range=info.data['resize_range'])
            if train.gt_size < (least := smallest_side(ranges, train, scale)):
                expected = f'at least {least} expected with these resize ranges'
                raise RuleError('train.gt_size', f'{expected}, got {train.gt_size}')
        return datasets

    @field_validator('network_g')
    @classmethod
    def _is_for_rgb(cls, network: Block) -> Block:
        for key in ('num_in_ch', 'num_out_ch'):
            one_for_each = (1, 3) if network.type == 'FaceSRResNet' else (3,)
            if isinstance(network, FaceSRResNetOptions) and (got := getattr(network, key)) not in one_for_each:
                raise RuleError(key, f'{" or ".join(map(str, one_for_each))} expected, images are RGB, got {got}')
        return network

    @field_validator('val')
    @classmethod
    def _has_its_frequency(cls, val: ValOptions | None, info: ValidationInfo) -> ValOptions | None:
        has_sets = 'datasets' in info.data and info.data['datasets'].model_extra
        if (has_sets or val) and (val is None or val.val_freq is None):
            raise RuleError('val_freq', 'missing, it goes with datasets.val')
        if val and val.decides is not None and has_sets:
            blocks = has_sets.values()
            names = [
                block.name for block in blocks if getattr(block, 'name', None) and block.type != 'SingleImageDataset'
            ]
            if val.decides not in names:
                expected = (
                    f'the name of a validation set with HR images expected ({", ".join(names) or "there is none"})'
                )
                raise RuleError('decides', f'{expected}, got {val.decides!r}')
        return val


class TestingOptions(RunOptions):
    """An option file for a test."""

    datasets: TestingSets
    val: ValOptions

    @field_validator('datasets')
    @classmethod
    def _are_to_test(cls, datasets: DataSets) -> DataSets:
        if datasets.train is not None:
            raise RuleError('train', 'test or test_NAME expected')
        if not datasets.model_extra:
            raise RuleError('test', 'missing')
        return datasets
