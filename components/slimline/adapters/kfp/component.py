"""One component as a container component: its interface, its command and its limits."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slimline.adapters.argv import flag, parameter_schemas
from slimline.adapters.cluster import (
    GPU,
    TRUSTED_KEYS_PATH,
    TRUSTED_KEYS_VARIABLE,
    threads,
)
from slimline.adapters.kfp.document import Fields, definitions, to_yaml
from slimline.adapters.kfp.platform import platform_of
from slimline.contract import BadParameters
from slimline.contract.artifact import Dataset, Model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slimline.contract import Component, Resources
    from slimline.contract.component import PortInfo

TYPES = {
    "integer": "NUMBER_INTEGER",
    "number": "NUMBER_DOUBLE",
    "string": "STRING",
    "boolean": "BOOLEAN",
    "array": "LIST",
    "object": "STRUCT",
}
STORE = "store"
STORE_DEFINITION: Fields = {
    "parameterType": "STRING",
    "description": "Where results are kept for reuse, as s3://bucket/prefix; by default in the "
    "container alone, so that only Kubeflow keeps them.",
    "isOptional": True,
    "defaultValue": "/tmp/slimline/store",  # noqa: S108 - in the container
}


@dataclass(frozen=True)
class ContainerComponent:
    """A component with as many artifacts for each input as it gets.

    Attributes:
        kind: its class.
        image: reference of the image that runs it.
        needs: its limits.
        counts: how many artifacts an input takes that may have none, or several; each becomes an
            input of its own (`stages_1`, `stages_2`), since a container gets no paths for a list.
        parameters: names of those it has; all of them if not given.
        options: further arguments.
        trusted_keys: a ConfigMap of public keys.
    """

    kind: type[Component]
    image: str
    needs: Resources
    counts: Mapping[str, int] = field(default_factory=dict)
    parameters: tuple[str, ...] | None = None
    options: tuple[str, ...] = ()
    trusted_keys: str = ""

    def inputs(self) -> dict[str, PortInfo]:
        """Its artifact inputs by the name they have here."""
        found: dict[str, PortInfo] = {}
        for name, port in self.kind.inputs().items():
            count = self.counts.get(name, 1 if port.required and not port.many else 0)
            names = [f"{name}_{i + 1}" for i in range(count)] if port.many else [name][:count]
            found |= dict.fromkeys(names, port)
        return found

    def input_definitions(self) -> Fields:
        """The interface: what comes in."""
        artifacts = {n: artifact_definition(p) for n, p in self.inputs().items()}
        return definitions(artifacts, {**self._parameters(), STORE: STORE_DEFINITION})

    def output_definitions(self) -> Fields:
        """The interface: what goes out."""
        made = {n: artifact_definition(p) for n, p in self.kind.outputs().items()}
        return definitions(made, {})

    def executor(self) -> Fields:
        """The container, without variables: kfp cannot compose a component that has some."""
        return {
            "image": self.image,
            "command": ["slimline", "run", self.kind.component_name()],
            "args": [*self._arguments(), *self.options],
            "resources": resources(self.needs),
        }

    def platform(self) -> Fields:
        """What Kubernetes adds."""
        return platform_of(self.kind, self.needs, self.trusted_keys)

    def _parameters(self) -> Fields:
        told: Fields = {}
        fields = self.kind.parameters()
        for name, schema in parameter_schemas(self.kind).items():
            if self.parameters is not None and name not in self.parameters:
                continue
            told[name] = {
                "parameterType": TYPES.get(str(schema.get("type")), "STRUCT"),
                "description": schema.get("description", ""),
            }
            if not fields[name].is_required():
                told[name]["isOptional"] = True
            if schema.get("default") is not None:
                told[name]["defaultValue"] = schema["default"]
        return told

    def _arguments(self) -> list[str]:
        arguments: list[str] = []
        for name, port in self.inputs().items():
            arguments += [flag(port.name), f"{{{{$.inputs.artifacts['{name}'].path}}}}"]
        for name, definition in self._parameters().items():
            place = f"{{{{$.inputs.parameters['{name}']}}}}"
            absent = "isOptional" in definition and "defaultValue" not in definition
            arguments += _if_present(name, place) if absent else [flag(name), place]
        arguments += [flag(STORE), f"{{{{$.inputs.parameters['{STORE}']}}}}"]
        for name in self.kind.outputs():
            arguments += [flag(name), f"{{{{$.outputs.artifacts['{name}'].path}}}}"]
        return arguments


def component_yaml(
    component: type[Component],
    image: str = "",
    counts: Mapping[str, int] | None = None,
) -> str:
    """The YAML of one component, which runs as a pipeline of its own too.

    Args:
        component: which one.
        image: reference of the image that runs it; `slimline-<image>` if not given.
        counts: how many artifacts an optional input takes; none if not given.

    Raises:
        BadParameters: when `counts` names no input, or gives one several that takes one.
    """
    _check(component, counts or {})
    name = component.component_name().replace("_", "-")
    made = ContainerComponent(
        kind=component,
        image=image or f"slimline-{component.image}",
        needs=component.needs,
        counts=counts or {},
    )
    inputs, outputs = made.input_definitions(), made.output_definitions()
    own = {
        "executorLabel": f"exec-{name}",
        "inputDefinitions": inputs,
        "outputDefinitions": outputs,
    }
    return to_yaml(
        name,
        component.summary(),
        components={f"comp-{name}": own},
        executors={f"exec-{name}": {"container": made.executor()}},
        platform={f"exec-{name}": made.platform()},
        root=_root(name, inputs, outputs),
    )


def artifact_definition(port: PortInfo) -> Fields:
    """An artifact of an interface."""
    titles = {Model: "system.Model", Dataset: "system.Dataset"}
    title = titles.get(port.artifact, "system.Artifact")
    return {
        "artifactType": {"schemaTitle": title, "schemaVersion": "0.0.1"},
        "description": port.description,
    }


def environment(needs: Resources, trusted_keys: str) -> list[Fields]:
    """The variables of a container that are no secret."""
    given = {**threads(needs), "OMP_WAIT_POLICY": "PASSIVE", "ORT_DISABLE_TELEMETRY": "1"}
    if trusted_keys:
        given[TRUSTED_KEYS_VARIABLE] = TRUSTED_KEYS_PATH
    return [{"name": name, "value": value} for name, value in sorted(given.items())]


def resources(needs: Resources) -> Fields:
    """Requests equal limits: what a job was promised it has, and no more."""
    cpu = f"{needs.cpu:g}"
    made: Fields = {
        "resourceCpuLimit": cpu,
        "resourceCpuRequest": cpu,
        "resourceMemoryLimit": needs.memory,
        "resourceMemoryRequest": needs.memory,
    }
    if needs.gpu:
        made["accelerator"] = {"resourceType": GPU, "resourceCount": str(needs.gpu)}
    return made


def _check(component: type[Component], counts: Mapping[str, int]) -> None:
    ports = component.inputs()
    for name, count in counts.items():
        if name not in ports:
            msg = f"{component.component_name()} has no input {name!r}; it has {', '.join(ports)}"
            raise BadParameters(msg)
        if count < 0 or (count > 1 and not ports[name].many):
            msg = f"input {name} of {component.component_name()} takes one artifact, not {count}"
            raise BadParameters(msg)


def _if_present(name: str, place: str) -> list[str]:
    """An argument that is left out with its parameter; Kubeflow's servers do so for no artifact."""
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
