"""`facesr export`: what other programs make of the files."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors
import torch
from samples import make_net

from facesr_plugin.commands import export
from facesr_plugin.data.images import list_images, read_image
from facesr_plugin.enlarge.export import FORMATS, to_safetensors
from facesr_plugin.enlarge.network import DEFAULT_WEIGHTS, load_network
from facesr_plugin.enlarge.tiles import upscale_image
from facesr_plugin.errors import RunError, UserError
from facesr_plugin.run import checkpoint

ROOT = Path(__file__).parents[1]


@pytest.fixture
def work(tmp_path, monkeypatch):
    """The current folder, with `net.pth`: raw weights of seed 0, EMA weights of seed 1."""
    monkeypatch.chdir(tmp_path)
    checkpoint.save('net.pth', {'params': make_net(0).state_dict(), 'params_ema': make_net(1).state_dict()})
    return tmp_path


def run(*options: str) -> int | None:
    return export.main(['--weights', 'net.pth', *options])


# ----------------------------------------------------------------------------- ONNX
@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    """A folder with nothing but `net.pth`, raw weights of seed 0, and `net.onnx`, made of it."""
    folder = tmp_path_factory.mktemp('exported')
    checkpoint.save(folder / 'net.pth', {'params': make_net().state_dict()})
    export.main(['--weights', str(folder / 'net.pth'), '-o', str(folder / 'net.onnx'), '--license', 'CC0-1.0'])
    return folder


def check_against_torch(path: Path, net: torch.nn.Module) -> None:
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    for shape in ((1, 3, 1, 1), (1, 3, 5, 31), (4, 3, 12, 7)):
        images = torch.rand(shape)
        (output,) = session.run(None, {'input': images.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(output, net(images), rtol=0, atol=1e-4)


def test_onnx_computes_what_torch_does(exported):
    check_against_torch(exported / 'net.onnx', make_net())


@pytest.mark.parametrize('upscale', [2, 3])
def test_onnx_of_other_scales(upscale, work, capsys):
    net = make_net(num_block=1, upscale=upscale)
    checkpoint.save('net.pth', {'params': net.state_dict()})
    run('-o', 'net.onnx')
    (line,) = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r'net\.onnx: 0\.\d MB; onnxruntime against torch at .*: max difference \S+', line)
    assert float(line.split()[-1]) <= 1e-4
    check_against_torch(Path('net.onnx'), net)
    told = {prop.key: prop.value for prop in onnx.load('net.onnx').metadata_props}
    assert told['scale'] == str(upscale)
    assert told['output'].endswith(f'(batch, 3, {upscale} * height, {upscale} * width)')
    run('-o', 'net.safetensors')
    with safetensors.safe_open('net.safetensors', 'pt') as file:
        assert file.metadata()['scale'] == str(upscale)


def test_onnx_on_a_face(work):
    """The default weights, through onnxruntime and OpenCV only, give the picture that the plugin gives."""
    export.main(['-o', 'face.onnx'])
    face = read_image(list_images(ROOT / 'tests' / 'data' / 'faces')[0])
    lq = cv2.resize(face, (61, 48), interpolation=cv2.INTER_AREA)
    session = onnxruntime.InferenceSession('face.onnx', providers=['CPUExecutionProvider'])
    (output,) = session.run(None, {'input': np.float32(lq.transpose(2, 0, 1)[None] / 255)})
    picture = np.rint(output[0].clip(0, 1).transpose(1, 2, 0) * 255)
    expected = upscale_image(load_network(DEFAULT_WEIGHTS), lq)
    assert np.abs(picture - expected).max() <= 1  # rounding ties
    assert (picture != expected).mean() < 1e-3


def test_onnx_tells_what_it_is(exported):
    model = onnx.load(exported / 'net.onnx')
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain: entry.version for entry in model.opset_import} == {'': 18}  # which runtimes can read it
    values = (*model.graph.input, *model.graph.output)
    sizes = [[size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim] for value in values]
    assert sizes == [['batch', 3, 'height', 'width'], ['batch', 3, '4*height', '4*width']]
    assert [value.name for value in values] == ['input', 'output']
    assert {prop.key: prop.value for prop in model.metadata_props} == {
        'architecture': 'FaceSRResNet',
        'scale': '4',
        'num_feat': '8',
        'num_block': '2',
        'weights': 'net.pth',
        'license': 'CC0-1.0',
        'input': 'RGB in [0, 1], (batch, 3, height, width)',
        'output': 'RGB, not clamped to [0, 1], (batch, 3, 4 * height, 4 * width)',
    }


def test_onnx_is_one_file_without_paths(exported):
    assert sorted(path.name for path in exported.iterdir()) == ['net.onnx', 'net.pth']
    data = (exported / 'net.onnx').read_bytes()
    assert str(ROOT).encode() not in data
    assert b'site-packages' not in data


@pytest.mark.parametrize('wrong', [1e-3, float('nan')])
def test_onnx_that_differs_is_not_written(wrong, exported, work, monkeypatch):
    model = onnx.load(exported / 'net.onnx')
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == 'conv_last.weight')
    values = onnx.numpy_helper.to_array(weight) + np.float32(wrong)
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    tampered = FORMATS['.onnx']._replace(make=lambda net, metadata: model.SerializeToString())
    monkeypatch.setitem(FORMATS, '.onnx', tampered)
    Path('net.onnx').write_text('what was there')
    with pytest.raises(RunError, match=r'net\.onnx: .* difference of 0\.0001 at most expected, got (\d|nan)'):
        run('-o', 'net.onnx', '--overwrite', '--key', 'params')
    assert Path('net.onnx').read_text() == 'what was there'


# ---------------------------------------------------------------------- safetensors
def test_safetensors(work, capsys):
    run('-o', 'net.safetensors')
    assert capsys.readouterr().out == 'net.safetensors: 0.0 MB; 18 tensors read back, equal bit for bit\n'
    expected = make_net(1).state_dict()
    with safetensors.safe_open('net.safetensors', 'pt') as file:
        metadata = file.metadata()
        assert set(file.keys()) == expected.keys()
        assert all(torch.equal(file.get_tensor(name), value) for name, value in expected.items())
    assert metadata.items() >= {'format': 'pt', 'architecture': 'FaceSRResNet', 'scale': '4', 'num_block': '2'}.items()


def test_our_own_loader_reads_safetensors(work):
    run('-o', 'net.safetensors')
    assert checkpoint.load_weights('net.safetensors')[1] == ''
    export.main(['--weights', 'net.safetensors', '-o', 'again.safetensors'])
    again, expected = load_network('again.safetensors').state_dict(), make_net(1).state_dict()
    assert again.keys() == expected.keys()
    assert all(torch.equal(again[name], expected[name]) for name in expected)


def test_safetensors_that_differs_is_not_written(work, monkeypatch):
    def make_wrong(net, metadata):
        return to_safetensors(make_net(2), metadata)

    monkeypatch.setitem(FORMATS, '.safetensors', FORMATS['.safetensors']._replace(make=make_wrong))
    with pytest.raises(RunError, match=r'net\.safetensors: .* equal state dicts expected'):
        run('-o', 'net.safetensors')
    assert not Path('net.safetensors').exists()


@pytest.mark.parametrize(
    ('content', 'message'),
    [(b'', 'damaged'), (b'\x80' * 100, 'damaged'), (None, 'No such file'), ('cut', 'damaged')],
)
def test_damaged_safetensors(content, message, work):
    run('-o', 'net.safetensors')
    path = Path('net.safetensors')
    data = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(data[:-1] if content == 'cut' else content)
    with pytest.raises(UserError, match=f'net.safetensors: {message}'):
        load_network(path)


def test_safetensors_of_another_network(work):
    header = json.dumps({}).encode()
    Path('empty.safetensors').write_bytes(len(header).to_bytes(8, 'little') + header)
    with pytest.raises(UserError, match=r'empty\.safetensors: weights of a FaceSRResNet .* expected'):
        load_network('empty.safetensors')


# -------------------------------------------------------------------------- command
def test_several_files(work):
    run('-o', 'a.safetensors', 'b.safetensors', '-o', 'c.safetensors')
    assert sorted(path.name for path in work.glob('*.safetensors')) == [
        'a.safetensors',
        'b.safetensors',
        'c.safetensors',
    ]


def test_nothing_is_replaced_unasked(work):
    Path('there.safetensors').write_text('what was there')
    with pytest.raises(UserError, match=r'there\.safetensors: exists; choose another name or --overwrite'):
        run('-o', 'new.safetensors', 'there.safetensors')
    assert Path('there.safetensors').read_text() == 'what was there'
    assert not Path('new.safetensors').exists()
    run('-o', 'there.safetensors', '--overwrite')
    assert load_network('there.safetensors').upscale == 4


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['-o', 'net.pt'], r'net\.pt: a name that ends in \.onnx or \.safetensors expected'),
        (['-o', 'no/net.onnx'], r'no/net\.onnx: no such folder: no'),
        (['-o', 'folder.onnx', '--overwrite'], r'folder\.onnx: exists; choose another name$'),
        (['-o', 'net.onnx', '--weights', 'none.pth'], r'none\.pth: No such file'),
        (['-o', 'net.onnx', '--weights', 'text.pth'], r'text\.pth: damaged|text\.pth: a checkpoint of tensors'),
    ],
)
def test_errors(options, message, work):
    Path('folder.onnx').mkdir()
    Path('text.pth').write_text('no weights')
    with pytest.raises(UserError, match=message):
        run(*options)
    assert not Path('net.onnx').exists()


@pytest.mark.parametrize(('name', 'package'), [('net.onnx', 'onnxruntime'), ('net.safetensors', 'safetensors')])
def test_missing_package(name, package, work, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda wanted: None if wanted == package else find_spec(wanted))
    with pytest.raises(UserError, match=rf"needs packages: pip install -e '.\[export\]' \({package}\)"):
        run('-o', name)


def test_reading_safetensors_without_the_package(work, monkeypatch):
    run('-o', 'net.safetensors')
    monkeypatch.setitem(sys.modules, 'safetensors', None)
    monkeypatch.setitem(sys.modules, 'safetensors.torch', None)
    with pytest.raises(UserError, match=r"net\.safetensors: needs a package: pip install -e '.\[export\]'"):
        load_network('net.safetensors')
