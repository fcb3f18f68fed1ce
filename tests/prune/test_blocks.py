"""Blocks that a network does not miss are found, removed first, and cost nothing."""

from types import SimpleNamespace

import pytest
import torch
from support.model_info import DIGITS
from torch import nn

from slimline.contract import BadParameters
from slimline.models import zoo
from slimline.models.edit import apply_edits
from slimline.models.info import Layer, Replace
from slimline.models.network import parameter_count
from slimline.models.tensors import Batchable
from slimline.prune.blocks import removable, remove_blocks
from slimline.prune.target import Target

X = torch.randn(2, 3, 8, 8)
NO_OP = "layer2.1"


def samples():
    """Inputs and what the network answers to them: to skip what matters makes it wrong."""
    torch.manual_seed(1)
    x = torch.randn(32, 3, 8, 8)
    with torch.no_grad():
        return Batchable(x, network()(x).argmax(1))


def network():
    """A residual network, one block of which adds nothing."""
    torch.manual_seed(0)
    module = zoo.cifar_resnet(20, "A", (4, 8, 16), classes=5).eval()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
    nn.init.zeros_(module.get_submodule(NO_OP).bn2.weight)
    with torch.no_grad():
        module.linear.weight *= 20
    return module


def job(**changes):
    return SimpleNamespace(**({"ratio": 0.5, "target": "ratio"} | changes))


def removed(module, data=None, **changes):
    data = data or samples()
    return remove_blocks(module, module, X, data, Target(job(**changes), module, None))


def test_a_block_that_does_nothing_goes_first_and_costs_nothing():
    module, data = network(), samples()
    cut = removed(module, data, ratio=0.3)
    assert next(iter(cut.notes)) == NO_OP
    assert cut.notes[NO_OP] == "removed: the loss rose by 0.0000"
    without = apply_edits(network(), [e for e in cut.edits if e.module == NO_OP])
    with torch.no_grad():
        torch.testing.assert_close(without(data.x), module(data.x))


def test_a_share_of_the_blocks_goes_and_the_edits_make_the_same_network():
    module = network()
    there = removable(module, X)[0]
    cut = removed(module, ratio=0.5)
    assert len(cut.edits) == round(0.5 * len(there))
    assert parameter_count(cut.module) < parameter_count(module)
    with torch.no_grad():
        assert torch.equal(apply_edits(network(), cut.edits)(X), cut.module(X))


def test_each_removal_is_the_cheapest_after_the_one_before():
    data = samples()
    module = network()
    cut = removed(module, data, ratio=0.2)
    paths = removable(module, X)[0]

    def loss(*without):
        removals = [Replace(module=p, layer=Layer(type="Identity")) for p in without]
        with torch.no_grad():
            made = apply_edits(network(), removals)
            return float(nn.functional.cross_entropy(made(data.x), data.y))

    first, second = (e.module for e in cut.edits[:2])
    assert loss(first) == pytest.approx(min(loss(p) for p in paths), abs=1e-6)
    after = {p: loss(first, p) for p in paths if p != first}
    assert after[second] == pytest.approx(min(after.values()), abs=1e-6)


def test_whole_residual_blocks_are_candidates_and_what_changes_shape_is_told():
    paths, left_alone = removable(network(), X)
    assert {"layer1.0", "layer1.1", "layer1.2", "layer2.1", "layer3.2"} <= set(paths)
    assert not {"layer1", "layer1.0.conv1", "layer2.0", "conv1", "linear"} & set(paths)
    assert "it makes [4, 8, 8] of [3, 8, 8]" in left_alone["conv1"]
    assert "it makes [8, 4, 4] of [4, 8, 8]" in left_alone["layer2.0.conv1"]


class Odd(nn.Module):
    """A layer used twice, one that takes two tensors, one that is never used."""

    def __init__(self):
        super().__init__()
        self.twice, self.plain = nn.Linear(8, 8), nn.Linear(8, 8)
        self.both, self.unused = nn.Bilinear(8, 8, 8), nn.Linear(8, 8)

    def forward(self, x):
        x = self.plain(self.twice(self.twice(x).relu()).relu())
        return self.both(x, x)


def test_every_layer_that_cannot_go_has_its_reason():
    paths, left_alone = removable(Odd().eval(), torch.randn(2, 8))
    assert paths == ("plain",)
    assert left_alone == {
        "twice": "it is called 2 times",
        "both": "it is called with other things than one tensor",
        "unused": "it is called 0 times",
    }


def test_macs_fall_by_the_share_that_was_asked_for():
    module = zoo.cifar_resnet(20, "A", (4, 8, 16), channels=1).eval()
    data = Batchable(torch.randn(16, 1, 8, 8), torch.randint(10, (16,)))
    target = Target(job(target="macs", ratio=0.4), module, DIGITS)
    cut = remove_blocks(module, module, torch.randn(2, 1, 8, 8), data, target)
    assert cut.probes[-1]["macs_removed"] >= 0.4
    assert cut.probes[-2]["macs_removed"] < 0.4
    assert len(cut.probes) == len(cut.edits) + 1


def test_a_ratio_that_takes_no_block_is_refused():
    with pytest.raises(BadParameters, match="takes none of the"):
        removed(network(), ratio=0.01)


def test_a_network_without_a_block_that_can_go_is_refused():
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 5)).eval()
    with pytest.raises(BadParameters, match="takes none of the 0 blocks"):
        removed(module, ratio=0.5)
