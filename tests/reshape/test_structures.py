"""Networks as they are found in the wild: what cannot be treated is left alone, never a failure."""

import pytest
import torch
from support.reshaping import apart, reshaped
from support.structures import STRUCTURES

from slimline.contract import BadParameters
from slimline.reshape.spec import PRESERVING

JOBS = (
    ("fold_batch_norm", {}),
    ("merge_linear", {}),
    ("merge_similar", {"similarity": 0.9}),
    ("average_pool_head", {}),
    ("swap_activations", {"swap_from": "relu", "swap_to": "relu6"}),
    ("low_rank", {"rank": 0.4}),
    ("remove_redundancy", {"max_rate": 0.2}),
    ("grow", {}),
    ("grow", {"growth": "deepen"}),
)
ODD = {
    "channel shuffle (ShuffleNetV1)": {"fold_batch_norm", "low_rank", "grow"},
    "transformer encoder": {"merge_similar", "low_rank", "grow"},
    "LSTM": {"low_rank"},
    "siamese": {"swap_activations", "low_rank"},
    "MobileNetV2": {"fold_batch_norm", "merge_similar", "low_rank", "grow"},
}


@pytest.mark.parametrize("name", ODD)
def test_each_method_changes_what_it_can_and_leaves_the_rest_with_a_reason(name):
    structure = STRUCTURES[name]
    module, x = structure.network().eval(), structure.example(16)
    effective = set()
    for method, parameters in JOBS:
        try:
            bench = reshaped(module, method, x, **parameters)
        except BadParameters:
            continue
        effective.add(method)
        assert all(bench.left_alone.values())
        assert not set(bench.changed) & set(bench.left_alone)
        assert method not in PRESERVING or apart(module, bench, x) < 1e-4
    assert ODD[name] <= effective


def test_a_layer_whose_weights_are_used_without_it_is_told():
    structure = STRUCTURES["transformer encoder"]
    module, x = structure.network().eval(), structure.example(16)
    bench = reshaped(module, "low_rank", x, rank=0.4)
    assert "no plain torch layer" in bench.left_alone["layers.0.self_attn.out_proj"]
    assert "forward fails after it" in bench.left_alone["layers.0.linear1"]
    assert torch.isfinite(bench.module(x)).all()
