"""Growing changes the size and nothing else."""

import copy

import pytest
import torch
from support.reshaping import apart, depthwise, inputs, ready, reshaped, size
from torch import nn

from slimline.contract import BadParameters
from slimline.models import zoo


@pytest.mark.parametrize("what", ["dead_weight", "thick", "plain", "depthwise"])
def test_a_wider_network_answers_as_before(what):
    made = {"plain": lambda: zoo.small_cnn((8, 16)), "depthwise": depthwise}.get(what, what)
    module = ready(made)
    x = inputs(16, channels=3 if what == "depthwise" else 1)
    bench = reshaped(module, "grow", x, factor=1.5)
    assert size(bench.module) > 1.3 * size(module)
    assert apart(module, bench, x) < 1e-5


def test_units_are_copied_and_their_weights_shared_unevenly():
    module = ready("dead_weight")
    bench = reshaped(module, "grow", factor=2.0, layers="linear1", noise=0.2)
    made = bench.module
    assert made.linear1.out_features == 24
    assert torch.equal(made.linear1.weight[:12], module.linear1.weight)
    assert len(made.linear1.weight.unique(dim=0)) == 12
    assert len(made.linear2.weight.unique(dim=1).T) == 24
    assert apart(module, bench) < 1e-6


def test_copies_of_a_unit_learn_apart():
    bench = reshaped(ready("dead_weight"), "grow", factor=2.0, layers="linear1", noise=0.2)
    made = bench.module
    made(inputs(32)).square().sum().backward()
    gradient = made.linear1.weight.grad
    assert len(gradient.unique(dim=0)) > 12


def test_the_same_seed_grows_the_same_network():
    one, two, other = (
        reshaped(ready("dead_weight"), "grow", seed=seed).module.state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert not all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("what", ["thick", "plain"])
def test_a_deeper_network_answers_as_before(what):
    module = ready((lambda: zoo.small_cnn((8, 16))) if what == "plain" else what)
    bench = reshaped(module, "grow", growth="deepen")
    relus = [p for p, m in module.named_modules() if isinstance(m, nn.ReLU)]
    assert set(bench.changed) == set(relus)
    assert size(bench.module) > size(module)
    assert apart(module, bench) < 1e-4


def test_a_deeper_network_answers_nearly_as_before_while_it_trains():
    module = ready(lambda: zoo.small_cnn((8, 16)))
    layers = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    deeper = copy.deepcopy(reshaped(module, "grow", growth="deepen").module)
    for made in deeper.modules():
        if isinstance(made, nn.BatchNorm2d) and made.momentum and "norm" in _name(deeper, made):
            made.train()
    assert layers
    with torch.no_grad():
        x = inputs()
        assert float((deeper(x) - module(x)).abs().max() / module(x).abs().max()) < 1e-3


def _name(module, layer):
    return next(n for n, m in module.named_modules() if m is layer)


def test_what_cannot_grow_stays_with_the_reason():
    with pytest.raises(BadParameters, match="linear: its channels are the network's answer"):
        reshaped(ready("tangled"), "grow", layers="linear")
    with pytest.raises(BadParameters, match=r"times 1\.1 round to 8"):
        reshaped(ready("dead_weight"), "grow", layers="conv1", factor=1.1, round_to=8)
    with pytest.raises(BadParameters, match="forward calls it 2 times"):
        reshaped(ready("tangled"), "grow", layers="shared")
