"""Number formats a network can compute in, and which is the default of a device."""

from typing import Literal

import torch

PRECISIONS = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


def default_precision(device: torch.device) -> Literal['fp32', 'bf16']:
    """Return bf16 where the device computes it natively and so faster (measured in the README), else fp32."""
    if device.type == 'cuda':
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == 'cpu':
        checks = ('_is_avx512_bf16_supported', '_is_amx_tile_supported')  # private: a version may lack them
        native = any(getattr(torch.cpu, check, bool)() for check in checks)
    else:
        native = False
    return 'bf16' if native else 'fp32'
