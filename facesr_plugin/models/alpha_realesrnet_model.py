"""The BasicSR model: degrade a batch, run one step of the regularised loss, validate beside the baselines, save."""

import time
from collections import OrderedDict
from os import path as osp
from pathlib import Path
from typing import Any

import numpy as np
import torch
from basicsr.utils import get_root_logger, imwrite
from basicsr.utils.dist_util import master_only
from basicsr.utils.registry import MODEL_REGISTRY
from realesrgan.models.realesrnet_model import RealESRNetModel
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from facesr_plugin.degradations import DegradationRanges, RandomStreams, degrade, resize_clean
from facesr_plugin.degradations.blur import usm_sharpen
from facesr_plugin.errors import UserError
from facesr_plugin.losses.alpha_schedule import AlphaSchedule
from facesr_plugin.losses.regularized_l1_loss import RegularizedL1Loss
from facesr_plugin.models import checkpoint, dual_forward
from facesr_plugin.models.averages import Averages
from facesr_plugin.models.execution import Execution
from facesr_plugin.models.history import History
from facesr_plugin.models.pair_pool import PairPool
from facesr_plugin.models.validation import STANDARD_METRICS, Scores, evaluate, evaluate_baselines

OPTIMIZERS = {'Adam': torch.optim.Adam, 'AdamW': torch.optim.AdamW}


@MODEL_REGISTRY.register()
class AlphaRealESRNetModel(RealESRNetModel):
    """Real-ESRNet with the dual-forward loss and a scheduled alpha.

    YAML: `model_type: AlphaRealESRNetModel`, the degradation's ranges at the top level (`DegradationRanges`), and
    `train: {pixel_opt: {type: RegularizedL1Loss, ...}, alpha_opt: {start: 0.8, end: 0.4}}`. With `pixel_opt: {type:
    L1Loss}` and no `alpha_opt` it trains plain L1 on the degraded branch.

    Args:
        opt: All options, as BasicSR's parser or `facesr_plugin.options.parse_options` returns them.

    Raises:
        UserError: An option of the blocks above is unknown or wrong, or weights to load do not fit.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self.ranges = DegradationRanges.pick(opt)
        self.baselines: dict[str, dict[str, float]] = {}
        device = torch.device('cuda' if opt['num_gpu'] else 'cpu')
        self.execution = Execution.from_options(opt.get('train') or {}, device)
        # Not RealESRNetModel's: that one puts JPEG and sharpening modules on CUDA, which this model does not use.
        super(RealESRNetModel, self).__init__(opt)

    # ------------------------------------------------------------------ set-up
    def init_training_settings(self) -> None:
        """Add alpha, random streams, pair pool and history to what `SRModel` sets up."""
        opt = self.opt
        self.current_iter = 0
        self.epoch: int | None = None
        seed = int(np.random.SeedSequence([opt['manual_seed'], opt['rank']]).generate_state(1)[0])
        self.streams = RandomStreams(seed, self.device)
        self.pool = PairPool(opt['queue_size'], self.streams.torch) if opt.get('queue_size', 180) else None
        self.log_averages, self.row_averages = Averages(), Averages()
        self.log_started, self.log_images = time.perf_counter(), 0
        self.history = History(Path(opt['path']['experiments_root']) / 'history.csv')
        self.val_sets = [block['name'] for phase, block in opt['datasets'].items() if phase.startswith('val')]
        self.best: dict[str, dict[str, float]] = {}
        self.validated: dict[str, int] = {}
        self.state_due: int | None = None
        self.scaler = self.execution.scaler()
        super().init_training_settings()
        get_root_logger().info(
            f'Running in {self.execution.precision}, channels_last: {self.execution.channels_last},'
            f' compile: {self.execution.compile}, on {self.device.type}.'
        )
        if isinstance(self.cri_pix, RegularizedL1Loss) != ('alpha_opt' in opt['train']):
            raise UserError('train.alpha_opt: expected with pixel_opt type RegularizedL1Loss, and only with it')
        self.alpha_schedule = AlphaSchedule(**opt['train']['alpha_opt']) if 'alpha_opt' in opt['train'] else None

    def get_optimizer(self, optim_type: str, params: list, lr: float, **kwargs: Any) -> torch.optim.Optimizer:
        """Know AdamW besides BasicSR's Adam, and update all parameters in one kernel unless told not to."""
        if optim_type not in OPTIMIZERS:
            raise UserError(f'train.optim_g.type: one of {", ".join(OPTIMIZERS)} expected, got {optim_type!r}')
        return OPTIMIZERS[optim_type](params, lr, **{'fused': self.device.type in ('cpu', 'cuda'), **kwargs})

    def model_to_device(self, net: torch.nn.Module) -> torch.nn.Module:
        """Prepare the network as `train` says; wrap it on the CPU too, where DDP takes no device numbers."""
        self.execution.prepare(net)
        if self.opt['dist'] and self.device.type == 'cpu':
            return DistributedDataParallel(net.to(self.device))
        return super().model_to_device(net)

    def load_network(
        self, net: torch.nn.Module, load_path: str, strict: bool = True, param_key: str | None = 'params'
    ) -> None:
        """Refuse weights of another network in one line; EMA weights that are missing fall back to raw ones."""
        net = self.get_bare_model(net)
        if not strict:
            return super().load_network(net, load_path, strict, param_key)
        if param_key == 'params_ema' and 'params_ema' not in checkpoint.load(load_path):
            param_key = 'params'
        weights, key = checkpoint.load_weights(load_path, param_key)
        checkpoint.check_fit(load_path, weights, net)
        get_root_logger().info(f'Loading {type(net).__name__} from {load_path} ({key or "state dict"}).')
        net.load_state_dict(weights)
        return None

    # ---------------------------------------------------------------- training
    @torch.no_grad()
    def feed_data(self, data: dict[str, Any]) -> None:
        """Take a batch: uint8 HR patches and kernels to degrade, or ready pairs outside of training."""
        if not self.is_train:
            self.lq = data['lq'].to(self.device)
            if 'gt' in data:
                self.gt = data['gt'].to(self.device)
            return
        gt = data['gt'].to(self.device, non_blocking=True)
        if gt.dtype == torch.uint8:
            gt = gt.float().div_(255)
        if self.opt.get('gt_usm', False):
            gt = usm_sharpen(gt)
        kernels = [data[name].to(self.device, non_blocking=True) for name in ('kernel1', 'kernel2', 'sinc_kernel')]
        lq = degrade(gt, *kernels, self.ranges, self.opt['scale'], self.streams)
        if self.opt.get('gt_size'):
            gt, lq = self._crop(gt, lq, self.opt['gt_size'])
        self.lq, self.gt = self.pool.exchange(lq, gt) if self.pool else (lq, gt)
        if 'epoch' in data:
            self.epoch = int(data['epoch'][0]) + 1

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
        if self.alpha_schedule is None:
            return None
        progress = (self.current_iter - 1) / self.opt['train']['total_iter']
        return self.alpha_schedule(min(max(progress, 0.0), 1.0))

    def optimize_parameters(self, current_iter: int) -> None:
        """Do one optimisation step on the batch that `feed_data` left."""
        self.current_iter = current_iter
        self.optimizer_g.zero_grad(set_to_none=True)
        step = self._forward_backward()
        self.scaler.step(self.optimizer_g)
        self.scaler.update()
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)
        self._record(step)

    @torch.no_grad()
    def model_ema(self, decay: float = 0.999) -> None:
        """Move the averaged weights towards the current ones, all in one call."""
        torch._foreach_lerp_(
            list(self.net_g_ema.parameters()), list(self.get_bare_model(self.net_g).parameters()), 1 - decay
        )

    def _forward_backward(self) -> dual_forward.Step:
        alpha = self.alpha
        if alpha is None:
            return dual_forward.plain(self._run, self.lq, self.gt, self.cri_pix, self._backward)
        if alpha == 0:  # nothing of the clean branch is left
            return dual_forward.plain(self._run, self.lq, self.gt, F.l1_loss, self._backward)
        clean_lq = resize_clean(self.gt, self.opt['scale'], self.cri_pix.clean_mode)
        batch = (self._run, self.lq, clean_lq, self.gt)
        match self.cri_pix.forward_mode:
            case 'concat':
                return dual_forward.concat(*batch, alpha, self._backward)
            case 'sequential':
                no_sync = {'no_sync': self.net_g.no_sync} if isinstance(self.net_g, DistributedDataParallel) else {}
                return dual_forward.sequential(*batch, alpha, self._backward, **no_sync)
            case 'sampled':
                take_clean = torch.rand(len(self.lq), generator=self.streams.torch) < alpha
                return dual_forward.sampled(*batch, take_clean, self._backward)
        raise AssertionError(self.cri_pix.forward_mode)

    def _run(self, lq: torch.Tensor) -> torch.Tensor:
        return self.execution.run(self.net_g, lq)

    def _backward(self, loss: torch.Tensor) -> None:
        weight = self.cri_pix.loss_weight if isinstance(self.cri_pix, RegularizedL1Loss) else 1.0
        self.scaler.scale(weight * loss).backward()

    def _record(self, step: dual_forward.Step) -> None:
        """Add a step's values to the averages of the next log line and of the next history row."""
        self.log_images += len(self.lq)
        loss = step.loss.expand(len(self.lq))
        for averages in (self.log_averages, self.row_averages):
            averages.add('l_pix', loss)
            averages.add('l_degraded', step.degraded.loss)
            if step.clean is not None:
                averages.add('l_clean', step.clean.loss)
        self.row_averages.add('psnr', _psnr(step.degraded.pred, step.degraded.gt))

    def get_current_log(self) -> OrderedDict[str, float]:
        """Return the averages since the last log line: losses, alpha, images per second over all processes."""
        log = OrderedDict(self.log_averages.take())
        if self.alpha is not None:
            log['alpha'] = self.alpha
        now = time.perf_counter()
        log['img_per_s'] = self.log_images * self.opt['world_size'] / (now - self.log_started)
        self.log_started, self.log_images = now, 0
        return log

    # -------------------------------------------------------------- validation
    def validation(self, dataloader: Any, current_iter: int, tb_logger: Any, save_img: bool = False) -> None:
        """Validate, unless these very weights were: BasicSR's loop ends with a validation past `total_iter`."""
        if self.is_train:
            name = dataloader.dataset.opt['name']
            current_iter = self.current_iter
            if self.validated.get(name) == current_iter:
                return
            self.validated[name] = current_iter
        super().validation(dataloader, current_iter, tb_logger, save_img)
        if self.is_train and self.state_due is not None and name == self.val_sets[-1]:
            self.save_training_state(self.state_due, current_iter)
            self.state_due = None

    @torch.no_grad()
    def nondist_validation(self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool) -> None:
        """Score the weights, raw and EMA apart, beside plain enlarging; in training keep the best and add a row."""
        dataset = dataloader.dataset.opt['name']
        networks = self._networks()
        metrics = {**STANDARD_METRICS, **(self.opt['val'].get('metrics') or {})}
        pairs = tqdm(dataloader, desc=f'Validation {dataset}', unit='image', disable=not self.opt['val'].get('pbar'))

        def write(name: str, path: str, image: np.ndarray) -> None:
            if name == list(networks)[-1]:
                imwrite(image, self._image_path(dataset, path, current_iter))

        self.net_g.eval()
        try:
            scores = evaluate(networks, pairs, self.opt['scale'], metrics, self.device, write if save_img else None)
        finally:
            self.net_g.train(self.is_train)
        if not scores['params'].metrics:
            get_root_logger().warning(f'Validation {dataset}: no HR images, so nothing is measured')
            return
        if dataset not in self.baselines:  # they do not change during a run
            self.baselines[dataset] = evaluate_baselines(dataloader, self.opt['scale'], metrics['psnr'])
        if self.is_train and dataset == self.val_sets[0]:
            self._keep_best(scores)
            self._add_row(list(scores.values())[-1], self.baselines[dataset], tb_logger)
        self._report(dataset, current_iter, scores, tb_logger)

    def _image_path(self, dataset: str, path: str, current_iter: int | str) -> str:
        """Return where BasicSR puts a validation image: by image while training, by data set in a test."""
        folder, name = self.opt['path']['visualization'], osp.splitext(osp.basename(path))[0]
        if self.opt['is_train']:
            return osp.join(folder, name, f'{name}_{current_iter}.png')
        return osp.join(folder, dataset, f'{name}_{self.opt["val"].get("suffix") or self.opt["name"]}.png')

    def _report(self, dataset: str, current_iter: int | str, scores: dict[str, Scores], tb_logger: Any) -> None:
        """Log each network's scores beside the baselines, and warn where it is no more than one of them."""
        baselines = self.baselines[dataset]
        lines = [f'Validation {dataset}, {f"iter {current_iter:,}" if self.is_train else current_iter}:']
        for name, score in scores.items():
            values = '  '.join(f'{metric}: {value:.4f}' for metric, value in score.metrics.items())
            best = f'  best psnr: {self.best[name]["psnr"]:.4f} @ {self.best[name]["iter"]:,}' if self.is_train else ''
            lines.append(f'\t # {"EMA" if name == "params_ema" else "network"}  {values}  loss: {score.loss:.5f}{best}')
            if tb_logger:
                suffix = '_ema' if name == 'params_ema' else ''
                for metric, value in {**score.metrics, 'loss': score.loss}.items():
                    tb_logger.add_scalar(f'metrics/{dataset}/{metric}{suffix}', value, current_iter)
        psnr = list(scores.values())[-1].metrics['psnr']
        for mode, value in baselines.items():
            lines.append(f'\t # {mode}  psnr: {value:.4f}  (network {psnr - value:+.4f} dB)')
            if tb_logger:
                tb_logger.add_scalar(f'metrics/{dataset}/{mode}_psnr', value, current_iter)
        logger = get_root_logger()
        logger.info('\n'.join(lines))
        for name, score in scores.items():
            if score.collapsed:
                logger.warning(
                    f'{name}: the output equals bilinear upsampling (mean distance {score.residual:.3f} of 255 grey'
                    " levels): the residual path does nothing. Adam's weight_decay does this (it shrinks unused weights"
                    ' to zero): use AdamW or weight_decay 0; a learning rate that is too high can do it too.'
                )

    # ------------------------------------------------------- history and files
    def _add_row(
        self, scores: Scores | None = None, baselines: dict[str, float] | None = None, tb_logger: Any = None
    ) -> None:
        """Add a row to `history.csv` and TensorBoard; without a validation set its columns stay empty."""
        train = self.row_averages.take()
        row = {
            'epoch': self.epoch,
            'iter': self.current_iter,
            'alpha': self.alpha,
            'lr': self.get_current_learning_rate()[0],
            'train_loss': train.get('l_pix'),
            'train_psnr': train.get('psnr'),
        }
        if scores and baselines:
            row |= {'val_loss': scores.loss, 'val_psnr': scores.metrics['psnr'], 'val_ssim': scores.metrics['ssim']}
            row |= {f'{mode}_psnr': value for mode, value in baselines.items()}
        self.history.append(**row)
        if tb_logger:
            for name, value in row.items():
                if value is not None and name != 'iter':
                    tb_logger.add_scalar(f'history/{name}', value, self.current_iter)

    def _keep_best(self, scores: dict[str, Scores]) -> None:
        """Keep the weights of the best validation PSNR in `net_g_best.pth`, raw and EMA each at its own best."""
        better = {
            name: score.metrics['psnr']
            for name, score in scores.items()
            if name not in self.best or score.metrics['psnr'] > self.best[name]['psnr']
        }
        if not better:
            return
        path = self._model_path('best')
        content = checkpoint.load(path) if self.best else {}
        for name, psnr in better.items():
            self.best[name] = {'psnr': psnr, 'iter': self.current_iter}
            content[name] = self._weights()[name]
        content['psnr'] = {name: best['psnr'] for name, best in self.best.items()}
        checkpoint.save(path, content)

    def _weights(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return the state dicts on the CPU in BasicSR's checkpoint format."""
        return {
            key: {name: value.detach().cpu() for name, value in net.state_dict().items()}
            for key, net in self._networks().items()
        }

    def _networks(self) -> dict[str, torch.nn.Module]:
        """Return the network, and its moving average if there is one, under their keys in a checkpoint."""
        networks = {'params': self.get_bare_model(self.net_g)}
        if hasattr(self, 'net_g_ema'):
            networks['params_ema'] = self.net_g_ema
        return networks

    def _model_path(self, label: str | int) -> str:
        return osp.join(self.opt['path']['models'], f'net_g_{label}.pth')

    @master_only
    def save(self, epoch: int, current_iter: int) -> None:
        """Save weights and training state; -1 stands for the end of training, whose weights are `latest`."""
        checkpoint.save(self._model_path('latest' if current_iter == -1 else current_iter), self._weights())
        if current_iter == -1:
            return
        if not self.val_sets:
            self._add_row()
        if self.val_sets and current_iter % self.opt['val']['val_freq'] == 0:
            self.state_due = epoch  # once this iteration's validation is part of it
        else:
            self.save_training_state(epoch, current_iter)

    @master_only
    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """Save all that the next iteration depends on besides the weights."""
        state = {
            'epoch': epoch,
            'iter': current_iter,
            'optimizers': [optimizer.state_dict() for optimizer in self.optimizers],
            'schedulers': [scheduler.state_dict() for scheduler in self.schedulers],
            'facesr': {
                'streams': self.streams.state_dict(),
                'pool': self.pool.state_dict() if self.pool else None,
                'scaler': self.scaler.state_dict(),
                'row_averages': self.row_averages.state_dict(),
                'history': self.history.rows,
                'best': self.best,
                'validated': self.validated,
            },
        }
        checkpoint.save(osp.join(self.opt['path']['training_states'], f'{current_iter}.state'), state)

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Go on from a state; one that stock BasicSR wrote lacks what only this model saves."""
        super().resume_training(resume_state)
        self.current_iter = resume_state['iter']
        own = resume_state.get('facesr')
        if own is None:
            get_root_logger().warning('The training state is of another model: pair pool and history start anew.')
            return
        self.streams.load_state_dict(own['streams'])
        if self.pool:
            self.pool.load_state_dict(own['pool'], self.device)
        self.scaler.load_state_dict(own['scaler'])
        self.row_averages.load_state_dict(own['row_averages'], self.device)
        self.history.restore(own['history'])
        self.best = own['best']
        self.validated = own['validated']


def _psnr(pred: torch.Tensor, gt: torch.Tensor) -> torch.Tensor:
    """Return each image's PSNR in dB, (B,), of (B, C, H, W) in [0, 1], not rounded to 8 bits."""
    mse = (pred.clamp(0, 1) - gt).square_().flatten(1).mean(1)
    return -10 * torch.log10(mse.clamp_min(1e-12))
