from contextlib import contextmanager
from functools import cache

import pytest
import torch
from support.curves import curve, two_cores
from support.teacher import taught

from slimline.contract import BadData, BadParameters, Killed, LocalStore, execute
from slimline.data.dataset import load_examples
from slimline.models import rank
from slimline.models.build import load_torch_model
from slimline.models.fit import accuracy
from slimline.models.info import load_model_info, save_model_info
from slimline.models.quantization import Quantization, load_quantization
from slimline.models.tensors import to_tensors
from slimline.prune.spec import Prune
from slimline.qat.spec import Qat


def job(**values):
    teacher = taught()
    return Qat.parse({**teacher.inputs(), "model": teacher.model, "epochs": 3, **values})


@cache
def trained(**values):
    return job(**values).run()


def numbers(**values):
    return trained(**values).manifest.numbers


def right_on_test(outcome):
    module, info = load_torch_model(outcome["trained"].path)
    return accuracy(module, to_tensors(load_examples(taught().splits.test), info))


def weights(outcome):
    module, _ = load_torch_model(outcome["trained"].path)
    return {n: p.detach().flatten(1) for n, p in module.named_parameters() if p.ndim > 1}


@pytest.mark.parametrize("method", ["lsq", "minmax"])
def test_eight_bits_lose_less_than_a_point(method):
    told = numbers(method=method)
    assert told["accuracy"] >= told["accuracy_rounded"] - 0.01
    assert told["accuracy"] >= told["accuracy_before"] - 0.01
    assert set(told["layers"].values()) == {"8-bit integer"}


def test_four_bits_trained_beat_four_bits_rounded():
    told = numbers(weight_bits=4, edge_bits=0)
    assert told["accuracy_rounded"] < told["accuracy_before"] - 0.01
    assert told["accuracy"] > told["accuracy_rounded"] + 0.01
    assert told["weight_bytes"] < told["weight_bytes_before"] / 6


@pytest.mark.parametrize(
    "kind",
    [
        {"weight_bits": 2},
        {"weights": "binary"},
        {"weights": "binary", "balance": True},
        {"weights": "ternary"},
        {"weights": "power_of_two", "weight_bits": 3},
        {"weights": "codebook", "weight_bits": 2},
    ],
    ids=str,
)
def test_what_rounding_destroys_training_brings_back(kind):
    told = numbers(**kind)
    assert told["accuracy_rounded"] < 0.97
    assert told["accuracy"] > max(0.85, told["accuracy_rounded"])


def test_plain_gradients_train_in_levels_too():
    told = numbers(weight_bits=2, optimizer="sgd", learning_rate=0.05)
    assert told["accuracy"] > max(0.85, told["accuracy_rounded"])


@two_cores
def test_two_processes_train_in_levels_as_one_does(tmp_path):
    values = {"weight_bits": 2, "epochs": 2, "batch_size": 101}
    one, two = (curve(job(**values, devices=n), tmp_path / n) for n in ("1", "2"))
    assert [e.loss for e in two] == pytest.approx([e.loss for e in one], rel=0.02)


def test_the_kept_weights_are_on_their_levels_and_right_on_images_no_choice_has_seen():
    outcome = trained(weights="binary")
    assert right_on_test(outcome) > 0.85
    kept = weights(outcome)
    assert all(len(row.unique()) == 2 for row in kept["conv2.weight"])
    assert len(kept["conv1.weight"].unique()) > 16
    told = load_quantization(Quantization, outcome["trained"].path)
    scale = torch.tensor(told.weights["conv2.weight"].scale)
    torch.testing.assert_close(kept["conv2.weight"].abs(), scale[:, None].expand(-1, 72))
    assert set(told.activations) == {"conv1", "conv2", "conv3", "linear"}


def test_lsq_moves_the_steps_and_minmax_does_not_learn_any():
    def steps(**values):
        outcome = trained(**values)
        return load_quantization(Quantization, outcome["trained"].path).activations

    learned, fixed = steps(), steps(method="minmax")
    assert learned["conv2"].scale != pytest.approx(fixed["conv2"].scale, rel=1e-3)
    assert learned["conv2"].zero_point == fixed["conv2"].zero_point == 0


def test_activations_may_stay_float():
    outcome = trained(weights="ternary", activation_bits=32)
    assert load_quantization(Quantization, outcome["trained"].path).activations == {}
    assert outcome.manifest.numbers["accuracy"] > 0.9


def test_excluded_layers_stay_float_and_are_told():
    outcome = trained(weight_bits=4, exclude="conv2")
    assert "conv2" in outcome.manifest.numbers["left_alone"]
    assert "conv2" not in outcome.manifest.numbers["layers"]
    kept = weights(outcome)
    assert len(kept["conv2.weight"][0].unique()) > 16 >= len(kept["conv3.weight"][0].unique())


def test_zeros_of_a_pruned_model_stay_zeros():
    teacher = taught()
    values = {"model": teacher.model, "method": "magnitude", "ratio": 0.6, "epochs": 0}
    pruned = Prune.parse({**teacher.inputs(), **values}).run()["pruned"].path
    zero = load_torch_model(pruned)[0].conv3.weight.flatten(1) == 0
    kept = job(model=pruned, keep_zeros=True, epochs=2).run()
    assert (weights(kept)["conv3.weight"][zero] == 0).all()
    free = job(model=pruned, epochs=2).run()
    assert (weights(free)["conv3.weight"][zero] != 0).any()


def test_keeping_zeros_of_a_model_that_has_none_is_an_error():
    with pytest.raises(BadParameters, match="no weight of the model is 0"):
        job(keep_zeros=True).run()


def test_another_teacher_may_be_followed():
    other = trained(weight_bits=2)["trained"].path
    assert job(teacher=other, epochs=1).run().manifest.numbers["epochs"] == 1


def test_the_same_job_gives_the_same_bytes():
    values = {"weights": "codebook", "weight_bits": 2}
    assert job(**values).run()["trained"].digest == trained(**values)["trained"].digest


@contextmanager
def stopped_after(steps):
    """As if SIGTERM had come after so many steps."""
    left = iter(range(steps))
    yield lambda: next(left, None) is None
    if next(left, None) is None:
        raise Killed("told to stop")


def test_a_job_stopped_in_the_middle_of_an_epoch_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    values, store = {"weight_bits": 2, "epochs": 3}, LocalStore(tmp_path / "store")
    with monkeypatch.context() as patch:
        patch.setattr(rank, "deferred_sigterm", lambda: stopped_after(30))
        with pytest.raises(Killed):
            execute(job(**values), store, work_dir=tmp_path / "one")
    again = execute(job(**values), store, work_dir=tmp_path / "two")
    assert again.manifest.numbers["resumed_from_epoch"] == 1
    whole = trained(weight_bits=2)
    assert again.manifest.outputs["trained"].digest == whole.manifest.outputs["trained"].digest


def test_the_model_is_told_and_the_report_shows_each_layer():
    outcome = trained(weights="binary")
    info = load_model_info(outcome["trained"].path)
    assert info.stage == "qat"
    assert info.history[-1] == (
        "trained in levels for 3 epochs (lsq): 8-bit integer, binary weights, 8-bit activations"
    )
    page = (outcome["report"].path / "index.html").read_text()
    assert "conv2: binary" in page


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"weight_bits": 1}, "weight_bits"),
        ({"weight_bits": 9}, "weight_bits"),
        ({"weights": "power_of_two", "weight_bits": 8}, "power_of_two takes 2 to 6"),
        ({"edge_bits": 1}, "give 2 to 8, or 0"),
        ({"activation_bits": 4}, "activation_bits"),
        ({"balance": True}, "balance is for binary weights"),
        ({"weights": "binary", "keep_zeros": True}, "have no level 0"),
    ],
)
def test_bits_out_of_bounds_and_settings_without_effect_are_bad_parameters(values, told):
    with pytest.raises(BadParameters, match=told) as caught:
        job(**values)
    assert caught.value.exit_code == 64


def test_an_onnx_model_cannot_be_trained(tmp_path):
    info = load_model_info(taught().model)
    save_model_info(info.model_copy(update={"format": "onnx", "factory": None}), tmp_path)
    with pytest.raises(BadData, match="a torch model is needed"):
        job(model=tmp_path).run()
