"""Provenance: what was built from what, as SLSA v1 in an in-toto statement.

It is signed with the tree that it lies in. What changes between equal runs comes from the operator
in SLIMLINE_PROVENANCE, a JSON object such as {"dag": "digits", "run": "...", "commit": "..."}.
"""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from slimline.contract import BadParameters, sha256_file
from slimline.contract.code import code_digest
from slimline.trust.dsse import statement

if TYPE_CHECKING:
    from pathlib import Path

    from slimline.models.info import ModelInfo
    from slimline.package.spec import BuildPackage

VARIABLE = "SLIMLINE_PROVENANCE"
_TOOLS = ("slimline", "onnxruntime", "numpy", "model-signing", "cyclonedx-python-lib")


def write_provenance(job: BuildPackage, root: Path, info: ModelInfo) -> str:
    """The statement as JSON text.

    Raises:
        BadParameters: when SLIMLINE_PROVENANCE is no JSON object.
    """
    facts = _facts()
    inputs = job.input_artifacts().items()
    predicate = {
        "buildDefinition": {
            "buildType": "https://slimline.dev/package/v1",
            "externalParameters": job.parameter_values(),
            "internalParameters": {"history": list(info.history), "facts": facts},
            "resolvedDependencies": [
                {"name": name, "digest": {"sha256": given.digest}}
                for name, artifacts in inputs
                for given in artifacts
            ],
        },
        "runDetails": {
            "builder": {
                "id": "https://slimline.dev/components/package",
                "version": {name: version(name) for name in _TOOLS}
                | {"python": platform.python_version(), "code": code_digest(type(job))},
            },
            "metadata": {"invocationId": str(facts.get("run", ""))},
        },
    }
    subjects = {
        "model": job.model.digest,
        "model/model.onnx": sha256_file(root / "model" / "model.onnx"),
    }
    return json.dumps(statement(subjects, "https://slsa.dev/provenance/v1", predicate), indent=1)


def _facts() -> dict[str, Any]:
    text = os.environ.get(VARIABLE, "{}")
    try:
        facts = json.loads(text)
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        msg = f"{VARIABLE} is {text[:80]!r}: it must be a JSON object, such as " + '{"run": "1"}'
        raise BadParameters(msg)
    return facts
