"""Olive 0.13: its search (TPE) over onnxruntime's static quantization, by its own evaluator.

Accuracy is measured on the selection split and may fall by half a point; among those the lowest
latency at batch 1 on one thread wins.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

os.environ["OLIVE_DISABLE_TELEMETRY"] = "1"

import torch
from olive.common.config_utils import CaseInsensitiveEnum
from olive.data.registry import Registry
from olive.workflows import run
from peer_common import INPUTS, QUICK, examples, points
from torch.utils.data import Dataset

TRIALS = 3 if QUICK else 16
SPACE = {
    "quant_format": ["QOperator", "QDQ"],
    "activation_type": ["uint8", "int8"],
    "precision": "int8",
    "per_channel": [True, False],
    "calibrate_method": ["MinMax", "Percentile"],
    "reduce_range": False,
    "quant_preprocess": True,
}


class Images(Dataset[Any]):
    """A split as Olive takes it: inputs by name, and the class."""

    def __init__(self, split: str) -> None:
        self.x, self.y = examples(split)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, row: int) -> tuple[dict[str, torch.Tensor], int]:
        return {"input": torch.from_numpy(self.x[row])}, int(self.y[row])


def benchmark_images(split: str, **_: Any) -> Images:
    """What a data config of this script loads."""
    return Images(split)


def benchmark_class(answers: torch.Tensor, **_: Any) -> torch.Tensor:
    """The class of an answer."""
    return answers.argmax(-1)


def search(target: Path) -> str:
    """Run the workflow and keep the model that it ranks first."""
    _mend()
    with tempfile.TemporaryDirectory() as work:
        found = run(_workflow(Path(work)))
        best = found.get_best_candidate()
        shutil.copyfile(best.model_path, target)
        kept = best.metrics_value
        told = ", ".join(f"{name} {metric['value']:.4g}" for name, metric in kept.items())
        return f"{TRIALS} trials; by its own measure {told}"


def _mend() -> None:
    """Let 0.13.0 run at all: it asks enumerations for None, and fails in `None.lower()`."""
    found = CaseInsensitiveEnum._missing_.__func__

    def missing(cls: type, value: object) -> object:
        return None if value is None else found(cls, value)

    CaseInsensitiveEnum._missing_ = classmethod(missing)


def _workflow(work: Path) -> dict[str, Any]:
    return {
        "input_model": {"type": "OnnxModel", "model_path": str(INPUTS / "float.onnx")},
        "systems": {
            "here": {
                "type": "LocalSystem",
                "accelerators": [
                    {"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}
                ],
            }
        },
        "data_configs": [
            _data("calibration", "calibration", 32),
            _data("selection", "selection", 250),
            _data("one", "calibration", 1),
        ],
        "evaluators": {"both": {"metrics": [_latency(), _accuracy()]}},
        "passes": {
            "quantization": {
                "type": "OnnxStaticQuantization",
                "data_config": "calibration",
                **SPACE,
            }
        },
        "search_strategy": {
            "execution_order": "joint",
            "sampler": "tpe",
            "sampler_config": {"max_samples": TRIALS, "seed": 0},
            "max_iter": TRIALS,
        },
        "evaluator": "both",
        "host": "here",
        "target": "here",
        "output_dir": str(work / "out"),
        "cache_dir": str(work / "cache"),
    }


def _data(name: str, split: str, batch: int) -> dict[str, Any]:
    return {
        "name": name,
        "type": "DataContainer",
        "load_dataset_config": {"type": "benchmark_images", "params": {"split": split}},
        "post_process_data_config": {"type": "benchmark_class"},
        "dataloader_config": {"params": {"batch_size": batch}},
    }


def _latency() -> dict[str, Any]:
    one_thread = {"session_options": {"intra_op_num_threads": 1}}
    return {
        "name": "latency",
        "type": "latency",
        "data_config": "one",
        "sub_types": [{"name": "p50", "priority": 1}],
        "user_config": {"inference_settings": {"onnx": one_thread}},
    }


def _accuracy() -> dict[str, Any]:
    return {
        "name": "accuracy",
        "type": "accuracy",
        "data_config": "selection",
        "sub_types": [
            {
                "name": "accuracy_score",
                "priority": 2,
                "metric_config": {"task": "multiclass", "num_classes": 10},
                "goal": {"type": "max-degradation", "value": 0.005},
            }
        ],
    }


Registry.register_dataset()(benchmark_images)
Registry.register_post_process()(benchmark_class)

if __name__ == "__main__":
    points({"search": search})
