"""A parameter that would have no effect is refused, and told with its cure."""

import pytest
from support.pruning import prune, pruning
from support.splits import small_factory
from support.teacher import taught

from slimline.contract import BadParameters
from slimline.models.build import load_torch_model
from slimline.train.spec import Train


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"method": "magnitude", "target": "macs"}, "structured and blocks"),
        ({"target": "latency"}, "one of max_latency_ms and speedup"),
        ({"target": "latency", "speedup": 2, "max_latency_ms": 1}, "one of max_latency_ms"),
        ({"target": "macs", "speedup": 2}, "other targets none"),
        ({"target": "latency", "speedup": 0.5}, "must be above 1"),
        ({"threshold": 0.1}, "threshold is for the method magnitude"),
        ({"method": "n_m", "n": 4, "m": 4}, r"n \(4\) must be below m \(4\)"),
        ({"method": "n_m", "steps": 2}, "steps is 1"),
        ({"method": "magnitude", "importance": "fpgm"}, "l1, l2, taylor, random"),
        ({"method": "magnitude", "threshold": 1, "importance": "taylor"}, "leave it at l2"),
        ({"method": "blocks", "importance": "taylor"}, "leave it at l2"),
        ({"method": "n_m", "scope": "global"}, "structured and magnitude"),
    ],
)
def test_what_would_have_no_effect_is_refused(values, words):
    with pytest.raises(BadParameters, match=words):
        pruning(**values)


@pytest.mark.parametrize("importance", ["l1", "taylor", "fpgm", "bn_scale", "random"])
def test_each_importance_prunes_by_its_name_and_the_same_bytes_twice(importance):
    once, again = (prune(importance=importance, epochs=0) for _ in range(2))
    assert load_torch_model(once["pruned"].path)[0].conv2.out_channels == 8
    assert once.manifest.outputs["pruned"].digest == again.manifest.outputs["pruned"].digest
    assert importance in once["pruned"].path.joinpath("model.json").read_text()


@pytest.mark.parametrize("target", ["macs", "parameters"])
@pytest.mark.parametrize("method", ["structured", "blocks"])
def test_each_target_is_met_by_its_name(target, method):
    ratio = 0.6 if method == "structured" else 0.2
    numbers = prune(method=method, target=target, ratio=ratio, epochs=0).manifest.numbers
    assert numbers[target] <= (1 - ratio) * numbers[f"{target}_before"]
    assert any(probe["met"] for probe in numbers["probes"].values())


def test_a_measured_latency_is_a_target_and_every_try_is_told():
    slow = Train.parse({**taught().inputs(), "epochs": 1, "factory": small_factory(64, 96)}).run()
    settings = {"target": "latency", "speedup": 1.3, "round_to": 16, "epochs": 0}
    outcome = prune(model=slow["model"].path, **settings)
    numbers = outcome.manifest.numbers
    met = [probe for probe in numbers["probes"].values() if probe["met"]]
    assert any(probe["parameters"] == numbers["parameters"] for probe in met)
    assert all(probe["speedup"] >= 1.3 for probe in met)
    assert "latency ms" in (outcome["report"].path / "index.html").read_text().replace("_", " ")


def test_another_optimizer_and_schedule_heal_to_other_weights():
    one, other = (
        prune(epochs=1, **how)
        for how in ({}, {"optimizer": "sgd", "learning_rate_schedule": "cosine"})
    )
    assert one.manifest.outputs["pruned"].digest != other.manifest.outputs["pruned"].digest


def test_a_network_of_which_nothing_can_be_cut_is_refused_with_the_reason():
    with pytest.raises(BadParameters, match=r"conv1: its 8 channels cannot lose.*smaller round_to"):
        prune(model=taught().model, round_to=32, epochs=0)


def test_the_learning_rate_of_each_healing_can_be_found():
    rows = prune(find_learning_rate=True, steps=2, epochs=1).manifest.numbers["per_step"]
    found = [row["learning_rate"] for row in rows.values()]
    assert all(1e-6 < rate < 1 for rate in found)
    assert 0.005 not in found
