"""A component as Kubeflow Pipelines v2 YAML, without kfp, which Airflow leaves no room for.

The format is the pipeline IR that `kfp.components.load_component_from_text` reads (schema 2.1.0,
https://github.com/kubeflow/pipelines/tree/master/api): a component, its container, and a root of
one task, so that the file runs as a pipeline of its own too.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml

from slimline.adapters.argv import flag, parameter_schemas
from slimline.contract.artifact import Dataset, Model

if TYPE_CHECKING:
    from slimline.contract.component import Component, PortInfo

Fields = dict[str, Any]

_SDK = "kfp-2.17.0"
_TYPES = {
    "integer": "NUMBER_INTEGER",
    "number": "NUMBER_DOUBLE",
    "string": "STRING",
    "boolean": "BOOLEAN",
    "array": "LIST",
    "object": "STRUCT",
}


def component_yaml(component: type[Component], image: str = "") -> str:
    """The YAML of one component.

    Args:
        component: which one. An input that takes several artifacts is left out: a container of
            Kubeflow gets no paths for a list, and such an input is never needed.
        image: reference of the image that runs it; `slimline-<image>` if not given.
    """
    name = component.component_name().replace("_", "-")
    inputs = _definitions(_inputs(component), _parameters(component))
    outputs = _definitions({n: _artifact(p) for n, p in component.outputs().items()}, {})
    document = {
        "components": {
            f"comp-{name}": {
                "executorLabel": f"exec-{name}",
                "inputDefinitions": inputs,
                "outputDefinitions": outputs,
            }
        },
        "deploymentSpec": {
            "executors": {f"exec-{name}": {"container": _container(component, image)}}
        },
        "pipelineInfo": {"name": name, "description": component.summary()},
        "root": _root(name, inputs, outputs),
        "schemaVersion": "2.1.0",
        "sdkVersion": _SDK,
    }
    return yaml.dump(document, Dumper=_NoAliases, sort_keys=True, width=100)


class _NoAliases(yaml.SafeDumper):
    """Kubeflow reads no YAML anchors; root and component say the same things twice."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


def _definitions(artifacts: Fields, parameters: Fields) -> Fields:
    both = {"artifacts": artifacts, "parameters": parameters}
    return {kind: fields for kind, fields in both.items() if fields}


def _inputs(component: type[Component]) -> Fields:
    return {n: _artifact(p) for n, p in component.inputs().items() if not p.many}


def _artifact(port: PortInfo) -> Fields:
    titles = {Model: "system.Model", Dataset: "system.Dataset"}
    title = titles.get(port.artifact, "system.Artifact")
    told: Fields = {
        "artifactType": {"schemaTitle": title, "schemaVersion": "0.0.1"},
        "description": port.description,
    }
    if port.direction == "input" and not port.required:
        told["isOptional"] = True
    return told


def _parameters(component: type[Component]) -> Fields:
    told: Fields = {}
    fields = component.parameters()
    for name, schema in parameter_schemas(component).items():
        told[name] = {
            "parameterType": _TYPES.get(str(schema.get("type")), "STRUCT"),
            "description": schema.get("description", ""),
        }
        if not fields[name].is_required():
            told[name]["isOptional"] = True
        if schema.get("default") is not None:
            told[name]["defaultValue"] = schema["default"]
    return told


def _container(component: type[Component], image: str) -> Fields:
    arguments: list[str] = []
    for name, definition in _inputs(component).items():
        place = f"{{{{$.inputs.artifacts['{name}'].path}}}}"
        arguments += _argument(name, place, optional="isOptional" in definition)
    for name, definition in _parameters(component).items():
        place = f"{{{{$.inputs.parameters['{name}']}}}}"
        absent = "isOptional" in definition and "defaultValue" not in definition
        arguments += _argument(name, place, optional=absent)
    for name in component.outputs():
        arguments += [flag(name), f"{{{{$.outputs.artifacts['{name}'].path}}}}"]
    needs = component.needs
    return {
        "image": image or f"slimline-{component.image}",
        "command": ["slimline", "run", component.component_name()],
        "args": arguments,
        "resources": {"resourceCpuLimit": str(needs.cpu), "resourceMemoryLimit": needs.memory},
    }


def _argument(name: str, place: str, *, optional: bool) -> list[str]:
    if not optional:
        return [flag(name), place]
    return [json.dumps({"IfPresent": {"InputName": name, "Then": [flag(name), place]}})]


def _root(name: str, inputs: Fields, outputs: Fields) -> Fields:
    task: Fields = {
        "cachingOptions": {"enableCache": True},
        "componentRef": {"name": f"comp-{name}"},
        "inputs": {
            kind: {n: {f"componentInput{kind[:-1].title()}": n} for n in fields}
            for kind, fields in inputs.items()
        },
        "taskInfo": {"name": name},
    }
    given = {
        output: {"artifactSelectors": [{"outputArtifactKey": output, "producerSubtask": name}]}
        for output in outputs.get("artifacts", {})
    }
    return {
        "dag": {"outputs": {"artifacts": given}, "tasks": {name: task}},
        "inputDefinitions": inputs,
        "outputDefinitions": outputs,
    }
