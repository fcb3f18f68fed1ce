"""The room as a whole: jobs on digits, what they leave behind, and ONNX of each method."""

import json

import pytest
import torch
from support import reshapable
from support.reshaping import ready
from support.splits import LABELS, Splits, small_factory, write_digits, write_split
from support.teacher import taught

from slimline.contract import BadData, BadParameters, Model
from slimline.data.dataset import load_examples
from slimline.data.preprocess import Preprocessing, Scale, ToNCHW
from slimline.export.spec import Export
from slimline.models.build import MODULES_VARIABLE, load_torch_model, save_torch_model
from slimline.models.fit import accuracy
from slimline.models.info import Factory, ModelInfo, load_model_info, save_model_info
from slimline.models.tensors import to_tensors
from slimline.reshape.spec import PRESERVING, Reshape
from slimline.train.spec import Train

METHODS = {
    "fold_batch_norm": ("dense_head", {}),
    "merge_linear": ("merging", {}),
    "merge_similar": ("twins", {"similarity": 0.9999}),
    "average_pool_head": ("dense_head", {}),
    "swap_activations": ("gelus", {"swap_from": "gelu", "swap_to": "relu"}),
    "low_rank": ("thick", {"rank": 0.3}),
    "remove_redundancy": ("silenced", {}),
    "grow": ("dead_weight", {}),
}


@pytest.fixture(autouse=True)
def _trusted(monkeypatch):
    monkeypatch.setenv(MODULES_VARIABLE, reshapable.__name__)


@pytest.fixture(scope="module")
def splits(tmp_path_factory) -> Splits:
    return write_digits(tmp_path_factory.mktemp("digits") / "few", most=600)


def artifact(path, what):
    """A planted network as a model artifact."""
    path.mkdir()
    info = ModelInfo(
        name="net",
        stage="teacher",
        format="torch",
        labels=LABELS,
        preprocessing=Preprocessing(shape=(8, 8, 1), steps=(Scale(), ToNCHW())),
        factory=Factory(call=f"{reshapable.__name__}:{what}"),
    )
    save_torch_model(ready(what), info, path)
    return Model.at(path)


def reshape(method, model, splits, **values):
    settings = {"round_to": 1, "latency_rounds": 0, "epochs": 0, "method": method, **values}
    return Reshape.parse({**splits.inputs(), "model": model, **settings}).run()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_comes_back_from_its_artifact_and_answers_the_same_in_onnx(
    method, splits, tmp_path
):
    what, parameters = METHODS[method]
    model = artifact(tmp_path / "model", what)
    outcome = reshape(method, model, splits, **parameters)
    numbers = outcome.manifest.numbers
    module, info = load_torch_model(outcome["reshaped"].path)
    before, _ = load_torch_model(model.path)
    x = to_tensors(load_examples(splits.selection), info).x
    with torch.no_grad():
        apart = (module(x) - before(x)).abs().max() / before(x).abs().max().clamp_min(1)
    assert float(apart) == pytest.approx(numbers["max_difference"], rel=1e-3, abs=1e-7)
    assert numbers["proven"] == (method in PRESERVING)
    assert numbers["max_difference"] < 1e-5 or method not in PRESERVING
    assert numbers["parameters"] == sum(p.numel() for p in module.parameters())
    assert numbers["changed"]
    exported = Export.parse({"model": outcome["reshaped"].path}).run()
    assert exported.manifest.numbers["max_difference"] < 1e-4


def test_a_trained_model_keeps_its_accuracy_when_batch_norm_is_folded():
    teacher = taught()
    outcome = reshape("fold_batch_norm", teacher.model, teacher.splits, stage="folded")
    numbers = outcome.manifest.numbers
    assert numbers["accuracy"] == numbers["accuracy_before"]
    assert set(numbers["changed"]) == {"bn1", "bn2", "bn3"}
    assert load_model_info(outcome["reshaped"].path).stage == "folded"


def test_low_rank_is_healed_by_the_old_model_and_its_latency_is_measured():
    teacher = taught()
    outcome = reshape(
        "low_rank",
        teacher.model,
        teacher.splits,
        rank=0.25,
        epochs=2,
        learning_rate=0.005,
        latency_rounds=11,
    )
    numbers = outcome.manifest.numbers
    assert numbers["macs"] < 0.6 * numbers["macs_before"]
    assert numbers["accuracy"] > numbers["accuracy_reshaped"] + 0.1
    assert numbers["latency_ms"] > 0
    assert numbers["speedup_low"] <= numbers["speedup"] <= numbers["speedup_high"]
    module, info = load_torch_model(outcome["reshaped"].path)
    selection = to_tensors(load_examples(teacher.splits.selection), info)
    assert accuracy(module, selection) == pytest.approx(numbers["accuracy"])


def test_methods_follow_one_another_and_equal_jobs_give_equal_bytes(splits, tmp_path):
    model = artifact(tmp_path / "model", "dead_weight")
    digests = set()
    for _ in range(2):
        wider = reshape("grow", model, splits, seed=3)
        folded = reshape("fold_batch_norm", wider["reshaped"], splits)
        thin = reshape("low_rank", folded["reshaped"], splits, rank=0.3)
        digests.add(thin["reshaped"].digest)
    assert len(digests) == 1
    info = load_model_info(thin["reshaped"].path)
    assert [h.split(":")[0] for h in info.history] == ["grow", "fold_batch_norm", "low_rank"]
    load_torch_model(thin["reshaped"].path)


def test_the_report_tells_what_was_changed_and_what_was_left_alone(splits, tmp_path):
    model = artifact(tmp_path / "model", "merging")
    page = (reshape("merge_linear", model, splits)["report"].path / "index.html").read_text()
    assert "conv1: merged with conv2" in page
    assert "narrow: one layer in place of it and linear3 would cost more" in page


def test_a_network_whose_answers_move_is_refused(splits, tmp_path):
    model = artifact(tmp_path / "model", "waking")
    with pytest.raises(BadData, match="on the selection split answers differ"):
        reshape("remove_redundancy", model, dark(tmp_path, splits), max_rate=0.5)


def dark(tmp_path, splits):
    """Training data that never wakes a unit which the selection split does."""
    train = load_examples(splits.train)
    write_split(tmp_path / "dark", "train", train.x // 4, train.y)
    return Splits(tmp_path / "dark", splits.selection, splits.test)


def test_a_method_that_finds_nothing_is_refused_with_the_reasons(splits, tmp_path):
    model = artifact(tmp_path / "model", "gelus")
    with pytest.raises(BadParameters, match="fold_batch_norm changed nothing"):
        reshape("fold_batch_norm", model, splits)


def test_what_is_no_torch_model_or_cannot_be_read_is_refused(splits, tmp_path):
    model = artifact(tmp_path / "model", "branching")
    with pytest.raises(BadData, match=r"torch\.export cannot read the network"):
        reshape("fold_batch_norm", model, splits)
    info = load_model_info(model.path)
    (tmp_path / "onnx").mkdir()
    save_model_info(info.model_copy(update={"format": "onnx", "factory": None}), tmp_path / "onnx")
    with pytest.raises(BadData, match="a torch model is needed"):
        reshape("grow", tmp_path / "onnx", splits)


def test_edits_of_every_method_are_plain_json(splits, tmp_path):
    model = artifact(tmp_path / "model", "thick")
    outcome = reshape("low_rank", model, splits, rank=0.3)
    said = json.loads((outcome["reshaped"].path / "model.json").read_text())
    made = {edit["module"]: edit["layer"] for edit in said["edits"]}
    assert list(made["conv"]["children"]) == ["reduce", "core", "expand"]


def test_a_model_that_was_trained_in_levels_is_refused(splits, tmp_path):
    model = artifact(tmp_path / "model", "dead_weight")
    (model.path / "quantization.json").write_text("{}")
    with pytest.raises(BadData, match="put reshape before qat"):
        reshape("grow", model.path, splits)


def test_a_network_that_is_grown_wins_accuracy_when_it_is_trained_on():
    teacher = taught()
    settings = {"epochs": 3, "factory": small_factory(3, 3, 3), "learning_rate": 0.01}
    small = Train.parse({**teacher.inputs(), **settings}).run()
    wider = {"factor": 4.0, "epochs": 4, "alpha": 0.0, "learning_rate": 0.01}
    numbers = reshape("grow", small["model"].path, teacher.splits, **wider).manifest.numbers
    assert numbers["parameters"] > 4 * numbers["parameters_before"]
    assert numbers["accuracy_reshaped"] == numbers["accuracy_before"]
    assert numbers["accuracy"] > numbers["accuracy_before"] + 0.05
