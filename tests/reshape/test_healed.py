"""Methods that change the answers: the planted structure is found, and answers stay near."""

import pytest
import torch
from support.reshaping import apart, inputs, ready, reshaped, size
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from slimline.contract import BadParameters
from slimline.models.traced import trace
from slimline.reshape.spec import Reshape


def kinds(module):
    return [type(layer).__name__ for layer in module.modules()]


def test_a_layer_of_rank_two_becomes_thin_ones_that_answer_alike():
    module = ready("thick")
    bench = reshaped(module, "low_rank", energy=1 - 1e-9, layers="conv|linear1")
    made = bench.module
    assert [tuple(p.weight.shape) for p in made.conv] == [
        (2, 16, 1, 1), (2, 2, 3, 3), (16, 2, 1, 1)
    ]  # fmt: skip
    assert [tuple(p.weight.shape) for p in made.linear1] == [(2, 256), (32, 2)]
    assert made.conv.core.stride == (2, 2)
    assert "rank 2 x 2" in bench.changed["conv"]
    assert size(made) < 0.2 * size(module)
    assert apart(module, bench) < 1e-4


def test_the_multiply_accumulates_that_are_told_are_those_that_torch_counts():
    module, x = ready("thick"), inputs(1)
    counted = []
    for convolution in ("tucker", "spatial"):
        bench = reshaped(module, "low_rank", rank=0.25, layers="conv$", convolution=convolution)
        with FlopCounterMode(display=False) as old, torch.no_grad():
            module(x)
        with FlopCounterMode(display=False) as new, torch.no_grad():
            bench.module(x)
        before, after = bench.changed["conv"].split(", ")[1].split(" multiply")[0].split(" -> ")
        assert old.get_total_flops() - new.get_total_flops() == 2 * (int(before) - int(after))
        counted.append(int(after))
    assert counted[0] != counted[1]


def test_a_separable_kernel_becomes_a_column_and_a_row():
    module = ready("separable")
    bench = reshaped(module, "low_rank", energy=1 - 1e-9, convolution="spatial", layers="conv$")
    shapes = [tuple(p.weight.shape) for p in bench.module.conv]
    assert shapes == [(2, 16, 3, 1), (16, 2, 1, 3)]
    assert apart(module, bench) < 1e-4


def test_a_pointwise_convolution_takes_a_singular_value_decomposition():
    module = nn.Sequential(nn.Conv2d(1, 16, 3), nn.Conv2d(16, 16, 1, stride=2), nn.Flatten(),
                           nn.Linear(144, 10)).eval()  # fmt: skip
    with torch.no_grad():
        module[1].weight.copy_((torch.randn(16, 2) @ torch.randn(2, 16))[:, :, None, None])
    bench = reshaped(module, "low_rank", energy=1 - 1e-9, layers="1")
    assert [p.out_channels for p in bench.module[1]] == [2, 16]
    assert apart(module, bench) < 1e-4


@pytest.mark.parametrize("energy", [0.5, 0.9, 0.99])
def test_energy_is_what_is_kept_at_least(energy):
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 64, bias=False), nn.Linear(64, 10))
    with torch.no_grad():
        module[1].weight.mul_(0.75 ** torch.arange(64.0))
    bench = reshaped(module.eval(), "low_rank", energy=energy, layers="1")
    reduce, expand = bench.module[1]
    weight, made = module[1].weight.detach(), (expand.weight @ reduce.weight).detach()
    kept = 1 - float((made - weight).square().sum() / weight.square().sum())
    assert energy <= kept < energy + 0.6 * (1 - energy) + 0.1


def test_ranks_snap_and_a_layer_that_would_cost_more_is_left_alone():
    module = ready("thick")
    bench = reshaped(module, "low_rank", energy=1 - 1e-9, round_to=4)
    assert bench.module.conv.reduce.out_channels == 4
    assert "would cost" in bench.left_alone["stem"]
    with pytest.raises(BadParameters, match="would cost"):
        reshaped(module, "low_rank", rank=1.0)


def test_gelu_layers_become_hardswish_and_functions_are_named():
    module = ready("gelus")
    bench = reshaped(module, "swap_activations", swap_from="gelu", swap_to="hardswish")
    assert kinds(bench.module).count("Hardswish") == 2
    assert "GELU" not in kinds(bench.module)
    assert not [n for n in trace(bench.module, inputs(2)).graph.nodes if "gelu" in str(n.target)]
    assert apart(module, bench) > 0
    tangled = reshaped(ready("tangled"), "swap_activations", swap_from="gelu", swap_to="relu")
    assert tangled.changed == {"act": "gelu -> relu"}
    assert "make it a layer, nn.GELU" in tangled.left_alone["the network"]


def test_a_swap_that_finds_nothing_or_changes_nothing_is_refused():
    with pytest.raises(BadParameters, match="swap_activations changed nothing"):
        reshaped(ready("gelus"), "swap_activations", swap_from="mish", swap_to="relu")
    with pytest.raises(BadParameters, match="both relu"):
        reshaped(ready("gelus"), "swap_activations", swap_from="relu", swap_to="relu")


def test_a_dense_head_becomes_an_average_and_one_layer_that_starts_near_the_old_answers():
    module = ready("dense_head")
    bench = reshaped(module, "average_pool_head")
    made = bench.module
    assert "AdaptiveAvgPool2d" in kinds(made)
    assert tuple(made.linear1.linear.weight.shape) == (10, 16)
    assert all(isinstance(made.get_submodule(n), nn.Identity) for n in ("relu1", "linear2"))
    assert size(made) < 0.02 * size(module)
    with torch.no_grad():
        old, new = module(inputs()), made(inputs())
    assert (new - old).square().mean() < old.var(0).mean()  # better than a constant


def test_a_head_with_code_in_it_keeps_its_later_layers():
    class Coded(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.one = nn.Conv2d(1, 8, 3), nn.Linear(8 * 36, 16)
            self.two = nn.Linear(16, 10)

        def forward(self, x):
            x = self.one(self.conv(x).relu().reshape(-1, 288))
            return self.two(nn.functional.relu(x))

    module = ready(Coded)
    bench = reshaped(module, "average_pool_head")
    assert tuple(bench.module.one.linear.weight.shape) == (16, 8)
    assert bench.module.two.in_features == 16
    flat = torch.ones(4, 1, 8, 8)  # maps without detail lose nothing
    assert apart(module, bench, flat) < 1e-5


def test_a_head_that_is_pooled_already_is_refused():
    with pytest.raises(BadParameters, match="does not take flattened feature maps"):
        reshaped(ready("merging"), "average_pool_head", layers="linear2")
    with pytest.raises(BadParameters, match="pooled already"):
        reshaped(ready("merging"), "average_pool_head", layers="linear1")


def test_healing_has_epochs_where_the_function_changes():
    made = {m: Reshape.model_construct(method=m).healing_epochs for m in ("grow", "low_rank")}
    assert made == {"grow": 0, "low_rank": 10}
    assert Reshape.model_construct(method="grow", epochs=3).healing_epochs == 3
