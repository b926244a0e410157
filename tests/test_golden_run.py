"""A whole run, computed a second time by plain PyTorch that stands here: history, log, weights, best, pictures.

Only the batches are taken from the run, after their degradation, and the random numbers of `sampled`.
"""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_ssim
from small import Options, picture
from torch.nn import functional as F

from facesr_plugin import AlphaRealESRNetModel, train
from facesr_plugin.data.images import read_image, write_image
from facesr_plugin.models.history import read_history
from facesr_plugin.run import checkpoint

TOTAL, BATCH, VAL_EVERY, LOG_EVERY, FACES = 12, 4, 4, 3, 10
LR, DECAY, BETAS, EPS, EMA = 1e-2, 0.5, (0.8, 0.95), 1e-4, 0.7
START, END = 0.9, 0.1  # so that each branch is the heavier one for a while
Weights = dict[str, torch.Tensor]
RUNS = {
    'concat': ('AdamW', 'bicubic', 2),
    'sequential': ('Adam', 'area', 2),
    'sampled': ('AdamW', 'bilinear', 2),
    'plain': ('Adam', None, 1),
}


@pytest.fixture
def opt(data: Path, opt: Options) -> Options:
    for number in range(3, FACES):
        write_image(data / 'hr' / f'face_{number}.png', picture(96, number))
    for number in range(2):  # sets of their own, of different pictures under the same names
        for name, seed in (('a', 100), ('b', 200)):
            face = np.kron(picture(24, seed + number), np.ones((4, 4, 1), np.uint8))  # with edges
            write_image(data / f'{name}_hr' / f'{number}.png', face)
            write_image(data / f'{name}_lr' / f'{number}.png', face[::4, ::4])
    pairs = opt['datasets']['val']
    for phase, name in (('val', 'a'), ('val_2', 'b')):
        roots = {'dataroot_gt': str(data / f'{name}_hr'), 'dataroot_lq': str(data / f'{name}_lr')}
        opt['datasets'][phase] = {**pairs, **roots, 'name': name}
    opt['train'] |= {'total_iter': TOTAL, 'ema_decay': EMA}
    opt['train']['scheduler'] |= {'periods': [TOTAL], 'eta_min': 1e-4}
    opt['train']['alpha_opt'] = {'start': START, 'end': END}
    opt['val'] |= {'val_freq': VAL_EVERY, 'save_img': True}
    opt['logger'] |= {'print_freq': LOG_EVERY, 'save_checkpoint_freq': VAL_EVERY}
    return opt


# ---------------------------------------------------------------------- the second computation
def network(weights: Weights, images: torch.Tensor) -> torch.Tensor:
    """An SRResNet of one block on top of bilinear enlarging."""

    def conv(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.conv2d(x, weights[f'{name}.weight'], weights[f'{name}.bias'], padding=1)

    def leaky(x: torch.Tensor) -> torch.Tensor:
        return F.leaky_relu(x, 0.1)

    feat = leaky(conv(images, 'conv_first'))
    feat = feat + conv(F.relu(conv(feat, 'body.0.conv1')), 'body.0.conv2')
    for name in ('upconv1', 'upconv2'):
        feat = leaky(F.pixel_shuffle(conv(feat, name), 2))
    base = F.interpolate(images, scale_factor=4, mode='bilinear', align_corners=False)
    return conv(leaky(conv(feat, 'conv_hr')), 'conv_last') + base


class Reference:
    """The method as its equations say: alpha, learning rate, loss, Adam, moving average."""

    def __init__(self, forward: str, weights: Weights) -> None:
        self.forward = forward
        self.optimizer, self.clean_mode, self.accumulate = RUNS[forward]
        self.weights = {name: value.clone().requires_grad_() for name, value in weights.items()}
        self.ema = {name: value.clone() for name, value in weights.items()}
        self.moments = {name: (torch.zeros_like(value), torch.zeros_like(value)) for name, value in weights.items()}
        self.steps: list[dict[str, list[float]]] = []  # per image of each: loss of the branches, PSNR; and of all

    def alpha(self, iteration: int) -> float:
        return END + (START - END) / 2 * (1 + math.cos(math.pi * (iteration - 1) / TOTAL))

    def lr(self, iteration: int) -> float:
        return 1e-4 + (LR - 1e-4) / 2 * (1 + math.cos(math.pi * (iteration - 1) / TOTAL))

    def losses(self, images: torch.Tensor, gt: torch.Tensor) -> tuple[torch.Tensor, list[float]]:
        """Return each image's mean absolute error, and PSNR, dB."""
        pred = network(self.weights, images)
        mse = (pred.detach().clamp(0, 1) - gt).square().mean((1, 2, 3))
        return (pred - gt).abs().mean((1, 2, 3)), (-10 * mse.log10()).tolist()

    def step(self, iteration: int, lq: torch.Tensor, gt: torch.Tensor, numbers: torch.Generator) -> None:
        alpha = self.alpha(iteration)
        degraded, psnr = self.losses(lq, gt)
        if self.forward == 'plain':
            total, seen = degraded.mean(), {'l_degraded': degraded.tolist(), 'psnr': psnr}
        else:
            antialias = self.clean_mode != 'area'
            clean_lq = F.interpolate(gt, scale_factor=1 / 4, mode=self.clean_mode, antialias=antialias)
            clean, _ = self.losses(clean_lq, gt)
            total = (1 - alpha) * degraded.mean() + alpha * clean.mean()
            seen = {'l_degraded': degraded.tolist(), 'l_clean': clean.tolist(), 'psnr': psnr}
            if self.forward == 'sampled':
                chunks = [torch.rand(BATCH // self.accumulate, generator=numbers) for _ in range(self.accumulate)]
                drawn = torch.cat(chunks) < alpha
                total = torch.where(drawn, clean, degraded).mean()
                seen = {'l_degraded': degraded[~drawn].tolist(), 'l_clean': clean[drawn].tolist()}
                seen['psnr'] = [value for value, is_clean in zip(psnr, drawn, strict=True) if not is_clean]
        self.steps.append({**seen, 'l_pix': [total.item()]})
        gradients = torch.autograd.grad(total, list(self.weights.values()))
        self.update(iteration, dict(zip(self.weights, gradients, strict=True)))

    @torch.no_grad()
    def update(self, iteration: int, gradients: Weights) -> None:
        lr = self.lr(iteration)
        for name, weight in self.weights.items():
            gradient = gradients[name]
            if self.optimizer == 'AdamW':  # the decay is apart from the gradient
                weight *= 1 - lr * DECAY
            else:
                gradient = gradient + DECAY * weight
            first, second = self.moments[name]
            first.copy_(BETAS[0] * first + (1 - BETAS[0]) * gradient)
            second.copy_(BETAS[1] * second + (1 - BETAS[1]) * gradient**2)
            mean, square = first / (1 - BETAS[0] ** iteration), second / (1 - BETAS[1] ** iteration)
            weight -= lr * mean / (square.sqrt() + EPS)
            self.ema[name] = EMA * self.ema[name] + (1 - EMA) * weight

    def averages(self, name: str, after: int, until: int) -> float:
        values = [value for step in self.steps[after:until] for value in step.get(name, [])]
        return sum(values) / len(values)


def psnr(image: np.ndarray, other: np.ndarray) -> float:
    return 10 * math.log10(255**2 / np.square(image.astype(float) - other).mean())


@torch.no_grad()
def validate(weights: Weights | str, data: Path, name: str) -> dict[str, float]:
    """Return scores of a set, and the 8-bit results; `weights` may name a way of plain enlarging."""
    scores: dict[str, list] = {'psnr': [], 'ssim': [], 'loss': [], 'residual': [], 'images': []}
    for number in range(2):
        lr, hr = (read_image(data / f'{name}_{side}' / f'{number}.png') for side in ('lr', 'hr'))
        lq, gt = (torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255 for image in (lr, hr))
        base = F.interpolate(lq, scale_factor=4, mode='bilinear', align_corners=False)
        if isinstance(weights, str):
            out = F.interpolate(lq, scale_factor=4, mode=weights, align_corners=False)
        else:
            out = network(weights, lq)
        image = (out[0].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy().astype(np.uint8)
        off = out - base
        scores['psnr'].append(psnr(image, hr))
        scores['ssim'].append(calculate_ssim(image, hr, crop_border=0))
        scores['loss'].append((out - gt).abs().mean().item())
        scores['residual'].append((off - off.mean((2, 3), keepdim=True)).abs().mean().item() * 255)
        scores['images'].append(image)
    return {key: sum(values) / 2 if key != 'images' else values for key, values in scores.items()}


# ------------------------------------------------------------------------------------- the run
def assert_equal_weights(found: Weights, expected: Weights) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value.detach(), rtol=1e-3, atol=5e-5)


@pytest.mark.parametrize('forward', list(RUNS))
def test_a_run_is_what_the_equations_say(launch, opt, data, monkeypatch, forward):
    optimizer, clean_mode, accumulate = RUNS[forward]
    opt['datasets']['train']['batch_size_per_gpu'] = BATCH // accumulate
    opt['train'] |= {'accumulate': accumulate}
    opt['train']['optim_g'] = {'type': optimizer, 'lr': LR, 'weight_decay': DECAY, 'betas': list(BETAS), 'eps': EPS}
    if forward == 'plain':
        opt['train']['pixel_opt'] = {'type': 'L1Loss'}
        del opt['train']['alpha_opt']
    else:
        opt['train']['pixel_opt'] |= {'forward': forward, 'clean_mode': clean_mode}
    references: list[Reference] = []
    kept: dict[int, tuple[Weights, Weights]] = {}
    original = AlphaRealESRNetModel.optimize_parameters

    def step(model: AlphaRealESRNetModel, iteration: int) -> None:
        if not references:
            references.append(Reference(forward, model.net_g.state_dict()))
        numbers = torch.Generator()
        numbers.set_state(model.streams.torch.get_state())
        assert len(model.lq) == BATCH
        references[0].step(iteration, model.lq.clone(), model.gt.clone(), numbers)
        kept[iteration] = tuple(
            {name: value.detach().clone() for name, value in weights.items()}
            for weights in (references[0].weights, references[0].ema)
        )
        original(model, iteration)

    monkeypatch.setattr(AlphaRealESRNetModel, 'optimize_parameters', step)
    status, _, log = launch(train.main, opt)
    assert status == 0, log
    (reference,) = references
    folder = data / 'root' / 'experiments' / 'run'

    # Weights.
    for iteration in (4, 8, 12, 'latest'):
        found = checkpoint.load(folder / 'models' / f'net_g_{iteration}.pth')
        raw, ema = kept[TOTAL if iteration == 'latest' else iteration]
        assert_equal_weights(found['params'], raw)
        assert_equal_weights(found['params_ema'], ema)

    # History: by the first of both sets, EMA weights but for `raw_psnr`.
    history = read_history(folder / 'history.csv')
    assert history['iter'] == [4, 8, 12]
    assert history['epoch'] == [math.ceil(iteration / math.ceil(FACES / BATCH)) for iteration in (4, 8, 12)]
    scores = {i: [validate(weights, data, 'a') for weights in kept[i]] for i in (4, 8, 12)}
    columns = {
        'alpha': [None if forward == 'plain' else reference.alpha(i) for i in (4, 8, 12)],
        'lr': [reference.lr(i) for i in (4, 8, 12)],
        'train_loss': [reference.averages('l_pix', i - VAL_EVERY, i) for i in (4, 8, 12)],
        'train_psnr': [reference.averages('psnr', i - VAL_EVERY, i) for i in (4, 8, 12)],
        'val_loss': [scores[i][1]['loss'] for i in scores],
        'val_psnr': [scores[i][1]['psnr'] for i in scores],
        'val_ssim': [scores[i][1]['ssim'] for i in scores],
        'raw_psnr': [scores[i][0]['psnr'] for i in scores],
        'residual': [scores[i][1]['residual'] for i in scores],
        **{f'{mode}_psnr': [validate(mode, data, 'a')['psnr']] * 3 for mode in ('bilinear', 'bicubic')},
    }
    for name, values in columns.items():
        expected = values if None in values else pytest.approx(values, rel=1e-4, abs=2e-3 if 'psnr' in name else 1e-4)
        assert history[name] == expected, name
    pairs = zip(columns['val_psnr'], columns['raw_psnr'], strict=True)
    assert max(abs(ema - raw) for ema, raw in pairs) > 0.01, 'raw and EMA scores could be mixed up'

    # Log: averages since the line before.
    lines = re.findall(r'iter: +(\d+), lr:\((\S+),\)\].*?((?:\w+: \S+ ?)+)$', log, re.M)
    assert [int(iteration) for iteration, *_ in lines] == [3, 6, 9, 12]
    for number, lr, text in lines:
        iteration, values = int(number), dict(re.findall(r'(\w+): (\S+)', text))
        assert float(lr) == pytest.approx(reference.lr(iteration), rel=1e-3)
        names = ['l_pix', 'l_degraded'] + ([] if forward == 'plain' else ['l_clean'])
        for name in names:
            expected = reference.averages(name, iteration - LOG_EVERY, iteration)
            assert float(values[name]) == pytest.approx(expected, rel=1e-3), name
        assert set(values) - {'img_per_s'} == {*names, *([] if forward == 'plain' else ['alpha'])}
        if forward != 'plain':
            assert float(values['alpha']) == pytest.approx(reference.alpha(iteration), rel=1e-3)
    for iteration in (4, 8, 12):
        for name in ('a', 'b'):
            raw, ema = (validate(weights, data, name)['psnr'] for weights in kept[iteration])
            block = re.search(
                rf'Validation {name}, iter {iteration}:\n\t # network  psnr: (\S+).*\n\t # EMA  psnr: (\S+)', log
            )
            assert [float(value) for value in block.groups()] == pytest.approx([raw, ema], abs=2e-3)

    # Best weights: of each kind by its own score.
    best = checkpoint.load(folder / 'models' / 'net_g_best.pth')
    for number, kind in enumerate(('params', 'params_ema')):
        at = max(scores, key=lambda i: scores[i][number]['psnr'])
        assert best['psnr'][kind] == pytest.approx(scores[at][number]['psnr'], abs=2e-3)
        assert_equal_weights(best[kind], kept[at][number])

    # Pictures: of the EMA weights. Which part of their values differs from those of either kind?
    off: list[list[float]] = [[], []]
    for iteration in (4, 8, 12):
        for name in ('a', 'b'):
            for kind, weights in enumerate(kept[iteration]):
                for number, expected in enumerate(validate(weights, data, name)['images']):
                    file = folder / 'visualization' / name / f'{number}' / f'{number}_{iteration}.png'
                    off[kind].append((read_image(file) != expected).mean())
    assert max(off[1]) < 0.01
    assert max(off[0]) > 0.05
