import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from slimline.contract import BadData, BadParameters
from slimline.data.preprocess import Preprocessing
from slimline.models.build import build, completed, load_torch_model, save_torch_model
from slimline.models.edit import apply_edits
from slimline.models.info import Cut, Factory, Layer, ModelInfo, Replace, SetAttribute

CNN = Factory(call="slimline.models.zoo:small_cnn", arguments={"widths": [4, 8]})
CUT = (
    Cut(parameter="conv1.weight", axis=0, keep=(0, 2)),
    Cut(parameter="bn1.weight", axis=0, keep=(0, 2)),
    Cut(parameter="bn1.bias", axis=0, keep=(0, 2)),
    Cut(parameter="bn1.running_mean", axis=0, keep=(0, 2)),
    Cut(parameter="bn1.running_var", axis=0, keep=(0, 2)),
    Cut(parameter="conv2.weight", axis=1, keep=(0, 2)),
)


def info(factory=CNN, edits=()):
    return ModelInfo(
        name="net",
        stage="teacher",
        format="torch",
        labels=tuple("0123456789"),
        preprocessing=Preprocessing(shape=(8, 8, 1)),
        factory=factory,
        edits=edits,
    )


@pytest.fixture
def kept(tmp_path) -> Path:
    save_torch_model(build(CNN), info(), tmp_path)
    return tmp_path


def change(path: Path, **fields) -> None:
    said = json.loads((path / "model.json").read_text())
    (path / "model.json").write_text(json.dumps(said | fields))


def test_edits_are_replayed_to_equal_outputs_and_equal_attributes(tmp_path):
    module = apply_edits(build(CNN), CUT)
    save_torch_model(module, info(edits=CUT), tmp_path)
    loaded, _ = load_torch_model(tmp_path)
    x = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(loaded(x), module.eval()(x))
    assert loaded.conv1.out_channels == loaded.bn1.num_features == loaded.conv2.in_channels == 2
    assert sum(p.numel() for p in loaded.parameters()) < sum(
        p.numel() for p in build(CNN).parameters()
    )


def test_a_depthwise_convolution_is_cut_with_its_groups():
    mobile = Factory(call="slimline.models.zoo:mobilenet_v2", arguments={"width_multiplier": 0.25})
    module = build(mobile)
    before = module.block1.depthwise.conv
    keep = tuple(range(0, before.out_channels, 2))
    apply_edits(module, [Cut(parameter="block1.depthwise.conv.weight", axis=0, keep=keep)])
    after = module.block1.depthwise.conv
    assert after.groups == after.in_channels == after.out_channels == len(keep)


def test_channels_of_padding_are_cut_on_their_side():
    net = Factory(
        call="slimline.models.zoo:cifar_resnet", arguments={"depth": 8, "widths": [4, 8, 16]}
    )
    module = apply_edits(
        build(net), [Cut(parameter="layer2.0.shortcut.pad.padding", axis=1, keep=(1, 2, 3))]
    )
    assert module.get_submodule("layer2.0.shortcut.pad").padding == (0, 0, 0, 0, 1, 2)


@pytest.mark.parametrize(
    "edit",
    [
        Cut(parameter="conv9.weight", axis=0, keep=(0,)),
        Cut(parameter="conv1.nothing", axis=0, keep=(0,)),
        Cut(parameter="conv1.weight", axis=7, keep=(0,)),
        Cut(parameter="conv1.weight", axis=0, keep=(0, 99)),
        Cut(parameter="conv1.weight", axis=0, keep=(-1, 0)),
        Cut(parameter="conv1.weight", axis=0, keep=(1, 1)),
        Cut(parameter="conv1.weight", axis=0, keep=()),
        Cut(parameter="conv1.padding", axis=1, keep=(0,)),
    ],
)
def test_an_edit_that_fits_nothing_is_refused_by_name(edit):
    with pytest.raises(BadData, match=edit.parameter):
        apply_edits(build(CNN), [edit])


@pytest.mark.parametrize("call", ["os:system", "subprocess:call", "builtins:eval", "shutil:rmtree"])
def test_a_hostile_model_file_cannot_call_what_is_not_trusted(kept, call, monkeypatch):
    called = []
    monkeypatch.setattr("os.system", lambda *a: called.append(a))
    change(kept, factory={"call": call, "arguments": {"command": "touch /tmp/owned"}})
    with pytest.raises(BadParameters, match="not trusted"):
        load_torch_model(kept)
    assert not called


def test_a_module_that_is_not_trusted_is_not_even_imported(kept, tmp_path, monkeypatch):
    (tmp_path / "evil_nets.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    change(kept, factory={"call": "evil_nets:net", "arguments": {}})
    with pytest.raises(BadParameters, match="SLIMLINE_FACTORY_MODULES"):
        load_torch_model(kept)
    assert "evil_nets" not in sys.modules


def test_what_a_trusted_module_imported_from_elsewhere_is_not_its_factory():
    with pytest.raises(BadParameters, match="not trusted"):
        build(Factory(call="slimline.models.zoo:OrderedDict"))


def test_a_factory_of_ones_own_is_called_when_its_package_is_named(tmp_path, monkeypatch):
    (tmp_path / "homemade_nets.py").write_text(
        "from torch import nn\n"
        "def net(classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))\n"
        "def text():\n    return 'no network'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SLIMLINE_FACTORY_MODULES", "another, homemade_nets")
    factory = completed(Factory(call="homemade_nets:net"), classes=10, channels=1)
    assert factory.arguments == {"classes": 10}
    assert build(factory)(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    with pytest.raises(BadParameters, match=r"must return a torch\.nn\.Module"):
        build(Factory(call="homemade_nets:text"))
    with pytest.raises(BadParameters, match="cannot be imported"):
        build(Factory(call="homemade_nets:missing"))


def test_arguments_that_a_factory_does_not_take_are_told():
    with pytest.raises(BadParameters, match="depht"):
        build(Factory(call="slimline.models.zoo:cifar_resnet", arguments={"depht": 20}))


def test_weights_of_another_shape_are_refused_by_name(kept):
    change(kept, factory={"call": CNN.call, "arguments": {"widths": [4, 16]}})
    with pytest.raises(BadData, match=r"conv2\.weight is \[8, 4, 3, 3\]"):
        load_torch_model(kept)


def test_missing_and_additional_weights_are_refused_by_name(kept):
    weights = load_file(kept / "model.safetensors")
    weights["extra"] = weights.pop("linear.bias")
    save_file(weights, kept / "model.safetensors")
    with pytest.raises(BadData, match=r"linear\.bias is missing; extra is not in the network"):
        load_torch_model(kept)


def test_published_weights_without_batch_counters_load(kept):
    weights = load_file(kept / "model.safetensors")
    save_file(
        {k: v for k, v in weights.items() if "num_batches" not in k}, kept / "model.safetensors"
    )
    load_torch_model(kept)


@pytest.mark.parametrize("damage", ["pickle", "cut"])
def test_a_file_that_is_not_safetensors_is_refused(kept, damage):
    file = kept / "model.safetensors"
    if damage == "pickle":
        torch.save({"conv1.weight": torch.zeros(1)}, file)
    else:
        file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(BadData, match="safetensors"):
        load_torch_model(kept)


def test_a_description_that_is_none_is_refused(kept):
    (kept / "model.json").write_text("{}")
    with pytest.raises(BadData, match=r"model\.json describes no model"):
        load_torch_model(kept)


def test_an_onnx_model_is_not_taken_for_a_torch_one(kept):
    change(kept, format="onnx", factory=None)
    with pytest.raises(BadData, match="a torch model is needed"):
        load_torch_model(kept)


def test_a_layer_is_replaced_by_one_that_edits_may_make_and_trained_weights_come_back(tmp_path):
    factory = Factory(call="slimline.models.zoo:cifar_resnet", arguments={"depth": 8})
    linear = Layer(type="Linear", arguments={"in_features": 64, "out_features": 4, "bias": False})
    last = Layer(type="Linear", arguments={"in_features": 4, "out_features": 10})
    edits = (
        Replace(module="layer1.0", layer=Layer(type="Identity")),
        Replace(module="linear", layer=Layer(type="Sequential", children={"a": linear, "b": last})),
        Cut(parameter="linear.a.weight", axis=0, keep=(0, 2)),
        Cut(parameter="linear.b.weight", axis=1, keep=(0, 2)),
    )
    module = build(factory, edits).eval()
    assert isinstance(module.layer1[0], torch.nn.Identity)
    assert module.linear.a.out_features == module.linear.b.in_features == 2
    kept = info().model_copy(update={"factory": factory, "edits": edits})
    save_torch_model(module, kept, tmp_path)
    again, read = load_torch_model(tmp_path)
    assert read.edits == edits
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(again(x), module(x))


def test_only_a_size_that_is_there_can_be_set():
    module = build(Factory(call="slimline.models.zoo:small_cnn"))
    apply_edits(module, [SetAttribute(module="pool1", name="kernel_size", value=3)])
    assert module.pool1.kernel_size == 3
    for name, value in (("nothing", 1), ("ceil_mode", 1), ("forward", 1), ("kernel_size", (1, 1))):
        with pytest.raises(BadData, match=f"pool1.{name}: it is no size of that form"):
            apply_edits(module, [SetAttribute(module="pool1", name=name, value=value)])


@pytest.mark.parametrize(
    "layer",
    [
        Layer(type="Module"),
        Layer(type="Linear", arguments={"in_features": 2}),
        Layer(type="Linear", arguments={"in_features": -1, "out_features": 2}),
        Layer(type="Linear", children={"a": Layer(type="Identity")}),
    ],
)
def test_a_layer_that_cannot_be_made_is_refused(layer):
    module = build(Factory(call="slimline.models.zoo:small_cnn"))
    with pytest.raises(BadData, match="layer"):
        apply_edits(module, [Replace(module="relu1", layer=layer)])
