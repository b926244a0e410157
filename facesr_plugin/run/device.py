"""The device that a run trains on: CUDA, else Apple's MPS, else the CPU."""

import torch


def accelerators() -> int:
    """Return how many devices besides the CPU a run can train on here; MPS counts as one."""
    return torch.cuda.device_count() or int(torch.backends.mps.is_available())


def device_for(num_gpu: int) -> torch.device:
    """Return the device that `num_gpu` devices, 0 or 1, are."""
    if not num_gpu:
        return torch.device('cpu')
    use_mps = not torch.cuda.device_count() and torch.backends.mps.is_available()
    return torch.device('mps' if use_mps else 'cuda')


def device_of_data(device: torch.device) -> torch.device:
    """Return where images are degraded and kept for a network on a device: there, but on the CPU instead of MPS.

    MPS lacks Poisson noise and float64, and PyTorch's older versions the Fourier transform and the antialiased resize.
    So its random streams are those of the CPU, too, and a training state can go on there.
    """
    return torch.device('cpu') if device.type == 'mps' else device


def widest_float(device: torch.device) -> torch.dtype:
    """Return the type to sum up in on a device."""
    return torch.float32 if device.type == 'mps' else torch.float64


def can_lay_out(device: torch.device) -> bool:
    """Return whether convolutions of channels-last images are right on a device, and no slower.

    On MPS they are neither always (pytorch/pytorch#180984, #192551).
    """
    return device.type != 'mps'
