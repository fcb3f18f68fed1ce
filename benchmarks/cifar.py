"""What benchmarks on CIFAR-10 share: the data, the published ResNets, and jobs done once."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from slimline.check_data.spec import CheckData
from slimline.contract import LocalStore, Model, execute
from slimline.data.preprocess import Normalize, Preprocessing, Scale, ToNCHW
from slimline.models.build import build, load_weights, read_weights, save_torch_model
from slimline.models.info import Factory, ModelInfo

if TYPE_CHECKING:
    from slimline.contract import Component
    from slimline.contract.job import Outcome

BENCH = Path(__file__).parent.parent / "build" / "bench"
DATA = Path(__file__).parent.parent / "data"
DATA_HELP = (
    "Directory with cifar10/{train-1..5,test}.parquet (columns img.bytes and label) and "
    "models/cifar10_resnet{20,56}.safetensors."
)
LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PREPROCESSING = Preprocessing(
    shape=(32, 32, 3),
    steps=(Scale(), Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)), ToNCHW()),
)


def done(job: Component, place: Path) -> Outcome:
    """Do a job, or find what an equal one made; only code, data and parameters make it equal."""
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="work-", dir=place) as work:
        store = LocalStore(place / "store")
        return execute(job, store, work_dir=Path(work) / "job", image=f"torch-{torch.__version__}")


def splits(
    place: Path, data: Path, limit: int | None = None, selection_fraction: float = 0.1
) -> Outcome:
    """Train, selection and test.

    Args:
        place: where stores of the benchmark lie.
        data: see `DATA_HELP`.
        limit: examples a split, to try a benchmark out.
        selection_fraction: of the published training set.
    """
    source = {
        "kind": "parquet",
        "path": str(data / "cifar10"),
        "train": [f"train-{i}.parquet" for i in range(1, 6)],
        "test": ["test.parquet"],
        "image_column": "img",
        "label_column": "label",
        "labels": LABELS,
    }
    values: dict[str, Any] = {"source": source, "name": "cifar10"}
    values["selection_fraction"] = selection_fraction
    if limit is not None:
        values |= {"limit": limit, "expectations": {"max_class_ratio": 5}}
    return done(CheckData.parse(values), place)


def published(place: Path, data: Path, depth: int) -> Model:
    """The published ResNet of that depth (20 or 56) as a torch model artifact."""
    target = place / f"resnet{depth}"
    target.mkdir(parents=True, exist_ok=True)
    factory = Factory(call="slimline.models.zoo:cifar_resnet", arguments={"depth": depth})
    weights = data / "models" / f"cifar10_resnet{depth}.safetensors"
    (target / "model.safetensors").write_bytes(weights.read_bytes())
    module = build(factory)
    load_weights(module, read_weights(target), f"ResNet-{depth}")
    info = ModelInfo(
        name="cifar10",
        stage=f"resnet{depth}",
        format="torch",
        labels=LABELS,
        preprocessing=PREPROCESSING,
        factory=factory,
    )
    save_torch_model(module, info, target)
    return Model.at(target)
