import numpy as np
import pytest
import torch
from support.splits import LABELS, write_split

from slimline.contract import BadData, BadParameters
from slimline.data.dataset import load_examples
from slimline.models.augment import Draws, augmented, draw, draw_view, image_size
from slimline.models.batches import Batches
from slimline.models.info import ModelInfo
from slimline.models.settings import FitSettings
from slimline.models.tensors import Batchable, make_preprocessing, to_tensors


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


def changed(x, how, seed=0):
    split = Batchable(x, torch.zeros(len(x), dtype=torch.int64))
    torch.manual_seed(seed)
    return augmented(split, torch.arange(len(x)), how, draw(len(x), *image_size(split)))


def test_a_batch_is_bit_for_bit_what_the_preprocessing_makes_of_it(examples):
    info = model(examples)
    split, rows = to_tensors(examples, info), torch.tensor([3, 40, 7])
    expected = info.preprocessing.apply(examples.x[rows.numpy()])
    assert np.array_equal(split.inputs(rows).numpy(), expected)
    assert split.raw.dtype == torch.uint8
    assert split.inputs(rows).is_contiguous(memory_format=torch.channels_last)


def test_rows_of_floats_are_not_changed_where_they_are_kept(tmp_path):
    x = np.random.default_rng(0).normal(3, 1, (20, 2)).astype(np.float32)
    write_split(tmp_path / "train", "train", x, np.zeros(20, np.int64))
    examples = load_examples(tmp_path / "train")
    split = to_tensors(examples, model(examples))
    assert torch.equal(split.x, split.x)
    assert np.array_equal(split.raw.numpy(), x)


def test_the_pieces_of_a_split_are_the_split(examples):
    split = to_tensors(examples, model(examples))
    assert torch.equal(torch.cat([p.x for p in split.pieces(7)]), split.x)
    thirds = [torch.cat([p.y for p in split.pieces(7, i, 3)]) for i in range(3)]
    assert all(torch.equal(third, split.y[i::3]) for i, third in enumerate(thirds))


def test_shifting_moves_every_image_by_at_most_an_eighth_and_repeats_its_border():
    x = torch.zeros(64, 1, 16, 16)
    x[:, :, 8, 8] = 1
    out = changed(x, "shift")
    rows, columns = out[:, 0].flatten(1).argmax(1) // 16, out[:, 0].flatten(1).argmax(1) % 16
    assert out.sum() == 64
    assert {int(r) - 8 for r in rows} == {int(c) - 8 for c in columns} == {-2, -1, 0, 1, 2}


def test_flip_crop_mirrors_about_half_of_the_images():
    out = changed(torch.arange(8.0).expand(200, 1, 8, 8).contiguous(), "flip_crop")
    mirrored = (out[:, 0, 0, 0] > out[:, 0, 0, -1]).sum()
    assert 60 < mirrored < 140


def test_cutout_blanks_a_square_of_half_the_size_at_most():
    out = changed(torch.ones(100, 2, 16, 16), "cutout")
    blank = (out == 0).sum((1, 2, 3))
    assert blank.min() > 0
    assert blank.max() == 2 * 7 * 7
    assert torch.equal(out[:, 0], out[:, 1])


def test_bytes_and_prepared_images_are_changed_alike(examples):
    split = to_tensors(examples, model(examples))
    rows, draws = torch.tensor([4, 9]), draw_view(split, 3, 1).of(torch.tensor([4, 9]))
    plain = Batchable(split.x, split.y)
    assert torch.equal(
        augmented(split, rows, "flip_crop", draws), augmented(plain, rows, "flip_crop", draws)
    )


def test_a_view_of_an_image_depends_on_seed_image_and_view_alone(examples):
    split = to_tensors(examples, model(examples))
    few, all_of_it = draw_view(split.some(slice(0, 20)), 5, 2), draw_view(split, 5, 2)
    for name in Draws.__dataclass_fields__:
        assert torch.equal(getattr(few, name), getattr(all_of_it, name)[:20]), name
    other_view, other_seed = draw_view(split, 5, 3), draw_view(split, 6, 2)
    assert not torch.equal(other_view.down, all_of_it.down)
    assert not torch.equal(other_seed.down, all_of_it.down)


def test_epochs_take_the_views_of_an_image_in_turn(examples):
    split = to_tensors(examples, model(examples))
    settings = FitSettings(augmentation="shift", augmentation_views=3)
    batches, rows = Batches(split, settings, 10), torch.arange(50)
    made = [batches.make(epoch, rows, slice(None)) for epoch in range(4)]
    assert torch.equal(made[0].x, made[3].x)
    assert not torch.equal(made[0].x, made[1].x)
    assert torch.equal(torch.stack([b.views for b in made[:3]]).sort(0).values[:, 0], rows[:3])


def test_mixup_blends_inputs_and_labels_by_one_share(examples):
    split = to_tensors(examples, model(examples))
    torch.manual_seed(0)
    batch = Batches(split, FitSettings(mixup=1.0), 10).make(0, torch.arange(50), slice(None))
    assert torch.allclose(batch.y.sum(1), torch.ones(50))
    share = batch.y.max(1).values.min()
    own = batch.y[torch.arange(50), split.y]
    assert bool(((own - share).abs() < 1e-6).sum() > 25) or bool(
        ((own - (1 - share)).abs() < 1e-6).sum() > 25
    )
    assert not torch.allclose(batch.x, split.x)


def test_rows_cannot_be_shifted():
    with pytest.raises(BadParameters, match="use none"):
        changed(torch.zeros(4, 3), "shift")


def test_mapped_examples_train_as_those_in_memory_do(examples, tmp_path):
    mapped = load_examples(tmp_path / "train", mapped=True)
    assert isinstance(mapped.x, np.memmap)
    assert make_preprocessing(mapped, normalize=True) == make_preprocessing(
        examples, normalize=True
    )
    assert torch.equal(to_tensors(mapped, model(mapped)).x, to_tensors(examples, model(examples)).x)
