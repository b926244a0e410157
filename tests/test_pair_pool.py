import io
from collections import Counter

import pytest
import torch
from stock import seed_globals, stock_model

from facesr_plugin.degradations import DegradationRanges
from facesr_plugin.models.pair_pool import PairPool

Pairs = tuple[torch.Tensor, torch.Tensor]


def make_pool(size: int, seed: int = 0) -> PairPool:
    return PairPool(size, torch.Generator().manual_seed(seed))


def numbered(first: int, batch: int) -> Pairs:
    """Return pairs whose pixels spell their number: red = number // 256, green = number % 256."""
    number = torch.arange(first, first + batch)
    colour = torch.stack([number // 256, number % 256, torch.zeros_like(number)], 1).view(batch, 3, 1, 1) / 255
    return colour.expand(batch, 3, 2, 2).clone(), colour.expand(batch, 3, 8, 8).clone()


def numbers(images: torch.Tensor) -> list[int]:
    """Read the numbers back, of floats or bytes, and see that each image spells one only."""
    colour = images if images.dtype == torch.uint8 else (images * 255).round()
    assert torch.equal(colour, colour[:, :, :1, :1].expand_as(colour))
    return [int(256 * red + green) for red, green in colour[:, :2, 0, 0].tolist()]


@pytest.mark.parametrize(('size', 'batch'), [(12, 4), (5, 5), (8, 1)])
def test_stock(size, batch, monkeypatch):
    """The same pairs in the same order as stock's `_dequeue_and_enqueue`, from the same draws."""
    stock = stock_model(monkeypatch, DegradationRanges(), 8, size)
    pool = make_pool(size, seed=3)
    seed_globals(3)
    images = torch.Generator().manual_seed(1)
    for _ in range(30):
        stock.lq, stock.gt = (torch.randint(0, 256, (batch, 3, s, s), generator=images) / 255 for s in (2, 8))
        lq, gt = pool.exchange(stock.lq, stock.gt)
        stock._dequeue_and_enqueue()
        assert torch.equal(lq, stock.lq)
        assert torch.equal(gt, stock.gt)
    assert torch.equal(torch.rand(3, generator=pool.generator), torch.rand(3))


@pytest.mark.parametrize(
    ('size', 'batches'),
    [(7, [3] * 40), (10, [4] * 40), (5, [5] * 40), (9, [2] * 40), (6, [4, 1, 3, 4, 6, 2, 5] * 6), (8, [8, 3] * 10)],
)
def test_no_pair_is_lost_or_doubled(size, batches):
    """Of any size. While the pool fills, the pairs that go in are also handed out at once, as in stock."""
    pool = make_pool(size)
    came = 0
    returned: Counter[int] = Counter()
    for batch in batches:
        lq, gt = pool.exchange(*numbered(came, batch))
        came += batch
        assert (len(lq), len(gt)) == (batch, batch)
        assert numbers(lq) == numbers(gt)  # still pairs
        returned.update(numbers(lq))
        assert numbers(pool.lq[: pool.count]) == numbers(pool.gt[: pool.count])
        inside = Counter(numbers(pool.lq[: pool.count]))
        assert pool.count == min(came, size)
        assert inside + returned == Counter(range(came)) + Counter(range(min(came, size)))


def test_passes_through_while_filling():
    pool = make_pool(9)
    for i in range(3):
        lq, gt = numbered(3 * i, 3)
        lq_out, gt_out = pool.exchange(lq, gt)
        assert torch.equal(lq_out, lq)
        assert torch.equal(gt_out, gt)


def test_mixes():
    """Once full, a batch comes from many: with 50 places and 5 a batch, hardly ever from one."""
    pool = make_pool(50)
    for i in range(10):
        pool.exchange(*numbered(5 * i, 5))
    origins = [{number // 5 for number in numbers(pool.exchange(*numbered(50 + 5 * i, 5))[0])} for i in range(20)]
    assert sum(map(len, origins)) / len(origins) > 3.5


def test_stores_bytes():
    pool = make_pool(2)
    lq, gt = torch.full((1, 3, 2, 2), 0.25), torch.full((1, 3, 8, 8), 0.7501)
    for _ in range(2):
        pool.exchange(lq, gt)
    assert (pool.lq.dtype, pool.gt.dtype) == (torch.uint8, torch.uint8)
    assert (pool.lq.shape, pool.gt.shape) == ((2, 3, 2, 2), (2, 3, 8, 8))
    lq, gt = pool.exchange(lq, gt)  # 0.25 * 255 = 63.75 and 0.7501 * 255 = 191.28
    torch.testing.assert_close(lq, torch.full((1, 3, 2, 2), 64 / 255))
    torch.testing.assert_close(gt, torch.full((1, 3, 8, 8), 191 / 255))


def test_bytes_round_trip_exactly():
    lq, gt = numbered(0, 256)
    pool = make_pool(256)
    pool.exchange(lq, gt)
    out = pool.exchange(*numbered(256, 256))[0]
    assert torch.equal(out[torch.tensor(numbers(out)).argsort()], lq)


@pytest.mark.parametrize('filled', [0, 1, 2, 7])
def test_state_round_trip(filled):
    """Goes on as if unbroken, from an empty, part-filled or full pool."""
    pool = make_pool(10)
    for i in range(filled):
        pool.exchange(*numbered(4 * i, 4))
    file = io.BytesIO()
    torch.save(pool.state_dict(), file)
    other = make_pool(10)
    other.generator.set_state(pool.generator.get_state())
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True), torch.device('cpu'))
    for i in range(filled, filled + 10):
        expected, found = pool.exchange(*numbered(4 * i, 4)), other.exchange(*numbered(4 * i, 4))
        assert numbers(found[0]) == numbers(expected[0])
        assert numbers(found[1]) == numbers(expected[1])


def test_exception_batch():
    with pytest.raises(ValueError, match='queue_size: at least the batch size 4 expected, got 3'):
        make_pool(3).exchange(*numbered(0, 4))


def test_exception_image_size():
    pool = make_pool(4)
    pool.exchange(*numbered(0, 2))
    with pytest.raises(ValueError, match=r'pairs of LR size \(2, 2\) expected, got \(3, 5\)'):
        pool.exchange(torch.zeros(2, 3, 3, 5), torch.zeros(2, 3, 12, 20))


def test_exception_state_of_another_size():
    pool = make_pool(4)
    pool.exchange(*numbered(0, 2))
    with pytest.raises(ValueError, match='queue_size: 4 expected, as in the training state, got 5'):
        make_pool(5).load_state_dict(pool.state_dict(), torch.device('cpu'))
