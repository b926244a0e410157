"""The BasicSR model: degrade a batch, run one step of the regularised loss, validate beside the baselines, save."""

from collections import OrderedDict
from contextlib import nullcontext
from os import path as osp
from pathlib import Path
from typing import Any

import numpy as np
import torch
from basicsr.utils import get_root_logger, imwrite
from basicsr.utils.registry import MODEL_REGISTRY
from realesrgan.models.realesrnet_model import RealESRNetModel
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from facesr_plugin.degradations import DegradationRanges, RandomStreams, degrade, resize_clean
from facesr_plugin.degradations.blur import usm_sharpen
from facesr_plugin.errors import UserError
from facesr_plugin.losses.alpha_schedule import AlphaSchedule
from facesr_plugin.losses.regularized_l1_loss import RegularizedL1Loss
from facesr_plugin.models import step
from facesr_plugin.models.execution import Execution
from facesr_plugin.models.pair_pool import PairPool
from facesr_plugin.models.record import Monitor, report
from facesr_plugin.models.validation import STANDARD_METRICS, evaluate, evaluate_baselines
from facesr_plugin.run import checkpoint
from facesr_plugin.run import state as training_state
from facesr_plugin.run.finite_guard import FiniteGuard

OPTIMIZERS = {'Adam': torch.optim.Adam, 'AdamW': torch.optim.AdamW}


@MODEL_REGISTRY.register()
class AlphaRealESRNetModel(RealESRNetModel):
    """Real-ESRNet with the dual-forward loss and a scheduled alpha.

    YAML: `model_type: AlphaRealESRNetModel`, the degradation's ranges at the top level (`DegradationRanges`), and
    `train: {pixel_opt: {type: RegularizedL1Loss, ...}, alpha_opt: {start: 0.8, end: 0.4}}`. With `pixel_opt: {type:
    L1Loss}` and no `alpha_opt` it trains plain L1 on the degraded branch.

    Args:
        opt: All options, as BasicSR's parser or `facesr_plugin.options.load.parse_options` returns them.

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
        """Add alpha, random streams, pair pool and the run's record to what `SRModel` sets up."""
        opt = self.opt
        self.current_iter = 0
        self.epoch: int | None = None  # from 1; told by the training loop
        self.tb_logger = None
        self.described: dict[str, Any] | None = None  # the options that its states belong to; told by the training loop
        seed = int(np.random.SeedSequence([opt['manual_seed'], opt['rank']]).generate_state(1)[0])
        self.streams = RandomStreams(seed, self.device)
        self.pool = PairPool(opt['queue_size'], self.streams.torch) if opt.get('queue_size', 180) else None
        self.monitor = Monitor(Path(opt['path']['experiments_root']))
        self.scaler = self.execution.scaler()
        self.guard = FiniteGuard(self.device)
        self.val_sets = [block['name'] for phase, block in opt['datasets'].items() if phase.startswith('val')]
        self.state_due: int | None = None
        super().init_training_settings()
        if self.ema_decay > 0:
            self.execution.lay_out(self.net_g_ema)  # as the network, whose moving average it is
        alpha_opt = opt['train'].get('alpha_opt')
        if isinstance(self.cri_pix, RegularizedL1Loss) != (alpha_opt is not None):
            raise UserError('train.alpha_opt: expected with pixel_opt type RegularizedL1Loss, and only with it')
        self.alpha_schedule = AlphaSchedule(**alpha_opt) if alpha_opt is not None else None
        get_root_logger().info(
            f'Running in {self.execution.precision}, channels_last: {self.execution.channels_last},'
            f' compile: {self.execution.compile}, on {self.device.type}.'
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
        """Do one optimisation step on the batch that `feed_data` left.

        Raises:
            RunError: Too many steps in a row had a loss or gradients that were not finite.
        """
        self.current_iter = current_iter
        self.optimizer_g.zero_grad(set_to_none=True)
        chunks = self.opt['train'].get('accumulate', 1)
        for i, (lq, gt) in enumerate(zip(self.lq.chunk(chunks), self.gt.chunk(chunks), strict=True), 1):
            with self._no_sync() if i < chunks else nullcontext():
                self.monitor.add(self._forward_backward(lq, gt, len(lq) / len(self.lq)))
        self.guard.step(self.optimizer_g, self.scaler)
        if self.device.type == 'cpu':  # elsewhere it waits for the next log line
            self.guard.check(current_iter)
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)

    @torch.no_grad()
    def model_ema(self, decay: float = 0.999) -> None:
        """Move the averaged weights towards the current ones, all in one call."""
        torch._foreach_lerp_(
            list(self.net_g_ema.parameters()), list(self.get_bare_model(self.net_g).parameters()), 1 - decay
        )

    def _forward_backward(self, lq: torch.Tensor, gt: torch.Tensor, share: float) -> step.Step:
        """Add the gradients of a batch's loss times `share`."""
        alpha = self.alpha
        weight = share * (self.cri_pix.loss_weight if alpha is not None else 1.0)

        def net(images: torch.Tensor) -> torch.Tensor:
            return self.execution.run(self.net_g, images)

        def backward(loss: torch.Tensor) -> None:
            self.scaler.scale(weight * loss).backward()

        if alpha is None:
            return step.plain(net, lq, gt, self.cri_pix, backward)
        if alpha == 0:  # nothing of the clean branch is left
            return step.plain(net, lq, gt, F.l1_loss, backward)
        batch = (net, lq, resize_clean(gt, self.opt['scale'], self.cri_pix.clean_mode), gt)
        match self.cri_pix.forward_mode:
            case 'concat':
                return step.concat(*batch, alpha, backward)
            case 'sequential':
                return step.sequential(*batch, alpha, backward, self._no_sync)
            case 'sampled':
                take_clean = torch.rand(len(lq), generator=self.streams.torch) < alpha
                return step.sampled(*batch, take_clean, backward)
        raise AssertionError(self.cri_pix.forward_mode)

    def _no_sync(self) -> Any:
        """Hold back the exchange of gradients between processes."""
        return self.net_g.no_sync() if isinstance(self.net_g, DistributedDataParallel) else nullcontext()

    def get_current_log(self) -> OrderedDict[str, float]:
        """Return the averages since the last log line: losses, alpha, images per second over all processes."""
        self.guard.check(self.current_iter)
        log = OrderedDict(self.monitor.take_log(self.opt['world_size']))
        if self.alpha is not None:
            log['alpha'] = self.alpha
        if self.guard.skipped:
            log['skipped'] = self.guard.skipped.item()
        return log

    # -------------------------------------------------------------- validation
    def validation(self, dataloader: Any, current_iter: int, tb_logger: Any, save_img: bool = False) -> None:
        """Validate, unless these very weights were: BasicSR's loop ends with a validation past `total_iter`."""
        if not self.is_train:
            self.nondist_validation(dataloader, current_iter, tb_logger, save_img)
            return
        name = dataloader.dataset.opt['name']
        if self.monitor.validated.get(name) == self.current_iter:
            return
        self.monitor.validated[name] = self.current_iter
        self.is_train = False
        try:
            self.nondist_validation(dataloader, self.current_iter, tb_logger, save_img)
        finally:
            self.is_train = True
        if self.state_due is not None and name == self.val_sets[-1]:
            self.save_training_state(self.state_due, self.current_iter)
            self.state_due = None

    @torch.no_grad()
    def nondist_validation(self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool) -> None:
        """Score the weights, raw and EMA apart, beside plain enlarging; in training keep the best and add a row.

        In a distributed run each process takes its share of the images.
        """
        opt, name = self.opt, dataloader.dataset.opt['name']
        networks = self._networks()
        metrics = {**STANDARD_METRICS, **(opt['val'].get('metrics') or {})}
        if opt['dist']:
            share = range(opt['rank'], len(dataloader.dataset), opt['world_size'])
            dataloader = DataLoader(Subset(dataloader.dataset, share))
        show = opt['val'].get('pbar', False) and opt['rank'] == 0

        def write(label: str, path: str, image: np.ndarray) -> None:
            if label == list(networks)[-1]:
                imwrite(image, self._image_path(name, path, current_iter))

        for net in networks.values():
            net.eval()
        pairs = tqdm(dataloader, desc=f'Validation {name}', unit='image', disable=not show)
        scores = evaluate(networks, pairs, opt['scale'], metrics, self.device, write if save_img else None)
        networks['params'].train(opt['is_train'])
        if not scores['params'].metrics:
            get_root_logger().warning(f'Validation {name}: no HR images, so nothing is measured')
            return
        if name not in self.baselines:  # they do not change during a run
            self.baselines[name] = evaluate_baselines(dataloader, opt['scale'], metrics['psnr'], self.device)
        best = {}
        if opt['is_train'] and name == self.val_sets[0]:
            reported, baselines = list(scores.values())[-1], self.baselines[name]
            row = {
                'val_loss': reported.loss,
                'val_psnr': reported.metrics['psnr'],
                'val_ssim': reported.metrics['ssim'],
                'raw_psnr': scores['params'].metrics['psnr'],
                'residual': reported.residual,
            }
            self._add_row(row | {f'{mode}_psnr': value for mode, value in baselines.items()}, tb_logger)
            self._keep_best(self.monitor.improved(scores, self.current_iter))
            best = self.monitor.best
        report(name, current_iter, scores, self.baselines[name], best, tb_logger)

    def _image_path(self, dataset: str, path: str, current_iter: int | str) -> str:
        """Return where BasicSR puts a validation image: by image while training, by data set in a test."""
        folder, name = self.opt['path']['visualization'], osp.splitext(osp.basename(path))[0]
        if self.opt['is_train']:
            return osp.join(folder, name, f'{name}_{current_iter}.png')
        return osp.join(folder, dataset, f'{name}_{self.opt["val"].get("suffix") or self.opt["name"]}.png')

    # ------------------------------------------------------- history and files
    def _add_row(self, validation: dict[str, float], tb_logger: Any) -> None:
        """Add a row to the history; every process must call this."""
        row = {
            'epoch': self.epoch,
            'iter': self.current_iter,
            'alpha': self.alpha,
            'lr': self.get_current_learning_rate()[0],
            **self.monitor.take_training(),
            **validation,
        }
        if self.opt['rank'] == 0:
            self.monitor.add_row(row, tb_logger)

    def _keep_best(self, kinds: list[str]) -> None:
        """Put weights into `net_g_best.pth`, which holds raw and EMA weights each at its own best."""
        if not kinds or self.opt['rank'] != 0:
            return
        path, weights = self._model_path('best'), self._weights()
        content = checkpoint.load(path) if Path(path).exists() else {}
        content |= {kind: weights[kind] for kind in kinds}
        checkpoint.save(path, content | {'psnr': {kind: best['psnr'] for kind, best in self.monitor.best.items()}})

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

    def _model_path(self, label: str | int) -> str:
        return osp.join(self.opt['path']['models'], f'net_g_{label}.pth')

    def save(self, epoch: int, current_iter: int) -> None:
        """Save weights and training state; -1 stands for the end of training, whose weights are `latest`.

        Raises:
            RunError: They cannot be written; what was there before still is.
        """
        ended = current_iter == -1
        if not ended and not self.val_sets:
            self._add_row({}, self.tb_logger)
        if self.opt['rank'] == 0:
            checkpoint.save(self._model_path('latest' if ended else current_iter), self._weights())
        if ended:
            return
        if self.val_sets and current_iter % self.opt['val']['val_freq'] == 0:
            self.state_due = epoch  # to be saved once this iteration's validation is part of it
        else:
            self.save_training_state(epoch, current_iter)

    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """Save all that the next iteration depends on besides the weights; see `training_state`."""
        if self.tb_logger:
            self.tb_logger.flush()
        training_state.save(self, epoch, current_iter)
        training_state.prune(self.opt, current_iter)

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Go on from a training state; see `training_state`."""
        super().resume_training(resume_state)
        training_state.restore(self, resume_state)
