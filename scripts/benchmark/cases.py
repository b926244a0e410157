"""The rows of `benchmark.py`, by group: for each both sides, stock's and ours, doing the same work."""

import random
from collections.abc import Callable, Iterator
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler

from benchmark.models import (
    SCALE,
    Setup,
    as_stock,
    build_ours,
    build_stock,
    hr_batch,
    our_dataset,
    pairs,
    seed_globals,
    stock_dataset,
)
from benchmark.timing import Case, NotAvailable, Run
from facesr_plugin.archs.face_srresnet_arch import FaceSRResNet
from facesr_plugin.degradations import RandomStreams, resize_clean
from facesr_plugin.models.execution import can_compile
from facesr_plugin.models.pair_pool import PairPool

PRECISIONS = ('fp32', 'bf16')
PAIRINGS = (  # our way to train, and which of stock's it stands beside
    ('experiment 2', 'plain L1'),
    ('sampled', 'plain L1'),
    ('concat', 'dual loss'),
    ('sequential', 'dual loss'),
)


# --------------------------------------------------------------------------- data set
def dataset_cases(setup: Setup) -> Iterator[Case]:
    """One sample: decode, augment, crop, draw three kernels; in one thread, as in a loader process."""
    for values, label in (('png', 'the same'), ('raw', 'a raw one')):
        name = f'data set item, {setup.crop} px: stock from a PNG LMDB, ours from {label}'
        stock, ours = partial(stock_items, setup), partial(our_items, setup, values)
        yield Case(name, '-', stock, ours, runs=setup.items, threads=1)


def stock_items(setup: Setup) -> Run:
    """Prepare reading one item after the other."""
    return partial(_read_item, stock_dataset(setup))


def our_items(setup: Setup, values: str) -> Run:
    """Prepare reading one item after the other."""
    return partial(_read_item, our_dataset(setup, values))


def _read_item(dataset: Dataset, number: int) -> object:
    return dataset[number % len(dataset)]


# ------------------------------------------------------------------------ degradation
def degradation_cases(setup: Setup) -> Iterator[Case]:
    """`feed_data` without pool and crop; cost depends on the draw, so a repetition has several, the same in both."""
    for side in setup.degraded:
        name = f'degradation, {side} px'
        stock, ours = partial(stock_degradation, setup, side), partial(our_degradation, setup, side)
        yield Case(name, 'fp32', stock, ours, runs=setup.batches)


def stock_degradation(setup: Setup, side: int) -> Run:
    """Prepare degrading a batch."""
    model = build_stock(setup, gt_size=side)
    model._dequeue_and_enqueue = lambda: None
    data = as_stock(hr_batch(setup, side))

    def run(number: int) -> None:
        seed_globals(number)
        model.feed_data(data)

    return run


def our_degradation(setup: Setup, side: int) -> Run:
    """Prepare degrading a batch."""
    model = build_ours(setup, queue_size=0)
    data = hr_batch(setup, side)

    def run(number: int) -> None:
        model.streams = RandomStreams(number, setup.device)
        model.feed_data(data)

    return run


# ------------------------------------------------------------------------------- pool
def pool_cases(setup: Setup) -> Iterator[Case]:
    """Exchange a batch with a full pool, and the memory that takes."""
    name = f'pair pool of {setup.pool_size} x {setup.pool_side} px'
    stock, ours = partial(stock_pool, setup), partial(our_pool, setup)
    yield Case(f'{name}, exchange of a batch', '-', stock, ours, runs=setup.batches)
    yield Case(f'{name}, peak memory', '-', stock, ours, memory=True)


def stock_pool(setup: Setup) -> Run:
    """Prepare a full pool."""
    model = build_stock(setup, queue_size=setup.pool_size)
    lq, gt = pairs(setup, setup.pool_side)

    def run(number: int) -> None:
        model.lq, model.gt = lq, gt
        model._dequeue_and_enqueue()

    for number in range(setup.pool_size // setup.batch):
        run(number)
    return run


def our_pool(setup: Setup) -> Run:
    """Prepare a full pool."""
    pool = PairPool(setup.pool_size, torch.Generator().manual_seed(0))
    lq, gt = pairs(setup, setup.pool_side)

    def run(number: int) -> None:
        pool.exchange(lq, gt)

    for number in range(setup.pool_size // setup.batch):
        run(number)
    return run


# ------------------------------------------------------------------- optimisation step
def step_cases(setup: Setup) -> Iterator[Case]:
    """`optimize_parameters` on one batch of pairs."""
    for kind, stock_kind in PAIRINGS:
        for precision in PRECISIONS:
            name = f'step, {setup.patch} px: stock {stock_kind}, ours {kind}'
            stock, ours = stock_step(setup, stock_kind), partial(our_step, setup, kind, precision)
            yield Case(name, precision, stock, ours, runs=setup.steps)


def compile_cases(setup: Setup) -> Iterator[Case]:
    """The same step with our network compiled, `train.compile: true`."""
    for precision in PRECISIONS:
        name = f'step, {setup.patch} px: stock dual loss, ours concat, compiled'
        stock, ours = stock_step(setup, 'dual loss'), partial(our_compiled_step, setup, 'concat', precision)
        yield Case(name, precision, stock, ours, runs=setup.steps)


def memory_cases(setup: Setup) -> Iterator[Case]:
    """Peak memory of `optimize_parameters`: weights, gradients, optimiser and activations."""
    for kind, stock_kind in (*PAIRINGS, ('sequential', 'plain L1')):
        for precision in PRECISIONS:
            name = f'peak memory of a step, {setup.patch} px: stock {stock_kind}, ours {kind}'
            stock, ours = stock_step(setup, stock_kind), partial(our_step, setup, kind, precision)
            yield Case(name, precision, stock, ours, memory=True)


@cache  # the same object for the same model, so that its memory is measured once
def stock_step(setup: Setup, kind: str) -> Callable[[], Run]:
    """Return the side that does steps of stock's."""
    return partial(_prepare_step, partial(build_stock, setup, kind), setup)


def our_step(setup: Setup, kind: str, precision: str) -> Run:
    """Prepare doing steps."""
    return _prepare_step(partial(build_ours, setup, kind, precision), setup)


def our_compiled_step(setup: Setup, kind: str, precision: str) -> Run:
    """Prepare doing steps with a compiled network.

    Raises:
        NotAvailable: `torch.compile` does not work here, so the network would run as it is.
    """
    if not can_compile(setup.device):
        raise NotAvailable
    return _prepare_step(partial(build_ours, setup, kind, precision, compiled=True), setup)


def _prepare_step(build: Callable[[], Any], setup: Setup) -> Run:
    model = build()
    model.lq, model.gt = pairs(setup, setup.patch)
    return lambda number: model.optimize_parameters(number + 1)


# ------------------------------------------------------------------ training iteration
def iteration_cases(setup: Setup) -> Iterator[Case]:
    """Batch from a PNG LMDB, degradation, pool and step."""
    for kind, stock_kind in PAIRINGS:
        for precision in PRECISIONS:
            name = f'training iteration, {setup.patch} px: stock {stock_kind}, ours {kind}'
            stock, ours = partial(stock_iteration, setup, stock_kind), partial(our_iteration, setup, kind, precision)
            yield Case(name, precision, stock, ours, runs=setup.iterations, images=setup.batch)


def stock_iteration(setup: Setup, kind: str) -> Run:
    """Prepare training; the pool is full."""
    model = build_stock(setup, kind, gt_size=setup.patch, queue_size=setup.pool_size)
    model.lq, model.gt = lq, gt = pairs(setup, setup.patch)
    for _ in range(setup.pool_size // setup.batch):
        model.lq, model.gt = lq, gt
        model._dequeue_and_enqueue()
    batches = _batches(stock_dataset(setup), setup)

    def run(number: int) -> None:
        seed_globals(number)
        data = next(batches)
        seed_globals(number)
        model.feed_data(data)
        model.optimize_parameters(number + 1)

    return run


def our_iteration(setup: Setup, kind: str, precision: str) -> Run:
    """Prepare training; the pool is full."""
    model = build_ours(setup, kind, precision, gt_size=setup.patch, queue_size=setup.pool_size)
    lq, gt = pairs(setup, setup.patch)
    for _ in range(setup.pool_size // setup.batch):
        model.pool.exchange(lq, gt)
    batches = _batches(our_dataset(setup, 'png'), setup)

    def run(number: int) -> None:
        random.seed(number)
        data = next(batches)
        model.streams = RandomStreams(number, setup.device)
        model.feed_data(data)
        model.optimize_parameters(number + 1)

    return run


def _batches(dataset: Dataset, setup: Setup) -> Iterator[dict[str, Any]]:
    """Return batches without end, of the same faces for any data set over them."""
    order = RandomSampler(dataset, True, 10**9, torch.Generator().manual_seed(0))
    return iter(DataLoader(dataset, setup.batch, sampler=order, num_workers=setup.workers))


# ------------------------------------------------------------------------- validation
def validation_cases(setup: Setup) -> Iterator[Case]:
    """A validation of one pair: PSNR and SSIM; ours the loss too, stock a sharpened target that nothing reads."""
    name = f'validation of a {setup.validated} px pair'
    yield Case(name, 'fp32', partial(_validation, build_stock, setup), partial(_validation, build_ours, setup))


def _validation(build: Callable[..., Any], setup: Setup) -> Run:
    model = build(setup, is_train=False)
    gt = hr_batch(setup, setup.validated)['gt'][:1].cpu().float() / 255
    lq = (resize_clean(gt, SCALE) * 255).round().clamp(0, 255) / 255
    loader = _Loader([{'lq': lq, 'gt': gt, 'lq_path': ['face.png'], 'gt_path': ['face.png']}])
    return lambda number: model.nondist_validation(loader, number, None, False)


class _Loader(list):
    """A validation loader over ready batches."""

    dataset = SimpleNamespace(opt={'name': 'faces'})


# ---------------------------------------------------------------------------- ceiling
def ceiling_cases(setup: Setup) -> Iterator[Case]:
    """A step beside a matrix product of as many multiply-adds; the ratio is the part of its rate that is reached."""
    for precision in PRECISIONS:
        name = f'ceiling, {setup.patch} px: matrix product of as many multiply-adds, ours a concat step'
        stock, ours = partial(matrix_product, setup, precision), partial(our_step, setup, 'concat', precision)
        yield Case(name, precision, stock, ours, runs=setup.steps)


def matrix_product(setup: Setup, precision: str, side: int = 4096) -> Run:
    """Prepare a product of (rows, side) and (side, side), rows such that it has a `concat` step's multiply-adds."""
    dtype = {'fp32': torch.float32, 'bf16': torch.bfloat16}[precision]
    rows = max(1, round(count_multiply_adds(setup) / side**2))
    left, right = (torch.rand(size, side, device=setup.device).to(dtype) for size in (rows, side))
    tf32 = torch.backends.cudnn.allow_tf32  # what convolutions of this device use for fp32

    def run(number: int) -> None:
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = tf32
        left @ right
        torch.backends.cuda.matmul.allow_tf32 = before

    return run


def count_multiply_adds(setup: Setup) -> int:
    """Count those of a `concat` step's convolutions, counted as they run.

    Each runs three times, forward and for the gradients of its weights and of its input; the first has no use for the
    latter.
    """
    with torch.device('meta'):
        net = FaceSRResNet(num_feat=setup.features, num_block=setup.blocks)
        images = torch.empty(2 * setup.batch, 3, setup.patch // SCALE, setup.patch // SCALE)
    total = 0

    def count(layer: torch.nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        nonlocal total
        total += output.numel() * layer.weight[0].numel() * (2 if layer is net.conv_first else 3)

    for layer in net.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(count)
    net(images)
    return total


GROUPS: dict[str, Callable[[Setup], Iterator[Case]]] = {
    'dataset': dataset_cases,
    'degradation': degradation_cases,
    'pool': pool_cases,
    'step': step_cases,
    'compile': compile_cases,
    'iteration': iteration_cases,
    'memory': memory_cases,
    'validation': validation_cases,
    'ceiling': ceiling_cases,
}
