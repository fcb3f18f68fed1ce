"""Folding and merging: the planted structure goes, the answers stay."""

import pytest
import torch
from support.reshaping import apart, depthwise, inputs, ready, reshaped, size
from torch import nn

from slimline.contract import BadParameters
from slimline.models import zoo

NETWORKS = {
    "plain": lambda: zoo.small_cnn((8, 16), channels=3),
    "option A": lambda: zoo.cifar_resnet(8, "A", (4, 8, 16)),
    "depthwise": depthwise,
    "transposed, one axis, dense": lambda: nn.Sequential(
        nn.ConvTranspose2d(3, 8, 2, stride=2, bias=False),
        nn.BatchNorm2d(8, affine=False),
        nn.ReLU(),
        nn.Conv2d(8, 4, 3, padding=1, padding_mode="reflect"),
        nn.BatchNorm2d(4),
        nn.Flatten(1, 2),
        nn.Conv1d(4 * 32, 6, 1),
        nn.BatchNorm1d(6),
        nn.Flatten(),
        nn.Linear(6 * 32, 10, bias=False),
        nn.BatchNorm1d(10),
    ),
}


def norms(module):
    return [p for p, m in module.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


@pytest.mark.parametrize("what", NETWORKS)
def test_every_batch_norm_behind_a_layer_is_folded_and_the_answers_stay(what):
    module = ready(NETWORKS[what])
    x = inputs(16, channels=3, size=16)
    bench = reshaped(module, "fold_batch_norm", x)
    assert norms(module)
    assert norms(bench.module) == []
    assert set(bench.changed) == set(norms(module))
    assert size(bench.module) < size(module)
    assert apart(module, bench, x) < 1e-5


def test_a_batch_norm_that_cannot_be_folded_stays_with_the_reason():
    module = ready("tangled")
    with pytest.raises(BadParameters, match="bn: the output of stem is used 2 times"):
        reshaped(module, "fold_batch_norm")


def test_only_the_layers_that_are_named_are_changed():
    module = ready(NETWORKS["plain"])
    bench = reshaped(module, "fold_batch_norm", inputs(4, channels=3), layers="bn2$")
    assert norms(bench.module) == ["bn1"]
    with pytest.raises(BadParameters, match=r"'\(' is no regular expression"):
        reshaped(module, "fold_batch_norm", inputs(4, channels=3), layers="(")


def test_layers_in_a_row_become_one_where_that_is_cheaper():
    module = ready("merging")
    bench = reshaped(module, "merge_linear")
    made = bench.module
    assert [made.conv1.out_channels, made.conv3.__class__] == [4, nn.Identity]
    assert (made.expand.kernel_size, made.expand.stride) == ((3, 3), (2, 2))
    assert made.linear1.out_features == 24
    assert isinstance(made.linear2, nn.Identity)
    assert "would cost more" in bench.left_alone["narrow"]
    assert size(made) < 0.6 * size(module)
    assert apart(module, bench) < 1e-5


def test_a_bias_that_meets_padding_is_no_linear_map():
    module = nn.Sequential(
        nn.Conv2d(1, 16, 1), nn.Conv2d(16, 4, 3, padding=1), nn.Flatten(), nn.Linear(256, 10)
    )
    with pytest.raises(BadParameters, match="its bias meets the padding"):
        reshaped(module.eval(), "merge_linear")
    with torch.no_grad():
        module[0].bias.zero_()
    assert apart(module, reshaped(module, "merge_linear")) < 1e-5


def test_a_merged_layer_that_torch_cannot_make_is_left_alone():
    module = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding="same"), nn.Conv2d(16, 4, 1, stride=2), nn.Flatten(),
        nn.Linear(64, 10),
    )  # fmt: skip
    with pytest.raises(BadParameters, match="padding='same' is not supported for strided"):
        reshaped(module.eval(), "merge_linear")


def test_a_chain_of_linear_layers_ends_as_one():
    module = nn.Sequential(
        nn.Flatten(), *(nn.Linear(64, 64) for _ in range(4)), nn.Linear(64, 10, bias=False)
    )
    bench = reshaped(module.eval(), "merge_linear")
    assert size(bench.module) == 64 * 10 + 10
    assert apart(module, bench) < 1e-5


def test_twin_units_are_merged_and_the_answers_stay():
    module = ready("twins")
    bench = reshaped(module, "merge_similar", similarity=0.9999)
    made = bench.module
    assert made.conv1.out_channels == made.conv2.in_channels == 7
    assert made.linear1.out_features == made.linear2.in_features == 11
    assert made.conv2.out_channels == 8
    assert "closest cosine" in bench.left_alone["conv2"]
    assert "network's answer" in bench.left_alone["linear2"]
    assert apart(module, bench) < 1e-5


def test_units_that_are_only_nearly_alike_are_merged_at_a_lower_threshold():
    module = ready("twins")
    with torch.no_grad():
        module.linear1.weight[7] += 0.01 * torch.randn(32)
    kept = reshaped(module, "merge_similar", similarity=1 - 1e-9, layers="conv1|linear1")
    assert "linear1" in kept.left_alone
    merged = reshaped(module, "merge_similar", similarity=0.99, layers="linear1")
    assert merged.module.linear1.out_features < 12
    assert 0 < apart(module, merged) < 0.2


def test_widths_stay_multiples_and_a_model_without_twins_is_refused():
    module = ready("twins")
    with pytest.raises(BadParameters, match="conv1: 1 of 8 units are alike"):
        reshaped(module, "merge_similar", similarity=0.9999, round_to=4)
