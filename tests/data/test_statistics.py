"""Mean and standard deviation of a training split, against a plain computation."""

import numpy as np
import pytest
from support.sources import pictures

from slimline.data import statistics
from slimline.data.dataset import DatasetInfo, Examples
from slimline.data.preprocess import Normalize, Preprocessing, Scale
from slimline.data.statistics import channel_statistics


def examples(x):
    dtype = "uint8" if x.dtype == np.uint8 else "float32"
    info = DatasetInfo(name="d", split="train", shape=x.shape[1:], dtype=dtype, labels=("a",),
                       count=len(x), source_digest="0" * 64)  # fmt: skip
    return Examples(info, x, np.zeros(len(x), np.int64), np.arange(len(x)))


def test_bytes_are_measured_on_the_scale_zero_to_one(monkeypatch):
    monkeypatch.setattr(statistics, "_CHUNK", 17)
    x = pictures(30)
    mean, std = channel_statistics(examples(x))
    assert mean == pytest.approx((x / 255).mean(axis=(0, 1, 2)), abs=1e-12)
    assert std == pytest.approx((x / 255).std(axis=(0, 1, 2)), abs=1e-12)


def test_normalising_by_them_gives_mean_zero_and_deviation_one():
    x = pictures(30)
    mean, std = channel_statistics(examples(x))
    steps = (Scale(), Normalize(mean=mean, std=std))
    made = Preprocessing(shape=x.shape[1:], steps=steps).apply(x)
    assert made.mean(axis=(0, 1, 2)) == pytest.approx(0, abs=1e-5)
    assert made.std(axis=(0, 1, 2)) == pytest.approx(1, abs=1e-5)


def test_a_feature_that_never_changes_can_be_divided_by():
    x = np.array([[1.0, 5.0], [3.0, 5.0]], np.float32)
    assert channel_statistics(examples(x)) == ((2.0, 5.0), (1.0, 1.0))
