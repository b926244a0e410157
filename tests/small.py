"""Small pictures and option files with nothing wrong, for tests that put something wrong into them."""

from copy import deepcopy
from functools import reduce
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facesr_plugin.data.images import write_image
from facesr_plugin.options.load import as_opt
from facesr_plugin.options.types import TrainingOptions

Options = dict[str, Any]

SECOND_STAGE: Options = {
    'model_type': 'AlphaRealESRGANModel',
    'network_d': {'type': 'PatchDiscriminator', 'num_feat': 4, 'num_layer': 2},
    'train.optim_d': {'type': 'AdamW', 'lr': 1e-2},
    'train.gan_opt': {'type': 'GANLoss', 'loss_weight': 0.5},
}


def picture(side: int = 96, seed: int = 0) -> np.ndarray:
    """Return a smooth picture, uint8 RGB, (side, side, 3)."""
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), side / 24)


def make_data(folder: Path) -> None:
    """Write three pairs: hr/ of 96x96 px and lr/ of 24x24 px, face_0.png to face_2.png."""
    for number in range(3):
        for name, side in (('hr', 96), ('lr', 24)):
            write_image(folder / name / f'face_{number}.png', picture(side, number))


def training_options(folder: Path) -> Options:
    """Return the options of experiment 1 on the folders that `make_data` wrote."""
    return {
        'name': 'run',
        'model_type': 'AlphaRealESRNetModel',
        'num_gpu': 0,
        'manual_seed': 3,
        'queue_size': 4,
        'datasets': {
            'train': {
                'name': 'faces',
                'type': 'FaceDegradationDataset',
                'dataroot_gt': str(folder / 'hr'),
                'io_backend': {'type': 'disk'},
                'gt_size': 80,
                'num_worker_per_gpu': 0,
                'batch_size_per_gpu': 2,
            },
            'val': {**_pairs(folder), 'name': 'val'},
        },
        'network_g': {'type': 'FaceSRResNet', 'num_feat': 4, 'num_block': 1},
        'path': {'pretrain_network_g': None, 'param_key_g': 'params', 'resume_state': None},
        'train': {
            'optim_g': {'type': 'AdamW', 'lr': 1e-3},
            'scheduler': {'type': 'CosineAnnealingRestartLR', 'periods': [4]},
            'total_iter': 4,
            'precision': 'fp32',
            'pixel_opt': {'type': 'RegularizedL1Loss', 'forward': 'concat'},
            'alpha_opt': {'start': 0.8, 'end': 0.4},
        },
        'val': {'val_freq': 2, 'metrics': {'psnr': {'type': 'calculate_psnr', 'crop_border': 0}}},
        'logger': {'print_freq': 1, 'save_checkpoint_freq': 2},
    }


def model_options(folder: Path, changes: Options | None = None) -> Options:
    """Return what the model gets of `training_options`, without a pool and with these changed, e.g. `train.accumulate`.

    Nothing of the data is there.
    """
    opt = training_options(folder)
    for path, value in {'queue_size': 0, **(changes or {})}.items():
        put(opt, path, value)
    alone = {'dist': False, 'rank': 0, 'world_size': 1}
    return as_opt(TrainingOptions.parse(opt), folder, is_train=True) | alone


def measuring_options(folder: Path) -> Options:
    """Return the options of a test on the folders that `make_data` wrote."""
    return {
        'name': 'measure',
        'model_type': 'SRModel',
        'num_gpu': 0,
        'datasets': {'test': {**_pairs(folder), 'name': 'test'}},
        'network_g': {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1},
        'path': {'pretrain_network_g': None, 'param_key_g': 'params'},
        'val': {'metrics': {'psnr': {'type': 'calculate_psnr', 'crop_border': 0}}},
    }


def put(opt: Options, path: str, value: Any) -> None:
    """Set an option by its path, e.g. `train.total_iter`."""
    *parents, last = path.split('.')
    reduce(lambda block, key: block[key], parents, opt)[last] = deepcopy(value)


def _pairs(folder: Path) -> Options:
    roots = {'dataroot_gt': str(folder / 'hr'), 'dataroot_lq': str(folder / 'lr')}
    return {'type': 'PairedImageDataset', **roots, 'io_backend': {'type': 'disk'}}
