import logging

import pytest
import torch

from facesr_plugin.archs.face_srresnet_arch import FaceSRResNet
from facesr_plugin.models import execution as execution_module
from facesr_plugin.models.execution import Execution, default_precision

CPU = torch.device('cpu')


def network() -> FaceSRResNet:
    torch.manual_seed(0)
    return FaceSRResNet(num_feat=8, num_block=2)


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
@pytest.mark.parametrize('channels_last', [True, False])
def test_output_is_fp32_and_close_to_the_plain_network(precision, channels_last):
    net, images = network(), torch.rand(2, 3, 12, 16)
    expected = net(images)
    execution = Execution(CPU, precision, channels_last, compile=False)
    execution.prepare(net)
    out = execution.run(net, images)
    assert out.dtype == torch.float32
    tolerance = 1e-5 if precision == 'fp32' else 0.02 * (expected - images.mean()).abs().max().item()
    torch.testing.assert_close(out, expected, rtol=0, atol=tolerance)
    assert all(value.dtype == torch.float32 for value in net.state_dict().values())
    is_laid_out = net.body[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert is_laid_out == channels_last


def test_bf16_does_not_round_the_input():
    """The bilinear skip is added in fp32: with a residual path of zero nothing is lost to bf16's 8 bits."""
    net, images = network(), torch.rand(1, 3, 8, 8)
    for value in net.parameters():
        value.data.zero_()
    out = Execution(CPU, 'bf16', True, compile=False).run(net, images)
    base = torch.nn.functional.interpolate(images, scale_factor=4, mode='bilinear', align_corners=False)
    assert torch.equal(out, base)


def test_defaults():
    execution = Execution.from_options({}, CPU)
    assert execution == Execution(CPU, default_precision(CPU), channels_last=True, compile=False)
    given = Execution.from_options({'precision': 'fp16', 'channels_last': False, 'compile': True}, CPU)
    assert given == Execution(CPU, 'fp16', channels_last=False, compile=True)


@pytest.mark.parametrize(('precision', 'enabled'), [('fp32', False), ('bf16', False), ('fp16', True)])
def test_only_fp16_scales_the_loss(precision, enabled):
    assert Execution(CPU, precision, True, False).scaler().is_enabled() == enabled


def test_no_compiler_is_no_obstacle(monkeypatch, caplog):
    def fail(module):
        def forward(images):
            raise RuntimeError('no C++ compiler found\nmore')

        return forward

    monkeypatch.setattr(torch, 'compile', fail)
    monkeypatch.setattr(execution_module, 'get_root_logger', lambda: logging.getLogger('test'))
    net = network()
    execution = Execution(CPU, 'fp32', True, compile=True)
    with caplog.at_level('WARNING', 'test'):
        execution.prepare(net)
    assert 'going on without: no C++ compiler found' in caplog.text
    assert execution.run(net, torch.rand(1, 3, 8, 8)).shape == (1, 3, 32, 32)


@pytest.mark.slow
def test_compiled_network_computes_the_same():
    net, images = network(), torch.rand(1, 3, 8, 8)
    expected, keys = net(images), list(net.state_dict())
    execution = Execution(CPU, 'fp32', True, compile=True)
    execution.prepare(net)
    torch.testing.assert_close(execution.run(net, images), expected, rtol=1e-4, atol=1e-5)
    assert list(net.state_dict()) == keys


def test_exact_turns_tf32_off_for_a_while():
    execution = Execution(CPU, 'fp32', True, compile=False)
    assert torch.backends.cudnn.allow_tf32
    with execution.exact():
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32
