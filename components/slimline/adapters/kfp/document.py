"""The two YAML documents: the pipeline, and what Kubernetes adds to it."""

from __future__ import annotations

from typing import Any

import yaml

Fields = dict[str, Any]

_SDK = "kfp-2.17.0"


class _NoAliases(yaml.SafeDumper):
    """Kubeflow reads no YAML anchors; root and component say the same things twice."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


def to_yaml(
    name: str,
    description: str,
    *,
    components: Fields,
    executors: Fields,
    platform: Fields,
    root: Fields,
) -> str:
    """The YAML of a pipeline.

    Args:
        name: the pipeline's, lower case with dashes.
        description: one line.
        components: by `comp-<name>`.
        executors: by `exec-<name>`.
        platform: what Kubernetes adds to executors.
        root: the DAG and its inputs.
    """
    pipeline = {
        "components": components,
        "deploymentSpec": {"executors": executors},
        "pipelineInfo": {"name": name, "description": description},
        "root": root,
        "schemaVersion": "2.1.0",
        "sdkVersion": _SDK,
    }
    kubernetes = {"deploymentSpec": {"executors": platform}}
    documents = [pipeline, {"platforms": {"kubernetes": kubernetes}}]
    return yaml.dump_all(documents, Dumper=_NoAliases, sort_keys=True, width=100)


def definitions(artifacts: Fields, parameters: Fields) -> Fields:
    """Inputs or outputs, without the kind that there is none of."""
    both = {"artifacts": artifacts, "parameters": parameters}
    return {kind: fields for kind, fields in both.items() if fields}
