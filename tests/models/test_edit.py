"""After a cut, each layer's own sizes are those of its tensors."""

import copy

import pytest
import torch
from torch import nn

from slimline.contract import BadData
from slimline.models.edit import apply_edits
from slimline.models.info import Cut, SetAttribute


def cut(layer, *cuts):
    """A copy of the layer, cut along (parameter, axis, kept indices)."""
    edits = [Cut(parameter=f"0.{p}", axis=axis, keep=tuple(keep)) for p, axis, keep in cuts]
    return apply_edits(nn.Sequential(copy.deepcopy(layer)), edits)[0].eval()


def sizes(layer, *names):
    return tuple(getattr(layer, name) for name in names)


HALF, FIRST = range(4, 8), (0, 2, 4, 6)


@pytest.mark.parametrize(
    ("layer", "cuts", "names", "after", "shape"),
    [
        (
            nn.ConvTranspose2d(8, 6, 3),
            [("weight", 0, HALF), ("weight", 1, [1, 2]), ("bias", 0, [1, 2])],
            ("in_channels", "out_channels", "groups"),
            (4, 2, 1),
            (2, 4, 5, 5),
        ),
        (
            nn.Conv1d(8, 8, 3, groups=8),
            [("weight", 0, HALF), ("bias", 0, HALF)],
            ("in_channels", "out_channels", "groups"),
            (4, 4, 4),
            (2, 4, 5),
        ),
        (
            nn.Conv2d(8, 8, 3, groups=4, bias=False),
            [("weight", 0, HALF)],
            ("in_channels", "out_channels", "groups"),
            (4, 4, 2),
            (2, 4, 5, 5),
        ),
        (
            nn.Conv2d(8, 8, 3, groups=4, bias=False),
            [("weight", 0, FIRST)],
            ("in_channels", "out_channels", "groups"),
            (8, 4, 4),
            (2, 8, 5, 5),
        ),
        (
            nn.ConvTranspose2d(8, 4, 3, groups=4, bias=False),
            [("weight", 0, HALF)],
            ("in_channels", "out_channels", "groups"),
            (4, 2, 2),
            (2, 4, 5, 5),
        ),
        (
            nn.GroupNorm(4, 8),
            [("weight", 0, HALF), ("bias", 0, HALF)],
            ("num_channels", "num_groups"),
            (4, 2),
            (2, 4, 3),
        ),
        (
            nn.GroupNorm(4, 8),
            [("weight", 0, FIRST), ("bias", 0, FIRST)],
            ("num_channels", "num_groups"),
            (4, 4),
            (2, 4, 3),
        ),
        (
            nn.LayerNorm(8),
            [("weight", 0, HALF), ("bias", 0, HALF)],
            ("normalized_shape",),
            ((4,),),
            (2, 3, 4),
        ),
        (nn.RMSNorm(8), [("weight", 0, HALF)], ("normalized_shape",), ((4,),), (2, 3, 4)),
        (
            nn.InstanceNorm1d(8, affine=True),
            [("weight", 0, HALF), ("bias", 0, HALF)],
            ("num_features",),
            (4,),
            (2, 4, 5),
        ),
        (nn.PReLU(8), [("weight", 0, HALF)], ("num_parameters",), (4,), (2, 4, 5)),
    ],
)
def test_its_sizes_follow_and_it_runs(layer, cuts, names, after, shape):
    made = cut(layer, *cuts)
    assert sizes(made, *names) == after
    with torch.no_grad():
        assert made(torch.randn(shape)).isfinite().all()


def test_an_embedding_gets_narrower():
    made = cut(nn.Embedding(10, 8), ("weight", 1, HALF))
    assert sizes(made, "num_embeddings", "embedding_dim") == (10, 4)
    assert made(torch.tensor([[1, 2]])).shape == (1, 2, 4)


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_a_recurrent_layer_loses_hidden_units_in_each_of_its_gates(kind, gates):
    layer = kind(6, 8, num_layers=2, batch_first=True)
    rows = [gate * 8 + i for gate in range(gates) for i in HALF]
    cuts = [("weight_ih_l0", 1, range(3))]
    for level in (0, 1):
        cuts += [(f"{name}_l{level}", 0, rows) for name in ("weight_ih", "weight_hh")]
        cuts += [(f"{name}_l{level}", 0, rows) for name in ("bias_ih", "bias_hh")]
        cuts.append((f"weight_hh_l{level}", 1, HALF))
    cuts.append(("weight_ih_l1", 1, HALF))
    made = cut(layer, *cuts)
    assert sizes(made, "input_size", "hidden_size") == (3, 4)
    with torch.no_grad():
        assert made(torch.randn(2, 5, 3))[0].shape == (2, 5, 4)


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTMCell, 4), (nn.GRUCell, 3)])
def test_a_recurrent_cell_too(kind, gates):
    rows = [gate * 8 + i for gate in range(gates) for i in HALF]
    cuts = [(n, 0, rows) for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    made = cut(kind(6, 8), *cuts, ("weight_hh", 1, HALF))
    assert sizes(made, "input_size", "hidden_size") == (6, 4)
    answer = made(torch.randn(2, 6))
    assert (answer[0] if isinstance(answer, tuple) else answer).shape == (2, 4)


def test_an_attention_loses_heads_with_its_width():
    rows = [part * 8 + i for part in range(3) for i in HALF]
    made = cut(
        nn.MultiheadAttention(8, 4, batch_first=True),
        ("in_proj_weight", 0, rows),
        ("in_proj_weight", 1, HALF),
        ("in_proj_bias", 0, rows),
        ("out_proj.weight", 0, HALF),
        ("out_proj.weight", 1, HALF),
        ("out_proj.bias", 0, HALF),
    )
    assert sizes(made, "embed_dim", "num_heads", "head_dim") == (4, 2, 2)
    x = torch.randn(2, 5, 4)
    assert made(x, x, x)[0].shape == (2, 5, 4)


def test_groups_of_which_one_loses_more_than_another_are_an_error():
    with pytest.raises(BadData, match="each must lose all or as many"):
        cut(nn.Conv2d(8, 8, 3, groups=4), ("weight", 0, (0, 2, 3, 4, 5, 6, 7)))
    with pytest.raises(BadData, match="each must lose all or as many"):
        cut(nn.GroupNorm(2, 8), ("weight", 0, range(1, 8)))


def test_whole_groups_and_then_as_many_of_each_can_be_cut_in_one_replay():
    made = cut(
        nn.Conv2d(8, 16, 3, groups=4, bias=False),
        ("weight", 0, range(8, 16)),
        ("weight", 0, (0, 1, 4, 5)),
    )
    assert sizes(made, "in_channels", "out_channels", "groups") == (4, 4, 2)


def test_one_number_of_a_tuple_can_be_set():
    network = nn.Sequential(nn.Unflatten(1, (4, 2, 2)))
    edit = SetAttribute(module="0", name="unflattened_size", value=(2, 2, 2))
    assert apply_edits(network, [edit])(torch.zeros(1, 8)).shape == (1, 2, 2, 2)
