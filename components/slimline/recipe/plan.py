"""From a recipe to the steps of its compress DAG, in an order in which they can run."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slimline.contract import BadParameters, Model, load_component
from slimline.recipe.schema import ONNX_PASSES, TaskSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slimline.recipe.schema import Pass, Recipe

_STAGES = {
    "distill": "student",
    "prune": "pruned",
    "reshape": "reshaped",
    "quantize": "quantized",
}
_TEACHES = ("distill", "search")
"""Components for which the model before is a teacher."""


class PlanError(BadParameters):
    """Steps that cannot follow one another; `section` says where that stands in the recipe."""

    def __init__(self, message: str, section: tuple[str | int, ...]) -> None:
        super().__init__(message)
        self.section = section


@dataclass(frozen=True)
class Source:
    """An output of an earlier step."""

    step: str
    output: str


@dataclass(frozen=True)
class Step:
    """One job of a run: a component, its parameters, and where its inputs come from."""

    name: str
    component: str
    parameters: dict[str, Any]
    inputs: Mapping[str, tuple[Source, ...]]
    section: tuple[str | int, ...] = ()
    """Where the parameters stand in the recipe file."""
    settings: TaskSettings = field(default_factory=TaskSettings)

    def check(self) -> None:
        """Validate the parameters; raises pydantic's ValidationError."""
        load_component(self.component).parameters_model().model_validate(self.parameters)


@dataclass
class _Plan:
    recipe: Recipe
    destination: str
    steps: list[Step] = field(default_factory=list)

    def add(
        self,
        name: str,
        component: str,
        parameters: dict[str, Any],
        inputs: Mapping[str, tuple[Source, ...]],
        section: tuple[str | int, ...] = (),
    ) -> Source:
        """Append a step; returns its model output, or its first one."""
        if name.endswith("_passed"):
            msg = f"{name} would be taken for the gate of another step; give another name"
            raise PlanError(msg, section)
        if any(step.name == name for step in self.steps):
            msg = f"two steps are called {name}; give one of them a name of its own"
            raise PlanError(msg, section)
        settings = self.recipe.tasks.get(name, TaskSettings())
        self.steps.append(Step(name, component, parameters, inputs, section, settings))
        outputs = load_component(component).outputs()
        return self.model_of(self.steps[-1]) or Source(name, next(iter(outputs)))

    @staticmethod
    def model_of(step: Step) -> Source | None:
        """The model that a step makes, if it makes one."""
        outputs = load_component(step.component).outputs().items()
        name = next((n for n, p in outputs if p.artifact is Model), None)
        return Source(step.name, name) if name else None


def plan(recipe: Recipe) -> tuple[Step, ...]:
    """The steps of a recipe.

    Packages go to the recipe's `releases`, else to where SLIMLINE_RELEASES points.

    Raises:
        PlanError: when the passes cannot follow one another.
    """
    made = _Plan(recipe, recipe.releases or os.environ.get("SLIMLINE_RELEASES", "releases"))
    data = {"name": recipe.name, **recipe.data}
    made.add("check_data", "check_data", data, {}, ("data",))
    stages = _compress(made)
    _prove_and_ship(made, stages)
    return tuple(made.steps)


def _compress(made: _Plan) -> list[Source]:
    """Add training and passes; returns the ONNX models from baseline to candidate."""
    torch_model, stages = _first_model(made)
    for index, step in enumerate(made.recipe.passes):
        name = step.name or _STAGES.get(step.component, step.component)
        section: tuple[str | int, ...] = ("passes", index, step.component)
        if step.component in ONNX_PASSES:
            torch_model = None
            stages.append(_onnx_pass(made, step, name, stages[-1], section))
            continue
        if torch_model is None and step.component != "distill":
            msg = (
                f"{step.component} works on a torch model; put it before the passes on ONNX, and "
                "start from a factory or a distill, whose teacher may be in ONNX"
            )
            raise PlanError(msg, section)
        found = _torch_pass(made, step, name, torch_model or stages[-1], section)
        if step.component == "search":  # it keeps its choice in both forms
            torch_model = Source(name, "chosen_torch")
            stages.append(found)
        else:
            torch_model = found
            stages.append(_export(made, name, found))
    return stages


def _first_model(made: _Plan) -> tuple[Source | None, list[Source]]:
    recipe = made.recipe
    data = _split("train"), _split("selection")
    if recipe.model.onnx:
        adopted = {"path": recipe.model.onnx, "name": recipe.name}
        return None, [made.add("adopt", "adopt", adopted, {"train": (data[0],)}, ("model",))]
    factory = recipe.model.factory
    assert factory is not None  # noqa: S101 - the schema allows one of both
    settings: dict[str, Any] = {
        "name": recipe.name,
        "stage": "teacher",
        "factory": factory.model_dump(mode="json"),
        **recipe.train,
    }
    inputs = {"train": (data[0],), "selection": (data[1],)}
    teacher = made.add("teacher", "train", settings, inputs, ("train",))
    return teacher, [_export(made, "teacher", teacher)]


def _torch_pass(
    made: _Plan, step: Pass, name: str, model: Source, section: tuple[str | int, ...]
) -> Source:
    port = "teacher" if step.component in _TEACHES else "model"
    inputs = {
        port: (model,),
        "train": (_split("train"),),
        "selection": (_split("selection"),),
        **_further_models(made, step, section),
    }
    own = {} if step.component == "search" else {"stage": name}
    return made.add(name, step.component, {**own, **step.parameters}, inputs, section)


def _onnx_pass(
    made: _Plan, step: Pass, name: str, model: Source, section: tuple[str | int, ...]
) -> Source:
    inputs = {
        "model": (model,),
        "calibration": (_split("train"),),
        **_further_models(made, step, section),
    }
    return made.add(name, step.component, {"stage": name, **step.parameters}, inputs, section)


def _further_models(
    made: _Plan, step: Pass, section: tuple[str | int, ...]
) -> dict[str, tuple[Source, ...]]:
    """The models that a pass asks for by name, such as further teachers."""
    ports = {
        n: p for n, p in load_component(step.component).inputs().items() if p.artifact is Model
    }
    models = {s.name: made.model_of(s) for s in made.steps}
    known = ", ".join(name for name, source in models.items() if source)
    found: dict[str, tuple[Source, ...]] = {}
    for port, names in step.inputs.items():
        if port not in ports:
            msg = f"inputs.{port}: {step.component} takes models as {', '.join(ports)}"
            raise PlanError(msg, (*section[:-1], "inputs", port))
        found[port] = tuple(source for name in names if (source := models.get(name)))
        if len(found[port]) != len(names) or (len(names) != 1 and not ports[port].many):
            msg = f"inputs.{port}: give {'names' if ports[port].many else 'the name'} of {known}"
            raise PlanError(msg, (*section[:-1], "inputs", port))
    return found


def _export(made: _Plan, stage: str, model: Source) -> Source:
    inputs = {"model": (model,), "examples": (_split("selection"),)}
    return made.add(f"export_{stage}", "export", dict(made.recipe.export), inputs, ("export",))


def _prove_and_ship(made: _Plan, stages: list[Source]) -> None:
    recipe, gates = made.recipe, made.recipe.gates
    baseline, candidate = stages[0], stages[-1]
    test = (_split("test"),)
    evaluation = made.add(
        "validate",
        "validate",
        {
            "metric": gates.metric,
            "margin": gates.margin,
            "confidence": gates.confidence,
            **recipe.validate_,
        },
        {
            "baseline": (baseline,),
            "candidate": (candidate,),
            "stages": tuple(stages[1:-1]),
            "test": test,
        },
        ("validate",),
    )
    limits = gates.model_dump() | recipe.budget.model_dump()
    given = {k: v for k, v in limits.items() if v is not None}
    judged = {"candidate": (candidate,), "evaluation": (evaluation,)}
    verdict = made.add("gate", "gate", given, judged, ("gates",))
    package = made.add(
        "package",
        "package",
        {
            "name": recipe.name,
            "owner": recipe.owner,
            "description": recipe.description,
            "licence": recipe.licence,
            **recipe.package,
        },
        {
            "model": (candidate,),
            "verdict": (verdict,),
            "evaluation": (evaluation,),
            "report": (Source("validate", "report"),),
            "test": test,
        },
        ("package",),
    )
    pushed = made.add("push", "push", {"destination": made.destination}, {"package": (package,)})
    made.add(
        "register",
        "register",
        {"name": recipe.name},
        {"package": (package,), "receipt": (pushed,), "evaluation": (evaluation,)},
    )


def _split(name: str) -> Source:
    return Source("check_data", name)
