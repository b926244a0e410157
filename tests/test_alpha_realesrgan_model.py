"""The second stage: its losses against values computed by hand, what each step's gradients reach, exact resuming."""

import copy
import logging
import math

import pytest
import torch
from realesrgan.archs.discriminator_arch import UNetDiscriminatorSN
from small import SECOND_STAGE, Options, model_options
from tiny import FACES
from torch.nn import functional as F

from facesr_plugin import AlphaRealESRGANModel, PatchDiscriminator
from facesr_plugin.data.images import list_images, read_image
from facesr_plugin.models import alpha_realesrgan_model

GAN, FEATURE = SECOND_STAGE['train.gan_opt']['loss_weight'], 2.0


@pytest.fixture
def build(tmp_path):
    def build(changes: Options | None = None) -> AlphaRealESRGANModel:
        torch.manual_seed(0)
        return AlphaRealESRGANModel(model_options(tmp_path, {**SECOND_STAGE, **(changes or {})}))

    return build


def give_batch(model: AlphaRealESRGANModel, size: int = 4) -> None:
    generator = torch.Generator().manual_seed(1)
    model.lq = torch.rand(size, 3, 12, 12, generator=generator)
    model.gt = torch.rand(size, 3, 48, 48, generator=generator)


def frozen(model: AlphaRealESRGANModel) -> torch.nn.Module:
    """A copy of the discriminator without hooks."""
    net_d = copy.deepcopy(model.net_d)
    for layer in net_d.modules():
        layer._forward_hooks.clear()
    return net_d


def features(net_d: PatchDiscriminator, images: torch.Tensor) -> list[torch.Tensor]:
    found, images = [], 2 * images - 1
    for number, layer in enumerate(net_d.layers):
        found.append(layer(images))
        images = found[-1]
        if number:  # the first is not normalised
            variance, mean = torch.var_mean(images, (2, 3), correction=0, keepdim=True)
            images = (images - mean) / (variance + 1e-5).sqrt()
        images = F.leaky_relu(images, 0.2)
    return found


@pytest.mark.parametrize('forward', ['concat', 'sequential'])
@pytest.mark.parametrize(('gan_type', 'accumulate'), [('vanilla', 1), ('hinge', 1), ('lsgan', 2)])
def test_losses_are_the_equations(build, forward, gan_type, accumulate):
    changes = {'train.pixel_opt.forward': forward, 'train.gan_opt.gan_type': gan_type}
    model = build({**changes, 'train.accumulate': accumulate, 'train.feature_opt': {'loss_weight': FEATURE}})
    net_g, net_d = copy.deepcopy(model.net_g), frozen(model)
    give_batch(model)
    model.optimize_parameters(2)

    alpha = 0.4 + 0.2 * (1 + math.cos(math.pi / 4))
    clean = F.interpolate(model.gt, size=(12, 12), mode='bicubic', antialias=True)
    fake = net_g(model.lq)
    pixel = (1 - alpha) * (fake - model.gt).abs().mean() + alpha * (net_g(clean) - model.gt).abs().mean()
    of_fake, of_real = net_d(fake), net_d(model.gt)
    to_real = {'vanilla': F.softplus(-of_fake), 'hinge': -of_fake, 'lsgan': (of_fake - 1) ** 2}[gan_type].mean()
    pairs = zip(features(net_d, fake), features(net_d, model.gt), strict=True)
    matching = sum((one - other).abs().mean() for one, other in pairs) / 2
    generator = pixel + GAN * to_real + FEATURE * matching
    for parameter, expected in zip(
        model.net_g.parameters(), torch.autograd.grad(generator, list(net_g.parameters())), strict=True
    ):
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-3, atol=1e-6)

    of_fake = net_d(fake.detach())
    discriminator = {
        'vanilla': F.softplus(-of_real).mean() + F.softplus(of_fake).mean(),
        'hinge': F.relu(1 - of_real).mean() + F.relu(1 + of_fake).mean(),
        'lsgan': ((of_real - 1) ** 2).mean() + (of_fake**2).mean(),
    }[gan_type]
    for parameter, expected in zip(
        model.net_d.parameters(), torch.autograd.grad(discriminator, list(net_d.parameters())), strict=True
    ):
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-3, atol=1e-6)
    log = model.get_current_log()
    assert log['l_d'] == pytest.approx(discriminator.item(), rel=1e-4)
    assert log['l_gan'] == pytest.approx(GAN * to_real.item(), rel=1e-4)
    assert log['l_feature'] == pytest.approx(FEATURE * matching.item(), rel=1e-4)
    assert log['l_pix'] == pytest.approx(pixel.item(), rel=1e-4)
    assert log['d_real'] == pytest.approx(of_real.mean().item(), rel=1e-4)
    assert log['d_fake'] == pytest.approx(of_fake.mean().item(), rel=1e-4)


def test_clean_results_are_not_judged(build):
    """At alpha 1 there is nothing but the clean branch: the first stage's step, and a discriminator that stays."""
    changes = {'train.alpha_opt': {'start': 1.0, 'end': 1.0}, 'train.pixel_opt.forward': 'sampled'}
    model = build({**changes, 'train.optim_d.weight_decay': 0})
    before, net_g = copy.deepcopy(model.net_d.state_dict()), copy.deepcopy(model.net_g)
    give_batch(model)
    model.optimize_parameters(1)
    clean = F.interpolate(model.gt, size=(12, 12), mode='bicubic', antialias=True)
    expected = torch.autograd.grad((net_g(clean) - model.gt).abs().mean(), list(net_g.parameters()))
    for parameter, gradient in zip(model.net_g.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-6)
    trained = [name for name, _ in model.net_d.named_parameters()]
    assert all(torch.equal(before[name], model.net_d.state_dict()[name]) for name in trained)


@pytest.mark.parametrize('forward', ['concat', 'sequential', 'sampled'])
def test_results_that_are_far_off_are_not_judged(build, forward):
    half = {'train.alpha_opt': {'start': 0.5, 'end': 0.5}}
    model = build({**half, 'train.pixel_opt.forward': forward, 'train.gan_max_error': 0.1})
    give_batch(model)
    model.current_iter = 1
    off = torch.tensor([0.05, 0.2, 0.09, 0.3]).view(-1, 1, 1, 1)
    judged, shares = [], []
    for part in model._parts():
        errors = torch.cat([off, off])[: len(part.gt)]
        for fake, real, share in model._to_judge(part.gt + errors, part):
            judged += (fake - real).mean((1, 2, 3)).tolist() if share else []
            shares.append(share.item())
    if forward == 'sampled':
        assert set(round(error, 2) for error in judged) <= {0.05, 0.09}
    else:
        assert judged == pytest.approx([0.05, 0.09], abs=1e-6)
        assert sum(shares) == pytest.approx(0.5)
    model.max_error = 0.01
    nothing = [share.item() for part in model._parts() for _, _, share in model._to_judge(part.gt + 0.5, part)]
    assert nothing == [0]  # and all processes exchange as often


def test_a_plain_loss_whose_results_are_all_far_off(build):
    """It has no branches: all of the part counts nothing."""
    model = build({'train.pixel_opt': {'type': 'L1Loss'}, 'train.alpha_opt': None, 'train.gan_max_error': 1e-6})
    give_batch(model)
    model.optimize_parameters(1)
    assert all(not parameter.grad.any() for parameter in model.net_d.parameters())
    assert any(parameter.grad.any() for parameter in model.net_g.parameters())


def test_sampled_has_the_expected_gradient_of_concat(build):
    """The mean over many draws of the discriminator's part: as if each degraded image were judged once."""
    model = build({'train.pixel_opt.forward': 'sampled', 'train.alpha_opt': {'start': 0.5, 'end': 0.5}})
    give_batch(model)
    model.current_iter = 1
    shares = []
    for _ in range(400):
        (part,) = model._parts()
        shares += [share.item() for _, _, share in model._to_judge(part.gt, part)]
    assert sum(shares) / len(shares) == pytest.approx(1, abs=0.06)


def test_each_step_leaves_the_other_network_alone(build):
    model = build()
    give_batch(model)
    weights = {name: copy.deepcopy(net.state_dict()) for name, net in (('g', model.net_g), ('d', model.net_d))}
    seen = {}

    def stepped(name, step):
        def run(*args, **kwargs):
            seen[name] = {
                'g': [p.grad is not None for p in model.net_g.parameters()],
                'd': [p.grad is not None for p in model.net_d.parameters()],
            }
            before = {n: copy.deepcopy(net.state_dict()) for n, net in (('g', model.net_g), ('d', model.net_d))}
            done = step(*args, **kwargs)
            other = {'g': model.net_d, 'd': model.net_g}[name]
            kept = before[{'g': 'd', 'd': 'g'}[name]]
            assert all(torch.equal(kept[key], value) for key, value in other.state_dict().items())
            return done

        return run

    model.optimizer_g.step = stepped('g', model.optimizer_g.step)
    model.optimizer_d.step = stepped('d', model.optimizer_d.step)
    model.optimize_parameters(1)
    assert not any(seen['g']['d'])  # the discriminator's parameters get nothing of the generator's loss
    assert all(seen['g']['g'])
    assert all(seen['d']['d'])
    for name, net in (('g', model.net_g), ('d', model.net_d)):
        assert not all(torch.equal(weights[name][key], value) for key, value in net.state_dict().items())


@pytest.mark.parametrize('which', ['net_g', 'net_d'])
def test_a_step_that_is_not_finite_leaves_both_networks(build, which):
    model = build()
    give_batch(model)
    model.gt[0, 0, 0, 0] = math.nan
    names = {'net_g': 'guard', 'net_d': 'guard_d'}
    before = {name: p.clone() for name, p in getattr(model, which).named_parameters()}
    model.optimize_parameters(1)
    assert getattr(model, names[which]).skipped == 1
    assert all(torch.equal(before[name], p) for name, p in getattr(model, which).named_parameters())


def test_warns_where_the_discriminator_is_of_no_use(build, caplog, monkeypatch):
    monkeypatch.setattr(alpha_realesrgan_model, 'get_root_logger', lambda: logging.getLogger('test'))
    model = build()
    model.current_iter = 100
    nothing = {name: torch.zeros(()) for name in ('l_d', 'd_real', 'd_fake')}
    model.record.note({**nothing, 'd_real': torch.tensor(9.0), 'd_fake': torch.tensor(-9.0)})
    with caplog.at_level('WARNING', 'test'):
        model.get_current_log()
    assert 'too strong' in caplog.text
    caplog.clear()
    model.record.note({**nothing, 'l_d': torch.tensor(1.386)})
    with caplog.at_level('WARNING', 'test'):
        model.get_current_log()
    assert 'no longer apart' in caplog.text


def test_stock_discriminator(build):
    network_d = {'type': 'UNetDiscriminatorSN', 'num_feat': 4}
    model = build({'network_d': network_d, 'train.feature_opt': {'loss_weight': 1}})
    assert type(model.net_d) is UNetDiscriminatorSN
    give_batch(model)
    model.optimize_parameters(1)
    assert model.get_current_log()['l_feature'] > 0


def test_patch_discriminator_sees_as_many_pixels_as_it_says():
    net = PatchDiscriminator(num_feat=2)
    net.norms = torch.nn.ModuleList(torch.nn.Identity() for _ in net.norms)  # a mean sees the whole image
    image = torch.rand(1, 3, 160, 160, requires_grad=True)
    net(image)[0, 0, 5, 5].backward()
    rows = image.grad.abs().sum((0, 1, 3)).nonzero()
    assert rows.max() - rows.min() + 1 == 78


def test_patch_discriminator_learns_to_tell_sharp_from_smooth():
    """In some steps, by fine structure alone: with spectral normalisation it had learnt nothing by then."""
    torch.manual_seed(0)
    faces = torch.stack([torch.from_numpy(read_image(path)[192:320, 192:320]) for path in list_images(FACES)[:8]])
    real = faces.permute(0, 3, 1, 2).float() / 255
    small = F.interpolate(real, scale_factor=0.25, mode='bicubic', antialias=True)
    smooth = F.interpolate(small, scale_factor=4, mode='bicubic')
    net = PatchDiscriminator(num_feat=8)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, betas=(0.9, 0.99))
    for _ in range(60):
        of_real, of_smooth = net(torch.cat([real, smooth])).chunk(2)
        loss = F.softplus(-of_real).mean() + F.softplus(of_smooth).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.3  # 1.39 where it tells nothing apart
