import os
import re
import signal
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from support.curves import assert_same_curve, curve, two_cores
from support.splits import small_factory, write_digits, write_split
from support.teacher import taught

from slimline.contract import BadData, BadParameters, Killed, LocalStore
from slimline.data.dataset import load_examples
from slimline.distill.ask.spec import Ask
from slimline.distill.spec import Distill
from slimline.models.answers import ANSWERS_FILE
from slimline.models.build import build, load_torch_model
from slimline.models.features import matched_layers, outputs
from slimline.models.fit import accuracy
from slimline.models.info import Factory, load_model_info, save_model_info
from slimline.models.losses import attention_loss
from slimline.models.task import Guide
from slimline.models.teacher import open_teachers
from slimline.models.tensors import to_tensors
from slimline.train.spec import Train

NARROW = {"depth": 8, "widths": [4, 8, 8], "channels": 1}


def distill(**values):
    teacher = taught()
    settings = {"epochs": 8, "learning_rate": 0.01, "factory": small_factory(4, 8, 16)}
    job = {**teacher.inputs(), "teacher": teacher.model, **settings}
    return Distill.parse(job | values).run()


def right_on_test(outcome):
    module, info = load_torch_model(outcome["student"].path)
    return accuracy(module, to_tensors(load_examples(taught().splits.test), info))


@pytest.mark.parametrize("augmentation", ["none", "shift"])
def test_with_wrong_labels_the_student_still_follows_its_teacher(tmp_path, augmentation):
    wrong = write_digits(tmp_path, wrong_labels=True)
    follower = distill(train=wrong.train, alpha=1.0, augmentation=augmentation)
    assert right_on_test(follower) > 0.7


def test_with_wrong_labels_alone_the_student_learns_them(tmp_path):
    wrong = write_digits(tmp_path, wrong_labels=True)
    assert right_on_test(distill(train=wrong.train, alpha=0.0, epochs=2)) < 0.3


def test_the_student_is_smaller_and_told_beside_its_teacher():
    outcome = distill(epochs=1)
    numbers = outcome.manifest.numbers
    assert numbers["teacher_accuracy"] == pytest.approx(taught().numbers["accuracy"])
    assert numbers["parameters"] < taught().numbers["parameters"] / 2


def test_the_student_takes_preprocessing_and_labels_of_its_teacher():
    teacher = load_model_info(taught().model)
    student = load_model_info(distill(epochs=1, stage="small")["student"].path)
    assert (student.preprocessing, student.labels) == (teacher.preprocessing, teacher.labels)
    assert student.stage == "small"
    assert student.history[:-1] == teacher.history


def test_an_onnx_teacher_teaches_as_its_torch_twin_does(tmp_path):
    module, info = load_torch_model(taught().model)
    example = torch.zeros(2, 1, 8, 8)
    torch.onnx.export(
        module,
        (example,),
        tmp_path / "model.onnx",
        input_names=["input"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        external_data=False,
        verbose=False,
    )
    save_model_info(info.model_copy(update={"format": "onnx", "factory": None}), tmp_path)
    by_onnx, by_torch = distill(teacher=tmp_path, epochs=2), distill(epochs=2)
    ours, twin = by_onnx.manifest.numbers, by_torch.manifest.numbers
    assert ours["teacher_accuracy"] == twin["teacher_accuracy"]
    assert ours["selection_loss"] == pytest.approx(twin["selection_loss"], rel=0.05)


def test_data_of_another_task_is_refused(tmp_path):
    x, y = np.zeros((4, 8, 8, 1), np.uint8), np.zeros(4, np.int64)
    write_split(tmp_path / "cats", "train", x, y, labels=("cat", "dog"))
    with pytest.raises(BadData, match="use data and model of one task"):
        distill(train=tmp_path / "cats")


def test_data_of_another_shape_is_refused(tmp_path):
    x, y = np.zeros((4, 9, 9, 1), np.uint8), np.zeros(4, np.int64)
    write_split(tmp_path / "large", "train", x, y)
    with pytest.raises(BadData, match=r"the model takes uint8\[8, 8, 1\]"):
        distill(train=tmp_path / "large")


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("decoupled", {"alpha": 1.0, "beta": 2.0, "warmup_epochs": 1, "epochs": 12}),
        ("hints", {"alpha": 0.9}),
        ("attention", {"alpha": 0.9, "feature_weight": 2.0}),
    ],
)
def test_with_wrong_labels_a_student_follows_its_teacher_by_each_method(tmp_path, method, settings):
    wrong = write_digits(tmp_path, wrong_labels=True)
    assert right_on_test(distill(train=wrong.train, method=method, **settings)) > 0.6


def test_attention_comes_closer_to_the_teachers_where_it_is_followed():
    names = ("relu1", "relu2", "relu3")

    def apart(outcome):
        student, info = load_torch_model(outcome["student"].path)
        x = to_tensors(load_examples(taught().splits.test), info).x
        own, given = (outputs(m, x) for m in (student, load_torch_model(taught().model)[0]))
        return float(attention_loss([own[n] for n in names], [given[n] for n in names]))

    followed = distill(epochs=4, alpha=0.0, method="attention", feature_weight=20.0)
    assert apart(followed) < 0.7 * apart(distill(epochs=4, alpha=0.0))


def test_hints_alone_teach_a_student_and_their_regressors_are_not_kept():
    settings = {"epochs": 4, "alpha": 0.0, "method": "hints", "feature_weight": 1.0}
    hinted, alone = distill(**settings), distill(**settings | {"method": "logits"})
    kept = [load_torch_model(o["student"].path)[0].state_dict() for o in (hinted, alone)]
    assert kept[0].keys() == kept[1].keys()
    assert not torch.equal(kept[0]["conv1.weight"], kept[1]["conv1.weight"])


def test_an_unknown_layer_is_refused_with_those_that_there_are():
    with pytest.raises(BadParameters, match=r"the teacher has no layer relu9; it has conv1"):
        distill(method="hints", layers=["relu1=relu9"])


def test_layers_that_cannot_be_compared_are_refused():
    with pytest.raises(BadParameters, match="cannot compare"):
        distill(method="attention", layers=["relu1=flatten"])


def test_layers_are_matched_by_the_size_of_their_images():
    teacher, info = load_torch_model(taught().model)
    student = build(Factory(call="slimline.models.zoo:cifar_resnet", arguments={**NARROW}))
    x = to_tensors(load_examples(taught().splits.test), info).inputs(slice(0, 2))
    guide = Guide(taught().model, 4.0, 0.9, "attention")
    pairs = matched_layers(guide, student, teacher, x)
    assert pairs == {"layer1": "relu1", "layer2": "relu2", "layer3": "relu3"}


def test_several_teachers_teach_together_and_are_told_as_one():
    second = (
        Train.parse({**taught().inputs(), "epochs": 3, "factory": small_factory(4, 8), "seed": 1})
        .run()["model"]
        .path
    )
    outcomes = [
        distill(teachers=[second], ensemble=how, teacher_weights=[1, 0], epochs=1)
        for how in ("probability", "logit")
    ]
    told = [outcome.manifest.numbers["teacher_accuracy"] for outcome in outcomes]
    assert told == pytest.approx([taught().numbers["accuracy"]] * 2)
    other = distill(teachers=[second], teacher_weights=[0, 1], epochs=1).manifest.numbers
    assert other["teacher_accuracy"] < told[0]


def test_as_many_shares_as_teachers_are_needed():
    with pytest.raises(BadParameters, match="give one for each"):
        distill(teacher_weights=[1, 2])


def test_teachers_that_take_another_input_cannot_teach_together():
    job = {**taught().inputs(), "epochs": 1, "factory": small_factory(4), "normalize": False}
    with pytest.raises(BadData, match="one preprocessing"):
        distill(teachers=[Train.parse(job).run()["model"].path])


def test_a_student_that_inherits_knows_before_it_has_learned():
    same = load_model_info(taught().model).factory
    settings = {"epochs": 1, "learning_rate": 1e-6, "factory": same}
    heir, stranger = (distill(inherit=how, **settings) for how in (True, False))
    assert right_on_test(heir) > 0.9
    assert right_on_test(stranger) < 0.5


def test_a_student_of_other_widths_inherits_nothing_and_is_told_so():
    with pytest.raises(BadParameters, match="give layers its names and widths"):
        distill(inherit=True, factory=small_factory(3, 5, 7), epochs=1)


def test_features_of_an_onnx_teacher_cannot_be_followed(tmp_path):
    info = load_model_info(taught().model)
    save_model_info(info.model_copy(update={"format": "onnx", "factory": None}), tmp_path)
    with pytest.raises(BadParameters, match="give its torch model"):
        distill(teacher=tmp_path, method="attention")
    with pytest.raises(BadParameters, match="or inherit false"):
        distill(teacher=tmp_path, inherit=True)


def test_a_teacher_is_asked_once_about_each_fixed_view_whichever_student_learns(tmp_path, caplog):
    caplog.set_level("INFO", "slimline")
    teacher, store = taught(), LocalStore(tmp_path / "store")
    views = {"augmentation": "shift", "augmentation_views": 2, "batch_size": 50}
    for widths in ((4, 8, 16), (4, 4, 8)):
        factory = small_factory(*widths)
        job = {**teacher.inputs(), "teacher": teacher.model, **views, "factory": factory}
        Distill.parse(job | {"epochs": 3}).run(store)
    asked = [m for m in caplog.messages if m.startswith("ask: ")]
    count = len(load_examples(teacher.splits.train))
    assert asked == [f"ask: {count} answers computed, 0 taken from those kept"] * 2
    told = [m for m in caplog.messages if "answers of the teacher" in m]
    assert all(line.startswith("distill: 0 answers of the teacher computed") for line in told)
    assert len(told) == 2


def test_fewer_epochs_than_views_ask_only_for_what_they_show(caplog):
    caplog.set_level("INFO", "slimline")
    distill(epochs=1, augmentation="shift", augmentation_views=4)
    count = len(load_examples(taught().splits.train))
    asked = [m for m in caplog.messages if m.startswith("ask: ")]
    assert asked == [f"ask: {count} answers computed, 0 taken from those kept"]


def test_a_fit_that_asks_for_itself_asks_once_and_teaches_the_same(monkeypatch, caplog):
    caplog.set_level("INFO", "slimline.models.loop")
    settings = {"epochs": 6, "augmentation": "shift", "augmentation_views": 2, "batch_size": 50}
    before = distill(**settings)
    monkeypatch.setattr("slimline.distill.run._asked", lambda _, task: nullcontext(task))
    caplog.clear()
    own = distill(**settings)
    one, other = (o.manifest.numbers["selection_loss"] for o in (before, own))
    assert one == pytest.approx(other, rel=1e-3)
    (line,) = [m for m in caplog.messages if "answers of the teacher" in m]
    asked, kept = (int(n) for n in re.findall(r"\d+", line))
    count = len(load_examples(taught().splits.train))
    assert asked + kept == 6 * (count // 50 * 50)
    assert asked <= 2 * count


def test_a_killed_ask_goes_on_with_what_was_not_answered(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "slimline.distill")
    monkeypatch.setattr("slimline.distill.ask.run._BATCH", 100)
    store, teacher = LocalStore(tmp_path / "store"), taught()
    job = Ask.parse({"teachers": [teacher.model], "train": teacher.inputs()["train"]})

    def killed_in_the_second_batch(*given, **named):
        ask, asked = open_teachers(*given, **named), []

        def answer(x):
            asked.append(len(x))
            if len(asked) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return ask(x)

        return answer

    with monkeypatch.context() as patch:
        patch.setattr("slimline.distill.ask.run.open_teachers", killed_in_the_second_batch)
        with pytest.raises(Killed):
            job.run(store)
    answers = job.run(store)["answers"].path / ANSWERS_FILE
    left = len(load_examples(teacher.splits.train)) - 200
    assert caplog.messages[-1] == f"ask: {left} answers computed, 200 taken from those kept"
    assert answers.read_bytes() == (job.run()["answers"].path / ANSWERS_FILE).read_bytes()


@pytest.mark.parametrize(
    ("values", "cure"),
    [
        ({"augmentation_views": 4}, "choose an augmentation"),
        ({"mixup": 0.2, "method": "decoupled"}, "or no mixup"),
        ({"mixup": 0.2, "augmentation": "shift", "augmentation_views": 2}, "leave out one"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values, cure):
    with pytest.raises(BadParameters, match=cure):
        distill(**values)


@two_cores
@pytest.mark.parametrize(
    "settings",
    [
        {"augmentation": "shift", "augmentation_views": 2, "averaging": "ema", "clip_norm": 1.0},
        {"method": "hints"},
        {"mixup": 0.3, "averaging": "swa", "augmentation": "cutout"},
    ],
)
def test_two_processes_do_as_one_does_with_all_of_it(tmp_path, settings):
    teacher = taught()
    values = {**teacher.inputs(), "teacher": teacher.model, "factory": small_factory(4, 8)}
    values |= {"epochs": 2, "batch_size": 101, "learning_rate": 0.01, **settings}
    one, two = (curve(Distill.parse(values | {"devices": n}), tmp_path / n) for n in ("1", "2"))
    assert [e.loss for e in two] == pytest.approx([e.loss for e in one], rel=1e-3)
    assert [e.selection_loss for e in two] == pytest.approx(
        [e.selection_loss for e in one], rel=1e-3
    )


@two_cores
def test_a_student_of_two_processes_learns_as_one_of_one_does(tmp_path):
    teacher = taught()
    values = {**teacher.inputs(), "teacher": teacher.model, "factory": small_factory(4, 8)}
    values |= {"epochs": 4, "batch_size": 101, "learning_rate": 0.01}
    one, two = (curve(Distill.parse(values | {"devices": n}), tmp_path / n) for n in ("1", "2"))
    assert_same_curve(one, two)
