"""Training and enlarging on MPS, by a machine that plays it: nothing that MPS lacks gets there."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_mps import MPS, fake_mps
from small import Options, picture, put

from facesr_plugin import train, upscale
from facesr_plugin.archs.face_srresnet_arch import FaceSRResNet
from facesr_plugin.enlarge.tiles import upscale_image
from facesr_plugin.errors import UserError
from facesr_plugin.options.check import check
from facesr_plugin.options.load import as_opt
from facesr_plugin.run import checkpoint


@pytest.fixture
def mps() -> Iterator[None]:
    with fake_mps():
        yield


def test_the_machine_refuses_what_mps_lacks(mps):
    values = torch.tensor([1.0, 2.0]).to('mps')
    assert (values + 1).device == MPS
    assert (values * 2).sum().item() == 6
    assert values.cpu().device.type == 'cpu'
    for refused in (values.double, lambda: torch.zeros(2, dtype=torch.float64, device=MPS)):
        with pytest.raises(TypeError, match='no float64'):
            refused()
    for refused in (lambda: torch.poisson(values), lambda: torch.fft.rfft(values), values.numpy):
        with pytest.raises(NotImplementedError, match='on MPS'):
            refused()
    with pytest.raises(RuntimeError, match='all tensors on MPS'):
        values + torch.ones(2)
    net = torch.nn.Linear(2, 1).to('mps')
    net(values).sum().backward()
    assert net.weight.device == net.weight.grad.device == MPS


def weights_of(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    return checkpoint.load(run / 'models' / 'net_g_4.pth')


def assert_same(run: Path, other: Path) -> None:
    for key in ('params', 'params_ema'):
        for name, value in weights_of(run)[key].items():
            assert torch.equal(value, weights_of(other)[key][name]), name


@pytest.fixture
def plain(opt: Options) -> Options:
    """Return options that run the same code on every device."""
    for path, value in {'ema_decay': 0.9, 'channels_last': False, 'optim_g.fused': False, 'grad_clip': 1.0}.items():
        put(opt, f'train.{path}', value)
    return opt


@pytest.mark.parametrize('forward', ['concat', 'sequential', 'sampled'])
def test_a_run_there_gives_the_weights_of_the_cpu(launch: Callable, plain: Options, forward: str, tmp_path):
    """Its operations are those of the CPU, in the same order."""
    put(plain, 'train.pixel_opt.forward', forward)
    status, _, err = launch(train.main, plain | {'name': 'cpu', 'num_gpu': 0})
    assert (status, 'on cpu.' in err, 'degraded on the cpu' in err) == (0, True, False)
    with fake_mps():
        status, _, err = launch(train.main, plain | {'name': 'mps', 'num_gpu': 'auto'})
    assert status == 0
    assert 'on mps.' in err
    assert 'Images are degraded on the cpu: mps lacks some of what that takes.' in err
    assert_same(tmp_path / 'root/experiments/cpu', tmp_path / 'root/experiments/mps')


def test_a_run_goes_on_there_that_began_on_the_cpu(launch: Callable, plain: Options, tmp_path):
    assert launch(train.main, plain | {'name': 'cpu'})[0] == 0
    plain['path']['resume_state'] = str(tmp_path / 'root/experiments/cpu/training_states/2.state')
    with fake_mps():
        assert launch(train.main, plain | {'name': 'mps', 'num_gpu': 1})[0] == 0
    assert_same(tmp_path / 'root/experiments/cpu', tmp_path / 'root/experiments/mps')


def test_what_a_run_there_cannot_have(launch: Callable, opt: Options, mps):
    put(opt, 'datasets.train.prefetch_mode', 'cuda')
    opt |= {'num_gpu': 'auto'}
    status, out, err = launch(train.main, opt)
    assert status == 0
    assert 'datasets.train.prefetch_mode: cuda needs a CUDA device, none is used here; going on without' in out
    assert 'channels_last: False' in err  # convolutions there are wrong on some views of such images
    status, _, err = launch(train.main, opt, '--launcher', 'pytorch')
    assert status == 2
    assert err == 'error: num_gpu: 0 expected with --launcher: MPS is one device, on which one process trains\n'


def test_models_of_basicsr_stay_on_the_cpu(measuring: Options, tmp_path, mps):
    """They know CUDA only."""
    run = check(measuring | {'num_gpu': 'auto'}, is_train=False)
    assert as_opt(run, tmp_path, is_train=False)['num_gpu'] == 0
    with pytest.raises(UserError, match=r'^num_gpu: at most 0 expected, the CUDA devices here, got 1$'):
        check(measuring | {'num_gpu': 1}, is_train=False)


@pytest.mark.parametrize('kind', ['uint8', 'uint16', 'float64'])
def test_enlarging_there_gives_the_picture_of_the_cpu(kind):
    """RGBA, so that the way of transparency is gone, too."""
    image = np.dstack([picture(24), picture(24, 1)[..., 0]])
    image = image / 255 if kind == 'float64' else image.astype(kind)
    torch.manual_seed(0)
    net = FaceSRResNet(num_feat=4, num_block=1).eval()
    with fake_mps():
        found = upscale_image(copy.deepcopy(net).to('mps'), image, 16)
    assert found.dtype == image.dtype
    np.testing.assert_allclose(found, upscale_image(net, image, 16), atol=1e-6 if kind == 'float64' else 1)


def test_enlarging_takes_it_by_itself(mps):
    image = picture(16)
    assert upscale(image, device='auto').shape == (64, 64, 3)
