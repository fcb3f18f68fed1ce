"""The bill of materials: CycloneDX 1.6 with the model card in it.

The library's `modelCard` is not written yet, so the document is made here and held against the
library's strict validator of the 1.6 schema.
"""

from __future__ import annotations

import json
import uuid
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from slimline.contract import BadData, BadParameters, sha256_file

if TYPE_CHECKING:
    from pathlib import Path

    from slimline.data.dataset import DatasetInfo
    from slimline.measure.evaluation import EvaluationRecord, Interval
    from slimline.models.info import ModelInfo
    from slimline.package.spec import BuildPackage

_RUNTIME = ("onnxruntime", "numpy")
"""What must be there to run the model."""


def write_bom(
    job: BuildPackage, root: Path, info: ModelInfo, data: DatasetInfo, record: EvaluationRecord
) -> str:
    """The document as JSON text; equal jobs give equal text.

    Raises:
        BadParameters: when the licence is no SPDX identifier.
        BadData: when the document is not valid, with the first error.
    """
    libraries = [_library(name) for name in _RUNTIME]
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'sha256:{job.model.digest}')}",
        "version": 1,
        "metadata": {"component": _model(job, root, info, record)},
        "components": [_dataset(data, record), *libraries],
        "dependencies": [
            {"ref": "model", "dependsOn": ["test-data", *(part["bom-ref"] for part in libraries)]}
        ],
    }
    text = json.dumps(document, indent=1)
    _validate(text)
    return text


def _model(
    job: BuildPackage, root: Path, info: ModelInfo, record: EvaluationRecord
) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": job.name,
        "version": job.version or job.model.digest[:12],
        "description": job.description,
        "hashes": [{"alg": "SHA-256", "content": sha256_file(root / "model" / "model.onnx")}],
        "modelCard": _model_card(job, info, record),
    }
    if job.licence:
        made["licenses"] = [{"license": {"id": _spdx(job.licence)}}]
    if job.owner:
        made["authors"] = [{"name": job.owner}]
    return made


def _model_card(job: BuildPackage, info: ModelInfo, record: EvaluationRecord) -> dict[str, Any]:
    candidate, name = record.stages[-1], record.non_inferiority.metric
    by_class = "accuracy" if record.task == "classification" else name
    metrics = [
        _metric(name, candidate.measured.value, interval=candidate.measured),
        _metric("latency ms", candidate.latency_ms.value, interval=candidate.latency_ms),
        *(_metric(by_class, v, slice=f"class {n}") for n, v in candidate.per_class.items()),
    ]
    card: dict[str, Any] = {
        "bom-ref": "model-card",
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": record.task,
            "datasets": [{"ref": "test-data"}],
            "inputs": [{"format": info.preprocessing.dtype}],
            "outputs": [
                {"format": "float32 logits" if record.task == "classification" else "float32"}
            ],
        },
        "quantitativeAnalysis": {"performanceMetrics": metrics},
    }
    if job.limits:
        card["considerations"] = {"technicalLimitations": [job.limits]}
    return card


def _metric(
    kind: str,
    value: float,
    *,
    interval: Interval | None = None,
    slice: str = "",  # noqa: A002 - the field's name in the schema
) -> dict[str, Any]:
    metric: dict[str, Any] = {"type": kind, "value": f"{value:.6g}"}
    if slice:
        metric["slice"] = slice
    if interval:
        bounds = {"lowerBound": f"{interval.low:.6g}", "upperBound": f"{interval.high:.6g}"}
        metric["confidenceInterval"] = bounds
    return metric


def _dataset(data: DatasetInfo, record: EvaluationRecord) -> dict[str, Any]:
    return {
        "type": "data",
        "bom-ref": "test-data",
        "name": f"{data.name} {data.split}",
        "version": record.dataset_digest[:12],
        "data": [
            {"type": "dataset", "name": data.name, "description": f"source {data.source_digest}"}
        ],
    }


def _library(name: str) -> dict[str, Any]:
    purl = f"pkg:pypi/{name}@{version(name)}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version(name),
        "purl": purl,
    }


def _spdx(licence: str) -> str:
    from cyclonedx.spdx import is_supported_id

    if not is_supported_id(licence):
        msg = f"licence {licence!r} is no SPDX identifier: write it as in Apache-2.0 or MIT"
        raise BadParameters(msg)
    return licence


def _validate(text: str) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if error is not None:
        msg = f"the bill of materials is no valid CycloneDX 1.6: {str(error)[:300]}"
        raise BadData(msg)
