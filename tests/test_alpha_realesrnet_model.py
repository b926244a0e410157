import copy

import numpy as np
import pytest
import torch
from basicsr.utils import USMSharp
from small import Options, model_options, put
from torch import distributed
from torch.nn import functional as F
from torch.utils.data import DataLoader

from facesr_plugin import AlphaRealESRNetModel
from facesr_plugin.degradations import KernelRanges, sample_kernels
from facesr_plugin.degradations.streams import RandomStreams
from facesr_plugin.errors import UserError


@pytest.fixture
def build(tmp_path):
    def build(changes: Options | None = None, unchecked: Options | None = None) -> AlphaRealESRNetModel:
        """Return the model of `model_options`, then changed to what our entry points would refuse."""
        opt = model_options(tmp_path, changes)
        for path, value in (unchecked or {}).items():
            put(opt, path, value)
        torch.manual_seed(0)
        return AlphaRealESRNetModel(opt)

    return build


def give_batch(model: AlphaRealESRNetModel, size: int = 4) -> None:
    generator = torch.Generator().manual_seed(1)
    model.lq = torch.rand(size, 3, 12, 12, generator=generator)
    model.gt = torch.rand(size, 3, 48, 48, generator=generator)


def gradients(model: AlphaRealESRNetModel, current_iter: int = 1) -> list[torch.Tensor]:
    give_batch(model)
    model.optimize_parameters(current_iter)
    return [p.grad.clone() for p in model.net_g.parameters()]


def kernels(batch: int) -> dict[str, torch.Tensor]:
    streams = RandomStreams(3)
    drawn = [sample_kernels(KernelRanges(), streams.python, streams.numpy) for _ in range(batch)]
    names = ('kernel1', 'kernel2', 'sinc_kernel')
    return {name: torch.from_numpy(np.stack(k)) for name, k in zip(names, zip(*drawn, strict=True), strict=True)}


@pytest.mark.parametrize('forward', ['concat', 'sequential'])
def test_gradient_is_the_equations(build, forward):
    """(1 - alpha) |S(D(I)) - I| + alpha |S(R(I)) - I| by autograd, at the second of four iterations."""
    model = build({'train.pixel_opt.forward': forward})
    net = copy.deepcopy(model.net_g)
    found = gradients(model, current_iter=2)
    alpha = 0.4 + 0.2 * (1 + np.cos(np.pi / 4))
    assert model.alpha == pytest.approx(alpha)
    clean = F.interpolate(model.gt, size=(12, 12), mode='bicubic', antialias=True)
    loss = (1 - alpha) * (net(model.lq) - model.gt).abs().mean() + alpha * (net(clean) - model.gt).abs().mean()
    for value, expected in zip(found, torch.autograd.grad(loss, list(net.parameters())), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-6)
    assert model.get_current_log()['l_pix'] == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize('forward', ['concat', 'sequential'])
def test_accumulated_batches_have_the_gradient_of_the_whole(build, forward):
    pixel_opt = {'type': 'RegularizedL1Loss', 'forward': forward, 'loss_weight': 3.0}
    whole, parts = (gradients(build({'train.pixel_opt': pixel_opt, 'train.accumulate': n})) for n in (1, 2))
    for one, two in zip(whole, parts, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-6)


def test_clipped_gradient_is_shorter_and_points_the_same_way(build):
    whole, clipped = (gradients(build({'train.grad_clip': limit})) for limit in (None, 1e-5))
    norm = torch.cat([gradient.flatten() for gradient in whole]).norm()
    assert norm > 1e-4
    for one, two in zip(whole, clipped, strict=True):
        torch.testing.assert_close(two, one * (1e-5 / norm), rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize('forward', ['concat', 'sequential'])
def test_processes_exchange_gradients_once_a_step(build, tmp_path, forward):
    """With the last chunk's last part: held back there too, they would train apart."""
    store = distributed.FileStore(str(tmp_path / 'store'), 1)
    distributed.init_process_group('gloo', store=store, rank=0, world_size=1)
    try:
        model = build({'train.pixel_opt.forward': forward, 'train.accumulate': 2}, {'dist': True})
        exchanges = []
        net = model.get_bare_model(model.net_g)
        net.register_forward_hook(lambda *_: exchanges.append(model.net_g.require_backward_grad_sync))
        give_batch(model)
        model.optimize_parameters(1)
    finally:
        distributed.destroy_process_group()
    assert exchanges == [False] * (len(exchanges) - 1) + [True]
    assert len(exchanges) == {'concat': 2, 'sequential': 4}[forward]


def test_streams_of_processes_differ(build):
    """They would draw the same damage for their images."""
    drawn = [build(unchecked={'rank': rank}).streams.torch.initial_seed() for rank in (0, 1, 0)]
    assert drawn[0] == drawn[2] != drawn[1]
    assert build({'manual_seed': 4}).streams.torch.initial_seed() != drawn[0]


def test_fp16_scales_the_loss(build):
    """The gradients that the optimiser gets are those of fp32, the ones that are computed larger by the scale."""
    models = {precision: build({'train.precision': precision}) for precision in ('fp32', 'fp16')}
    scaler = models['fp16'].scaler
    assert (models['fp32'].scaler.is_enabled(), scaler.is_enabled()) == (False, True)
    scale, scaled = scaler.get_scale(), []
    original = models['fp16'].guard.step
    models['fp16'].guard.step = lambda *args: scaled.extend(gradient_sums(models['fp16'])) or original(*args)
    found = {precision: gradients(model) for precision, model in models.items()}
    for one, large in zip(found['fp32'], scaled, strict=True):
        assert large == pytest.approx(scale * one.abs().sum().item(), rel=0.05)


def gradient_sums(model: AlphaRealESRNetModel) -> list[float]:
    return [p.grad.abs().sum().item() for p in model.net_g.parameters()]


def test_loss_weight_scales_the_gradient(build):
    one, three = (gradients(build({'train.pixel_opt.loss_weight': weight})) for weight in (1.0, 3.0))
    for small, large in zip(one, three, strict=True):
        torch.testing.assert_close(large, 3 * small, rtol=1e-4, atol=1e-7)


def test_plain_l1_is_experiment_2(build):
    model = build({'train.pixel_opt': {'type': 'L1Loss'}, 'train.alpha_opt': None})
    net = copy.deepcopy(model.net_g)
    found = gradients(model)
    expected = torch.autograd.grad(F.l1_loss(net(model.lq), model.gt), list(net.parameters()))
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(found, expected, strict=True))
    log = model.get_current_log()
    assert model.alpha is None
    assert 'alpha' not in log
    assert 'l_clean' not in log


@pytest.mark.parametrize(
    ('changes', 'expected'),
    [
        ({'train.pixel_opt.forward': 'concat'}, [8]),
        ({'train.pixel_opt.forward': 'sequential', 'train.accumulate': 2}, [2, 2, 2, 2]),
        ({'train.pixel_opt.forward': 'sampled'}, [4]),
        ({'train.alpha_opt': {'start': 0.0, 'end': 0.0}}, [4]),  # nothing of the clean branch is left
    ],
)
def test_what_runs_together(build, changes, expected):
    model = build(changes)
    sizes = []
    model.net_g.register_forward_hook(lambda net, inputs, out: sizes.append(len(out)))
    gradients(model)
    assert sizes == expected
    assert ('l_clean' in model.get_current_log()) == ('train.alpha_opt' not in changes)


def test_moving_average_of_the_weights(build):
    model = build({'train.ema_decay': 0.9})
    before = [p.clone() for p in model.net_g_ema.parameters()]
    gradients(model)
    for average, old, new in zip(model.net_g_ema.parameters(), before, model.net_g.parameters(), strict=True):
        torch.testing.assert_close(average, 0.9 * old + 0.1 * new)


def test_feed_data_takes_bytes_and_floats_alike(build):
    gt = torch.randint(0, 256, (2, 3, 80, 80), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    models = build(), build()
    for model, images in zip(models, (gt, gt / 255), strict=True):
        model.feed_data({'gt': images, **kernels(2)})
    assert torch.equal(models[0].lq, models[1].lq)
    assert models[0].lq.shape == (2, 3, 20, 20)
    torch.testing.assert_close(models[0].gt, gt / 255)


def test_gt_usm_sharpens_targets_as_stock_does(build):
    gt = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    model = build({'gt_usm': True})
    model.feed_data({'gt': gt.clone(), **kernels(1)})
    torch.testing.assert_close(model.gt, USMSharp()(gt), atol=1e-5, rtol=0)


def test_gt_size_crops_the_same_place_of_both(build):
    """Blocks of 4x4 px, each of one colour: HR and LR crop agree if the LR crop is the HR crop's blocks, degraded."""
    model = build({'gt_size': 40})
    gt = torch.arange(24 * 24.0).view(1, 1, 24, 24).repeat(2, 3, 1, 1) / 576
    hr, lr = model._crop(F.interpolate(gt, scale_factor=4, mode='nearest'), gt, 40)
    assert hr.shape == (2, 3, 40, 40)
    assert torch.equal(F.interpolate(lr, scale_factor=4, mode='nearest'), hr)
    with pytest.raises(UserError, match='gt_size: at most 96 expected'):
        model._crop(F.interpolate(gt, scale_factor=4), gt, 100)


def test_pool_mixes_once_it_is_full(build):
    model = build({'queue_size': 3})
    for _ in range(3):
        model.feed_data({'gt': torch.rand(2, 3, 80, 80), **kernels(2)})
    assert model.pool.count == 3


@pytest.mark.parametrize(
    ('path', 'value', 'message'),
    [
        ('train.alpha_opt', None, 'train.alpha_opt: expected with pixel_opt type RegularizedL1Loss'),
        ('train.pixel_opt', {'type': 'L1Loss'}, 'train.alpha_opt: expected with pixel_opt type RegularizedL1Loss'),
        ('train.optim_g.type', 'SGD', "train.optim_g.type: one of Adam, AdamW expected, got 'SGD'"),
        ('resize_prob', [0.5, 0.7, 0.1], 'resize_prob: expected probabilities that sum to 1'),
    ],
)
def test_wrong_options_are_refused_outside_our_entry_points_too(build, path, value, message):
    with pytest.raises(UserError, match=message):
        build(unchecked={path: value})


def test_weights_of_another_network(build, tmp_path):
    path = tmp_path / 'other.pth'
    torch.save({'params': build().net_g.state_dict()}, path)
    model = build({'network_g.num_block': 2})
    expected = r'other\.pth: weights that fit FaceSRResNet expected: lacks body'
    with pytest.raises(UserError, match=expected):
        model.load_network(model.net_g, str(path))


def test_epoch_is_a_function_of_the_iteration(build):
    model = build()
    assert model.epoch is None
    model.iter_per_epoch = 3
    epochs = []
    for model.current_iter in range(8):
        epochs.append(model.epoch)
    assert epochs == [1, 1, 1, 1, 2, 2, 2, 3]


def test_the_state_follows_when_the_iteration_is_over(build, tmp_path):
    """Its weights come before its validation, its state after it: at the next iteration's start, or at the end."""
    model = build()
    states = tmp_path / 'training_states'
    for folder in (states, tmp_path / 'models'):
        folder.mkdir()
    model.current_iter = 2
    model.save(0, 2)
    assert model.is_state_due
    assert not list(states.iterdir())
    model.record.begin_validation('val', 2)
    model.update_learning_rate(3)
    assert torch.load(states / '2.state', weights_only=True)['facesr']['monitor']['validated'] == {'val': 2}
    assert not model.is_state_due
    model.current_iter = 4
    model.save(0, 4)
    model.save(-1, -1)
    assert sorted(path.name for path in tmp_path.rglob('*.*') if path.parent != tmp_path) == [
        '2.state',
        '4.state',
        'net_g_2.pth',
        'net_g_4.pth',
        'net_g_latest.pth',
    ]


def test_validation_runs_the_plain_network_in_fp32(build):
    """Not what `net.compile()` left, which would be compiled anew for each size; and not in TF32 on CUDA."""
    model, seen = build(), []
    forward = model.net_g.forward

    def noted(images: torch.Tensor) -> torch.Tensor:
        seen.append(torch.backends.cudnn.allow_tf32)
        return forward(images)

    model.net_g.forward = noted
    pairs = [{'lq': torch.rand(3, 12, 12), 'gt': torch.rand(3, 48, 48), 'lq_path': 'a.png'}]
    loader = DataLoader(type('Pairs', (list,), {'opt': {'name': 'val'}})(pairs))
    model.net_g._compiled_call_impl = lambda images: pytest.fail('compiled')
    scores = model._score(loader, 1, save_img=False)
    assert scores['params'].metrics['psnr'] > 0
    assert seen == [False]
    assert torch.backends.cudnn.allow_tf32
