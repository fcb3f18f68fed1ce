"""What the graph tells: which sizes shrink too, what falls together, and why the rest stays."""

import copy

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - as everyone calls it
from support.structures import STRUCTURES
from torch import nn

from slimline.contract import BadData
from slimline.models.edit import apply_edits
from slimline.prune.edits import edits_for
from slimline.prune.graph import find_groups


def halved(module, x):
    """The network with the first half of each group gone, the groups, and what is left alone."""
    groups, left_alone = find_groups(module, x)
    keep = [range(len(group.units) // 2, len(group.units)) for group in groups]
    cut = apply_edits(copy.deepcopy(module), edits_for(module, groups, keep)).eval()
    with torch.no_grad():
        assert cut(x).shape == module(x).shape
    return cut, groups, left_alone


def of_zoo(name):
    return halved(STRUCTURES[name].network(), STRUCTURES[name].example())


class Network(nn.Module):
    """Two convolutions, something between, a linear layer."""

    def __init__(self, between, width=8):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, width, 3), nn.Conv2d(width, 8, 3)
        self.between, self.linear = between, nn.Linear(8, 5)

    def forward(self, x):
        return self.linear(self.two(self.between(self.one(x))).relu().mean([2, 3]))


class Layer(nn.Module):
    def __init__(self, function, **attributes):
        super().__init__()
        self.function = function
        vars(self).update(attributes)

    def forward(self, x):
        return self.function(x)


class Stepped(nn.Module):
    """Its number of steps is that of its channels by chance."""

    def __init__(self):
        super().__init__()
        self.steps = 8

    def forward(self, x):
        for _ in range(self.steps):
            x = x * 0.9
        return x.view(x.shape[0], x.shape[1], -1).view(x.shape)


IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "layer", "attribute", "before", "after"),
    [
        ("fused QKV attention", "layers.0", "heads", 4, 2),
        ("separate QKV attention", "layers.0", "num_heads", 4, 2),
        ("separate QKV attention", "layers.0", "inner", 16, 8),
        ("vision transformer", "blocks.0", "num_heads", 4, 2),
        ("transformer encoder", "layers.1.self_attn", "num_heads", 4, 2),
        ("split by attributes", "body.1", "kept", 4, 2),
        ("split by attributes", "body.1", "rest", 12, 6),
        ("slice (partial convolution)", "body.1", "part", 4, 2),
        ("residual option A (F.pad, attribute)", "body.4.skip", "left", 8, 4),
        ("transposed convolution decoder", "", "width", 16, 8),
        ("GRU, both directions", "", "hidden", 12, 6),
        ("LSTM", "lstm", "hidden_size", 16, 8),
        ("group norm", "body.1.1", "num_groups", 4, 2),
        ("channel shuffle (layer)", "body.2.0", "groups", 4, 2),
    ],
)
def test_a_size_that_the_forward_reads_from_an_attribute_shrinks_too(
    name, layer, attribute, before, after
):
    uncut = STRUCTURES[name].network().get_submodule(layer)
    cut, _, _ = of_zoo(name)
    assert getattr(uncut, attribute) == before
    assert getattr(cut.get_submodule(layer), attribute) == after


def test_an_attribute_that_is_equal_by_chance_stays():
    module = Network(Stepped()).eval()
    cut, _, _ = halved(module, IMAGES)
    assert cut.one.out_channels == 4
    assert cut.between.steps == 8


def test_a_padding_whose_width_stands_in_code_keeps_its_channels_and_lets_the_rest_go():
    cut, _, left_alone = of_zoo("residual option A (F.pad, lambda)")
    assert "padding stands in the code of body.2.skip" in left_alone["body.2.two.0"]
    assert cut.body[0][0].out_channels == 4
    assert cut.body[2].two[0].out_channels == 4 + 2 * 4


@pytest.mark.parametrize(
    ("name", "layer", "after"),
    [
        ("channel shuffle (ShuffleNetV1)", "body.1.one.0", (16, 16)),
        ("grouped convolution (ResNeXt)", "body.1.grouped.0", (8, 8)),
    ],
)
def test_a_grouped_convolution_may_lose_as_many_channels_in_each_group(name, layer, after):
    cut = of_zoo(name)[0].get_submodule(layer)
    assert cut.groups == 4
    assert (cut.in_channels, cut.out_channels) == after


def test_halves_that_a_chunk_takes_stay_equal():
    cut, groups, _ = of_zoo("chunk (C2f)")
    assert cut.body[1].cv1[0].out_channels == 8
    tied = next(group for group in groups if group.name == "body.1.cv1.0")
    first = dict(zip(tied.tensors, tied.units[0], strict=True))
    assert first["body.1.cv1.0.weight", 0].indices == (0, 8)


def test_queries_and_keys_keep_their_features_where_the_scale_is_the_root_of_their_number():
    class Single(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(8, 16) for _ in range(3))
            self.out = nn.Linear(16, 5)

        def forward(self, x):
            x = F.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x))
            return self.out(x.mean(1))

    cut, _, left_alone = halved(Single().eval(), torch.randn(2, 6, 8))
    assert (cut.q.out_features, cut.k.out_features, cut.v.out_features) == (16, 16, 8)
    assert "scaled by their number" in left_alone["q"]


def test_channels_of_one_layer_that_go_apart_have_groups_with_names_of_their_own():
    _, groups, _ = of_zoo("split by attributes")
    names = [group.name for group in groups]
    assert "body.0.0" in names
    assert "body.0.0 (2)" in names
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("between", "why"),
    [
        (lambda x: x.cumsum(1), "cumsum"),
        (lambda x: x.softmax(1), "softmax"),
        (lambda x: x[:, torch.tensor([1, 0, 2, 3, 4, 5, 6, 7])], "by number"),
        (lambda x: x.flip(1), "flip"),
        (lambda x: torch.fft.fft(x, dim=1).real, "fft"),
        (lambda x: x + torch.ones(8, 1, 1).cumsum(0), "fixed size"),
        (lambda x: x * x.shape[1], "answers otherwise"),
        (lambda x: x.reshape(2, 8, -1).view(2, 8, 6, 6), "view in 1.between"),
        (lambda x: F.pad(x, (0, 0, 0, 0, 1, 1), mode="replicate")[:, 1:9], "repeats or crops"),
    ],
)
def test_what_cannot_be_followed_is_left_alone_with_the_reason_and_the_rest_is_cut(between, why):
    module = nn.Sequential(nn.Conv2d(3, 3, 1), Network(Layer(between)))
    module[1].two = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3))
    cut, _, left_alone = halved(module.eval(), IMAGES)
    assert cut[1].one.out_channels == 8
    assert cut[1].two[0].out_channels == 4
    assert why in left_alone["1.one"]


def test_channels_that_can_only_go_all_together_are_told():
    def mixed(x):
        return x + x.view(2, 4, 2, 6, 6).transpose(1, 2).reshape(2, 8, 6, 6)

    _, _, left_alone = halved(Network(Layer(mixed)).eval(), IMAGES)
    assert "all together" in left_alone["one"]


def test_a_norm_over_the_channels_makes_a_group_inexact_and_nothing_else_does():
    exact = {
        name: {group.name for group in of_zoo(name)[1] if not group.exact}
        for name in ("ConvNeXt", "group norm", "MobileNetV3", "fused QKV attention")
    }
    assert exact == {
        "ConvNeXt": {"body.0", "body.3"},
        "group norm": set(),
        "MobileNetV3": set(),
        "fused QKV attention": {"embed"},
    }


def test_a_network_that_torch_cannot_export_is_an_error_with_the_cure():
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(BadData, match="use method magnitude"):
        find_groups(Branching(), IMAGES)
