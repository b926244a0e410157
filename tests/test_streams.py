import io
import random

import numpy as np
import pytest
import torch
from stock import seed_globals

from facesr_plugin.degradations import RandomStreams


def draws(python, numpy, torch_random) -> list:
    """Draw a bit of everything, ending where each library holds back half of a normal pair."""
    return [
        python.random(),
        python.choices('abc', [0.2, 0.7, 0.1]),
        python.randint(0, 10**6),
        python.gauss(0, 1),
        numpy.uniform(3, 5),
        numpy.standard_normal(3).tolist(),
        torch_random(torch.randn, 5).tolist(),
        torch_random(torch.rand, 7).tolist(),
        torch_random(torch.randperm, 9).tolist(),
        torch_random(torch.randn, 1).tolist(),
    ]


def draw_streams(streams: RandomStreams) -> list:
    return draws(streams.python, streams.numpy, lambda f, n: f(n, generator=streams.torch))


def draw_globals() -> list:
    return draws(random, np.random, lambda f, n: f(n))


@pytest.mark.parametrize('seed', [0, 1, 2**32 - 1])
def test_equal_globals_seeded_alike(seed):
    streams = RandomStreams(seed)
    seed_globals(seed)
    expected = [draw_globals() for _ in range(3)]
    assert [draw_streams(streams) for _ in range(3)] == expected


def test_seeds_differ():
    assert draw_streams(RandomStreams(0)) != draw_streams(RandomStreams(1))


def test_private():
    """What others draw or seed does not show, and what is drawn here does not show there."""
    seed_globals(3)
    expected_globals = draw_globals()
    expected = draw_streams(RandomStreams(0))
    seed_globals(3)
    streams = RandomStreams(0)
    assert draw_streams(streams) == expected
    assert draw_globals() == expected_globals


def test_one_stream_for_parameters_and_noise_on_the_cpu():
    streams = RandomStreams(0, 'cpu')
    assert streams.device is streams.torch


@pytest.mark.parametrize('rounds', [0, 1, 4])
def test_state_round_trip(rounds):
    streams = RandomStreams(0)
    for _ in range(rounds):
        draw_streams(streams)
    file = io.BytesIO()
    torch.save(streams.state_dict(), file)
    expected = [draw_streams(streams) for _ in range(3)]

    file.seek(0)
    other = RandomStreams(7)
    draw_streams(other)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert [draw_streams(other) for _ in range(3)] == expected


def test_state_is_a_copy():
    streams = RandomStreams(0)
    state = streams.state_dict()
    expected = draw_streams(streams)
    streams.load_state_dict(state)
    assert draw_streams(streams) == expected


def test_exception_other_device():
    state = RandomStreams(0).state_dict()
    state['device'] = torch.zeros(16, dtype=torch.uint8)  # a CUDA generator's state is 16 bytes
    with pytest.raises(ValueError, match='random state of another device type, cannot go on with it on cpu'):
        RandomStreams(0).load_state_dict(state)


@pytest.mark.gpu
def test_state_round_trip_on_cuda():
    streams = RandomStreams(0, 'cuda')
    torch.randn(100, generator=streams.device, device='cuda')
    file = io.BytesIO()
    torch.save(streams.state_dict(), file)
    expected = torch.randn(100, generator=streams.device, device='cuda'), torch.rand(5, generator=streams.torch)

    file.seek(0)
    other = RandomStreams(7, 'cuda')
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(torch.randn(100, generator=other.device, device='cuda'), expected[0])
    assert torch.equal(torch.rand(5, generator=other.torch), expected[1])
