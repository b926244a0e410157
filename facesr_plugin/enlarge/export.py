"""A trained network for other programs: ONNX and safetensors, compared with the network before they are written."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from facesr_plugin.enlarge.other import Network, OtherNetwork
from facesr_plugin.errors import RunError, UserError
from facesr_plugin.files import write

OPSET = 18  # the newest that the network needs; runtimes of 2023 and later read it
TRACED_SHAPE = (2, 3, 16, 24)
CHECKED_SHAPES = ((1, 3, 1, 1), (1, 3, 37, 20), (2, 3, 9, 33), (3, 3, 64, 64))
TOLERANCE = 1e-4


def describe(net: Network, weights: Path, licence: str) -> dict[str, str]:
    """Return what the files tell about the network."""
    if isinstance(net, OtherNetwork):
        own = {'architecture': type(net.net).__name__}
    else:
        size = {'num_feat': str(net.conv_first.out_channels), 'num_block': str(len(net.body))}
        own = {'architecture': type(net).__name__, **size}
    return {
        **own,
        'scale': str(net.upscale),
        'weights': weights.name,
        'license': licence,
        'input': 'RGB in [0, 1], (batch, 3, height, width)',
        'output': f'RGB, not clamped to [0, 1], (batch, 3, {net.upscale} * height, {net.upscale} * width)',
    }


def to_onnx(net: Network, metadata: dict[str, str]) -> bytes:
    """Return the network as an ONNX file: `input` (batch, 3, height, width) to `output`, all three sizes free."""
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    program = torch.onnx.export(
        net,
        (torch.rand(TRACED_SHAPE),),
        dynamo=True,
        verbose=False,
        opset_version=OPSET,
        input_names=['input'],
        output_names=['output'],
        dynamic_shapes=({0: 'batch', 2: 'height', 3: 'width'},),
    )
    ClearMetadataAndDocStringPass()(program.model)  # stack traces with this machine's paths, among others
    program.model.metadata_props.update(metadata)
    return program.model_proto.SerializeToString()


@torch.inference_mode()
def check_onnx(data: bytes, net: Network) -> str:
    """Compare an ONNX file, run by onnxruntime, with the network, at sizes that it was not traced with.

    Args:
        data: The file.
        net: The network, on the CPU.

    Returns:
        What was compared, and the greatest difference.

    Raises:
        RunError: The outputs differ by more than `TOLERANCE`.
    """
    import onnx
    import onnxruntime

    onnx.checker.check_model(data, full_check=True)
    session = onnxruntime.InferenceSession(data, providers=['CPUExecutionProvider'])
    difference = 0.0
    for shape in CHECKED_SHAPES:
        images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        (output,) = session.run(['output'], {'input': images.numpy()})
        difference = np.maximum(difference, np.abs(output - net(images).numpy()).max())
    compared = f'onnxruntime against torch at {", ".join("x".join(map(str, shape)) for shape in CHECKED_SHAPES)}'
    if not difference <= TOLERANCE:
        raise RunError(f'{compared}: a difference of {TOLERANCE:g} at most expected, got {difference:.2g}')
    return f'{compared}: max difference {difference:.2g}'


def to_safetensors(net: Network, metadata: dict[str, str]) -> bytes:
    """Return the network's state dict as a safetensors file."""
    import safetensors.torch

    return safetensors.torch.save(net.state_dict(), metadata | {'format': 'pt'})


def check_safetensors(data: bytes, net: Network) -> str:
    """Compare a safetensors file with the network's state dict.

    Args:
        data: The file.
        net: The network.

    Returns:
        What was compared.

    Raises:
        RunError: They differ in a name or a bit.
    """
    import safetensors.torch

    read, expected = safetensors.torch.load(data), net.state_dict()
    if read.keys() != expected.keys() or not all(torch.equal(read[name], expected[name]) for name in expected):
        raise RunError('safetensors against torch: equal state dicts expected, they differ')
    return f'{len(read)} tensors read back, equal bit for bit'


class Format(NamedTuple):
    """How to make a file, how to check it, and the packages that this takes."""

    make: Callable[[Network, dict[str, str]], bytes]
    check: Callable[[bytes, Network], str]
    packages: tuple[str, ...]


FORMATS = {
    '.onnx': Format(to_onnx, check_onnx, ('onnx', 'onnxruntime', 'onnxscript')),
    '.safetensors': Format(to_safetensors, check_safetensors, ('safetensors',)),
}


def check_outputs(outputs: list[Path], overwrite: bool) -> None:
    """Check that each file can be made before any is.

    Raises:
        UserError: A suffix is unknown, a package or the folder is missing, or a file exists and is not to be replaced.
    """
    for path in outputs:
        if path.suffix not in FORMATS:
            raise UserError(f'{path}: a name that ends in {" or ".join(FORMATS)} expected')
        missing = [name for name in FORMATS[path.suffix].packages if importlib.util.find_spec(name) is None]
        if missing:
            raise UserError(f"{path}: needs packages: pip install -e '.[export]' ({', '.join(missing)})")
        if not path.parent.is_dir():
            raise UserError(f'{path}: no such folder: {path.parent}')
        if path.is_dir() or (path.exists() and not overwrite):
            raise UserError(f'{path}: exists; choose another name{" or --overwrite" if path.is_file() else ""}')


def export(net: Network, path: Path, metadata: dict[str, str]) -> str:
    """Write the network to a file of the kind that its suffix says.

    Args:
        net: The network, on the CPU.
        path: The file, which `check_outputs` has passed.
        metadata: What the file tells about the network; see `describe`.

    Returns:
        The file's size, what was compared and how well it agrees.

    Raises:
        RunError: The file would not be what the network is, or cannot be written; it is not, then.
    """
    kind = FORMATS[path.suffix]
    data = kind.make(net, metadata)
    try:
        checked = kind.check(data, net)
    except RunError as error:
        raise RunError(f'{path}: {error}') from error
    write(path, data)
    return f'{len(data) / 1e6:.1f} MB; {checked}'
