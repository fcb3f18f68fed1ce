from pathlib import Path

import numpy as np
import pytest
import torch
from support.splits import LABELS, small_factory, write_digits, write_split

from slimline.contract import BadData, BadParameters
from slimline.data.dataset import load_examples
from slimline.models.build import load_torch_model
from slimline.models.fit import accuracy
from slimline.models.tensors import to_tensors
from slimline.train.spec import Train


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return write_digits(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return write_digits(tmp_path_factory.mktemp("few"), most=200)


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    job = Train.parse({**digits.inputs(), "epochs": 8, "factory": small_factory(8, 16, 16)})
    return job.run(work_dir=tmp_path_factory.mktemp("trained"))


@pytest.fixture
def one_core(monkeypatch):
    monkeypatch.setattr("slimline.models.threads.cpu_quota", lambda: 1)


def short(splits, **values):
    return Train.parse({**splits.inputs(), "epochs": 1, "factory": small_factory(4), **values})


def weights(outcome):
    return load_torch_model(outcome["model"].path)[0].state_dict()


def test_it_learns_the_digits_and_the_model_is_as_good_as_its_numbers_say(trained, digits):
    numbers = trained.manifest.numbers
    module, info = load_torch_model(trained["model"].path)
    selection = to_tensors(load_examples(digits.selection), info)
    assert accuracy(module, selection) == pytest.approx(numbers["accuracy"])
    assert accuracy(module, to_tensors(load_examples(digits.test), info)) > 0.9
    assert numbers["parameters"] == sum(p.numel() for p in module.parameters())
    assert numbers["epochs"] == 8


def test_the_model_carries_labels_preprocessing_and_the_whole_factory(trained):
    _, info = load_torch_model(trained["model"].path)
    assert info.labels == LABELS
    assert info.factory is not None
    assert info.factory.arguments == {"classes": 10, "channels": 1, "widths": [8, 16, 16]}
    assert [s.op for s in info.preprocessing.steps] == ["scale", "normalize", "nchw"]
    assert {p.name for p in Path(trained["model"].path).iterdir()} == {
        "model.json",
        "model.safetensors",
    }


def test_the_report_shows_the_curve(trained):
    page = (trained["report"].path / "index.html").read_text()
    assert page.count("<polyline") == 3  # loss and selection loss, accuracy
    assert "epoch 8" in page


@pytest.mark.usefixtures("one_core")
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(few):
    settings = {"augmentation": "shift", "epochs": 2}
    one, same, other = (short(few, seed=seed, **settings).run() for seed in (1, 1, 2))
    assert one["model"].digest == same["model"].digest
    assert one["model"].digest != other["model"].digest


@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "bf16"},
        {"optimizer": "sgd", "schedule": "cosine", "learning_rate": 0.05},
        {"augmentation": "flip_crop", "label_smoothing": 0.1, "schedule": "constant"},
    ],
)
def test_each_way_to_train_learns(few, settings):
    outcome = short(few, epochs=10, batch_size=8, factory=small_factory(8, 16), **settings).run()
    assert outcome.manifest.numbers["accuracy"] > 0.4


@pytest.mark.parametrize(
    "settings",
    [
        {"averaging": "ema", "averaging_decay": 0.95},
        {"averaging": "swa"},
        {"mixup": 0.2, "augmentation": "cutout"},
        {"clip_norm": 1.0, "augmentation": "shift", "augmentation_views": 4},
        {"initialization": "orthogonal"},
        {"initialization": "data_dependent"},
        {"find_learning_rate": True},
    ],
)
def test_each_aid_to_training_learns(few, settings):
    outcome = short(few, epochs=8, batch_size=8, factory=small_factory(8, 16), **settings).run()
    assert outcome.manifest.numbers["accuracy"] > 0.25


def test_an_average_is_kept_that_differs_from_the_last_weights(few):
    plain, average = (
        short(few, epochs=4, averaging=how, learning_rate=0.02).run() for how in ("none", "swa")
    )
    assert not torch.equal(weights(plain)["conv1.weight"], weights(average)["conv1.weight"])


def test_a_short_gradient_takes_a_short_step(few):
    sgd = {"optimizer": "sgd", "weight_decay": 0, "schedule": "constant", "learning_rate": 1}
    initial = short(few).run()["model"].path
    clipped = short(few, **sgd, initial=initial, clip_norm=1e-4, batch_size=140).run()
    before = load_torch_model(initial)[0]
    after = load_torch_model(clipped["model"].path)[0]
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    moved = sum(float((a - b).detach().square().sum()) for a, b in pairs) ** 0.5
    assert 0 < moved < 2.1e-4  # one step of Nesterov momentum: 1.9 times the gradient


def test_the_found_learning_rate_is_told_and_the_same_for_a_seed(few):
    rates = [
        short(few, find_learning_rate=True, seed=1, batch_size=20).run().manifest.numbers
        for _ in range(2)
    ]
    assert rates[0]["learning_rate"] == pytest.approx(rates[1]["learning_rate"])
    assert 1e-5 < rates[0]["learning_rate"] < 0.5


def test_trained_weights_are_not_initialised_anew(few, trained):
    with pytest.raises(BadParameters, match="leave out one"):
        short(few, initial=trained["model"].path, initialization="orthogonal").run()


def test_residual_branches_cannot_start_at_zero_where_there_are_none(few):
    with pytest.raises(BadParameters, match="no residual branch"):
        short(few, initialization="zero_residual").run()


def test_the_head_of_a_resnet18_learns_while_its_frozen_base_keeps_every_bit(few):
    factory = {"call": "slimline.models.zoo:resnet18", "arguments": {"width": 8}}
    base = short(few, epochs=2, factory=factory, batch_size=32).run()["model"].path
    frozen = r"^(conv1|bn1|layer)"
    outcome = short(few, initial=base, factory=factory, freeze=frozen, epochs=4, seed=1).run()
    before, after = load_torch_model(base)[0].state_dict(), weights(outcome)
    changed = {k for k in after if not torch.equal(before[k], after[k])}
    assert changed == {"fc.weight", "fc.bias"}
    assert any(k.endswith("running_mean") for k in after)


def test_training_stops_when_patience_is_out_and_keeps_the_best_epoch(few):
    outcome = short(few, epochs=50, patience=2, learning_rate=1e-9).run()
    numbers = outcome.manifest.numbers
    assert numbers["epochs"] < 50
    assert numbers["epochs"] == numbers["best_epoch"] + 2


def test_frozen_parameters_and_their_batch_norm_keep_their_bytes(few, trained):
    initial = trained["model"].path
    outcome = short(
        few, initial=initial, factory=small_factory(8, 16, 16), freeze=r"^(conv|bn)"
    ).run()
    before = load_torch_model(initial)[0].state_dict()
    after = weights(outcome)
    changed = {k for k in after if not torch.equal(before[k], after[k])}
    assert changed == {"linear.weight", "linear.bias"}


@pytest.mark.parametrize("pattern", ["(", "nothing", "."])
def test_a_freeze_pattern_that_makes_no_sense_is_refused(few, pattern):
    with pytest.raises(BadParameters, match="freeze"):
        short(few, freeze=pattern).run()


def test_it_goes_on_from_an_initial_model(digits, trained):
    outcome = short(
        digits,
        initial=trained["model"].path,
        factory=small_factory(8, 16, 16),
        learning_rate=1e-6,
        weight_decay=0,
    ).run()
    assert outcome.manifest.numbers["accuracy"] >= trained.manifest.numbers["accuracy"] - 0.02


def test_an_initial_model_that_shares_no_weight_is_refused(few, trained):
    with pytest.raises(BadParameters, match="no weight fits"):
        short(few, initial=trained["model"].path, factory=small_factory(5)).run()


def test_a_network_with_another_number_of_classes_is_refused(few):
    factory = small_factory(4)
    factory["arguments"]["classes"] = 7
    with pytest.raises(BadParameters, match="set classes"):
        short(few, factory=factory).run()


def test_a_network_for_larger_images_is_refused(few):
    with pytest.raises(BadParameters, match="does not take input"):
        short(few, factory=small_factory(4, 4, 4, 4, 4)).run()


def test_the_test_split_cannot_be_trained_on(few):
    with pytest.raises(BadData, match="this is its test split"):
        Train.parse({"train": few.test, "selection": few.selection}).run()


def test_a_loss_that_is_not_finite_ends_the_training_with_the_cure(few):
    wild = {"optimizer": "sgd", "learning_rate": 10, "weight_decay": 1, "schedule": "constant"}
    with pytest.raises(BadParameters, match="lower learning_rate"):
        short(few, epochs=30, batch_size=8, **wild).run()


def test_one_example_is_too_few(tmp_path, few):
    write_split(tmp_path / "one", "train", np.zeros((1, 8, 8, 1), np.uint8), np.zeros(1, np.int64))
    with pytest.raises(BadData, match="at least 2"):
        Train.parse({"train": tmp_path / "one", "selection": few.selection}).run()
