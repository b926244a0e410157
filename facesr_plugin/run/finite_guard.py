"""Skipping steps that would destroy the weights, clipping those that are too large, and stopping a run of bad ones."""

import math

import torch

from facesr_plugin.errors import RunError

LIMIT = 10  # steps in a row


class FiniteGuard:
    """Takes optimiser steps whose gradients are finite, and counts the others, without waiting for the device.

    Args:
        device: Where the gradients are.
        max_norm: What a larger norm of all gradients together is scaled down to; None leaves them as they are.
    """

    def __init__(self, device: torch.device, max_norm: float | None = None) -> None:
        self.max_norm = max_norm
        self.in_a_row = torch.zeros((), device=device)
        self.skipped = torch.zeros((), device=device)

    @torch.no_grad()
    def step(self, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> None:
        """Take one step, or leave weights and optimiser as they are if any gradient is NaN or infinite."""
        gradients = [p.grad for group in optimizer.param_groups for p in group['params'] if p.grad is not None]
        if self.max_norm is not None and scaler.is_enabled():
            scaler.unscale_(optimizer)
        largest = torch.stack(torch._foreach_norm(gradients, torch.inf)).max()
        bad = (~torch.isfinite(largest)).float()
        if self.max_norm is not None:
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
            bound = largest * math.sqrt(sum(gradient.numel() for gradient in gradients))
            factor = self.max_norm / torch.where(norm.isinf(), bound, norm)  # squares of 1.8e19 are beyond fp32
            torch._foreach_mul_(gradients, factor.clamp(max=1))  # NaN in a step that is skipped
        self.skipped += bad
        self.in_a_row = (self.in_a_row + 1) * bad
        if scaler.is_enabled():  # it skips such steps by itself
            scaler.step(optimizer)
            scaler.update()
        elif optimizer.param_groups[0]['fused']:  # the kernel reads the verdict where it is
            optimizer.found_inf = bad
            optimizer.step()
        elif not bad:
            optimizer.step()

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the counts, for the training state."""
        return {'in_a_row': self.in_a_row.cpu(), 'skipped': self.skipped.cpu()}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Go on counting where `state` was taken."""
        self.in_a_row.copy_(state['in_a_row'])
        self.skipped.copy_(state['skipped'])

    def check(self, current_iter: int) -> None:
        """Stop a run whose last steps were all skipped; this waits for the device.

        Raises:
            RunError: `LIMIT` or more in a row.
        """
        if self.in_a_row >= LIMIT:
            raise RunError(
                f'iteration {current_iter}: loss or gradients were not finite in {int(self.in_a_row)} steps in a row,'
                ' all skipped; lower train.optim_g.lr, or set train.precision to bf16 or fp32'
            )
