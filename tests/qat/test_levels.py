"""The arithmetic of levels, and how a network is made to compute in them."""

import copy

import pytest
import torch
from support.splits import small_factory
from torch import nn

from slimline.contract import BadData, BadParameters
from slimline.data.preprocess import Preprocessing, ToNCHW
from slimline.models import levels
from slimline.models.build import build
from slimline.models.fake_quantize import attach, calibrate, parameter_groups, plain_state, record
from slimline.models.fake_quantize_plan import FakeQuantization, LayerPlan
from slimline.models.info import Factory, ModelInfo
from slimline.models.network_in_training import make_network
from slimline.models.quantization import (
    ActivationQuantization,
    OnnxQuantization,
    Quantization,
    TensorQuantization,
    WeightQuantization,
    load_quantization,
    save_quantization,
)
from slimline.models.settings import FitSettings
from slimline.models.task import Task
from slimline.models.task_file import read_task, write_task
from slimline.models.tensors import Batchable
from slimline.models.zoo import cifar_resnet
from slimline.qat.plan import make_plan
from slimline.qat.spec import Qat

KINDS = [
    ("integer", 8),
    ("integer", 4),
    ("integer", 2),
    ("binary", 1),
    ("ternary", 2),
    ("power_of_two", 4),
    ("codebook", 3),
]


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 5)
    )


def plan_for(kind="integer", bits=8, method="lsq", **more):
    layer = {"kind": kind, "bits": bits, **more}
    layers = {name: LayerPlan(input=name, **layer) for name in ("0", "4")}
    return FakeQuantization(method=method, layers=layers)


def attached(plan, x):
    module = net()
    attach(module, plan)
    calibrate(module, x)
    return module


def job(**values):
    return Qat.model_construct(**{n: f.default for n, f in Qat.model_fields.items()} | values)


def test_the_gradients_of_rounding_are_those_of_its_parts_straight_through():
    torch.manual_seed(0)
    x = torch.randn(5, 7, dtype=torch.double, requires_grad=True)
    scale = (torch.rand(5, 1, dtype=torch.double) + 0.1).requires_grad_()
    zero, out = torch.tensor(3.0, dtype=torch.double), torch.randn(5, 7, dtype=torch.double)
    ours = torch.autograd.grad((levels.rounded(x, scale, zero, 0, 7) * out).sum(), (x, scale))
    inside = (x / scale + zero).clamp(0, 7)
    parts = (inside + (inside.round() - inside).detach() - zero) * scale
    for got, wanted in zip(ours, torch.autograd.grad((parts * out).sum(), (x, scale)), strict=True):
        torch.testing.assert_close(got, wanted)


def test_a_learned_scale_has_lsqs_balance_in_its_gradient():
    logarithm = torch.tensor(0.02).log().requires_grad_()
    scale = levels.learned_scale(logarithm, values=100, high=7)
    (gradient,) = torch.autograd.grad(3.0 * scale, logarithm)
    assert scale.item() == pytest.approx(0.02)
    assert gradient.item() == pytest.approx(3.0 * 0.02 * (100 * 7) ** -0.5)


@pytest.mark.parametrize(("kind", "bits"), KINDS)
def test_each_channel_holds_no_more_levels_than_its_bits_allow_and_the_record_names_them(
    kind, bits
):
    module, plan = attached(plan_for(kind, bits), torch.rand(32, 1, 8, 8)), plan_for(kind, bits)
    weight, told = plain_state(module, plan)["4.weight"], record(module, plan).weights["4.weight"]
    for row, scale in zip(weight, told.scale, strict=True):
        assert 2 <= len(row.unique()) <= 2**bits
        known = torch.tensor(told.codebook or {"binary": (-1, 1), "ternary": (-1, 0, 1)}.get(kind)
                             or range(-levels.largest(bits), levels.largest(bits) + 1))  # fmt: skip
        nearest = (row[:, None] / scale - known).abs().min(1).values
        assert nearest.max() < 1e-4


@pytest.mark.parametrize(("kind", "bits"), KINDS)
def test_every_kind_passes_gradients_to_its_weights(kind, bits):
    x = torch.rand(32, 1, 8, 8)
    module = attached(plan_for(kind, bits), x)
    module.train()(x).square().mean().backward()
    for name in ("0", "4"):
        made = module.get_submodule(name).parametrizations.weight
        assert made.original.grad.abs().max() > 0
        assert all(p.grad.abs().max() > 0 for p in made[0].parameters() if p.requires_grad)


def test_a_balanced_binary_weight_has_both_signs_alike():
    weight = torch.rand(3, 101) + 0.5
    assert levels.binary(weight, balance=False)[0].unique().tolist() == [1.0]
    signs, _ = levels.binary(weight, balance=True)
    assert (signs.mean(1).abs() < 0.3).all()


def test_the_best_scale_rounds_better_than_the_largest_magnitude():
    torch.manual_seed(0)
    weight = torch.randn(6, 500)

    def error(scale):
        return ((weight / scale).round().clamp(-7, 7) * scale - weight).square().sum(1)

    assert (error(levels.best_scale(weight, 7)) < 0.8 * error(levels.peak(weight) / 7)).all()


def test_minmax_learns_no_scale_and_follows_the_weights():
    module = attached(plan_for(method="minmax"), torch.rand(8, 1, 8, 8))
    free = [n for n, p in module.named_parameters() if p.requires_grad]
    assert not any("log_scale" in name for name in free)
    before = record(module, plan_for(method="minmax")).weights["4.weight"].scale
    with torch.no_grad():
        module.get_submodule("4").parametrizations.weight.original.mul_(2)
    after = record(module, plan_for(method="minmax")).weights["4.weight"].scale
    assert after == pytest.approx([2 * scale for scale in before])


def test_zero_stays_zero_and_the_range_that_was_seen_is_kept():
    x = torch.rand(64, 1, 8, 8) * 3 - 1
    module = attached(plan_for(), x)
    quantizer = module.get_submodule("0.input_quantizer")
    rounded = quantizer(torch.tensor([[0.0, -1.0, 2.0, 50.0]]))[0]
    assert rounded[0] == 0
    torch.testing.assert_close(rounded[1:3], torch.tensor([-1.0, 2.0]), atol=0.02, rtol=0)
    assert rounded[3] < 2.1


def test_the_state_without_quantizers_is_that_of_the_plain_network():
    module = attached(plan_for("ternary", 2), torch.rand(8, 1, 8, 8))
    assert plain_state(module, plan_for("ternary", 2)).keys() == net().state_dict().keys()


def test_no_decay_pulls_at_scales():
    weights, scales = parameter_groups(attached(plan_for(), torch.rand(8, 1, 8, 8)), 0.1)
    assert (weights["weight_decay"], scales["weight_decay"]) == (0.1, 0.0)
    assert len(scales["params"]) == 4
    assert len(parameter_groups(net(), 0.1)) == 1


def test_layers_that_read_one_tensor_share_a_quantizer():
    module = cifar_resnet(8, "B", (4, 8, 8), channels=1).eval()
    plan, left_alone = make_plan(module, torch.zeros(2, 1, 8, 8), job())
    assert not left_alone
    inputs = {name: layer.input for name, layer in plan.layers.items()}
    assert inputs["layer2.0.shortcut.0"] == "layer2.0.conv1"
    assert len(set(inputs.values())) == len(inputs) - 2
    attach(module, plan)
    assert "layer2.0.shortcut.0.input_quantizer.log_scale" not in module.state_dict()


def test_first_and_last_layer_keep_eight_bits_unless_told():
    module = cifar_resnet(8, "A", (4, 8, 8), channels=1).eval()
    x = torch.zeros(2, 1, 8, 8)
    edges = make_plan(module, x, job(weights="binary"))[0].layers
    assert [(n, p.bits) for n, p in edges.items() if p.kind == "integer"] == [
        ("conv1", 8),
        ("linear", 8),
    ]
    same = make_plan(module, x, job(weights="binary", edge_bits=0))[0].layers
    assert {p.kind for p in same.values()} == {"binary"}


class Odd(nn.Module):
    """Layers that no quantizer fits, beside one that it does."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv1d(3, 4, 3, padding=1)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.up = nn.ConvTranspose1d(4, 4, 1)
        self.tied, self.twin = nn.Linear(4, 4), nn.Linear(4, 4)
        self.twin.weight = self.tied.weight
        self.last = nn.Linear(4, 2)

    def forward(self, x):
        x = self.up(self.first(x)).transpose(1, 2)
        x, _ = self.attention(x, x, x)
        return self.last(self.twin(self.tied(x)).mean(1))


def test_what_cannot_be_quantized_is_left_alone_with_the_reason():
    module, x = Odd().eval(), torch.rand(2, 3, 8)
    plan, left_alone = make_plan(module, x, job())
    assert list(plan.layers) == ["first", "last"]
    assert left_alone["up"] == "ConvTranspose1d is no convolution or linear layer"
    assert left_alone["tied"] == "shares its weights: tied.weight, twin.weight"
    assert "never called" in left_alone["attention.out_proj"]
    attach(module, plan)
    calibrate(module, x)
    assert module(x).shape == (2, 2)


def test_a_network_without_convolution_or_linear_layer_is_refused():
    with pytest.raises(BadData, match="no convolution or linear layer that could be trained"):
        make_plan(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4)).eval(), torch.zeros(2, 4), job())


@pytest.mark.parametrize("pattern", ["no_such_layer", "."])
def test_excluding_nothing_or_everything_is_an_error_that_lists_the_layers(pattern):
    with pytest.raises(BadParameters, match=r"exclude .* of the layers 0, 4: find some, not all"):
        make_plan(net().eval(), torch.zeros(2, 1, 8, 8), job(exclude=pattern))


def test_an_exclude_that_is_no_expression_is_an_error():
    with pytest.raises(BadParameters, match="is no regular expression"):
        make_plan(net().eval(), torch.zeros(2, 1, 8, 8), job(exclude="("))


def test_binary_weights_that_no_layer_would_have_are_an_error():
    with pytest.raises(BadParameters, match=r"no layer would have binary weights.*edge_bits to 0"):
        make_plan(net().eval(), torch.zeros(2, 1, 8, 8), job(weights="binary"))


def test_a_task_in_levels_can_be_sent_to_another_process(tmp_path):
    plan, x = plan_for("codebook", 3), torch.rand(6, 1, 8, 8)
    module = attached(plan, x)
    factory = Factory.model_validate(small_factory(4, 8))
    preprocessing = Preprocessing(shape=(8, 8, 1), dtype="float32", steps=(ToNCHW(),))
    info = ModelInfo(
        name="net", stage="qat", format="torch", labels=("a", "b"), preprocessing=preprocessing,
        factory=factory,
    )  # fmt: skip
    split = Batchable(x, torch.zeros(6, dtype=torch.long))
    other, weights = Batchable(x.clone(), split.y.clone()), module.state_dict()
    task = Task("qat", info, weights, split, other, FitSettings(), quantization=plan)
    write_task(tmp_path, task)
    back = read_task(tmp_path)
    assert back.quantization == plan
    assert all(torch.equal(back.weights[k], v) for k, v in weights.items())


def test_the_network_in_training_has_quantizers_and_its_weights_are_filled():
    factory = Factory.model_validate(small_factory(4, 8))
    preprocessing = Preprocessing(shape=(8, 8, 1), dtype="float32", steps=(ToNCHW(),))
    info = ModelInfo(
        name="net", stage="qat", format="torch", labels=tuple("0123456789"),
        preprocessing=preprocessing, factory=factory,
    )  # fmt: skip
    layers = {"conv2": LayerPlan(kind="binary", bits=1, input="conv2")}
    plan = FakeQuantization(layers=layers)
    module = build(factory)
    attach(module, plan)
    weights = copy.deepcopy(module.state_dict())
    split = Batchable(torch.rand(4, 1, 8, 8), torch.zeros(4, dtype=torch.long))
    made, _ = make_network(
        Task("qat", info, weights, split, split, FitSettings(), quantization=plan)
    )
    assert all(len(row.unique()) == 2 for row in made.conv2.weight.flatten(1))


RECORD = Quantization(
    weights={"w": WeightQuantization(kind="binary", bits=1, scale=(0.5, 0.25))},
    activations={"w": ActivationQuantization(scale=0.1, zero_point=3)},
)


def test_a_record_comes_back_as_it_was_kept(tmp_path):
    assert load_quantization(Quantization, tmp_path) is None
    save_quantization(RECORD, tmp_path)
    assert load_quantization(Quantization, tmp_path) == RECORD


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        '{"weights": {"w": {"kind": "binary", "bits": 1, "scale": [0]}}}',
        '{"weights": {"w": {"kind": "binary", "bits": 1, "scale": [NaN]}}}',
        '{"weights": {"w": {"kind": "binary", "bits": 1, "scale": [1e39]}}}',
        '{"weights": {"w": {"kind": "binary", "bits": 1, "scale": []}}}',
        '{"weights": {"w": {"kind": "binary", "bits": 99, "scale": [1]}}}',
        '{"weights": {"w": {"kind": "codebook", "bits": 2, "scale": [1], "codebook": []}}}',
        '{"weights": {"w": {"kind": "codebook", "bits": 1, "scale": [1], "codebook": [1, 2, 3]}}}',
        '{"weights": {"w": {"kind": "pickle", "bits": 1, "scale": [1]}}}',
        '{"weights": {}, "activations": {"x": {"scale": 1, "zero_point": 256}}}',
        '{"weights": {}, "run": "rm"}',
    ],
)
def test_a_hostile_record_is_refused(tmp_path, text):
    (tmp_path / "quantization.json").write_text(text)
    with pytest.raises(BadData, match="tells no quantization"):
        load_quantization(Quantization, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"zero_point": (0, 0)},
        {"zero_point": (-1,)},
        {"zero_point": (256,)},
        {"symmetric": True},
        {"scale": (1.0, 1.0), "zero_point": (0, 0)},
        {"bits": 1},
    ],
)
def test_a_hostile_record_of_a_graph_is_refused(tmp_path, change):
    fine = TensorQuantization(scale=(1.0,), zero_point=(7,), bits=8, symmetric=False)
    OnnxQuantization.model_validate({"tensors": {"x": fine.model_dump()}})
    wrong = OnnxQuantization.model_construct(tensors={"x": fine.model_copy(update=change)})
    save_quantization(wrong, tmp_path)
    with pytest.raises(BadData, match="tells no quantization"):
        load_quantization(OnnxQuantization, tmp_path)
