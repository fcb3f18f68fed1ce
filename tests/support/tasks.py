"""Test splits and ONNX models of other tasks than classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import helper, numpy_helper

from slimline.contract import Dataset, Model
from slimline.data.dataset import TARGET_TYPES, DatasetInfo, Examples, save_examples
from slimline.data.preprocess import Preprocessing
from slimline.models.info import ModelInfo, save_model_info
from support.onnx_files import graph_model

if TYPE_CHECKING:
    from pathlib import Path


def split(root: Path, task: str, x, y, labels, **columns) -> Dataset:
    """A test split in `root`."""
    root.mkdir(parents=True)
    y = np.asarray(y).astype(TARGET_TYPES[task])
    info = DatasetInfo(
        name=task,
        split="test",
        shape=x.shape[1:],
        dtype=str(x.dtype),
        labels=labels,
        count=len(x),
        source_digest="0" * 64,
        task=task,
        target_shape=y.shape[1:],
        columns=tuple(columns),
    )
    save_examples(Examples(info, x, y, np.arange(len(x)), columns), root)
    return Dataset.at(root)


def linear(root: Path, weights: np.ndarray, labels=(), shape=None, stage="teacher") -> Model:
    """`input @ weights`, its answers reshaped to (batch, *shape) if that is given."""
    root.mkdir(parents=True)
    constants = {"w": weights.astype(np.float32)}
    nodes = [helper.make_node("MatMul", ["input", "w"], ["flat" if shape else "logits"])]
    if shape:
        constants["shape"] = np.array([-1, *shape], np.int64)
        nodes.append(helper.make_node("Reshape", ["flat", "shape"], ["logits"]))
    model = graph_model(
        nodes,
        [numpy_helper.from_array(v, n) for n, v in constants.items()],
        input_shape=("batch", len(weights)),
        output_shape=("batch", *(shape or weights.shape[1:])),
    )
    (root / "model.onnx").write_bytes(model.SerializeToString())
    info = ModelInfo(
        name="m",
        stage=stage,
        format="onnx",
        labels=labels,
        preprocessing=Preprocessing(shape=(len(weights),), dtype="float32"),
        history=("written by hand",),
    )
    save_model_info(info, root)
    return Model.at(root)
