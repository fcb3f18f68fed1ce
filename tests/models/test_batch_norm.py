"""Shared batch norm in a team of one is torch's; a team of two is in tests/train."""

import copy

import pytest
import torch
from torch import distributed, nn

from slimline.models.batch_norm import share_batch_norm


@pytest.fixture(scope="module", autouse=True)
def team_of_one():
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def answers(layer, x):
    """What it answers to two batches and then in evaluation, its gradients and statistics."""
    x = x.clone().requires_grad_()
    trained = layer(x) + layer(2 * x)
    trained.float().sin().sum().backward()
    told = [trained.detach(), x.grad, layer.eval()(x).detach()]
    return told + [p.grad for p in layer.parameters()] + list(layer.buffers())


_GENERATOR = torch.Generator().manual_seed(0)


def drawn(*shape):
    return torch.randn(shape, generator=_GENERATOR)


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (nn.BatchNorm2d(3), drawn(5, 3, 4, 4)),
        (nn.BatchNorm2d(3), drawn(5, 3, 4, 4).to(memory_format=torch.channels_last)),
        (nn.BatchNorm1d(3), drawn(5, 3)),
        (nn.BatchNorm1d(3, momentum=None), drawn(5, 3, 7)),
        (nn.BatchNorm3d(3, affine=False), drawn(5, 3, 2, 2, 2)),
        (nn.BatchNorm1d(3, track_running_stats=False), drawn(5, 3)),
        (nn.BatchNorm1d(3), 1000 + drawn(50, 3)),
    ],
    ids=["2d", "channels last", "1d", "plain mean", "without weights", "untracked", "far from 0"],
)
def test_it_answers_learns_and_counts_as_torch_does(layer, x):
    own = share_batch_norm(copy.deepcopy(layer), torch.device("cpu"))
    for mine, expected in zip(answers(own, x), answers(layer, x), strict=True):
        torch.testing.assert_close(
            mine, expected, rtol=1e-4, atol=5e-4
        )  # near 1000, float32 has 6e-5


def test_bfloat16_stays_bfloat16():
    layer = nn.BatchNorm1d(3)
    x = torch.randn(50, 3, dtype=torch.bfloat16)
    own = share_batch_norm(copy.deepcopy(layer), torch.device("cpu"))(x)
    assert own.dtype == torch.bfloat16
    torch.testing.assert_close(own, layer(x), rtol=0.02, atol=0.02)
