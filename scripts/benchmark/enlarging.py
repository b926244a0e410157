"""The rows about enlarging: beside BasicSR's network as its test.py runs it, and Real-ESRGAN's `RealESRGANer`."""

import contextlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
import torch
from basicsr.archs.srresnet_arch import MSRResNet
from basicsr.utils import img2tensor, tensor2img
from realesrgan import RealESRGANer

from benchmark.models import SCALE, Setup
from benchmark.timing import Case, Run
from facesr_plugin.archs.face_srresnet_arch import FaceSRResNet
from facesr_plugin.data.images import read_image, write_image
from facesr_plugin.enlarge.files import Enlarger, upscale_files
from facesr_plugin.enlarge.network import DEFAULT_WEIGHTS, load_network
from facesr_plugin.enlarge.plan import make_plan
from facesr_plugin.enlarge.tiles import upscale_image
from facesr_plugin.report.machine import ROOT
from facesr_plugin.run import checkpoint

TILE = 256  # of RealESRGANer, px
PEER_IMPORTS = (  # of Real-ESRGAN's inference_realesrgan.py, which imports them before it reads its options
    'import argparse, cv2, glob, os\n'
    'from basicsr.archs.srresnet_arch import MSRResNet\n'
    'from basicsr.utils.download_util import load_file_from_url\n'
    'from realesrgan import RealESRGANer\n'
)

side = cache(partial)  # the same object for the same work, so that its memory is measured once


def enlarge_cases(setup: Setup) -> Iterator[Case]:
    """A picture in memory, many in files, the command from its start, and peak memory."""
    small, large = setup.enlarged
    for px in setup.enlarged:
        ours = side(our_picture, px=px)
        if px == small:  # a large one, whole, takes stock 13 GB
            yield Case(f'enlarge {px} px: BasicSR', 'auto', side(stock_picture, px=px), ours)
        warm_up = 2 if px == small else 1
        yield Case(f'enlarge {px} px: RealESRGANer', 'auto', side(peer_picture, px=px), ours, warm_up=warm_up)
    files = side(peer_files, px=small), side(our_files, px=small)
    yield Case(f'{setup.pictures} pictures of {small} px: RealESRGANer', 'auto', *files, warm_up=0)
    yield Case('start-up, --help: Real-ESRGAN', '-', peer_help, our_help, warm_up=1)
    shell = side(peer_shell, px=small), side(our_shell, px=small)
    yield Case(f'start-up and one picture of {small} px: Real-ESRGAN', 'auto', *shell, warm_up=1)
    sides = side(peer_picture, px=large), side(our_picture, px=large)
    yield Case(f'peak memory, enlarge {large} px: RealESRGANer', 'auto', *sides, memory=True)


def picture(setup: Setup, px: int) -> np.ndarray:
    """Return a face, uint8 RGB (px, px, 3)."""
    return cv2.resize(read_image(setup.files[0]), (px, px), interpolation=cv2.INTER_AREA)


def weights(setup: Setup) -> Path:
    """Return the checkpoint that both sides load: the plugin's own, or one of the size that is asked for."""
    if (setup.blocks, setup.features) == (20, 64):
        return DEFAULT_WEIGHTS
    path = setup.folder / 'enlarge.pth'
    if not path.exists():
        torch.manual_seed(0)
        net = FaceSRResNet(num_block=setup.blocks, num_feat=setup.features)
        checkpoint.save(path, {'params': net.state_dict()})
    return path


def _stock_net(setup: Setup) -> MSRResNet:
    return MSRResNet(num_block=setup.blocks, num_feat=setup.features, upscale=SCALE)


def _peer(setup: Setup) -> RealESRGANer:
    """Return Real-ESRGAN's helper as its command makes it: fp16 on CUDA, which it refuses on the CPU."""
    half = setup.device.type == 'cuda'
    net = _stock_net(setup)
    return RealESRGANer(SCALE, str(weights(setup)), model=net, tile=TILE, pre_pad=0, half=half, device=setup.device)


# ------------------------------------------------------------------------ one picture
def stock_picture(setup: Setup, px: int) -> Run:
    """Prepare what `SRModel.validation` does to a picture: `test`, and its result as 8 bits."""
    net = _stock_net(setup).to(setup.device).eval()
    net.load_state_dict(checkpoint.load_weights(weights(setup))[0])
    image = picture(setup, px)[..., ::-1].astype(np.float32) / 255

    def run(number: int) -> np.ndarray:
        with torch.no_grad():
            output = net(img2tensor(image)[None].to(setup.device))
        return tensor2img([output.detach().cpu()])

    return run


def peer_picture(setup: Setup, px: int) -> Run:
    """Prepare `RealESRGANer.enhance`."""
    helper, image = _peer(setup), picture(setup, px)[..., ::-1]

    def run(number: int) -> np.ndarray:
        with contextlib.redirect_stdout(io.StringIO()):  # a line for each tile
            return helper.enhance(image)[0]

    return run


def our_picture(setup: Setup, px: int) -> Run:
    """Prepare `upscale_image`."""
    net, image = load_network(weights(setup)).to(setup.device), picture(setup, px)
    return lambda number: upscale_image(net, image, precision='auto')


# ---------------------------------------------------------------------- many pictures
def _folder(setup: Setup, px: int) -> Path:
    """Return a folder of as many PNGs as are asked for, made at the first call."""
    folder = setup.folder / f'{setup.pictures}_{px}'
    for number in range(0 if folder.exists() else setup.pictures):
        write_image(folder / f'{number:04}.png', np.roll(picture(setup, px), number, 1))
    return folder


def peer_files(setup: Setup, px: int) -> Run:
    """Prepare the loop of Real-ESRGAN's `inference_realesrgan.py`: read, enhance, write."""
    helper, folder, output = _peer(setup), _folder(setup, px), setup.folder / 'peer'
    output.mkdir(exist_ok=True)

    def run(number: int) -> None:
        for path in sorted(folder.iterdir()):
            image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            with contextlib.redirect_stdout(io.StringIO()):
                enlarged, _ = helper.enhance(image, outscale=SCALE)
            cv2.imwrite(str(output / path.name), enlarged)

    return run


def our_files(setup: Setup, px: int) -> Run:
    """Prepare what `facesr upscale` does once its network is loaded."""
    enlarger = Enlarger(load_network(weights(setup)).to(setup.device), quiet=True)
    folder, output = _folder(setup, px), setup.folder / 'ours'

    def run(number: int) -> None:
        shutil.rmtree(output, ignore_errors=True)
        if upscale_files(enlarger, make_plan([folder], output, 'png').sources):
            raise RuntimeError('a picture is missing')

    return run


# --------------------------------------------------------------------------- start-up
def peer_help(setup: Setup) -> Run:
    """Prepare `inference_realesrgan.py --help`, as far as its imports go."""
    return _command('-c', PEER_IMPORTS)


def our_help(setup: Setup) -> Run:
    """Prepare `facesr upscale --help`."""
    return _command('-m', 'facesr_plugin.cli', 'upscale', '--help')


def peer_shell(setup: Setup, px: int) -> Run:
    """Prepare Real-ESRGAN on one picture, in a process of its own."""
    path, output = _folder(setup, px) / '0000.png', setup.folder / 'peer.png'
    code = (
        f'{PEER_IMPORTS}helper = RealESRGANer({SCALE}, {str(weights(setup))!r}, model=MSRResNet('
        f'num_block={setup.blocks}, num_feat={setup.features}, upscale={SCALE}), tile={TILE}, pre_pad=0, '
        f'half={setup.device.type == "cuda"}, device={setup.device.type!r})\n'
        f'cv2.imwrite({str(output)!r}, helper.enhance(cv2.imread({str(path)!r}, cv2.IMREAD_UNCHANGED))[0])'
    )
    return _command('-c', code)


def our_shell(setup: Setup, px: int) -> Run:
    """Prepare `facesr upscale` on one picture, in a process of its own."""
    options = ['--weights', weights(setup), '--device', setup.device.type, '-o', setup.folder / 'shell', '--overwrite']
    return _command('-m', 'facesr_plugin.cli', 'upscale', '-i', _folder(setup, px) / '0000.png', *options)


def _command(*arguments: str | Path) -> Run:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))

    def run(number: int) -> None:
        subprocess.run(
            [sys.executable, *map(str, arguments)],
            check=True,
            capture_output=True,
            env=os.environ | {'PYTHONPATH': path},
        )

    return run
