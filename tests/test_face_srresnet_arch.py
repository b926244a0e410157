import cv2
import numpy as np
import pytest
import torch
from basicsr.archs import build_network
from basicsr.archs.srresnet_arch import MSRResNet
from basicsr.utils.registry import ARCH_REGISTRY

from facesr_plugin.archs.face_srresnet_arch import FaceSRResNet


def shapes(net: torch.nn.Module) -> list[tuple[str, torch.Size]]:
    return [(name, value.shape) for name, value in net.state_dict().items()]


def test_state_dict_is_stock():
    assert shapes(FaceSRResNet()) == shapes(MSRResNet(num_block=20))


@pytest.mark.parametrize('upscale', [2, 3, 4])
def test_output_is_stock(upscale):
    torch.manual_seed(0)
    stock = MSRResNet(num_feat=8, num_block=3, upscale=upscale)
    ours = FaceSRResNet(num_feat=8, num_block=3, upscale=upscale)
    ours.load_state_dict(stock.state_dict())
    lq = torch.rand(2, 3, 9, 12)
    with torch.no_grad():
        assert torch.equal(ours(lq), stock(lq))


def test_parameter_count():
    first = 3 * 64 * 9 + 64
    body = 20 * 2 * (64 * 64 * 9 + 64)
    shuffle = 2 * (64 * 256 * 9 + 256)
    last = (64 * 64 * 9 + 64) + (64 * 3 * 9 + 3)
    count = sum(parameter.numel() for parameter in FaceSRResNet().parameters())
    assert count == first + body + shuffle + last == 1_812_995


def test_registered():
    assert ARCH_REGISTRY.get('FaceSRResNet') is FaceSRResNet
    net = build_network({'type': 'FaceSRResNet', 'num_block': 2, 'num_feat': 4})
    assert shapes(net) == shapes(MSRResNet(num_block=2, num_feat=4))


@pytest.mark.parametrize(('channels', 'upscale'), [(3, 1), (3, 2), (3, 3), (3, 4), (3, 8), (1, 4)])
def test_cardinality(channels, upscale):
    net = FaceSRResNet(channels, channels, num_feat=4, num_block=1, upscale=upscale)
    assert net(torch.zeros(2, channels, 5, 7)).shape == (2, channels, 5 * upscale, 7 * upscale)


@pytest.mark.parametrize('upscale', [1, 2, 3, 4, 8])
def test_zero_residual_is_bilinear(upscale):
    net = FaceSRResNet(num_feat=4, num_block=1, upscale=upscale)
    torch.nn.init.zeros_(net.conv_last.weight)
    image = np.random.default_rng(0).random((11, 14, 3), np.float32)
    expected = cv2.resize(image, None, fx=upscale, fy=upscale, interpolation=cv2.INTER_LINEAR)
    with torch.no_grad():
        out = net(torch.from_numpy(image).permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    np.testing.assert_allclose(out.numpy(), expected, atol=1e-6)


def test_first_weights_are_stock():
    torch.manual_seed(5)
    stock = MSRResNet(num_feat=4, num_block=1)
    torch.manual_seed(5)
    ours = FaceSRResNet(num_feat=4, num_block=1)
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in stock.state_dict().items())


def test_one_channel_enlarges_each_channel_by_itself():
    net = FaceSRResNet(1, 1, num_feat=4, num_block=1, upscale=2)
    image = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = torch.cat([net(image[:, i : i + 1]) for i in range(3)], 1)
        torch.testing.assert_close(net(image), expected)


def test_autocast_leaves_the_skip_alone():
    """In bfloat16 the enlarged input would lose all but 8 bits of each pixel."""
    net = FaceSRResNet(num_feat=4, num_block=1)
    torch.nn.init.zeros_(net.conv_last.weight)
    lq = torch.rand(1, 3, 6, 7, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = net(lq)
        with torch.autocast('cpu', torch.bfloat16):
            assert torch.equal(net(lq), expected)
    assert not torch.equal(expected.bfloat16().float(), expected)


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        ({'upscale': 6}, ValueError, 'upscale: 1, 2, 3, 4, 8 expected, got 6'),
        ({'num_in_ch': 3, 'num_out_ch': 1}, ValueError, r'num_out_ch: 3 expected .*, got 1'),
        ({'num_blocks': 20}, TypeError, 'num_blocks'),
    ],
)
def test_exception(options, error, message):
    with pytest.raises(error, match=message):
        FaceSRResNet(**options)


def test_a_device_without_autocast():
    assert FaceSRResNet(num_feat=4, num_block=1).to('meta')(torch.empty(1, 3, 5, 6, device='meta')).shape == (
        1,
        3,
        20,
        24,
    )
