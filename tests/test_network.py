"""enlarge/network.py: a network is known from its weights; others are refused in one line."""

import pytest
import torch
from samples import make_net

from facesr_plugin.archs.face_srresnet_arch import FaceSRResNet
from facesr_plugin.enlarge.network import load_dial, load_network, network_from_weights, pick_device
from facesr_plugin.errors import UserError
from facesr_plugin.run import checkpoint


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({'params': None, 'iter': 1}, "net.pth: a state dict of tensors by name expected as 'params'"),
        ({'params': {0: torch.zeros(1)}, 'iter': 1}, "net.pth: a state dict of tensors by name expected as 'params'"),
        ({0: torch.zeros(1)}, 'net.pth: a state dict of tensors by name expected'),
    ],
)
def test_foreign_checkpoints(tmp_path, content, message):
    torch.save(content, tmp_path / 'net.pth')
    with pytest.raises(UserError) as error:
        load_network(tmp_path / 'net.pth')
    assert str(error.value) == f'{tmp_path}/{message}'


def test_checkpoint_with_a_psnr_of_another_form(tmp_path):
    weights = make_net().state_dict()
    torch.save({'params': weights, 'params_ema': weights, 'psnr': 26.1}, tmp_path / 'net.pth')
    assert checkpoint.load_weights(tmp_path / 'net.pth')[1] == 'params_ema'


@pytest.mark.parametrize('options', [{'num_block': 3}, {'num_feat': 12}, {'upscale': 2}, {'upscale': 3}])
def test_network_is_known_from_its_weights(options):
    net = make_net(**options)
    other = network_from_weights(net.state_dict())
    image = torch.rand(1, 3, 5, 6)
    with torch.no_grad():
        assert torch.equal(other(image), net(image))
    assert not other.training


def test_key(tmp_path):
    raw, ema = make_net(1).state_dict(), make_net(2).state_dict()
    path = tmp_path / 'net.pth'
    for psnr, better in (({'params': 26.0, 'params_ema': 25.0}, raw), ({'params': 25.0, 'params_ema': 26.0}, ema)):
        checkpoint.save(path, {'params': raw, 'params_ema': ema, 'psnr': psnr})
        assert torch.equal(load_network(path).state_dict()['conv_last.weight'], better['conv_last.weight'])
    assert torch.equal(load_network(path, 'params').state_dict()['conv_last.weight'], raw['conv_last.weight'])


def change(name: str, value: torch.Tensor | None) -> dict[str, torch.Tensor]:
    weights = make_net().state_dict() | ({name: value} if value is not None else {})
    return {key: tensor for key, tensor in weights.items() if tensor is not None and (value is not None or key != name)}


@pytest.mark.parametrize(
    ('weights', 'message'),
    [
        (
            {'layer.weight': torch.zeros(1)},
            'n.pth: weights of a FaceSRResNet (SRResNet without batch norm) expected, no conv_first.weight',
        ),
        (
            change('conv_first.weight', torch.zeros(8, 2, 3, 3)),
            'n.pth: a network for RGB or single channels expected, got one for 2 channels',
        ),
        (
            change('conv_hr.bias', None),
            'n.pth: weights that fit FaceSRResNet expected: lacks conv_hr.bias',
        ),
        (
            change('conv_last.bias', torch.full((3,), torch.nan)),
            'n.pth: finite weights expected, conv_last.bias holds NaN or infinity:'
            ' the training that made them diverged',
        ),
    ],
)
def test_other_weights(weights, message):
    with pytest.raises(UserError) as caught:
        network_from_weights(weights, 'n.pth')
    assert str(caught.value) == message


def test_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: False)
    assert pick_device('auto') == pick_device('cpu') == torch.device('cpu')
    with pytest.raises(UserError, match=r'^device: cuda is not available here, cpu is$'):
        pick_device('cuda')
    with pytest.raises(UserError, match=r'^device: one of auto, cpu, cuda, mps or e.g. cuda:1 expected, got tpu$'):
        pick_device('tpu')


@pytest.mark.parametrize(('channels', 'upscale'), [(3, 1), (1, 4), (3, 8)])
def test_every_scale_and_one_channel(channels, upscale):
    net = FaceSRResNet(channels, channels, num_feat=4, num_block=1, upscale=upscale).eval()
    found = network_from_weights(net.state_dict())
    lq = torch.rand(1, 3, 6, 5)
    with torch.no_grad():
        assert torch.equal(found(lq), net(lq))


def test_device_by_number_and_as_an_object(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    assert pick_device('cuda:1') == pick_device(torch.device('cuda', 1)) == torch.device('cuda:1')
    assert pick_device(torch.device('cpu')) == torch.device('cpu')
    with pytest.raises(UserError, match=r'^device: cuda:2 is not available here, cuda, cpu is$'):
        pick_device('cuda:2')
    with pytest.raises(UserError, match=r'^device: one of .* expected, got cuda:x$'):
        pick_device('cuda:x')


@pytest.mark.parametrize('wrapper', ['model', 'state_dict', 'generator'])
def test_wrapped_weights(tmp_path, wrapper):
    net = make_net()
    checkpoint.save(tmp_path / 'net.pth', {wrapper: net.state_dict(), 'epoch': 3})
    assert load_network(tmp_path / 'net.pth').conv_first.weight.equal(net.conv_first.weight)


def test_any_key(tmp_path):
    net = make_net()
    checkpoint.save(tmp_path / 'net.pth', {'mine': net.state_dict(), 'params': {}})
    assert load_network(tmp_path / 'net.pth', 'mine').conv_first.weight.equal(net.conv_first.weight)


# ---------------------------------------------------------------------- both stages
def test_between_two_networks(tmp_path):
    """At the ends it is one of the two, bit for bit, and between them their weights' mean."""
    paths = [tmp_path / name for name in ('faithful.pth', 'natural.pth')]
    nets = [make_net(seed) for seed in (1, 2)]
    for path, net in zip(paths, nets, strict=True):
        checkpoint.save(path, {'params': net.state_dict()})
    for share in (0.0, 0.25, 1.0):
        found = load_dial(*paths).at(share).state_dict()
        for name, value in found.items():
            ends = [net.state_dict()[name] for net in nets]
            expected = ends[int(share)] if share in (0, 1) else (1 - share) * ends[0] + share * ends[1]
            assert torch.equal(value, expected) if share in (0, 1) else torch.allclose(value, expected, atol=1e-7)


def test_between_networks_of_other_sizes(tmp_path):
    paths = [tmp_path / name for name in ('faithful.pth', 'natural.pth')]
    for path, features in zip(paths, (4, 8), strict=True):
        checkpoint.save(path, {'params': make_net(num_feat=features).state_dict()})
    with pytest.raises(UserError, match=rf'^{paths[1]}: weights that fit FaceSRResNet expected'):
        load_dial(*paths)
