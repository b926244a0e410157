"""The second stage: the regularised loss and, on the degraded branch, what a discriminator says of the results."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any
from urllib.error import URLError

import torch
from basicsr.archs import build_network
from basicsr.losses import build_loss
from basicsr.utils import get_root_logger
from torch.nn.parallel import DistributedDataParallel

from facesr_plugin.errors import UserError
from facesr_plugin.losses.feature_matching import LayerOutputs, feature_matching
from facesr_plugin.losses.regularized_l1_loss import mean_per_image
from facesr_plugin.models.alpha_realesrnet_model import AlphaRealESRNetModel
from facesr_plugin.models.record import LEARNS_BY
from facesr_plugin.models.step import Part
from facesr_plugin.run import checkpoint
from facesr_plugin.run.finite_guard import FiniteGuard

WINS = 0.01  # of the discriminator's loss where it tells nothing apart: below, it tells all apart
BLIND = 1e-3  # logits; real and generated images lie no further apart


class AlphaRealESRGANModel(AlphaRealESRNetModel):
    """Real-ESRGAN's second stage with the dual-forward loss as its anchor.

    The generator's loss is that of the first stage, `train.pixel_opt`, and for results of degraded faces

        w_gan adversarial + w_feature feature matching (+ perceptual),

    whose weights are those of `train.gan_opt`, `train.feature_opt` and `train.perceptual_opt`. The clean branch keeps
    the pixel term alone. So do results that are off by more than `train.gan_max_error`: where features are lost, a
    discriminator has the generator make some up. It learns from what it judges and the originals, after the generator's
    step. Everything else is the first stage's: degradation, pool, validation, record, states.

    YAML: `model_type: AlphaRealESRGANModel`, `network_d: {type: PatchDiscriminator}`, and in `train` besides what the
    first stage has: `optim_d`, `gan_opt: {type: GANLoss, gan_type: vanilla, loss_weight: 0.1}`.

    Source: Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data".

    Args:
        opt: All options, as `AlphaRealESRNetModel` takes them.

    Raises:
        UserError: As there, or the weights of the perceptual loss cannot be had.
    """

    # ------------------------------------------------------------------ set-up
    def init_training_settings(self) -> None:
        """Add the discriminator and its losses to the first stage's."""
        path, train = self.opt['path'], self.opt['train']
        net_d = build_network(self.opt['network_d'])
        self.execution.lay_out(net_d)
        self.layers = LayerOutputs(net_d)
        self.net_d = self._distribute(net_d)
        if path.get('pretrain_network_d'):
            self.load_network(self.net_d, path['pretrain_network_d'], path.get('strict_load_d', True), 'params')
        self.net_d.train()
        self.cri_gan = build_loss(train['gan_opt']).to(self.device)
        self.feature_weight = (train.get('feature_opt') or {}).get('loss_weight', 0)
        self.cri_perceptual = self._build_perceptual(train['perceptual_opt']) if train.get('perceptual_opt') else None
        self.max_error = train.get('gan_max_error')
        self.guard_d = FiniteGuard(self.device, train.get('grad_clip'))
        self.scaler_d = self.execution.scaler()
        self._judged: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        super().init_training_settings()
        self.print_network(self.net_d)

    def _build_perceptual(self, options: dict[str, Any]) -> torch.nn.Module:
        try:
            return build_loss(options).to(self.device)
        except (URLError, OSError) as error:
            raise UserError(f'train.perceptual_opt: its weights cannot be had: {error}') from error

    def setup_optimizers(self) -> None:
        """Add the discriminator's."""
        super().setup_optimizers()
        options = self.opt['train']['optim_d']
        self.optimizer_d = self.get_optimizer(options.pop('type'), list(self.net_d.parameters()), **options)
        self.optimizers.append(self.optimizer_d)

    # ---------------------------------------------------------------- training
    def optimize_parameters(self, current_iter: int) -> None:
        """Do a step of the generator, then one of the discriminator, on the batch that `feed_data` left.

        Raises:
            RunError: Too many steps of either in a row had a loss or gradients that were not finite.
        """
        self.net_d.requires_grad_(False)
        super().optimize_parameters(current_iter)
        self.net_d.requires_grad_(True)
        self._optimize_discriminator()
        if self.device.type == 'cpu':  # elsewhere it waits for the next log line
            self.guard_d.check(current_iter)

    def _further_loss(self, pred: torch.Tensor, part: Part) -> torch.Tensor | float:
        """Return what the discriminator says of a part's degraded images, and keep them for its own step."""
        loss = 0.0
        for fake, real, share in self._to_judge(pred, part):
            self._judged.append((fake.detach(), real, share))
            loss = loss + share * self._adversarial(fake, real)
        return loss

    def _to_judge(self, pred: torch.Tensor, part: Part) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Yield the part's results that are to be judged, their originals, and their share of the step; or nothing.

        The shares of a step sum to one where all degraded images are judged, in `sampled` on average. A part of which
        some process may judge nothing is judged as a whole then and counts nothing: processes must not differ in how
        often they exchange gradients.
        """
        chosen = ~part.is_clean
        if self.max_error:
            chosen = chosen & (mean_per_image((pred.detach() - part.gt).abs()) <= self.max_error)
        degraded = 1.0 if self.alpha is None else self.cri_pix.branch_weights(self.alpha)[0]
        if chosen.any():
            share = part.weight[chosen].sum() / degraded if degraded else part.weight.new_zeros(())
            yield pred[chosen], part.gt[chosen], share
        elif (self.max_error and not part.is_clean.all()) or self.cri_pix.forward_mode == 'sampled':
            yield pred, part.gt, part.weight.new_zeros(())

    def _adversarial(self, fake: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Return the generator's loss of results beside their originals, besides the pixel term."""
        net_d = self.get_bare_model(self.net_d)  # no gradient of its own to exchange
        l_gan = self.cri_gan(self.execution.run(net_d, fake), True, is_disc=False)
        of_fake, terms = self.layers.take(), {'l_gan': l_gan}
        if self.feature_weight:
            with torch.no_grad():
                self.execution.run(net_d, real)
            terms['l_feature'] = self.feature_weight * feature_matching(of_fake, self.layers.take())
        if self.cri_perceptual:
            terms['l_percep'] = sum(term for term in self.cri_perceptual(fake, real) if term is not None)
        self.record.note({name: term.detach() for name, term in terms.items()})
        return sum(terms.values())

    def _optimize_discriminator(self) -> None:
        judged, self._judged = self._judged, []
        self.optimizer_d.zero_grad(set_to_none=True)
        for number, (fake, real, share) in enumerate(judged, 1):
            hold_back = number < len(judged) and isinstance(self.net_d, DistributedDataParallel)
            with self.net_d.no_sync() if hold_back else nullcontext():
                logits = self.execution.run(self.net_d, torch.cat([real, fake]))
                of_real, of_fake = logits.chunk(2)
                loss = self.cri_gan(of_real, True, is_disc=True) + self.cri_gan(of_fake, False, is_disc=True)
                self.scaler_d.scale(share * loss).backward()
            told = {'l_d': loss, 'd_real': of_real.mean(), 'd_fake': of_fake.mean()}
            self.record.note({name: value.detach() for name, value in told.items()})
        self.layers.take()
        self.guard_d.step(self.optimizer_d, self.scaler_d)

    def get_current_log(self) -> OrderedDict[str, float]:
        """Add the discriminator's part, and warn where it is of no use to the generator."""
        self.guard_d.check(self.current_iter)
        log = super().get_current_log()
        if 'l_d' in log and self.current_iter >= LEARNS_BY:
            zero = torch.zeros(1)
            blind = sum(self.cri_gan(zero, is_real, is_disc=True).item() for is_real in (True, False))
            if log['l_d'] < WINS * blind:
                self._warn('tells every result from its original: too strong for the generator to learn from', 'lower')
            elif abs(log['d_real'] - log['d_fake']) < BLIND:
                self._warn('tells results and originals no longer apart', 'raise')
        return log

    def _warn(self, what: str, do: str) -> None:
        get_root_logger().warning(f'The discriminator {what}; {do} train.optim_d.lr beside train.optim_g.lr.')

    # ------------------------------------------------------------------- files
    def save(self, epoch: int, current_iter: int) -> None:
        """Save the discriminator's weights, too, as BasicSR does."""
        if self.opt['rank'] == 0:
            weights = {name: value.cpu() for name, value in self.get_bare_model(self.net_d).state_dict().items()}
            label = 'latest' if current_iter == -1 else current_iter
            checkpoint.save(self._model_path(label, 'net_d'), {'params': weights})
        super().save(epoch, current_iter)

    def _shared_state(self) -> dict[str, Any]:
        own = {'scaler': self.scaler_d.state_dict(), 'guard': self.guard_d.state_dict()}
        return super()._shared_state() | {'discriminator': own}

    def _load_shared_state(self, saved: dict[str, Any]) -> None:
        super()._load_shared_state(saved)
        if own := saved.get('discriminator'):
            self.scaler_d.load_state_dict(own['scaler'])
            self.guard_d.load_state_dict(own['guard'])
