"""How many GPUs a run uses: MPS is one, for models of ours; those of BasicSR know CUDA only."""

import torch
from basicsr.utils.registry import MODEL_REGISTRY

from facesr_plugin.models.alpha_realesrnet_model import AlphaRealESRNetModel
from facesr_plugin.options.types import RunOptions
from facesr_plugin.run.device import accelerators


def gpus_here(run: RunOptions) -> int:
    """Return how many GPUs are here that the model of a run can use."""
    model = MODEL_REGISTRY.get(run.model_type) if run.model_type in MODEL_REGISTRY else None
    is_ours = isinstance(model, type) and issubclass(model, AlphaRealESRNetModel)
    return accelerators() if is_ours else torch.cuda.device_count()


def gpus_used(run: RunOptions) -> int:
    """Return `num_gpu`, 0 or 1: that of `auto` is 1 where a GPU is here."""
    return min(1, gpus_here(run)) if run.num_gpu == 'auto' else run.num_gpu
