"""Real digits, and a small network trained on them: made once, when the first test asks."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

from slimline.contract import Dataset, Model
from slimline.data.dataset import DatasetInfo, Examples, save_examples
from slimline.data.preprocess import Preprocessing, Scale, ToNCHW
from slimline.export.spec import Export
from slimline.models.build import save_torch_model
from slimline.models.info import Factory, ModelInfo
from slimline.models.zoo import small_cnn
from slimline.quantize.spec import Quantize

LABELS = tuple("0123456789")
PREPROCESSING = Preprocessing(shape=(8, 8, 1), steps=(Scale(), ToNCHW()))
WIDTHS = [32, 64]


@dataclass(frozen=True)
class Digits:
    """The splits, a trained torch model, the same in ONNX and in int8."""

    train: Dataset
    selection: Dataset
    test: Dataset
    torch: Model
    float_onnx: Model
    int8: Model


@pytest.fixture(scope="session")
def digits() -> Digits:
    return _digits()


def dataset(
    root: Path, split: str, x: np.ndarray, y: np.ndarray, labels: tuple[str, ...] = LABELS
) -> Dataset:
    """A dataset artifact in `root`."""
    root.mkdir(parents=True)
    info = DatasetInfo(
        name="digits",
        split=split,
        shape=x.shape[1:],
        dtype=str(x.dtype),
        labels=labels,
        count=len(x),
        source_digest="0" * 64,
    )
    save_examples(Examples(info, x, y.astype(np.int64), np.arange(len(x))), root)
    return Dataset.at(root)


def raw_digits() -> tuple[np.ndarray, np.ndarray]:
    """The 1797 images of scikit-learn as uint8 (n, 8, 8, 1), and their classes."""
    bunch = load_digits()
    return (bunch.images * 15).astype(np.uint8)[..., None], bunch.target


def torch_model(root: Path, module, call: str, arguments: dict, **changes) -> Model:
    """A torch model artifact in `root`."""
    root.mkdir(parents=True)
    info = ModelInfo(
        name="digits",
        stage="teacher",
        format="torch",
        labels=LABELS,
        preprocessing=PREPROCESSING,
        factory=Factory(call=call, arguments=arguments),
        history=("trained on 1000 digits",),
    ).model_copy(update=changes)
    save_torch_model(module, info, root)
    return Model.at(root)


@cache
def _digits() -> Digits:
    root = Path(tempfile.mkdtemp(prefix="slimline-digits-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    x, y = raw_digits()
    train = dataset(root / "train", "train", x[:1000], y[:1000])
    call = "slimline.models.zoo:small_cnn"
    trained = torch_model(root / "torch", _train(x[:1000], y[:1000]), call, {"widths": WIDTHS})
    exported = Export(model=trained).run(work_dir=root / "export")["exported"]
    quantize = Quantize(model=exported, calibration=train)
    return Digits(
        train=train,
        selection=dataset(root / "selection", "selection", x[1000:1200], y[1000:1200]),
        test=dataset(root / "test", "test", x[1200:], y[1200:]),
        torch=trained,
        float_onnx=exported,
        int8=quantize.run(work_dir=root / "quantize")["quantized"],
    )


def _train(x: np.ndarray, y: np.ndarray):
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a busy machine makes two threads wait for one another
    module = small_cnn(WIDTHS)
    inputs, classes = torch.from_numpy(PREPROCESSING.apply(x)), torch.from_numpy(y)
    optimiser = torch.optim.AdamW(module.parameters(), 5e-3)
    epochs, batch = 10, 50
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 5e-3, total_steps=epochs * len(x) // batch
    )
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(batch):
            optimiser.zero_grad()
            cross_entropy(module(inputs[rows]), classes[rows]).backward()
            optimiser.step()
            schedule.step()
    torch.set_num_threads(threads)
    return module.eval()
