"""Stock Real-ESRNet as the tests' reference: unchanged code, kept off CUDA, its inputs made contiguous for the CPU."""

import random

import numpy as np
import pytest
import torch
from basicsr.utils import DiffJPEG, USMSharp
from basicsr.utils.img_process_util import filter2D
from realesrgan.models import realesrnet_model

from facesr_plugin.degradations import DegradationRanges


def seed_globals(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def stock_model(monkeypatch: pytest.MonkeyPatch, ranges: DegradationRanges, gt_size: int, queue_size: int, **opt):
    """Return a `RealESRNetModel` that can only `feed_data`, on the CPU."""
    monkeypatch.setattr(torch.Tensor, 'cuda', lambda self: self)
    monkeypatch.setattr(realesrnet_model, 'filter2D', lambda img, kernel: filter2D(img.contiguous(), kernel))
    model = realesrnet_model.RealESRNetModel.__new__(realesrnet_model.RealESRNetModel)
    model.opt = {**ranges.model_dump(), 'gt_usm': False, 'scale': 4, 'gt_size': gt_size, **opt}
    model.is_train = True
    model.device = torch.device('cpu')
    model.jpeger = DiffJPEG(differentiable=False)
    model.usm_sharpener = USMSharp()
    model.queue_size = queue_size
    return model
