"""Weights of networks that are not ours, with the option file that names them: in every command that takes weights."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import safetensors
import torch
import yaml
from basicsr.archs.rrdbnet_arch import RRDBNet
from samples import make_net, noise
from small import picture, training_options

from facesr_plugin.commands import compare, export, report, upscale
from facesr_plugin.data.images import read_image, write_image
from facesr_plugin.enlarge.network import load_network
from facesr_plugin.enlarge.other import OtherNetwork
from facesr_plugin.enlarge.tiles import upscale_image
from facesr_plugin.errors import UserError
from facesr_plugin.models.history import History
from facesr_plugin.options.named import named, read_named
from facesr_plugin.run import checkpoint

RRDB = {'type': 'RRDBNet', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 4, 'num_block': 1, 'num_grow_ch': 4}
SWIN = {'type': 'SwinIR', 'upscale': 2, 'img_size': 16, 'window_size': 8, 'upsampler': 'pixelshuffledirect'}
SWIN |= {'depths': [1], 'num_heads': [1], 'embed_dim': 6, 'in_chans': 3}
PICTURE = noise(0, 18, 13)


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    """The current folder, with weights of an RRDBNet of scale 2, which asks for even sides, and its option file."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    net = RRDBNet(**{key: value for key, value in RRDB.items() if key != 'type'}, scale=2)
    torch.nn.init.kaiming_normal_(net.conv_last.weight)
    checkpoint.save('rrdb.pth', {'params_ema': net.state_dict()})
    write_options('rrdb.yml', RRDB | {'scale': 2}, 2)
    write_image(Path('in.png'), PICTURE)
    return tmp_path


def write_options(path: str, network: dict, scale: int) -> None:
    Path(path).write_text(yaml.safe_dump({'name': 'other', 'scale': scale, 'network_g': network}))


@torch.no_grad()
def expected(image: np.ndarray = PICTURE) -> np.ndarray:
    """Return what the bare network makes of a picture whose sides are filled up to even ones, by repeating the last."""
    net = RRDBNet(**{key: value for key, value in RRDB.items() if key != 'type'}, scale=2)
    net.load_state_dict(torch.load('rrdb.pth', weights_only=True)['params_ema'])
    height, width = image.shape[:2]
    filled = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode='edge')
    out = net(torch.from_numpy(filled).permute(2, 0, 1)[None] / 255)[0].permute(1, 2, 0)
    return (out.clamp(0, 1) * 255).round().byte().numpy()[: 2 * height, : 2 * width]


def test_upscale(work):
    assert upscale.main(['-i', 'in.png', '-o', 'out', '--weights', 'rrdb.pth', '--opt', 'rrdb.yml']) is None
    result = read_image('out/in.png')
    assert result.shape == (36, 26, 3)
    assert np.abs(result.astype(int) - expected()).max() <= 1
    assert result.std() > 10


def test_tiles_are_large_enough_together():
    """Tiles of a network that is not ours overlap; this one sees few pixels, so no seam is left."""
    torch.manual_seed(0)
    net = OtherNetwork(RRDBNet(3, 3, 4, 4, 1, 4).eval(), 4)
    assert net.multiple == 1
    image = noise(1, 150, 90)
    assert np.array_equal(upscale_image(net, image, tile=64), upscale_image(net, image, tile=1000))


def test_export(work):
    args = ['--weights', 'rrdb.pth', '--opt', 'rrdb.yml', '-o', 'a.onnx', 'a.safetensors']
    assert export.main(args) is None
    with safetensors.safe_open('a.safetensors', 'pt') as file:
        assert file.metadata()['architecture'] == 'RRDBNet'
        assert file.metadata()['scale'] == '2'
        assert set(file.keys()) == set(torch.load('rrdb.pth', weights_only=True)['params_ema'])
    import onnxruntime

    session = onnxruntime.InferenceSession('a.onnx')
    (out,) = session.run(None, {'input': PICTURE.transpose(2, 0, 1)[None].astype(np.float32) / 255})
    found = (out[0].transpose(1, 2, 0).clip(0, 1) * 255).round().astype(int)
    assert np.abs(found - expected()).max() <= 1


def test_compare(work, capsys):
    hr = picture(96)
    write_image(Path('hr/a.png'), hr)
    write_image(Path('lr/a.png'), cv2.resize(hr, (48, 48), interpolation=cv2.INTER_AREA))
    checkpoint.save('ours.pth', {'params': make_net(upscale=2).state_dict()})
    weights = ['--weights', 'ours=ours.pth', '--weights', 'theirs=rrdb.pth']
    options = ['--lr', 'lr', '--hr', 'hr', *weights, '-o', 'c.png', '--device', 'cpu']
    assert compare.main([*options, '--opt', 'theirs=rrdb.yml']) is None
    assert 'theirs ' in capsys.readouterr().out
    for option, message in (
        ('them=rrdb.yml', '--opt them: the name of a network expected (ours, theirs)'),
        ('rrdb.yml', '--opt rrdb.yml: NAME=PATH expected'),
    ):
        with pytest.raises(UserError) as error:
            compare.main([*options, '--opt', option, '--opt', 'theirs=rrdb.yml'])
        assert str(error.value) == message


def test_report_knows_the_network_of_an_experiment(work, capsys):
    hr = picture(96)
    write_image(Path('hr/a.png'), hr)
    write_image(Path('lr/a.png'), cv2.resize(hr, (48, 48), interpolation=cv2.INTER_AREA))
    folder = Path('run')
    (folder / 'models').mkdir(parents=True)
    (folder / 'models' / 'net_g_best.pth').write_bytes(Path('rrdb.pth').read_bytes())
    opt = training_options(work) | {'scale': 2, 'network_g': RRDB | {'scale': 2}}
    (folder / 'run.yml').write_text(yaml.safe_dump(opt))
    History(folder / 'history.csv').append(epoch=1, iter=4, val_psnr=20.0)
    args = ['run', '--lr', 'lr', '--hr', 'hr', '-o', 'r.html', '--device', 'cpu']
    assert report.main(args) is None
    out = capsys.readouterr().out
    assert 'run/models' not in out
    opt['network_g'] |= {'type': 'MyNet'}
    (folder / 'run.yml').write_text(yaml.safe_dump(opt))
    report.main(args)
    assert "missing: network_g.type: a registered name expected, got 'MyNet'" in capsys.readouterr().out
    Path('mine.py').write_text(
        'from basicsr.archs.rrdbnet_arch import RRDBNet\nfrom basicsr.utils.registry import ARCH_REGISTRY\n'
        'if "MyNet" not in ARCH_REGISTRY:\n'
        '    ARCH_REGISTRY.register()(type("MyNet", (RRDBNet,), {}))\n'
    )
    report.main([*args, '--import', 'mine.py'])
    assert 'MyNet' not in capsys.readouterr().out


def test_windows_are_filled_up():
    """SwinIR takes sides of whole windows only."""
    torch.manual_seed(0)
    net, scale = named({'network_g': SWIN, 'scale': 2})
    assert OtherNetwork(net, scale).multiple == 8
    assert upscale_image(OtherNetwork(net.eval(), scale), noise(0, 5, 11)).shape == (10, 22, 3)


@pytest.mark.parametrize('kind', ['FaceSRResNet', 'MSRResNet'])
def test_ours_is_known_from_its_weights(work, kind):
    checkpoint.save('ours.pth', {'params': make_net(upscale=3).state_dict()})
    write_options('ours.yml', {'type': kind}, 3)
    assert read_named('ours.yml') is None
    assert load_network('ours.pth', named=read_named('ours.yml')).upscale == 3


@pytest.mark.parametrize(
    ('network', 'scale', 'message'),
    [
        (None, 2, 'network_g.type: the name of a network expected'),
        (RRDB | {'type': 'RRDBnet'}, 2, "network_g.type: a registered name expected, got 'RRDBnet', did you mean "),
        (RRDB | {'num_foot': 2}, 2, 'network_g.num_foot: unknown option, did you mean '),
        (RRDB, '2', "scale: a whole number above 0 expected, got '2'"),
        ({'type': 'MSRResNet_'}, 2, 'network_g.type: a registered name expected'),
        ({'type': 'SwinIR', 'window_size': 0}, 2, 'network_g: SwinIR cannot be built: '),
    ],
)
def test_option_files_that_name_none(work, network, scale, message):
    write_options('bad.yml', network, scale)
    with pytest.raises(UserError) as error:
        read_named('bad.yml')
    assert str(error.value).startswith(f'bad.yml: {message}')
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('network', 'scale', 'message'),
    [
        (RRDB | {'scale': 2}, 4, 'enlarges RGB 4 times expected (scale), RRDBNet: it does not run: '),
        (RRDB, 2, 'rrdb.pth: weights that fit RRDBNet expected: conv_first.weight is (4, 12, 3, 3)'),
        (RRDB | {'num_block': 2, 'scale': 2}, 2, 'rrdb.pth: weights that fit RRDBNet expected: lacks '),
    ],
)
def test_weights_of_another_network(work, network, scale, message):
    write_options('bad.yml', network, scale)
    with pytest.raises(UserError) as error:
        upscale.main(['-i', 'in.png', '-o', 'out', '--weights', 'rrdb.pth', '--opt', 'bad.yml'])
    assert message in str(error.value)
    assert '\n' not in str(error.value)
    assert not Path('out').exists()


@pytest.mark.parametrize(('kind', 'loads'), [('FaceSRResNet', False), ('RRDBNet', True)])
def test_basicsr_is_loaded_for_others_only(work, kind, loads):
    checkpoint.save('ours.pth', {'params': make_net().state_dict()})
    write_options('ours.yml', {'type': 'FaceSRResNet'}, 4)
    files = ('ours.pth', 'ours.yml') if kind == 'FaceSRResNet' else ('rrdb.pth', 'rrdb.yml')
    code = (
        'import sys; from facesr_plugin.commands.upscale import main\n'
        f'main(["-i", "in.png", "-o", "out", "--weights", "{files[0]}", "--opt", "{files[1]}"])\n'
        f'assert ("basicsr" in sys.modules) is {loads}'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
