"""Networks, pictures and LMDBs of a few pixels."""

from pathlib import Path

import numpy as np
import torch

from facesr_plugin.archs.face_srresnet_arch import FaceSRResNet
from facesr_plugin.data.lmdb_writer import write_lmdbs


def make_net(seed: int = 0, **options: int) -> FaceSRResNet:
    """Return a small network whose residual path is as strong as its skip."""
    torch.manual_seed(seed)
    net = FaceSRResNet(**({'num_feat': 8, 'num_block': 2} | options)).eval()
    for layer in net.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
    return net


def make_image(height: int, width: int, *channels: int, dtype: type = np.uint8) -> np.ndarray:
    """Return noise of all values that a type of whole numbers has."""
    rng = np.random.default_rng((height, width))
    return rng.integers(0, np.iinfo(dtype).max, (height, width, *channels), dtype, endpoint=True)


def noise(seed: int, height: int = 16, width: int = 12) -> np.ndarray:
    """Return uint8 RGB, (height, width, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def write_lmdb(path: Path, images: dict[str, np.ndarray], png_level: int | None = 1) -> Path:
    """Write an LMDB of these images and return its path."""
    write_lmdbs([path], list(images), lambda key: [images[key]], png_level)
    return path
