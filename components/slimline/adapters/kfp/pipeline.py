"""A recipe as a pipeline: each step of its plan a task, each parameter of Airflow's form an input.

A model that the gate refuses fails the run, as under Airflow: the task `<gate>-passed` ends with an
error and the reasons, and nothing behind it starts. A condition would skip what follows and leave
the run green.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimline.adapters.argv import option_text, parameter_schemas
from slimline.adapters.cluster import pullable, secret_references
from slimline.adapters.form import form_fields
from slimline.adapters.kfp.component import (
    STORE,
    STORE_DEFINITION,
    TYPES,
    ContainerComponent,
    artifact_definition,
    environment,
    resources,
)
from slimline.adapters.kfp.document import Fields, definitions, to_yaml
from slimline.adapters.kfp.platform import executor
from slimline.contract import Resources, load_component
from slimline.recipe.plan import Source, plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slimline.adapters.images import ImageLock
    from slimline.contract import Component
    from slimline.recipe.plan import Step
    from slimline.recipe.schema import Recipe

_JUDGE = "gate"
_PLACE = "destination"
"""A parameter that names a place outside: a directory would be lost with its container."""
_RETRIES = {"maxRetryCount": 2, "backoffDuration": "30s", "backoffFactor": 2.0}


def pipeline_yaml(
    recipe: Recipe,
    *,
    lock: ImageLock | None = None,
    trusted_keys: str = "",
    steps: Sequence[Step] | None = None,
) -> str:
    """The YAML of a recipe's pipeline, from data to a signed package in the registry.

    Args:
        recipe: the recipe.
        lock: the images; `slimline-<image>` if not given.
        trusted_keys: a ConfigMap of public keys.
        steps: some of its plan, from the first on; all of them if not given.

    Raises:
        BadParameters: when the lock names images that a cluster cannot pull.
    """
    made = _Pipeline(recipe, lock, trusted_keys, tuple(steps or plan(recipe)))
    tasks = [made.task(step) for step in made.steps]
    tasks += [made.verdict(step) for step in made.steps if step.component == _JUDGE]
    inputs = {STORE: STORE_DEFINITION}
    for task in tasks:
        inputs |= task.pipeline_inputs
    return to_yaml(
        recipe.name.replace("_", "-"),
        recipe.description or "A model that Slimline compresses.",
        components={
            f"comp-{t.name}": {"executorLabel": f"exec-{t.name}", **t.interface} for t in tasks
        },
        executors={f"exec-{t.name}": {"container": t.container} for t in tasks},
        platform={f"exec-{t.name}": t.platform for t in tasks},
        root={
            "dag": {"tasks": {t.name: t.spec for t in tasks}},
            "inputDefinitions": definitions({}, inputs),
        },
    )


@dataclass(frozen=True)
class _Task:
    """A task with its component, its container, and the pipeline inputs that it makes."""

    name: str
    interface: Fields
    container: Fields
    platform: Fields
    spec: Fields
    pipeline_inputs: Fields


@dataclass(frozen=True)
class _Pipeline:
    recipe: Recipe
    lock: ImageLock | None
    trusted_keys: str
    steps: tuple[Step, ...]

    def task(self, step: Step) -> _Task:
        """A step of the plan."""
        kind = load_component(step.component)
        shown = _inputs(step, kind)
        made = ContainerComponent(
            kind=kind,
            image=self._image(kind.image),
            needs=step.settings.limits(kind.needs),
            counts={name: len(sources) for name, sources in step.inputs.items()},
            parameters=tuple(shown),
            options=(*_constants(step, kind, shown), *self._options(step, kind)),
            trusted_keys=self.trusted_keys,
        )
        given: Fields = {n: {"componentInputParameter": f"{step.name}.{n}"} for n in shown}
        given[STORE] = {"componentInputParameter": STORE}
        sources = [s for name in kind.inputs() for s in step.inputs.get(name, ())]
        caching = {"cachingOptions": {"enableCache": True} if kind.cached else {}}
        spec = self._spec(step.name, dict(zip(made.inputs(), sources, strict=True)), given)
        return _Task(
            _dashed(step.name),
            {
                "inputDefinitions": made.input_definitions(),
                "outputDefinitions": made.output_definitions(),
            },
            {**made.executor(), "env": environment(made.needs, self.trusted_keys)},
            made.platform(),
            {**spec, **caching, "retryPolicy": _RETRIES},
            {f"{step.name}.{n}": i for n, i in shown.items()},
        )

    def verdict(self, step: Step) -> _Task:
        """The task after a gate: it fails, with the reasons, unless the verdict says yes."""
        kind = load_component(step.component)
        ports = {"model": kind.inputs()["candidate"], "verdict": kind.outputs()["verdict"]}
        needs = Resources(cpu=1, memory="1Gi", timeout_minutes=10)
        places = {name: f"{{{{$.inputs.artifacts['{name}'].path}}}}" for name in ports}
        sources = {"model": step.inputs["candidate"][0], "verdict": Source(step.name, "verdict")}
        declared = () if self.trusted_keys else secret_references(kind, needs)
        return _Task(
            _passed(step.name),
            {
                "inputDefinitions": definitions(
                    {n: artifact_definition(p) for n, p in ports.items()}, {}
                )
            },
            {
                "image": self._image(kind.image),
                "command": ["slimline", "verdict"],
                "args": [places["verdict"], "--model", places["model"]],
                "env": environment(needs, self.trusted_keys),
                "resources": resources(needs),
            },
            executor(declared, needs, self.trusted_keys),
            {**self._spec(_passed(step.name), sources, {}), "cachingOptions": {}},
            {},
        )

    def _spec(self, name: str, sources: dict[str, Source], parameters: Fields) -> Fields:
        artifacts = {
            port: {
                "taskOutputArtifact": {
                    "producerTask": _dashed(source.step),
                    "outputArtifactKey": source.output,
                }
            }
            for port, source in sources.items()
        }
        before = {self._behind(source.step, name) for source in sources.values()}
        before |= {_dashed(source.step) for source in sources.values()}
        made: Fields = {
            "componentRef": {"name": f"comp-{_dashed(name)}"},
            "inputs": definitions(artifacts, parameters),
            "taskInfo": {"name": _dashed(name)},
        }
        return {**made, "dependentTasks": sorted(before)} if before else made

    def _behind(self, source: str, name: str) -> str:
        """What has to be done before: for a judge's output its verdict too."""
        judges = {step.name for step in self.steps if step.component == _JUDGE}
        waits = source in judges and _passed(source) != name
        return _passed(source) if waits else _dashed(source)

    def _image(self, name: str) -> str:
        return pullable(name, self.lock.image(name)) if self.lock else f"slimline-{name}"

    def _options(self, step: Step, kind: type[Component]) -> tuple[str, ...]:
        """With the lock's digest a job is the same one, whoever runs it."""
        lineage = ("--lineage", f"{self.recipe.name}/{step.name}")
        if self.lock is None:
            return lineage
        return (*lineage, "--image-digest", self.lock.image(kind.image).environment)


def _inputs(step: Step, kind: type[Component]) -> Fields:
    """The pipeline inputs that a step makes, by parameter."""
    made: Fields = {}
    for name, value, schema in form_fields(step):
        types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        plain = [t for t in types if t != "null"]
        if len(plain) == 1:
            made[name] = _input(TYPES[plain[0]], schema.get("description", ""), value)
            if value is None and "null" in types:
                made[name]["isOptional"] = True
    if _PLACE in kind.parameters():
        place = str(step.parameters.get(_PLACE, ""))
        told = parameter_schemas(kind)[_PLACE].get("description", "")
        made[_PLACE] = _input("STRING", told, place if place.startswith("s3://") else None)
    return made


def _input(kind: str, description: str, value: Any) -> Fields:
    made: Fields = {"parameterType": kind, "description": description}
    return made if value is None else {**made, "isOptional": True, "defaultValue": value}


def _constants(step: Step, kind: type[Component], shown: Fields) -> list[str]:
    """What the recipe says and no form shows, as arguments.

    As inputs they would lose something: Kubeflow's values know no integers within lists and maps.
    """
    schemas = parameter_schemas(kind)
    plain: Fields = json.loads(json.dumps(step.parameters))
    given = {n: v for n, v in plain.items() if n not in shown}
    return [text for n, v in given.items() for text in option_text(n, v, schemas[n])]


def _passed(judge: str) -> str:
    return f"{_dashed(judge)}-passed"


def _dashed(name: str) -> str:
    return name.replace("_", "-")
