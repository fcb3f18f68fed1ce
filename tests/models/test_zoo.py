import pytest
import torch

from slimline.contract import BadParameters
from slimline.data.preprocess import Preprocessing
from slimline.models.build import build, load_torch_model, save_torch_model
from slimline.models.info import Factory, ModelInfo

NETWORKS = {
    "small_cnn on 8x8": ("small_cnn", {"widths": [4, 8, 8]}, 1, 8),
    "small_cnn on 28x28": ("small_cnn", {"widths": [4, 8]}, 1, 28),
    "resnet-8, option A": ("cifar_resnet", {"depth": 8, "widths": [4, 8, 16]}, 3, 32),
    "resnet-14, option B": (
        "cifar_resnet",
        {"depth": 14, "shortcut": "B", "widths": [4, 8, 8]},
        3,
        32,
    ),
    "mobilenet": ("mobilenet_v2", {"width_multiplier": 0.25}, 3, 32),
    "resnet-18": ("resnet18", {"width": 4}, 3, 32),
    "resnet-18 of ImageNet": ("resnet18", {"width": 4, "stem": "imagenet"}, 3, 64),
}


@pytest.mark.parametrize("what", NETWORKS)
def test_every_network_learns_and_reloads_bit_for_bit(what, tmp_path):
    name, arguments, channels, size = NETWORKS[what]
    factory = Factory(
        call=f"slimline.models.zoo:{name}",
        arguments={**arguments, "classes": 5, "channels": channels},
    )
    torch.manual_seed(0)
    module = build(factory)
    x, y = torch.randn(6, channels, size, size), torch.randint(0, 5, (6,))
    before = {n: p.detach().clone() for n, p in module.named_parameters()}
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    torch.nn.functional.cross_entropy(module(x), y).backward()
    optimizer.step()
    assert all(p.grad is not None for p in module.parameters())
    assert any(not torch.equal(before[n], p) for n, p in module.named_parameters())

    info = ModelInfo(
        name="net",
        stage="teacher",
        format="torch",
        labels=tuple("abcde"),
        preprocessing=Preprocessing(shape=(size, size, channels)),
        factory=factory,
    )
    save_torch_model(module, info, tmp_path)
    loaded, same = load_torch_model(tmp_path)
    assert same == info
    with torch.no_grad():
        assert torch.equal(loaded(x), module.eval()(x))


def test_cifar_resnet_20_has_the_size_and_the_keys_of_the_published_weights():
    module = build(Factory(call="slimline.models.zoo:cifar_resnet"))
    assert sum(p.numel() for p in module.parameters()) == 269_722
    keys = {k for k in module.state_dict() if not k.endswith("num_batches_tracked")}
    block = ["conv1.weight", "conv2.weight"]
    block += [
        f"bn{i}.{k}" for i in (1, 2) for k in ("weight", "bias", "running_mean", "running_var")
    ]
    expected = {f"layer{s}.{i}.{k}" for s in (1, 2, 3) for i in range(3) for k in block}
    expected |= {"conv1.weight", "linear.weight", "linear.bias"}
    expected |= {f"bn1.{k}" for k in ("weight", "bias", "running_mean", "running_var")}
    assert keys == expected


def test_cifar_resnet_56_has_the_size_of_the_published_one():
    module = build(Factory(call="slimline.models.zoo:cifar_resnet", arguments={"depth": 56}))
    assert sum(p.numel() for p in module.parameters()) == 853_018


def test_stages_have_the_blocks_that_are_asked_for():
    arguments = {"blocks": [2, 1], "widths": [4, 8]}
    module = build(Factory(call="slimline.models.zoo:cifar_resnet", arguments=arguments))
    assert [len(module.get_submodule(f"layer{i}")) for i in (1, 2)] == [2, 1]
    assert not hasattr(module, "layer3")


@pytest.mark.parametrize(
    "arguments", [{"blocks": [1, 1]}, {"blocks": [1, 0, 1]}, {"blocks": []}, {"widths": [4, 8]}]
)
def test_blocks_that_do_not_fit_the_widths_are_refused(arguments):
    with pytest.raises(BadParameters, match="give one for each"):
        build(Factory(call="slimline.models.zoo:cifar_resnet", arguments=arguments))


def test_a_depth_that_no_resnet_has_is_refused():
    with pytest.raises(BadParameters, match="depth 21 is not 6 n"):
        build(Factory(call="slimline.models.zoo:cifar_resnet", arguments={"depth": 21}))
