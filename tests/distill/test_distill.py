import numpy as np
import pytest
import torch
from support.curves import assert_same_curve, curve, two_cores
from support.splits import small_factory, write_digits, write_split
from support.teacher import taught

from slimline.contract import BadData
from slimline.data.dataset import load_examples
from slimline.distill.spec import Distill
from slimline.models.build import load_torch_model
from slimline.models.fit import accuracy
from slimline.models.info import load_model_info, save_model_info
from slimline.models.tensors import to_tensors


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


@two_cores
def test_a_student_of_two_processes_learns_as_one_of_one_does(tmp_path):
    teacher = taught()
    values = {**teacher.inputs(), "teacher": teacher.model, "factory": small_factory(4, 8)}
    values |= {"epochs": 4, "batch_size": 101, "learning_rate": 0.01}
    one, two = (curve(Distill.parse(values | {"devices": n}), tmp_path / n) for n in ("1", "2"))
    assert_same_curve(one, two)
