"""Each way to rank finds the channel that was planted as useless, and says where it cannot."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from slimline.contract import BadParameters
from slimline.models import zoo
from slimline.models.tensors import Batchable
from slimline.prune.graph import find_groups
from slimline.prune.importance import rank_units, rank_weights

USELESS = 5
X = torch.randn(2, 1, 8, 8)


def job(importance, **changes):
    return SimpleNamespace(**({"importance": importance, "seed": 0, "batch_size": 16} | changes))


def samples():
    torch.manual_seed(1)
    return Batchable(torch.randn(48, 1, 8, 8), torch.randint(10, (48,)))


def network():
    """Two convolutions with batch norms of uneven scales."""
    torch.manual_seed(0)
    module = zoo.small_cnn((8, 8)).eval()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, 0.1, 0.5)
    return module


def planted(importance):
    """A network whose first convolution has one channel that this importance calls useless."""
    module = network()
    with torch.no_grad():
        if importance == "fpgm":  # what the other filters can stand in for
            weight = module.conv1.weight
            others = [i for i in range(8) if i != USELESS]
            weight[USELESS] = weight[others].median(0).values
        elif importance == "taylor":  # large, but nothing reads it
            module.conv2.weight[:, USELESS] = 0
            module.conv1.weight[USELESS] *= 10
        elif importance == "bn_scale":
            module.bn1.weight[USELESS] = 0.01
        else:
            for weight in (module.conv1.weight, module.bn1.weight, module.bn1.bias):
                weight[USELESS] *= 0.01
            module.conv2.weight[:, USELESS] *= 0.01
    return module


def ranked(module, how, **changes):
    groups, _ = find_groups(module, X)
    scores, otherwise = rank_units(module, groups, job(how, **changes), samples())
    return {g.name: s for g, s in zip(groups, scores, strict=True)}, otherwise


@pytest.mark.parametrize("importance", ["l1", "l2", "taylor", "fpgm", "bn_scale"])
def test_a_planted_useless_channel_ranks_last(importance):
    scores, otherwise = ranked(planted(importance), importance)
    assert int(scores["conv1"].argmin()) == USELESS
    assert not otherwise


@pytest.mark.parametrize("importance", ["l1", "fpgm", "bn_scale"])
def test_a_channel_that_matters_to_the_loss_alone_is_seen_by_taylor_alone(importance):
    module = planted("taylor")
    assert int(ranked(module, "taylor")[0]["conv1"].argmin()) == USELESS
    assert int(ranked(module, importance)[0]["conv1"].argmin()) != USELESS


def test_taylor_is_the_square_of_what_the_loss_changes_by_in_first_order():
    module, data = network(), samples()
    scores, _ = ranked(module, "taylor", batch_size=48)
    gate = torch.ones(1, 8, 1, 1, requires_grad=True)
    after = nn.Sequential(module.pool1, module.conv2, module.bn2, module.relu2)
    head = nn.Sequential(module.avgpool, module.flatten, module.linear)
    made = module.relu1(module.bn1(module.conv1(data.x)))
    loss = nn.functional.cross_entropy(head(after(made * gate)), data.y)
    (slope,) = torch.autograd.grad(loss, gate)
    torch.testing.assert_close(scores["conv1"], slope.flatten().square(), rtol=1e-3, atol=1e-9)


def test_a_group_without_batch_norm_is_ranked_by_l2_with_the_reason():
    module = network()
    module.bn2 = nn.Identity()
    scores, otherwise = ranked(module, "bn_scale")
    assert otherwise == {"conv2": "ranked by l2: no batch norm scales its channels"}
    l2, _ = ranked(module, "l2")
    assert torch.equal(scores["conv2"].argsort(), l2["conv2"].argsort())
    torch.testing.assert_close(scores["conv1"], module.bn1.weight.detach().abs())


def test_an_importance_that_ranks_nothing_is_refused():
    module = network()
    module.bn1 = module.bn2 = nn.Identity()
    with pytest.raises(BadParameters, match="use l2"):
        ranked(module, "bn_scale")


def test_chance_depends_on_the_seed_alone():
    one, same, other = (ranked(network(), "random", seed=s)[0]["conv1"] for s in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("importance", ["l1", "l2"])
def test_the_norm_of_a_single_weight_is_its_magnitude(importance):
    weights = {"conv1.weight": torch.tensor([[-3.0, 1.0], [0.5, -2.0]])}
    scores = rank_weights(network(), weights, job(importance), None)
    assert torch.equal(scores["conv1.weight"], torch.tensor([[3.0, 1.0], [0.5, 2.0]]))


def test_taylor_finds_the_weights_that_the_loss_does_not_feel():
    module = planted("taylor")
    weights = {"conv1.weight": module.conv1.weight.detach()}
    score = rank_weights(module, weights, job("taylor"), samples())["conv1.weight"]
    per_channel = score.flatten(1).sum(1)
    assert per_channel[USELESS] == 0
    assert (per_channel > 0).sum() >= 6
