"""The types of an option file's blocks: what may stand in each, within which bounds, and what it means."""

import os
from typing import Annotated, Any, Literal

from annotated_types import Len
from pydantic import AfterValidator, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from facesr_plugin.blocks import Count, PositiveCount, Probability, StrictBlock
from facesr_plugin.data.face_degradation_dataset import FaceDegradationOptions, IoBackend
from facesr_plugin.degradations import DegradationRanges
from facesr_plugin.losses.regularized_l1_loss import CleanMode, Forward

PositiveNumber = Annotated[float, Field(gt=0)]
Decay = Annotated[float, Field(ge=0, lt=1)]


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

    root: str | None = Field(None, description='holds experiments/, results/, tb_logger/; default: the current folder')
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
    betas: Annotated[list[Decay], Len(2, 2)] = Field([0.9, 0.999], description='decay of the moment estimates')
    eps: PositiveNumber = Field(1e-8, description='added to the denominator')
    fused: bool | None = Field(None, description='update all parameters in one kernel; default: on CPU and CUDA')


class SchedulerOptions(StrictBlock):
    """`train.scheduler`: the learning rate over the run."""

    type: Literal['CosineAnnealingRestartLR', 'MultiStepLR', 'MultiStepRestartLR']
    periods: Annotated[list[PositiveCount], Len(1)] = Field([], description='cosine: iterations of each cycle')
    eta_min: Annotated[float, Field(ge=0)] = Field(0, description='cosine: learning rate at the end')
    milestones: list[Count] = Field([], description='multi-step: iterations at which it falls')
    gamma: PositiveNumber = Field(0.1, description='multi-step: factor of each fall')
    restarts: list[Count] = Field([0], description='multi-step: iterations at which it starts again')
    restart_weights: list[float] = Field([1.0], description='factor of each cycle or restart')

    @model_validator(mode='after')
    def _check(self) -> 'SchedulerOptions':
        cosine, multi_step = ('periods', 'eta_min'), ('milestones', 'gamma', 'restarts')
        own, others = (cosine, multi_step) if self.type == 'CosineAnnealingRestartLR' else (multi_step, cosine)
        for key in others:
            if key in self.model_fields_set:
                raise ValueError(f'{key}: not an option of {self.type}')
        if own[0] not in self.model_fields_set:
            raise ValueError(f'{own[0]}: missing')
        cycles = self.periods or self.restarts
        if len(cycles) != len(self.restart_weights):
            expected = 'period' if self.periods else 'restart'
            raise ValueError(f'restart_weights: {len(cycles)} numbers expected, one per {expected}')
        return self


class AlphaOptions(StrictBlock):
    """`train.alpha_opt`: weight of the clean branch, on half a cosine over the run."""

    start: Probability = Field(0.8, description='alpha of the first iteration')
    end: Probability = Field(0.4, description='alpha towards the last iteration')


class PixelLossOptions(StrictBlock):
    """`train.pixel_opt` for `RegularizedL1Loss`, and for BasicSR's pixel losses, which take no branches."""

    type: Literal['RegularizedL1Loss', 'L1Loss', 'MSELoss', 'CharbonnierLoss']
    loss_weight: PositiveNumber = Field(1.0, description='factor of the loss')
    reduction: Literal['mean', 'sum'] = Field('mean', description='BasicSR losses: over all elements')
    eps: PositiveNumber = Field(1e-12, description='CharbonnierLoss: curvature near zero')
    forward: Forward = Field('concat', description='how both branches run')
    clean_mode: CleanMode = Field('bicubic', description='how R resizes')

    @model_validator(mode='after')
    def _check(self) -> 'PixelLossOptions':
        others = {'RegularizedL1Loss': ('reduction', 'eps'), 'CharbonnierLoss': ('forward', 'clean_mode')}
        for key in others.get(self.type, ('forward', 'clean_mode', 'eps')):
            if key in self.model_fields_set:
                raise ValueError(f'{key}: not an option of {self.type}')
        return self


class TrainOptions(StrictBlock):
    """`train`: optimisation."""

    total_iter: PositiveCount = Field(description='iterations of the run')
    warmup_iter: Annotated[int, Field(ge=-1)] = Field(-1, description='iterations of linear warm-up; -1: none')
    precision: Literal['fp32', 'bf16', 'fp16'] | None = Field(
        None, description='of the network; default: bf16 where the device computes it natively, else fp32 (CUDA: TF32)'
    )
    channels_last: bool = Field(True, description='memory layout of the network')
    compile: bool = Field(False, description='torch.compile the network')
    accumulate: PositiveCount = Field(1, description='batches whose gradients make one iteration')
    ema_decay: Probability = Field(0, description='decay of the moving average of the weights; 0: none')
    optim_g: OptimizerOptions
    scheduler: SchedulerOptions
    pixel_opt: PixelLossOptions
    alpha_opt: AlphaOptions | None = Field(None, description='with RegularizedL1Loss, and only with it')


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


def _folder_name(name: str) -> str:
    if os.path.basename(name) != name or name in ('', '.', '..'):
        raise ValueError('expected the name of a folder')
    return name


def types_of(block: type[StrictBlock]) -> tuple[str, ...]:
    """Return the classes that `block` has the options of."""
    return block.model_fields['type'].annotation.__args__


class ByType:
    """Metadata of a block whose `type` says which keys it has: its part of the JSON schema.

    Args:
        ours: The block for the classes in its `type`; blocks of other classes are open.
    """

    def __init__(self, ours: type[StrictBlock]) -> None:
        self.ours = ours

    def schema(self, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the schema of one such block."""
        is_ours = {'properties': {'type': {'enum': list(types_of(self.ours))}}}
        ours, other = (handler(block.__pydantic_core_schema__) for block in (self.ours, OpenBlock))
        return {'type': 'object', 'required': ['type'], 'if': is_ours, 'then': ours, 'else': other}

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return self.schema(handler)


class ByPhase:
    """Metadata of `datasets`: its part of the JSON schema."""

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        pairs = ByType(PairOptions).schema(handler)
        return {
            'type': 'object',
            'properties': {'train': ByType(FaceDegradationOptions).schema(handler)},
            'patternProperties': {'^(val|test)(_|$)': pairs},
            'additionalProperties': False,
        }


# What a training needs besides what every file does; a test needs `val` instead.
_BY_PURPOSE = {
    'if': {'properties': {'datasets': {'required': ['train']}}},
    'then': {'required': ['train', 'logger']},
    'else': {'required': ['val']},
}


class RunOptions(DegradationRanges):
    """The top level of an option file, for training and for testing."""

    model_config = ConfigDict(title='Option file', json_schema_extra=_BY_PURPOSE)

    name: Annotated[str, AfterValidator(_folder_name)] = Field(description='name of the run and of its folder')
    model_type: str = Field(description='AlphaRealESRNetModel to train; SRModel to test')
    scale: PositiveCount = Field(4, description='HR size / LR size')
    num_gpu: Count | Literal['auto'] = Field(
        'auto',
        description='of each process; 0: CPU; auto: 1, without a GPU 0; several GPUs: one process each, by torchrun',
    )
    manual_seed: Count | None = Field(None, description='seed of all randomness; none: a random one')
    gt_usm: bool = Field(False, description='sharpen the HR targets')
    gt_size: PositiveCount | None = Field(None, description='crop pairs to this HR size after the degradation')
    queue_size: Count = Field(180, description='pairs in the training pair pool; 0: no pool')
    datasets: Annotated[dict[str, dict[str, Any]], ByPhase()]
    network_g: Annotated[dict[str, Any], ByType(NetworkOptions)]
    path: PathOptions = PathOptions()
    train: TrainOptions | None = None
    val: ValOptions | None = None
    logger: LoggerOptions | None = None
    dist_params: dict[str, Any] | None = Field(None, description='as in files of BasicSR; not used, torchrun says it')
    find_unused_parameters: bool = False
