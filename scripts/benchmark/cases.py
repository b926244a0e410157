"""The rows of the benchmark, by group: for each both sides, stock's and ours, doing the same work."""

import random
from collections.abc import Callable, Iterator
from itertools import product
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torch.utils.flop_counter import FlopCounterMode

from benchmark.enlarging import enlarge_cases, side
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
from benchmark.timing import Case, Run
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
    stock = side(reading, dataset=stock_dataset)
    for values, label in (('png', 'the same'), ('raw', 'a raw one')):
        name = f'data set item, {setup.crop} px: stock from a PNG LMDB, ours from {label}'
        yield Case(name, '-', stock, side(reading, dataset=side(our_dataset, values=values)), setup.items, threads=1)


def reading(setup: Setup, dataset: Callable[[Setup], Dataset]) -> Run:
    """Prepare reading one item after the other."""
    items = dataset(setup)
    return lambda number: items[number % len(items)]


# ------------------------------------------------------------------------ degradation
def degradation_cases(setup: Setup) -> Iterator[Case]:
    """`feed_data` without pool and crop; cost depends on the draw, so a repetition has several, the same in both."""
    for px in setup.degraded:
        stock, ours = side(stock_degradation, px=px), side(our_degradation, px=px)
        yield Case(f'degradation, {px} px', 'fp32', stock, ours, setup.batches)


def stock_degradation(setup: Setup, px: int) -> Run:
    """Prepare degrading a batch."""
    model = build_stock(setup, gt_size=px)
    model._dequeue_and_enqueue = lambda: None
    data = as_stock(hr_batch(setup, px))

    def run(number: int) -> None:
        seed_globals(number)
        model.feed_data(data)

    return run


def our_degradation(setup: Setup, px: int) -> Run:
    """Prepare degrading a batch."""
    model = build_ours(setup, queue_size=0)
    data = hr_batch(setup, px)

    def run(number: int) -> None:
        model.streams = RandomStreams(number, setup.device)
        model.feed_data(data)

    return run


# ------------------------------------------------------------------------------- pool
def pool_cases(setup: Setup) -> Iterator[Case]:
    """Exchange a batch with a full pool, and the memory that takes."""
    name = f'pair pool of {setup.pool_size} x {setup.pool_side} px'
    yield Case(f'{name}, exchange of a batch', '-', stock_pool, our_pool, setup.batches)
    yield Case(f'{name}, peak memory', '-', stock_pool, our_pool, memory=True)


def stock_pool(setup: Setup) -> Run:
    """Prepare a full pool."""
    return _stock_exchange(setup, build_stock(setup, queue_size=setup.pool_size), setup.pool_side)


def our_pool(setup: Setup) -> Run:
    """Prepare a full pool."""
    return _our_exchange(setup, PairPool(setup.pool_size, torch.Generator().manual_seed(0)), setup.pool_side)


def _stock_exchange(setup: Setup, model: Any, px: int) -> Run:
    """Fill stock's pool and return the exchange of one more batch."""
    lq, gt = pairs(setup, px)

    def run(number: int) -> None:
        model.lq, model.gt = lq, gt
        model._dequeue_and_enqueue()

    return _repeated(run, setup)


def _our_exchange(setup: Setup, pool: PairPool, px: int) -> Run:
    """Fill our pool and return the exchange of one more batch."""
    lq, gt = pairs(setup, px)
    return _repeated(lambda number: pool.exchange(lq, gt), setup)


def _repeated(exchange: Run, setup: Setup) -> Run:
    for number in range(setup.pool_size // setup.batch):
        exchange(number)
    return exchange


# -------------------------------------------------------- optimisation step, iteration
def step_cases(setup: Setup) -> Iterator[Case]:
    """`optimize_parameters` on one batch of pairs."""
    return _training_cases(setup, 'step', stock_step, our_step, runs=setup.steps)


def compile_cases(setup: Setup) -> Iterator[Case]:
    """The same step with our network compiled, `train.compile: true`."""
    possible = setup.is_here and can_compile(setup.device)  # else the network would run as it is
    for precision in PRECISIONS:
        name = f'step, {setup.patch} px: stock dual loss, ours concat, compiled'
        stock = side(stock_step, kind='dual loss')
        ours = side(our_step, kind='concat', precision=precision, compiled=True)
        yield Case(name, precision, stock, ours, setup.steps, possible=possible)


def memory_cases(setup: Setup) -> Iterator[Case]:
    """Peak memory of `optimize_parameters`: weights, gradients, optimiser and activations."""
    pairings = (*PAIRINGS, ('sequential', 'plain L1'))
    return _training_cases(setup, 'peak memory of a step', stock_step, our_step, pairings, memory=True)


def iteration_cases(setup: Setup) -> Iterator[Case]:
    """Batch from a PNG LMDB, degradation, pool and step."""
    options = {'runs': setup.iterations, 'images': setup.batch}
    return _training_cases(setup, 'training iteration', stock_iteration, our_iteration, **options)


def _training_cases(
    setup: Setup,
    what: str,
    stock: Callable[..., Run],
    ours: Callable[..., Run],
    pairings: tuple[tuple[str, str], ...] = PAIRINGS,
    **options: Any,
) -> Iterator[Case]:
    for (kind, stock_kind), precision in product(pairings, PRECISIONS):
        name = f'{what}, {setup.patch} px: stock {stock_kind}, ours {kind}'
        sides = side(stock, kind=stock_kind), side(ours, kind=kind, precision=precision)
        yield Case(name, precision, *sides, **options)


def stock_step(setup: Setup, kind: str) -> Run:
    """Prepare doing steps."""
    return _steps(setup, build_stock(setup, kind))


def our_step(setup: Setup, kind: str, precision: str, compiled: bool = False) -> Run:
    """Prepare doing steps."""
    return _steps(setup, build_ours(setup, kind, precision, compiled))


def _steps(setup: Setup, model: Any) -> Run:
    model.lq, model.gt = pairs(setup, setup.patch)
    return lambda number: model.optimize_parameters(number + 1)


def stock_iteration(setup: Setup, kind: str) -> Run:
    """Prepare training; the pool is full."""
    model = build_stock(setup, kind, gt_size=setup.patch, queue_size=setup.pool_size)
    _stock_exchange(setup, model, setup.patch)
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
    _our_exchange(setup, model.pool, setup.patch)
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
    stock, ours = side(validation, build=build_stock), side(validation, build=build_ours)
    yield Case(f'validation of a {setup.validated} px pair', 'fp32', stock, ours)


def validation(setup: Setup, build: Callable[..., Any]) -> Run:
    """Prepare validating."""
    model = build(setup, is_train=False)
    gt = hr_batch(setup, setup.validated)['gt'][:1].cpu().float() / 255
    lq = (resize_clean(gt, SCALE) * 255).round().clamp(0, 255) / 255
    loader = _Loader([{'lq': lq, 'gt': gt, 'lq_path': ['face.png'], 'gt_path': ['face.png']}])
    return lambda number: model.validation(loader, number, None, False)


class _Loader(list):
    """A validation loader over ready batches."""

    dataset = SimpleNamespace(opt={'name': 'faces'})


# ---------------------------------------------------------------------------- ceiling
def ceiling_cases(setup: Setup) -> Iterator[Case]:
    """A step beside a matrix product of as many multiply-adds; the ratio is the part of its rate that is reached."""
    for precision in PRECISIONS:
        name = f'ceiling, {setup.patch} px: matrix product of as many multiply-adds, ours a concat step'
        ours = side(our_step, kind='concat', precision=precision)
        yield Case(name, precision, side(matrix_product, precision=precision), ours, setup.steps)


def matrix_product(setup: Setup, precision: str, width: int = 4096) -> Run:
    """Prepare a product of (rows, width) and (width, width), rows such that it has a `concat` step's multiply-adds."""
    dtype = {'fp32': torch.float32, 'bf16': torch.bfloat16}[precision]
    rows = max(1, round(count_multiply_adds(setup) / width**2))
    left, right = (torch.rand(size, width, device=setup.device).to(dtype) for size in (rows, width))
    tf32 = torch.backends.cudnn.allow_tf32  # what convolutions of this device use for fp32

    def run(number: int) -> None:
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = tf32
        left @ right
        torch.backends.cuda.matmul.allow_tf32 = before

    return run


def count_multiply_adds(setup: Setup) -> int:
    """Count those of a `concat` step's convolutions: forward, and for the gradients of their weights and inputs."""
    with torch.device('meta'), FlopCounterMode(display=False) as counter:
        net = FaceSRResNet(num_feat=setup.features, num_block=setup.blocks)
        net(torch.empty(2 * setup.batch, 3, setup.patch // SCALE, setup.patch // SCALE)).sum().backward()
    return counter.get_total_flops() // 2


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
    'enlarge': enlarge_cases,
}
