"""Single weights: which ones go, that they stay away, and what that saves."""

import zlib
from types import SimpleNamespace

import pytest
import torch
from support.pruning import prune
from support.teacher import taught
from torch import nn

from slimline.contract import BadParameters
from slimline.models import zoo
from slimline.models.build import load_torch_model
from slimline.models.info import load_model_info
from slimline.prune.nm import n_m_masks
from slimline.prune.sparse import magnitude_masks, sparsity, stored_bytes


def job(**changes):
    settings = {"ratio": 0.5, "threshold": 0, "n": 2, "m": 4}
    settings |= {"importance": "l2", "scope": "local", "seed": 0}
    return SimpleNamespace(**(settings | changes))


def network():
    torch.manual_seed(0)
    return zoo.mobilenet_v2(0.25, channels=1).eval()


def blocks(weight, m):
    """Every block of m weights along the input, one place of the kernel each."""
    return weight.movedim(1, -1).reshape(-1, m)


@pytest.fixture(scope="module")
def two_of_four():
    return prune(method="n_m", epochs=2)


def test_two_of_every_four_weights_stay_also_after_healing(two_of_four):
    module, _ = load_torch_model(two_of_four["pruned"].path)
    for layer in (module.conv2, module.conv3, module.linear):
        assert ((blocks(layer.weight, 4) != 0).sum(1) == 2).all()
    numbers = two_of_four.manifest.numbers
    whole = sum(m.weight.numel() for m in (module.conv2, module.conv3, module.linear))
    assert numbers["sparsity"] == pytest.approx(0.5 * whole / (whole + module.conv1.weight.numel()))


def test_a_layer_whose_input_is_no_multiple_is_left_alone_with_the_reason(two_of_four):
    module, _ = load_torch_model(two_of_four["pruned"].path)
    assert (module.conv1.weight != 0).all()
    reason = two_of_four.manifest.numbers["left_alone"]["conv1"]
    assert reason == "its 1 inputs are no multiple of 4"


@pytest.mark.parametrize(("n", "m"), [(1, 4), (2, 4), (3, 8)])
def test_the_largest_of_each_block_stay(n, m):
    module = network()
    masks, left_alone = n_m_masks(module, job(n=n, m=m))
    for name, mask in masks.items():
        weight = module.get_parameter(name).detach()
        stay, size = blocks(mask, m), blocks(weight, m).abs()
        assert (stay.sum(1) == n).all()
        least = size.masked_fill(stay == 0, torch.inf).amin(1)
        assert (least >= size.masked_fill(stay == 1, -1).amax(1)).all()
    depthwise = [n for n, m in module.named_modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert set(depthwise) <= set(left_alone)


def test_an_embedding_has_no_input_along_which_to_thin():
    module = nn.Sequential(nn.Embedding(16, 8), nn.Linear(8, 8))
    masks, left_alone = n_m_masks(module, job())
    assert list(masks) == ["1.weight"]
    assert left_alone == {"0": "it multiplies no input by these weights"}


def test_a_network_without_a_layer_of_that_multiple_is_refused():
    with pytest.raises(BadParameters, match="use another m"):
        n_m_masks(nn.Linear(6, 8), job())


def test_weights_below_the_threshold_go_and_no_other():
    before = load_torch_model(taught().model)[0].conv2.weight.detach()
    limit = float(before.abs().median())
    outcome = prune(method="magnitude", threshold=limit, epochs=0)
    after = load_torch_model(outcome["pruned"].path)[0].conv2.weight
    assert torch.equal(after != 0, before.abs() >= limit)
    said = load_model_info(outcome["pruned"].path).history[-1]
    assert said == f"weights below {limit:g} set to zero"


def test_a_threshold_that_no_weight_lies_below_is_refused():
    with pytest.raises(BadParameters, match="or a larger ratio or threshold"):
        prune(method="magnitude", threshold=1e-12, epochs=0)


def test_weights_that_went_before_stay_away_whatever_ranks_the_next():
    module = network()
    first = magnitude_masks(module, job(), None, share=0.5)
    with torch.no_grad():
        for name, mask in first.items():
            module.get_parameter(name).mul_(mask)
    second = magnitude_masks(module, job(importance="random"))
    for name, mask in first.items():
        assert (second[name] <= mask).all()
        assert second[name].mean() == pytest.approx(0.5, abs=0.5 / mask.numel())


def test_what_is_pruned_really_leaves_the_coded_weights():
    numbers = prune(method="magnitude", ratio=0.9, scope="global", epochs=0).manifest.numbers
    assert numbers["bytes"] == numbers["bytes_before"]
    assert numbers["bytes_coded_sparse"] < 0.25 * numbers["bytes_coded_sparse_before"]


def test_the_coded_size_is_that_of_a_bit_mask_and_the_values_that_stay():
    layer = nn.Linear(64, 64, bias=False)
    with torch.no_grad():
        layer.weight[:, ::2] = 0
    assert sparsity(layer) == 0.5
    dense, coded = stored_bytes(layer)
    assert dense == 64 * 64 * 4
    values = layer.weight.detach()[:, 1::2].contiguous().numpy().tobytes()
    mask = bytes([0b01010101]) * (64 * 64 // 8)
    assert coded == len(zlib.compress(mask)) + len(zlib.compress(values))
