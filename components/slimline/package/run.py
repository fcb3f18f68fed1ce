"""Check the verdict, lay the tree, sign it, and verify it as any receiver would."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import numpy as np

from slimline.contract import BadData, get_logger, secret
from slimline.data.dataset import load_examples
from slimline.measure.evaluation import load_evaluation
from slimline.measure.runtime import logits, session
from slimline.models.info import load_model_info
from slimline.package.bom import write_bom
from slimline.package.card import write_card
from slimline.package.provenance import write_provenance
from slimline.trust.golden import save_golden
from slimline.trust.keys import VARIABLE, TrustedKeys, load_trusted, public_of
from slimline.trust.manifest import Golden, Requires
from slimline.trust.package import seal_package, verify_package
from slimline.trust.verdict import FILE, require_passed

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from slimline.contract import Numbers
    from slimline.data.dataset import Examples
    from slimline.measure.evaluation import EvaluationRecord
    from slimline.models.info import ModelInfo
    from slimline.package.spec import BuildPackage

log = get_logger(__name__)


def run(job: BuildPackage) -> Numbers:
    """Build the package; nothing is built for a model that the verdict does not let pass."""
    private_pem = secret("signing")
    trusted = load_trusted() if os.environ.get(VARIABLE) else TrustedKeys.of(public_of(private_pem))
    envelope = (job.verdict.path / FILE).read_bytes()
    judged = require_passed(envelope, job.model.digest, trusted)

    root = job.package.path
    info = _onnx_info(job.model.path)
    record = load_evaluation(job.evaluation.path)
    test = _judged_data(job, record)
    chosen = golden_examples(test.y, test.id, job.golden_count)

    shutil.copytree(job.model.path, root / "model")
    shutil.copyfile(job.evaluation.path / "evaluation.json", root / "evaluation.json")
    shutil.copyfile(_page(job.report.path), root / "report.html")
    (root / FILE).write_bytes(envelope)
    _write_golden(root, info, test, chosen)
    (root / "card.md").write_text(write_card(job, info, test.info, record, judged))
    (root / "sbom.cdx.json").write_text(write_bom(job, root, info, test.info, record))
    (root / "provenance.json").write_text(write_provenance(job, root, info))

    made = seal_package(
        root,
        name=job.name,
        version=job.version,
        security_version=job.security_version,
        requires=_requires(job, info, record.stages[-1].memory_mb),
        golden=Golden(count=len(chosen), tolerance=job.golden_tolerance),
        private_pem=private_pem,
    )
    verify_package(root, trusted)
    log.info("built %s %s from model %s", made.name, made.version, made.model_digest[:12])
    return {
        "name": made.name,
        "version": made.version,
        "security_version": made.security_version,
        "model_digest": made.model_digest,
        "files": len(made.files),
        "bytes": sum(file.size for file in made.files),
    }


def golden_examples(
    y: NDArray[np.int64], identity: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """Choose examples that take turns through the classes; the same ones for the same data.

    Returns:
        Indexes, shape (count,).

    Raises:
        BadData: when there are fewer examples.
    """
    if len(y) < count:
        msg = f"the test split has {len(y)} examples, golden_count is {count}: lower it"
        raise BadData(msg)
    ordered = np.lexsort((identity, y))
    turn = np.empty(len(y), np.int64)
    for label in np.unique(y):
        mine = ordered[y[ordered] == label]
        turn[mine] = np.arange(len(mine))
    return np.lexsort((identity, y, turn))[:count]


def _judged_data(job: BuildPackage, record: EvaluationRecord) -> Examples:
    test = load_examples(job.test.path, split="test")
    if job.test.digest != record.dataset_digest:
        measured, given = record.dataset_digest[:12], job.test.digest[:12]
        msg = f"the evaluation used test split {measured}, this one is {given}: give the same"
        raise BadData(msg)
    return test


def _onnx_info(path: Path) -> ModelInfo:
    info = load_model_info(path)
    if info.format != "onnx":
        msg = f"model {info.name} is of format {info.format}: export it to ONNX before packaging"
        raise BadData(msg)
    return info


def _requires(job: BuildPackage, info: ModelInfo, memory_mb: float) -> Requires:
    if info.opset is None:
        msg = f"model {info.name}: model.json names no opset: export it again"
        raise BadData(msg)
    return Requires(
        onnxruntime=job.onnxruntime,
        opset=info.opset,
        arch=job.arch,
        memory_mb=memory_mb,
        preprocessing=info.preprocessing.version,
    )


def _page(report: Path) -> Path:
    page = report / "index.html"
    if not page.is_file():
        msg = f"report {report.name} holds no index.html: give the report of validate"
        raise BadData(msg)
    return page


def _write_golden(root: Path, info: ModelInfo, test: Examples, chosen: NDArray[np.int64]) -> None:
    x = test.x[chosen]
    expected = logits(session(root / "model" / "model.onnx"), info.preprocessing.apply(x))
    save_golden(root, x, expected)
