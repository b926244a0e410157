"""facesr_plugin/spandrel.py against spandrel itself."""

import subprocess
import sys

import pytest
import safetensors.torch
import torch
from basicsr.archs.edsr_arch import EDSR
from basicsr.archs.rrdbnet_arch import RRDBNet
from basicsr.archs.srresnet_arch import MSRResNet
from basicsr.archs.srvgg_arch import SRVGGNetCompact
from basicsr.archs.swinir_arch import SwinIR
from samples import make_net
from small import picture
from spandrel import MAIN_REGISTRY, ArchRegistry, ModelLoader, ModelTiling, UnsupportedModelError

from facesr_plugin.archs.face_srresnet_arch import FaceSRResNet
from facesr_plugin.errors import UserError
from facesr_plugin.run import checkpoint
from facesr_plugin.spandrel import is_face_srresnet, register

OTHERS = {
    'ESRGAN': lambda: RRDBNet(3, 3, num_feat=8, num_block=1),
    'Compact': lambda: SRVGGNetCompact(num_feat=8, num_conv=2),
    'SwinIR': lambda: SwinIR(
        img_size=8, embed_dim=12, depths=[1], num_heads=[2], window_size=4, upscale=4, upsampler='nearest+conv'
    ),
}


@pytest.fixture
def lq():
    return torch.from_numpy(picture(21)[:13]).permute(2, 0, 1)[None] / 255


@pytest.fixture(params=['params', 'params_ema', 'bare', 'safetensors'])
def saved(request, tmp_path):
    """A network, and a file of one of the kinds that hold its weights."""
    net, path = make_net(), tmp_path / 'net.pth'
    if request.param == 'safetensors':
        path = path.with_suffix('.safetensors')
        safetensors.torch.save_file(net.state_dict(), path)
    elif request.param == 'bare':
        torch.save(net.state_dict(), path)
    else:
        raw = {'params': make_net(seed=1).state_dict(), 'psnr': {'params': 20.0, 'params_ema': 21.0}}
        checkpoint.save(path, raw | {request.param: net.state_dict()})
    return net, path


def test_output_is_the_networks(saved, lq):
    net, path = saved
    model = ModelLoader().load_from_file(path)
    with torch.no_grad():
        assert torch.equal(model(lq), net(lq).clamp(0, 1))


@pytest.mark.parametrize('upscale', [2, 3, 4])
@pytest.mark.parametrize(('num_feat', 'num_block'), [(4, 1), (12, 3)])
def test_size_is_detected(num_feat, num_block, upscale, lq):
    net = make_net(num_feat=num_feat, num_block=num_block, upscale=upscale)
    model = ModelLoader().load_from_state_dict(net.state_dict())
    assert model.architecture.id == 'FaceSRResNet'
    assert (model.scale, model.tags) == (upscale, [f'{num_feat}nf', f'{num_block}nb'])
    assert (model.input_channels, model.output_channels, model.purpose) == (3, 3, 'SR')
    assert (model.size_requirements.none, model.tiling) == (True, ModelTiling.SUPPORTED)
    with torch.no_grad():
        assert torch.equal(model(lq), net(lq).clamp(0, 1))
    assert model(lq[..., :1, :1]).shape == (1, 3, upscale, upscale)


def test_the_methods_size():
    model = ModelLoader().load_from_state_dict(FaceSRResNet().state_dict())
    assert (model.scale, model.tags) == (4, ['64nf', '20nb'])


def test_stock_network_is_loaded(lq):
    stock = MSRResNet(num_feat=8, num_block=2).eval()
    with torch.no_grad():
        assert torch.equal(ModelLoader().load_from_state_dict(stock.state_dict())(lq), stock(lq).clamp(0, 1))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision(dtype, lq):
    """Right to the type's precision on average, though every layer rounds, and not to float32's."""
    model = ModelLoader().load_from_state_dict(make_net().state_dict())
    expected = model(lq)
    output = model.to(dtype)(lq.to(dtype))
    assert output.dtype == dtype
    assert 0 < (output.float() - expected).abs().mean() < torch.finfo(dtype).eps


# -------------------------------------------------------------- among the others
def test_only_ours_claims_our_weights():
    """So the order of detection does not matter."""
    weights = make_net().state_dict()
    assert [entry.architecture.id for entry in MAIN_REGISTRY if entry.detect(weights)] == ['FaceSRResNet']


@pytest.mark.parametrize('name', OTHERS)
def test_others_stay_what_they_are(name):
    model = ModelLoader().load_from_state_dict(OTHERS[name]().state_dict())
    assert model.architecture.id == name


@pytest.mark.parametrize(
    'change',
    [
        lambda weights: {name: value for name, value in weights.items() if not name.startswith('conv_hr')},
        lambda weights: weights | {'conv_body.weight': torch.zeros(1)},
        lambda weights: {name.replace('conv2', 'conv3'): value for name, value in weights.items()},
    ],
    ids=['a layer less', 'a layer more', 'other blocks'],
)
def test_other_weights_are_not_ours(change):
    weights = change(make_net().state_dict())
    assert not is_face_srresnet(weights)
    with pytest.raises(UnsupportedModelError):
        ModelLoader().load_from_state_dict(weights)


def test_edsr_is_not_ours():
    """BasicSR's sibling, with the same blocks, that spandrel does not know."""
    assert not is_face_srresnet(EDSR(3, 3, num_feat=4, num_block=1).state_dict())


def test_weights_that_do_not_fit_are_named():
    weights = FaceSRResNet(num_feat=4, num_block=1).state_dict() | {'conv_hr.bias': torch.zeros(5)}
    with pytest.raises(UserError, match=r'conv_hr\.bias is \(5,\), \(4,\) expected'):
        ModelLoader().load_from_state_dict(weights)


def test_one_channel():
    model = ModelLoader().load_from_state_dict(FaceSRResNet(1, 1, num_feat=4, num_block=1).state_dict())
    assert (model.input_channels, model.output_channels) == (1, 1)
    assert model(torch.zeros(1, 1, 6, 5)).shape == (1, 1, 24, 20)


# --------------------------------------------------------------------- registering
def test_registering_twice_changes_nothing():
    before = MAIN_REGISTRY.architectures()
    register()
    assert MAIN_REGISTRY.architectures() == before


def test_another_registry():
    registry = ArchRegistry()
    register(registry)
    assert len(registry) == 1
    assert ModelLoader(registry=registry).load_from_state_dict(make_net().state_dict()).scale == 4


def test_without_spandrel(tmp_path):
    """`import facesr_plugin` leaves spandrel alone; what needs it says so."""
    code = 'import sys, facesr_plugin; print("spandrel" in sys.modules); '
    code += 'sys.modules["spandrel"] = None; import facesr_plugin.spandrel'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout == 'False\n'
    *_, last = done.stderr.splitlines()
    assert last == "ImportError: facesr_plugin.spandrel: spandrel expected; pip install -e '.[spandrel]'"
