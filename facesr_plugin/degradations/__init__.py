"""HR to LR on tensors: `degrade` is D, `resize_clean` is R; nothing here knows option files or BasicSR models."""

from facesr_plugin.degradations.kernels import KernelRanges, sample_kernels
from facesr_plugin.degradations.pipeline import DegradationRanges, degrade, resize_clean, smallest_side
from facesr_plugin.degradations.streams import RandomStreams

__all__ = [
    'DegradationRanges',
    'KernelRanges',
    'RandomStreams',
    'degrade',
    'resize_clean',
    'sample_kernels',
    'smallest_side',
]
