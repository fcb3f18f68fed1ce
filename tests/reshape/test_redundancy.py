"""Dead and constant units, and layers that do nothing, are found and leave no trace."""

import pytest
import torch
from support.reshaping import apart, depthwise, inputs, ready, reshaped, size
from torch import nn

from slimline.contract import BadParameters
from slimline.models import zoo
from slimline.reshape.redundancy import rate_bound


def planted(**plants):
    """`dead_weight` with units of a layer silenced (dead) or held at a value (constant)."""
    module = ready("dead_weight")
    with torch.no_grad():
        for name, (weight, bias) in plants.items():
            layer, unit = name.rsplit("_", 1)
            module.get_submodule(layer).weight[int(unit)] *= weight
            module.get_submodule(layer).bias[int(unit)] = bias
    return module


def test_dead_units_are_found_and_removed():
    module = planted(conv1_2=(1, -50.0), conv1_5=(1, -50.0), bn2_3=(0, -1.0), linear1_4=(1, -50.0))
    bench = reshaped(module, "remove_redundancy")
    made = bench.module
    assert made.conv1.out_channels == 6
    assert made.conv2.out_channels == made.bn2.num_features == 7
    assert made.linear1.in_features == 28
    assert made.linear1.out_features == made.linear2.in_features == 11
    assert "2 dead, 0 constant" in bench.changed["conv1"]
    assert apart(module, bench) < 1e-6


def test_a_constant_unit_leaves_its_value_in_the_bias_of_the_next_layer():
    module = planted(conv1_2=(0, 0.7), bn2_3=(0, 1.5), linear1_4=(0, 2.0))
    bench = reshaped(module, "remove_redundancy")
    made = bench.module
    assert made.conv1.out_channels == 7
    assert made.conv2.bias is not None
    assert made.linear2.bias is not None
    assert made.linear1.in_features == 28
    assert "0 dead, 1 constant" in bench.changed["conv2"]
    assert apart(module, bench) < 1e-5


def test_a_constant_that_meets_zero_padding_stays_with_the_reason():
    module = ready(
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.Flatten(),
            nn.Linear(144, 10),
        )
    )  # fmt: skip
    with torch.no_grad():
        module[0].weight[1], module[0].bias[1] = 0, 1.0
        module[2].weight[0], module[2].bias[0] = 0, 0
    bench = reshaped(module, "remove_redundancy")
    assert "zero padding" in bench.left_alone["0"]
    assert "2" in bench.changed


def test_units_that_the_next_layer_ignores_go_whatever_they_are():
    module = ready("dead_weight")
    with torch.no_grad():
        module.conv2.weight[:, 6] = 0
    bench = reshaped(module, "remove_redundancy", layers="conv1")
    assert bench.module.conv1.out_channels == 7
    assert apart(module, bench) < 1e-6


def test_channels_are_followed_through_a_depthwise_convolution():
    module = ready(depthwise)
    block = module.block2
    with torch.no_grad():
        block.expand.bn.weight[3], block.expand.bn.bias[3] = 0, -1
        block.depthwise.bn.weight[3], block.depthwise.bn.bias[3] = 0, -1
    x = inputs(300, channels=3)
    bench = reshaped(module, "remove_redundancy", x, layers="block2.expand")
    changed = bench.module.block2
    keep = next(e.keep for e in bench.edits if e.parameter == "block2.depthwise.conv.weight")
    assert 3 not in keep
    assert changed.depthwise.conv.groups == changed.project.conv.in_channels == len(keep)
    assert apart(module, bench, x) < 1e-5


def test_a_layer_and_a_block_that_do_nothing_become_identities():
    module = ready(lambda: zoo.cifar_resnet(14, "A", (4, 8, 16)))
    block = module.layer2[1]
    with torch.no_grad():
        block.bn2.weight.zero_()
        block.bn2.bias.zero_()
    x = inputs(300, channels=3, size=8)
    bench = reshaped(module, "remove_redundancy", x, layers=r"layer2\.1")
    assert isinstance(bench.module.layer2[1], nn.Identity)
    assert size(bench.module) < size(module)
    assert apart(module, bench, x) < 1e-5


def test_widths_stay_multiples():
    module = planted(conv1_2=(1, -50.0), conv1_5=(1, -50.0), conv1_6=(1, -50.0))
    bench = reshaped(module, "remove_redundancy", round_to=2, layers="conv1")
    assert bench.module.conv1.out_channels == 6
    with pytest.raises(BadParameters, match="less than round_to 4 lets go"):
        reshaped(module, "remove_redundancy", round_to=4, layers="conv1")


def test_the_bound_is_the_rule_of_three_and_too_few_examples_are_refused():
    assert rate_bound(1000, 0.95) == pytest.approx(3 / 1000, rel=0.01)
    assert (1 - rate_bound(50, 0.9)) ** 50 == pytest.approx(0.1)
    module = planted(conv1_2=(1, -50.0))
    with pytest.raises(BadParameters, match="give 299 samples"):
        reshaped(module, "remove_redundancy", inputs(298))
    bench = reshaped(module, "remove_redundancy", inputs(299))
    assert "rate below 0.0100 at confidence 0.95" in bench.changed["conv1"]


def test_a_network_without_redundancy_is_refused():
    with pytest.raises(BadParameters, match="every unit does something"):
        reshaped(ready("thick"), "remove_redundancy", layers="stem")
