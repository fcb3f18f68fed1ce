import pytest
import torch
from torch import nn

from slimline.contract import BadParameters
from slimline.models.initialize import initialize, last_norms
from slimline.models.zoo import cifar_resnet, mobilenet_v2, small_cnn

X = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 3 + 1


def plain():
    """Ten layers in a row without batch norm: fresh weights let its answers fade."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU()]
    for _ in range(8):
        layers += [nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10))


def spreads(module, x):
    found = []
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(lambda _m, _g, out: found.append(float(out.var())))
    with torch.no_grad():
        module(x)
    return found


def test_data_dependent_weights_give_every_layer_a_variance_of_one():
    assert min(spreads(plain(), X)) < 0.1
    ready = initialize(plain(), "data_dependent", X)
    assert spreads(ready, X) == pytest.approx([1.0] * 10, abs=0.1)


def test_data_dependent_weights_leave_the_statistics_of_batch_norm_alone():
    module = initialize(small_cnn((4, 8)), "data_dependent", X)
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(n.running_mean.abs().sum() == 0 and n.num_batches_tracked == 0 for n in norms)


def test_orthogonal_rows_are_orthogonal():
    module = initialize(nn.Sequential(nn.Linear(64, 10)), "orthogonal", X.flatten(1))
    weight = module[0].weight
    assert torch.allclose(weight @ weight.T, torch.eye(10), atol=1e-5)


@pytest.mark.parametrize(
    ("how", "spread"), [("kaiming_normal", 2 / (16 * 9)), ("xavier_uniform", 2 / (48 * 9))]
)
def test_drawn_weights_have_the_variance_of_their_rule(how, spread):
    torch.manual_seed(0)
    module = initialize(nn.Sequential(nn.Conv2d(32, 16, 3)), how, X)
    assert float(module[0].weight.detach().var()) == pytest.approx(spread, rel=0.1)
    assert module[0].bias.abs().sum() == 0


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_with_zero_residuals_a_block_starts_as_its_shortcut(shortcut):
    torch.manual_seed(0)
    module, x = cifar_resnet(8, shortcut, (4, 8, 8)), torch.rand(2, 3, 8, 8)
    initialize(module, "zero_residual", x)
    zeros = {n for n, p in module.named_parameters() if not p.any() and n.endswith("weight")}
    assert zeros == {f"layer{i}.0.bn2.weight" for i in (1, 2, 3)}
    before = torch.rand(2, 4, 8, 8)
    block = module.get_submodule("layer1.0").eval()
    assert torch.equal(block(before), before)


def test_the_last_norms_of_inverted_blocks_are_found_without_knowing_their_names():
    found = last_norms(mobilenet_v2(0.25), torch.rand(2, 3, 32, 32))
    assert found
    assert all(name.endswith("project.bn.weight") for name in found)


@pytest.mark.parametrize("how", ["zero_residual", "orthogonal"])
def test_a_network_that_it_cannot_change_is_refused(how):
    with pytest.raises(BadParameters, match="use"):
        initialize(nn.Sequential(nn.Flatten(), nn.ReLU()), how, X)
