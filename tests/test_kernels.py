import cv2
import numpy as np
import pytest
from basicsr.data.degradations import (
    bivariate_Gaussian,
    bivariate_generalized_Gaussian,
    bivariate_plateau,
    circular_lowpass_kernel,
)
from realesrgan.data.realesrgan_dataset import RealESRGANDataset
from stock import seed_globals

from facesr_plugin.data.epoch_sampler import SampleIndex
from facesr_plugin.data.face_degradation_dataset import FaceDegradationDataset
from facesr_plugin.degradations import KernelRanges, RandomStreams, sample_kernels
from facesr_plugin.degradations.kernels import blur_kernel, sinc_kernel
from facesr_plugin.errors import UserError

SIZES = [7, 13, 21]
ELLIPSES = [(0.2, 0.2, 0.0), (0.4, 2.9, 0.7), (3.0, 1.1, -2.5)]


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize(('sigma_x', 'sigma_y', 'rotation'), ELLIPSES)
@pytest.mark.parametrize('beta', [0.5, 1.0, 3.7])
def test_blur_kernels_are_stock(size, sigma_x, sigma_y, rotation, beta):
    ellipse = size, sigma_x, sigma_y, rotation
    if beta == 1:
        gaussian = bivariate_Gaussian(*ellipse, isotropic=False)
    else:
        gaussian = bivariate_generalized_Gaussian(*ellipse, beta, isotropic=False)
    plateau = bivariate_plateau(*ellipse, beta, isotropic=False)
    np.testing.assert_allclose(blur_kernel(*ellipse, beta), gaussian, rtol=1e-8, atol=1e-15)
    np.testing.assert_allclose(blur_kernel(*ellipse, beta, plateau=True), plateau, rtol=1e-8, atol=1e-15)


@pytest.mark.parametrize('size', SIZES)
def test_isotropic_kernels_are_stock(size):
    expected = bivariate_Gaussian(size, 1.7, 99, 99, isotropic=True)
    np.testing.assert_allclose(blur_kernel(size, 1.7, 1.7), expected, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('cutoff', [np.pi / 5, 2.0, np.pi])
def test_sinc_kernels_are_stock(size, cutoff):
    expected = circular_lowpass_kernel(cutoff, size)
    np.testing.assert_allclose(sinc_kernel(cutoff, size), expected, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'sinc_prob': 1.0, 'sinc_prob2': 1.0},
        {'kernel_list': ['plateau_aniso', 'generalized_aniso'], 'kernel_prob': [0.5, 0.5], 'blur_sigma': [0.5, 1.0]},
        {'kernel_list2': ['generalized_iso'], 'kernel_prob2': [1.0], 'betag_range2': [0.7, 2], 'final_sinc_prob': 0.3},
    ],
)
@pytest.mark.parametrize('use_rot', [False, True])
def test_samples_are_stock(changes, use_rot, tmp_path):
    """Seeded alike, stock's `__getitem__` and ours draw the same patch and the same kernels."""
    picture = np.random.default_rng(0).integers(0, 256, (407, 431, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'face.png'), picture)
    (tmp_path / 'meta_info.txt').write_text('face.png\n')
    ranges = KernelRanges.parse(changes).model_dump()
    common = {**ranges, 'dataroot_gt': str(tmp_path), 'use_hflip': True, 'use_rot': use_rot}
    stock = RealESRGANDataset({**common, 'io_backend': {'type': 'disk'}, 'meta_info': str(tmp_path / 'meta_info.txt')})
    ours = FaceDegradationDataset(
        {
            **common,
            'name': 'faces',
            'type': 'FaceDegradationDataset',
            'io_backend': {'type': 'disk'},
            'gt_size': 400,
            'num_worker_per_gpu': 0,
            'batch_size_per_gpu': 1,
        }
    )
    for position in range(12):
        entropy = (5, position)
        seed_globals(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
        expected = stock[0]
        sample = ours[SampleIndex(0, seed=entropy)]
        np.testing.assert_array_equal(sample['gt'].numpy(), (expected['gt'] * 255).round().numpy())
        for name in ('kernel1', 'kernel2', 'sinc_kernel'):
            np.testing.assert_allclose(sample[name].numpy(), expected[name].numpy(), rtol=1e-5, atol=1e-9)


def draw(seed: int = 0, **changes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    streams = RandomStreams(seed)
    return sample_kernels(KernelRanges.parse(changes), streams.python, streams.numpy)


def test_every_kernel_sums_to_one():
    for seed in range(50):
        assert [kernel.sum(dtype=np.float64) for kernel in draw(seed)] == pytest.approx([1, 1, 1], abs=1e-6)


def test_sides_follow_the_options():
    first, second, last = draw(blur_kernel_size=13, blur_kernel_size2=9)
    assert (first.shape, second.shape, last.shape) == ((13, 13), (9, 9), (13, 13))
    assert {kernel.dtype for kernel in (first, second, last)} == {np.dtype(np.float32)}


def test_without_final_sinc_a_single_one():
    expected = np.zeros((21, 21))
    expected[10, 10] = 1
    np.testing.assert_array_equal(draw(final_sinc_prob=0.0)[2], expected)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'blur_kernel_size': 20}, 'blur_kernel_size: an odd number expected, got 20'),
        ({'blur_kernel_size2': 5}, 'blur_kernel_size2: expected greater than or equal to 7, got 5'),
        ({'kernel_prob2': [0.5, 0.5]}, 'kernel_prob2: 6 numbers expected, as many as kernel_list2, got [0.5, 0.5]'),
        ({'kernel_prob': [0.9]}, 'kernel_prob: expected probabilities that sum to 1, got [0.9]'),
        ({'kernel_prob': [1.5, -0.5]}, 'kernel_prob: expected probabilities that sum to 1, got [1.5, -0.5]'),
        ({'blur_sigma': [3, 0.2]}, 'blur_sigma: expected [low, high] with low <= high, got [3, 0.2]'),
        ({'sinc_prob2': 1.5}, 'sinc_prob2: expected less than or equal to 1, got 1.5'),
        ({'blur_sigmas': [0.2, 3]}, "blur_sigmas: unknown option, did you mean 'blur_sigma'?"),
    ],
)
def test_exception(changes, message):
    with pytest.raises(UserError) as error:
        KernelRanges.parse(changes)
    assert str(error.value) == message


def test_exception_unknown_shape():
    with pytest.raises(UserError, match=r"^kernel_list\.0: expected 'iso', 'aniso', .*, got 'skew'$"):
        KernelRanges.parse({'kernel_list': ['skew'], 'kernel_prob': [1.0]})
