"""The training pair pool: mixes degradations within a batch, whose draws are otherwise shared."""

from typing import Any

import torch


class PairPool:
    """A buffer of LR-HR pairs; once full, each batch is exchanged for as many pairs drawn at random from it.

    Does what stock's `_dequeue_and_enqueue` does, with the same draws, but moves only the pairs that change, stores
    8 bits, and takes any size: a batch that overfills the pool exchanges its surplus only.

    Args:
        size: Pairs it holds, at least a batch; at YAML `queue_size`. 180 pairs of 512 px take 150 MB.
        generator: CPU generator of the draws.
    """

    def __init__(self, size: int, generator: torch.Generator) -> None:
        self.size = size
        self.generator = generator
        self.lq: torch.Tensor | None = None
        self.gt: torch.Tensor | None = None
        self.count = 0
        self.order = torch.arange(size)  # which slot lies at which place of stock's shuffled queue

    def exchange(self, lq: torch.Tensor, gt: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Put a batch in and take a batch out.

        Args:
            lq: (B, 3, h, w), float, multiples of 1/255 in [0, 1].
            gt: (B, 3, H, W), float in [0, 1]; rounded to 8 bits inside the pool.

        Returns:
            A batch of the same shapes: until the pool is full the one that came.

        Raises:
            ValueError: The batch is larger than the pool, or of another image size than the pairs inside.
        """
        batch = len(lq)
        if batch > self.size:
            raise ValueError(f'queue_size: at least the batch size {batch} expected, got {self.size}')
        if self.lq is None:
            self.lq = lq.new_empty((self.size, *lq.shape[1:]), dtype=torch.uint8)
            self.gt = gt.new_empty((self.size, *gt.shape[1:]), dtype=torch.uint8)
        elif self.lq.shape[1:] != lq.shape[1:]:
            raise ValueError(f'pairs of LR size {tuple(self.lq.shape[2:])} expected, got {tuple(lq.shape[2:])}')

        new = min(batch, self.size - self.count)
        self.lq[self.count : self.count + new] = _to_bytes(lq[:new])
        self.gt[self.count : self.count + new] = _to_bytes(gt[:new])
        full = self.count
        self.count += new
        if new == batch:
            return lq, gt

        # `full` pairs were here before this batch; the surplus goes in for as many of them.
        self.order[:full] = self.order[:full][torch.randperm(full, generator=self.generator)]
        slots = self.order[: batch - new].to(lq.device, non_blocking=True)
        drawn_lq, drawn_gt = self.lq[slots].to(lq.dtype).div_(255), self.gt[slots].to(gt.dtype).div_(255)
        self.lq[slots] = _to_bytes(lq[new:])
        self.gt[slots] = _to_bytes(gt[new:])
        if not new:
            return drawn_lq, drawn_gt
        return torch.cat([lq[:new], drawn_lq]), torch.cat([gt[:new], drawn_gt])

    def state_dict(self) -> dict[str, Any]:
        """Return the pairs and their order, for the training state."""
        if self.lq is None:
            return {'count': 0}
        filled = slice(0, self.count)
        return {
            'count': self.count,
            'order': self.order.clone(),
            'lq': self.lq[filled].cpu(),
            'gt': self.gt[filled].cpu(),
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Take over the pairs of a state.

        Raises:
            ValueError: They come from a pool of another size.
        """
        if state['count'] == 0:
            return
        if len(state['order']) != self.size:
            raise ValueError(f'queue_size: {len(state["order"])} expected, as in the training state, got {self.size}')
        self.count, self.order = state['count'], state['order'].clone()
        for name in ('lq', 'gt'):
            pool = torch.empty((self.size, *state[name].shape[1:]), dtype=torch.uint8, device=device)
            pool[: self.count] = state[name].to(device)
            setattr(self, name, pool)


def _to_bytes(images: torch.Tensor) -> torch.Tensor:
    return (images * 255).round_().to(torch.uint8)
