import numpy as np
import pytest
import torch
from support.splits import LABELS, write_split

from slimline.contract import BadData, BadParameters
from slimline.data.dataset import load_examples
from slimline.models.augment import augment
from slimline.models.info import ModelInfo
from slimline.models.tensors import make_preprocessing, to_tensors


@pytest.fixture
def examples(tmp_path):
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (50, 8, 8, 2), dtype=np.uint8)
    x[..., 1] //= 4
    write_split(tmp_path / "train", "train", x, random.integers(0, 10, 50))
    return load_examples(tmp_path / "train")


def model(examples, **changes):
    made = ModelInfo(
        name="net",
        stage="teacher",
        format="torch",
        labels=LABELS,
        preprocessing=make_preprocessing(examples, normalize=True),
    )
    return made.model_copy(update=changes)


def test_each_channel_comes_out_with_mean_0_and_deviation_1(examples):
    x = to_tensors(examples, model(examples)).x
    assert x.shape == (50, 2, 8, 8)
    assert x.mean((0, 2, 3)).abs().max() < 1e-4
    assert (x.std((0, 2, 3)) - 1).abs().max() < 1e-3


def test_without_normalisation_bytes_become_0_to_1(examples):
    plain = make_preprocessing(examples, normalize=False)
    x = to_tensors(examples, model(examples, preprocessing=plain)).x
    assert x.min() >= 0
    assert x.max() <= 1


def test_a_constant_channel_does_not_divide_by_zero(tmp_path):
    x = np.zeros((4, 8, 8, 1), np.uint8)
    write_split(tmp_path / "train", "train", x, np.zeros(4, np.int64))
    examples = load_examples(tmp_path / "train")
    assert torch.isfinite(to_tensors(examples, model(examples)).x).all()


def test_rows_are_normalised_by_feature(tmp_path):
    x = np.random.default_rng(0).normal(3, [1, 5], (100, 2)).astype(np.float32)
    write_split(tmp_path / "train", "train", x, np.zeros(100, np.int64))
    examples = load_examples(tmp_path / "train")
    out = to_tensors(examples, model(examples)).x
    assert out.shape == (100, 2)
    assert (out.std(0) - 1).abs().max() < 0.02


def test_data_of_another_task_is_refused(examples):
    with pytest.raises(BadData, match="use data and model of one task"):
        to_tensors(examples, model(examples, labels=("cat", "dog")))


def test_shifting_moves_every_image_by_at_most_an_eighth_and_repeats_its_border():
    x = torch.zeros(64, 1, 16, 16)
    x[:, :, 8, 8] = 1
    torch.manual_seed(0)
    out = augment(x, "shift", len(x), slice(None))
    rows, columns = out[:, 0].flatten(1).argmax(1) // 16, out[:, 0].flatten(1).argmax(1) % 16
    assert out.sum() == 64
    assert {int(r) - 8 for r in rows} == {int(c) - 8 for c in columns} == {-2, -1, 0, 1, 2}


def test_flip_crop_mirrors_about_half_of_the_images():
    x = torch.arange(8.0).expand(200, 1, 8, 8).contiguous()
    torch.manual_seed(0)
    out = augment(x, "flip_crop", len(x), slice(None))
    mirrored = (out[:, 0, 0, 0] > out[:, 0, 0, -1]).sum()
    assert 60 < mirrored < 140


def test_rows_cannot_be_shifted():
    with pytest.raises(BadParameters, match="use none"):
        augment(torch.zeros(4, 3), "shift", 4, slice(None))
