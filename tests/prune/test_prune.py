import shutil

import pytest
import torch
from support.pruning import prune
from support.splits import small_factory
from support.teacher import taught

from slimline.contract import BadData, BadParameters
from slimline.data.dataset import load_examples
from slimline.models.build import load_torch_model
from slimline.models.fit import accuracy
from slimline.models.info import load_model_info, save_model_info
from slimline.models.quantization import FILE as QUANTIZATION
from slimline.models.tensors import to_tensors
from slimline.prune.sparse import sparsity
from slimline.train.spec import Train


@pytest.fixture(scope="module")
def structured():
    return prune(ratio=0.5)


@pytest.fixture(scope="module")
def sparse():
    return prune(method="magnitude", ratio=0.8)


def on_selection(outcome):
    module, info = load_torch_model(outcome["pruned"].path)
    return accuracy(module, to_tensors(load_examples(taught().splits.selection), info))


def zeros(layer):
    return float((layer.weight == 0).double().mean())


def test_channels_are_really_gone_and_the_model_reloads_as_it_was_measured(structured):
    numbers = structured.manifest.numbers
    module, info = load_torch_model(structured["pruned"].path)
    assert sum(p.numel() for p in module.parameters()) == numbers["parameters"]
    assert numbers["parameters"] < 0.4 * numbers["parameters_before"]
    assert numbers["macs"] < 0.4 * numbers["macs_before"]
    assert module.conv2.out_channels == 8
    assert info.edits
    assert on_selection(structured) == pytest.approx(numbers["accuracy"])


@pytest.mark.parametrize("kind", ["structured", "sparse"])
def test_healing_wins_accuracy_back(kind, request):
    numbers = request.getfixturevalue(kind).manifest.numbers
    assert numbers["accuracy_cut"] < numbers["accuracy_before"]
    assert numbers["accuracy"] > numbers["accuracy_cut"] + 0.1


def test_small_weights_are_zero_and_stay_so_while_the_rest_heals(sparse):
    module, info = load_torch_model(sparse["pruned"].path)
    assert sparsity(module) == pytest.approx(0.8, abs=0.005)
    assert sparse.manifest.numbers["sparsity"] == pytest.approx(sparsity(module))
    assert not info.edits


def test_local_scope_reaches_the_ratio_in_each_layer_and_global_only_together():
    local, together = (
        load_torch_model(prune(method="magnitude", ratio=0.6, scope=s, epochs=0)["pruned"].path)[0]
        for s in ("local", "global")
    )
    per_layer = [zeros(local.get_submodule(n)) for n in ("conv1", "conv2", "conv3", "linear")]
    assert per_layer == pytest.approx([0.6] * 4, abs=0.01)
    per_layer = [zeros(together.get_submodule(n)) for n in ("conv1", "conv2", "conv3", "linear")]
    assert max(per_layer) - min(per_layer) > 0.1
    assert sparsity(together) == pytest.approx(0.6, abs=0.01)


def test_the_largest_weights_are_those_that_stay():
    before = load_torch_model(taught().model)[0].conv2.weight
    after = load_torch_model(prune(method="magnitude", ratio=0.5, epochs=0)["pruned"].path)[0]
    stayed = after.conv2.weight != 0
    assert before.abs()[stayed].min() >= before.abs()[~stayed].max()
    assert torch.equal(after.conv2.weight[stayed], before[stayed])


def test_without_healing_the_cut_weights_are_kept_as_they_are():
    numbers = prune(epochs=0, reestimate=False).manifest.numbers
    assert numbers["accuracy"] == numbers["accuracy_cut"]
    assert numbers["epochs"] == 0


def test_new_batch_norm_statistics_win_accuracy_back_before_any_healing():
    numbers = prune(epochs=0).manifest.numbers
    assert numbers["accuracy"] == numbers["accuracy_reestimated"]
    assert numbers["accuracy"] > numbers["accuracy_cut"] + 0.1


def test_a_pruned_model_can_be_pruned_again(structured):
    again = prune(model=structured["pruned"].path, round_to=1, ratio=0.25, epochs=0)
    assert again.manifest.numbers["parameters"] < structured.manifest.numbers["parameters"]
    before, after = (load_model_info(o["pruned"].path).edits for o in (structured, again))
    assert after[: len(before)] == before
    load_torch_model(again["pruned"].path)


def test_the_report_tells_what_was_cut_and_what_was_left_alone(structured):
    page = (structured["report"].path / "index.html").read_text()
    assert "conv2: 16 -&gt; 8" in page
    assert "linear: its channels are the network&#x27;s answer" in page


def test_a_cut_that_cuts_nothing_is_an_error_with_the_cure():
    with pytest.raises(BadParameters, match="smaller round_to"):
        prune(round_to=64)


def test_a_network_of_single_channels_cannot_be_cut():
    tiny = Train.parse({**taught().inputs(), "epochs": 1, "factory": small_factory(1)}).run()
    with pytest.raises(BadParameters, match="smaller round_to"):
        prune(model=tiny["model"].path, round_to=1, ratio=0.9)


def test_a_model_that_was_trained_in_levels_is_refused(tmp_path):
    shutil.copytree(taught().model, tmp_path / "model")
    (tmp_path / "model" / QUANTIZATION).write_text("{}")
    with pytest.raises(BadData, match="put prune before qat"):
        prune(model=tmp_path / "model")


def test_an_onnx_model_cannot_be_cut(tmp_path):
    info = load_model_info(taught().model)
    save_model_info(info.model_copy(update={"format": "onnx", "factory": None}), tmp_path)
    with pytest.raises(BadData, match="a torch model is needed"):
        prune(model=tmp_path)
