"""The BasicSR model: degrade a batch, run one step of the regularised loss, validate beside the baselines, save."""

from collections import OrderedDict
from contextlib import AbstractContextManager, nullcontext
from os import path as osp
from pathlib import Path
from typing import Any

import numpy as np
import torch
from basicsr.utils import get_root_logger, imwrite
from realesrgan.models.realesrnet_model import RealESRNetModel
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from facesr_plugin.degradations import DegradationRanges, RandomStreams, degrade, resize_clean
from facesr_plugin.degradations.blur import usm_sharpen
from facesr_plugin.errors import UserError
from facesr_plugin.losses.alpha_schedule import AlphaSchedule
from facesr_plugin.losses.regularized_l1_loss import check_alpha, l1_per_image
from facesr_plugin.models import step
from facesr_plugin.models.execution import Execution
from facesr_plugin.models.pair_pool import PairPool
from facesr_plugin.models.record import BestRule, Record, report
from facesr_plugin.models.validation import STANDARD_METRICS, Scores, evaluate, evaluate_baselines
from facesr_plugin.run import checkpoint, state
from facesr_plugin.run.device import device_for, device_of_data
from facesr_plugin.run.finite_guard import FiniteGuard
from facesr_plugin.run.processes import from_first

PROGRESS = ('base_lrs', 'last_epoch', '_step_count', '_last_lr')  # of a scheduler's state; the rest is its options
OPTIMIZERS = {'Adam': torch.optim.Adam, 'AdamW': torch.optim.AdamW}


class AlphaRealESRNetModel(RealESRNetModel):
    """Real-ESRNet with the dual-forward loss and a scheduled alpha.

    YAML: `model_type: AlphaRealESRNetModel`, the degradation's ranges at the top level (`DegradationRanges`), and
    `train: {pixel_opt: {type: RegularizedL1Loss, ...}, alpha_opt: {start: 0.8, end: 0.4}}`. With `pixel_opt: {type:
    L1Loss}` and no `alpha_opt` it trains plain L1 on the degraded branch.

    BasicSR's loop saves an iteration before it validates it. The state must hold the validation, too, so `save` writes
    the weights, and the state follows when the iteration is over: at the start of the next one, in which the loop calls
    `update_learning_rate` first, at the end of training, or when the training is stopped (`finish_iteration`).

    Args:
        opt: All options, as BasicSR's parser or `facesr_plugin.options.load.parse_options` returns them.

    Attributes:
        iter_per_epoch: Told by our training loop, for the epochs of the history.
        checked_opt: The options that its states belong to, as they were checked; told by our training loop.
        data: The fingerprint of the training images that its states belong to; told by our training loop.
        tb_logger: TensorBoard's writer or None; told by our training loop.

    Raises:
        UserError: An option of the blocks above is unknown or wrong, or weights to load do not fit.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self.ranges = DegradationRanges.pick(opt)
        self.baselines: dict[str, dict[str, float]] = {}
        self.decides: str | None = (opt.get('val') or {}).get('decides')  # else the first set with HR images
        self.val_data: dict[str, dict[str, int]] = {}  # fingerprints of validation sets
        self.execution = Execution.from_options(opt.get('train') or {}, device_for(opt['num_gpu']))
        self.data_device = device_of_data(self.execution.device)
        # Not RealESRNetModel's: that one puts JPEG and sharpening modules on CUDA, which this model does not use.
        super(RealESRNetModel, self).__init__(opt)

    # ------------------------------------------------------------------ set-up
    def init_training_settings(self) -> None:
        """Add alpha, random streams, pair pool and the run's record to what `SRModel` sets up."""
        opt = self.opt
        self.current_iter = 0
        self.iter_per_epoch: int | None = None
        self.checked_opt: dict[str, Any] | None = None
        self.data: dict[str, Any] | None = None
        self.tb_logger: Any = None
        self._state_due: int | None = None  # the epoch of an iteration whose state is due
        self._saved: tuple[int, int] | None = None  # epoch and iteration of the last state that was saved
        seed = int(np.random.SeedSequence([opt['manual_seed'], opt['rank']]).generate_state(1)[0])
        self.streams = RandomStreams(seed, self.data_device)
        self.pool = PairPool(opt['queue_size'], self.streams.torch) if opt.get('queue_size', 180) else None
        self.record = Record(Path(opt['path']['experiments_root']), BestRule.from_options(opt.get('val') or {}))
        self.scaler = self.execution.scaler()
        self.guard = FiniteGuard(self.device, opt['train'].get('grad_clip'))
        self.val_sets = [block['name'] for phase, block in opt['datasets'].items() if phase.startswith('val')]
        super().init_training_settings()
        alpha_opt = opt['train'].get('alpha_opt')
        try:
            check_alpha(type(self.cri_pix), alpha_opt is not None)
        except ValueError as error:
            raise UserError(f'train.alpha_opt: {error}') from error
        self.alpha_schedule = AlphaSchedule(**alpha_opt) if alpha_opt is not None else None
        if self.ema_decay > 0:
            self.execution.lay_out(self.net_g_ema)  # as the network, whose moving average it is
        get_root_logger().info(
            f'Running in {self.execution.precision}, channels_last: {self.execution.channels_last},'
            f' compile: {self.execution.compile}, on {self.device.type}.'
        )
        if self.data_device != self.device:
            get_root_logger().info(
                f'Images are degraded on the {self.data_device.type}: {self.device.type} lacks some of what that takes.'
            )

    def get_optimizer(self, optim_type: str, params: list, lr: float, **kwargs: Any) -> torch.optim.Optimizer:
        """Know AdamW besides BasicSR's Adam, and update all parameters in one kernel unless told not to."""
        if optim_type not in OPTIMIZERS:
            raise UserError(f'train.optim_g.type: one of {", ".join(OPTIMIZERS)} expected, got {optim_type!r}')
        if kwargs.get('fused') is None:
            kwargs['fused'] = self.device.type in ('cpu', 'cuda')
        return OPTIMIZERS[optim_type](params, lr, **kwargs)

    def model_to_device(self, net: torch.nn.Module) -> torch.nn.Module:
        """Prepare the network as `train` says; wrap it on the CPU too, where DDP takes no device numbers."""
        self.device = self.execution.device  # BasicSR's constructor knows CUDA and the CPU only
        self.execution.prepare(net)
        return self._distribute(net)

    def _distribute(self, net: torch.nn.Module) -> torch.nn.Module:
        if self.opt['dist'] and self.device.type == 'cpu':
            return DistributedDataParallel(net.to(self.device))
        return super().model_to_device(net)

    def load_network(
        self, net: torch.nn.Module, load_path: str, strict: bool = True, param_key: str | None = 'params'
    ) -> None:
        """Refuse weights of another network in one line; EMA weights that are missing fall back to raw ones."""
        net = self.get_bare_model(net)

        def read() -> tuple[dict[str, torch.Tensor], str]:
            has_none = param_key == 'params_ema' and 'params_ema' not in checkpoint.load(load_path)
            weights, key = checkpoint.load_weights(load_path, 'params' if has_none else param_key)
            if strict:
                checkpoint.check_fit(load_path, weights, net)
            return weights, key

        weights, key = from_first(read)  # the file need not be on the machines of the others
        if not strict:  # BasicSR names what does not fit, and puts those of another shape aside
            self._print_different_keys_loading(net, weights, strict)
        get_root_logger().info(f'Loading {type(net).__name__} from {load_path} ({key or "state dict"}).')
        net.load_state_dict(weights, strict)

    # ---------------------------------------------------------------- training
    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        """End the iteration before: the loop does this first in each."""
        self.finish_iteration()
        super().update_learning_rate(current_iter, warmup_iter)

    @torch.no_grad()
    def feed_data(self, data: dict[str, Any]) -> None:
        """Take a batch of HR patches, uint8 or float in [0, 1], and of kernels; degrade it and mix it with the pool."""
        gt = data['gt'].to(self.data_device, non_blocking=True)
        if gt.dtype == torch.uint8:
            gt = gt.float().div_(255)
        if self.opt.get('gt_usm', False):
            gt = usm_sharpen(gt)
        kernels = [data[name].to(self.data_device, non_blocking=True) for name in ('kernel1', 'kernel2', 'sinc_kernel')]
        lq = degrade(gt, *kernels, self.ranges, self.opt['scale'], self.streams)
        if self.opt.get('gt_size'):
            gt, lq = self._crop(gt, lq, self.opt['gt_size'])
        pairs = self.pool.exchange(lq, gt) if self.pool else (lq, gt)
        self.lq, self.gt = (images.to(self.device) for images in pairs)

    def _crop(self, gt: torch.Tensor, lq: torch.Tensor, gt_size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cut the same random patch out of every pair."""
        scale = self.opt['scale']
        size = gt_size // scale
        if min(lq.shape[2:]) < size:
            raise UserError(f'gt_size: at most {min(gt.shape[2:])} expected (the HR patch), got {gt_size}')
        top = self.streams.python.randint(0, lq.shape[2] - size)
        left = self.streams.python.randint(0, lq.shape[3] - size)
        lq = lq[:, :, top : top + size, left : left + size]
        top, left = top * scale, left * scale
        return gt[:, :, top : top + gt_size, left : left + gt_size].contiguous(), lq.contiguous()

    @property
    def alpha(self) -> float | None:
        """Weight of the clean branch at the current iteration; None under a plain loss."""
        return self.alpha_schedule and self.alpha_schedule.at(self.current_iter, self.opt['train']['total_iter'])

    @property
    def epoch(self) -> int | None:
        """Epoch of the current iteration, from 1; None where the loop does not tell how long one is."""
        return self.iter_per_epoch and max(self.current_iter - 1, 0) // self.iter_per_epoch + 1

    def optimize_parameters(self, current_iter: int) -> None:
        """Do one optimisation step on the batch that `feed_data` left.

        Raises:
            RunError: Too many steps in a row had a loss or gradients that were not finite.
        """
        self.current_iter = current_iter
        self.optimizer_g.zero_grad(set_to_none=True)
        outcomes = step.run_step(
            self._parts(), self._run_network, self._loss_of, self._backward, self._no_sync, self._further_loss
        )
        self.record.add(outcomes, len(self.lq))
        self.guard.step(self.optimizer_g, self.scaler)
        if self.device.type == 'cpu':  # elsewhere it waits for the next log line
            self.guard.check(current_iter)
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)

    def _parts(self) -> list[step.Part]:
        """Cut the batch in `accumulate` chunks, and each in the parts that the loss asks for."""
        chunks = self.opt['train'].get('accumulate', 1)
        return [
            part
            for lq, gt in zip(self.lq.chunk(chunks), self.gt.chunk(chunks), strict=True)
            for part in self._parts_of(lq, gt, len(lq) / len(self.lq))
        ]

    def _parts_of(self, lq: torch.Tensor, gt: torch.Tensor, share: float) -> list[step.Part]:
        """Return the parts of a chunk; `share` is its part of the batch."""
        if self.alpha is None:
            return step.degraded_only(lq, gt, share)
        degraded, clean = (share * weight for weight in self.cri_pix.branch_weights(self.alpha))
        if clean == 0:  # nothing of the clean branch is left
            return step.degraded_only(lq, gt, degraded)
        clean_lq = resize_clean(gt.to(self.data_device), self.opt['scale'], self.cri_pix.clean_mode).to(self.device)
        branches = (lq, clean_lq, gt, (degraded, clean))
        match self.cri_pix.forward_mode:
            case 'concat':
                return step.concat(*branches)
            case 'sequential':
                return step.sequential(*branches)
            case 'sampled':
                return step.sampled(*branches, self.streams.torch)
        raise AssertionError(self.cri_pix.forward_mode)

    def _run_network(self, images: torch.Tensor) -> torch.Tensor:
        return self.execution.run(self.net_g, images)

    def _loss_of(self, pred: torch.Tensor, part: step.Part) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a part's loss, and each image's: of `cri_pix`, or of L1 where that is one of BasicSR's scalars."""
        if self.alpha is None:
            share = len(part.gt) / len(self.gt)
            return share * self.cri_pix(pred, part.gt), l1_per_image(pred.detach(), part.gt)
        per_image = self.cri_pix(pred, part.gt)
        return (part.weight * per_image).sum(), per_image

    def _further_loss(self, pred: torch.Tensor, part: step.Part) -> torch.Tensor | float:
        """Return what a part's gradient is of besides the pixel loss."""
        del pred, part
        return 0.0

    def _backward(self, loss: torch.Tensor) -> None:
        self.scaler.scale(loss).backward()

    def _no_sync(self) -> AbstractContextManager:
        """Hold back the exchange of gradients between processes."""
        return self.net_g.no_sync() if isinstance(self.net_g, DistributedDataParallel) else nullcontext()

    @torch.no_grad()
    def model_ema(self, decay: float = 0.999) -> None:
        """Move the averaged weights towards the current ones, all in one call."""
        torch._foreach_lerp_(
            list(self.net_g_ema.parameters()), list(self.get_bare_model(self.net_g).parameters()), 1 - decay
        )

    def get_current_log(self) -> OrderedDict[str, float]:
        """Return the averages since the last log line: losses, alpha, images per second over all processes."""
        self.guard.check(self.current_iter)
        log = OrderedDict(self.record.take_log(self.opt['world_size']))
        if self.alpha is not None:
            log['alpha'] = self.alpha
        if self.guard.skipped:
            log['skipped'] = self.guard.skipped.item()
        return log

    # -------------------------------------------------------------- validation
    def validation(
        self, dataloader: DataLoader, current_iter: int | str, tb_logger: Any, save_img: bool = False
    ) -> None:
        """Score the weights, raw and EMA apart, beside plain enlarging; in training keep the best and add a row.

        `val.decides` names the set by which they are kept; by default it is the first with HR images.
        Weights that were scored are not scored again: BasicSR's loop ends with a validation past `total_iter`.
        """
        name = dataloader.dataset.opt['name']
        if self.is_train:
            current_iter = self.current_iter
            if not self.record.begin_validation(name, current_iter):
                return
        scores = self._score(dataloader, current_iter, save_img)
        has_hr = 'psnr' in scores['params'].metrics
        if not has_hr:
            self._tell_no_hr(name)
        elif self.decides is None:
            self.decides = name
        decides = self.is_train and name == self.decides
        if decides:
            self._add_row(scores, self.baselines[name], tb_logger)
            self._keep_best(scores, name)
        elif self.is_train and self.decides is None and name == self.val_sets[-1]:  # no set has HR images
            self._add_row({}, {}, tb_logger)
        elif self.is_train and has_hr and self.opt['rank'] == 0:
            self.record.keep_further(name, current_iter, scores, self.baselines[name])
        if scores['params'].metrics:
            best = self.record.best if decides else {}
            baselines, optimizer = self.baselines[name] if has_hr else {}, next(iter(self.optimizers), None)
            report(name, current_iter, scores, baselines, best, tb_logger, optimizer)
        if self.is_train and self._saved and self._saved[1] == current_iter:  # the run has ended; it may be extended
            self.save_training_state(*self._saved)

    def _tell_no_hr(self, name: str) -> None:
        if self.is_train and name == self.decides:
            raise UserError(f'val.decides: a set with HR images expected, {name} has none')
        get_root_logger().warning(f'Validation {name}: no HR images, so nothing is compared with them')

    @torch.no_grad()
    def _score(self, dataloader: DataLoader, current_iter: int | str, save_img: bool) -> dict[str, Scores]:
        """Score each network, and plain enlarging once a run; in a distributed run each process takes its share."""
        opt, name = self.opt, dataloader.dataset.opt['name']
        networks = self._networks()
        metrics = {**STANDARD_METRICS, **(opt['val'].get('metrics') or {})}
        if opt['dist']:
            share = range(opt['rank'], len(dataloader.dataset), opt['world_size'])
            dataloader = DataLoader(Subset(dataloader.dataset, share))

        def write(label: str, path: str, image: np.ndarray) -> None:
            if label == list(networks)[-1]:
                imwrite(image, self._image_path(name, path, current_iter))

        for net in networks.values():
            net.eval()
        show = opt['val'].get('pbar', False) and opt['rank'] == 0
        pairs = tqdm(dataloader, desc=f'Validation {name}', unit='image', disable=not show)
        # Not the modules: what is compiled is compiled for training, and would be anew for each size and mode.
        forwards = {label: net.forward for label, net in networks.items()}
        with self.execution.exact():
            scores = evaluate(forwards, pairs, opt['scale'], metrics, self.device, write if save_img else None)
        networks['params'].train(self.is_train)
        if 'psnr' in scores['params'].metrics and name not in self.baselines:  # they do not change during a run
            baselines = evaluate_baselines(dataloader, opt['scale'], metrics['psnr'], self.device)
            self.baselines[name], self.val_data[name] = baselines
        return scores

    def _image_path(self, dataset: str, path: str, current_iter: int | str) -> str:
        """Return where BasicSR puts a validation image: by image while training, by data set in a test.

        While training with several sets it is by data set and image: their file names may be equal.
        """
        folder, name = self.opt['path']['visualization'], osp.splitext(osp.basename(path))[0]
        if self.is_train:
            sets = [dataset] if len(self.val_sets) > 1 else []
            return osp.join(folder, *sets, name, f'{name}_{current_iter}.png')
        return osp.join(folder, dataset, f'{name}_{self.opt["val"].get("suffix") or self.opt["name"]}.png')

    def _add_row(self, scores: dict[str, Scores], baselines: dict[str, float], tb_logger: Any) -> None:
        """Add a row to the history, of a run without validation an empty one; every process must call this."""
        row = {
            'epoch': self.epoch,
            'iter': self.current_iter,
            'alpha': self.alpha,
            'lr': self.get_current_learning_rate()[0],
            **self.record.take_training(),
            **{f'{mode}_psnr': value for mode, value in baselines.items()},
        }
        if scores:
            reported = list(scores.values())[-1]
            row |= {
                'val_loss': reported.loss,
                'val_psnr': reported.metrics['psnr'],
                'val_ssim': reported.metrics['ssim'],
                'raw_psnr': scores['params'].metrics['psnr'],
                'residual': reported.residual,
            }
        if self.opt['rank'] == 0:
            self.record.add_row(row, tb_logger)

    # ------------------------------------------------------------------- files
    def _keep_best(self, scores: dict[str, Scores], name: str) -> None:
        """Keep weights that are the best so far in `net_g_best.pth`: raw and EMA weights each at its own best.

        Args:
            scores: By kind of weights.
            name: Of the validation set that they are of.
        """
        psnr = (self.opt['val'].get('metrics') or {}).get('psnr', STANDARD_METRICS['psnr'])
        rule = {} if self.record.rule == BestRule() else {'rule': vars(self.record.rule)}
        self.record.measure_on({'name': name, **self.val_data[name], 'psnr': psnr, **rule})
        kinds = self.record.improved(scores, self.current_iter)
        if not kinds or self.opt['rank'] != 0:
            return
        path, weights = self._model_path('best'), self._weights()
        content = checkpoint.load(path) if Path(path).exists() else {}
        content = {kind: content[kind] for kind in content.keys() & self.record.best}
        content |= {kind: weights[kind] for kind in kinds}
        checkpoint.save(path, content | {'psnr': {kind: best['psnr'] for kind, best in self.record.best.items()}})

    def _networks(self) -> dict[str, torch.nn.Module]:
        """Return the network, and its moving average if there is one, under their keys in a checkpoint."""
        networks = {'params': self.get_bare_model(self.net_g)}
        if hasattr(self, 'net_g_ema'):
            networks['params_ema'] = self.net_g_ema
        return networks

    def _weights(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return the state dicts on the CPU in BasicSR's checkpoint format."""
        return {
            key: {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
            for key, net in self._networks().items()
        }

    def _model_path(self, label: str | int, net: str = 'net_g') -> str:
        return osp.join(self.opt['path']['models'], f'{net}_{label}.pth')

    def save(self, epoch: int, current_iter: int) -> None:
        """Save the weights of an iteration, whose state is due then; -1 is the end of training and `latest`.

        Raises:
            RunError: They cannot be written; what was there before still is.
        """
        ended = current_iter == -1
        if ended:
            self.finish_iteration()
        elif not self.val_sets:
            self._add_row({}, {}, self.tb_logger)
        if self.opt['rank'] == 0:
            checkpoint.save(self._model_path('latest' if ended else current_iter), self._weights())
        if not ended:
            self._state_due = epoch

    @property
    def is_state_due(self) -> bool:
        """Whether the current iteration's weights are saved and its state is not yet."""
        return self._state_due is not None

    def finish_iteration(self) -> None:
        """Save the state of the iteration that is over if it is due."""
        if self._state_due is not None:
            self.save_training_state(self._state_due, self.current_iter)
            self._state_due = None

    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """Save all that the next iteration depends on besides the weights; every process must call this.

        Raises:
            RunError: It cannot be written.
        """
        if self.tb_logger:
            self.tb_logger.flush()
        folder = Path(self.opt['path']['training_states'])
        own = {
            'streams': self.streams.state_dict(),
            'pool': self.pool.state_dict() if self.pool else None,
            'averages': self.record.averages(),
        }
        stock = {
            'epoch': epoch,
            'iter': current_iter,
            'optimizers': [optimizer.state_dict() for optimizer in self.optimizers],
            'schedulers': [scheduler.state_dict() for scheduler in self.schedulers],
        }
        state.save(folder, {**stock, 'facesr': self._shared_state()}, own)
        self._saved = epoch, current_iter
        if self.opt['rank'] == 0:
            state.prune(folder, Path(self.opt['path']['models']), self.opt['logger'].get('keep_states'))

    def _shared_state(self) -> dict[str, Any]:
        """Return what is one for all processes."""
        return {
            'options': self.checked_opt,
            'data': self.data,
            'scaler': self.scaler.state_dict(),
            'guard': self.guard.state_dict(),
            'monitor': self.record.state_dict(),
        }

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Go on from a training state; one that stock BasicSR wrote lacks the model's own part.

        Raises:
            UserError: The pool or the streams of this process do not fit.
        """
        own = [scheduler.state_dict() for scheduler in self.schedulers]
        super().resume_training(resume_state)
        for scheduler, options in zip(self.schedulers, own, strict=True):  # what is to come may have been changed
            scheduler.load_state_dict({key: value for key, value in options.items() if key not in PROGRESS})
        self.current_iter = resume_state['iter']
        saved = resume_state.get('facesr')
        if saved is None:
            get_root_logger().warning('The training state is of another model: pair pool and history start anew.')
            return
        self._load_shared_state(saved)
        try:
            self.streams.load_state_dict(saved['streams'])
            if self.pool and saved['pool']:
                self.pool.load_state_dict(saved['pool'], self.data_device)
        except ValueError as error:
            raise UserError(f'path.resume_state: {error}') from error

    def _load_shared_state(self, saved: dict[str, Any]) -> None:
        self.scaler.load_state_dict(saved['scaler'])
        if 'guard' in saved:  # states saved before it was part of them lack it
            self.guard.load_state_dict(saved['guard'])
        self.record.load_state_dict(saved['monitor'], saved.get('averages'), self.opt['rank'], self.device)
