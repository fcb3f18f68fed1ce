"""What a recipe says. A step's parameters are the component's own: nothing is stated twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from slimline.contract import Resources, load_component
from slimline.models.info import Factory

TORCH_PASSES = ("distill", "prune", "reshape", "qat", "search")
ONNX_PASSES = ("quantize",)
_INPUTS = {
    "type": "object",
    "additionalProperties": {"type": "array", "items": {"type": "string"}},
    "description": "Models by input, where they are not the pass before: names of earlier steps.",
}
RunnerName = Literal["process", "docker", "pod"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelSource(_Section):
    """What to start from: a factory that is trained, or an ONNX file, taken as it is."""

    factory: Factory | None = Field(None, description="What builds the network to train.")
    onnx: str | None = Field(None, description="Path or s3:// URI of an ONNX file of your own.")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.factory is None) == (self.onnx is None):
            msg = "give either factory or onnx"
            raise ValueError(msg)
        return self


class Gates(_Section):
    """What the candidate must prove on the test split before anything is packaged."""

    metric: str = Field("accuracy", description="What is judged; see `slimline show validate`.")
    margin: float = Field(0.01, ge=0, le=1e9, description="Largest accepted loss of the metric.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Confidence of that statement.")
    min_accuracy: float | None = Field(None, ge=0, le=1, description="Accuracy at least.")
    min_shrink: float | None = Field(None, gt=0, description="Times smaller than the baseline.")
    min_speedup: float | None = Field(None, gt=0, description="Times faster than the baseline.")
    min_test_examples: int | None = Field(None, ge=1, description="Test examples at least.")
    per_class_max_drop: float | None = Field(None, ge=0, le=1, description="In any one class.")
    slice_max_drop: float | None = Field(None, ge=0, description="In any slice, surely.")
    max_robustness_drop: float | None = Field(
        None, ge=0, le=1, description="Accuracy lost on corrupted images, surely."
    )
    max_ece_rise: float | None = Field(
        None, ge=0, le=1, description="Rise of the expected calibration error, surely."
    )


class Budget(_Section):
    """What a target has room for; the gate holds the candidate to the tightest of all targets."""

    max_bytes: int | None = Field(None, gt=0, description="Size of model.onnx in bytes.")
    max_latency_ms: float | None = Field(None, gt=0, description="One call, batch 1, one thread.")
    max_memory_mb: float | None = Field(None, gt=0, description="Memory the model takes.")


class EndpointTarget(_Section):
    """A model server that answers requests."""

    kind: Literal["endpoint"]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="The endpoint's name.")
    platform: Literal["local", "docker", "sagemaker"] | None = Field(
        None, description="Where it runs; on this machine if not given, in containers if jobs are."
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="As `slimline show deploy`.")
    budget: Budget = Budget()


class FleetTarget(_Section):
    """A group of devices that are updated over the air, in waves."""

    kind: Literal["fleet"]
    group: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="The devices' group.")
    settings: dict[str, Any] = Field(default_factory=dict, description="See `slimline show ota`.")
    budget: Budget = Budget()


Target = Annotated[EndpointTarget | FleetTarget, Field(discriminator="kind")]


class Pass(_Section):
    """One compression step: the component, its parameters, and a name where it comes twice."""

    component: str
    name: str | None = Field(None, pattern=r"^[a-z][a-z0-9_]{0,40}$")
    inputs: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="Models by input, where they are not the pass before: names of earlier steps.",
    )
    parameters: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_one_key(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "component" in value:
            return value
        rest = {k: v for k, v in value.items() if k not in ("name", "inputs")}
        if len(rest) != 1:
            msg = f"a pass is one of {', '.join(TORCH_PASSES + ONNX_PASSES)} with its parameters"
            raise ValueError(msg)
        ((component, parameters),) = rest.items()
        known = TORCH_PASSES + ONNX_PASSES
        if component not in known:
            msg = f"there is no pass {component!r}; give one of {', '.join(known)}"
            raise ValueError(msg)
        kept = {k: value[k] for k in ("name", "inputs") if k in value}
        return {"component": component, "parameters": parameters or {}, **kept}


class TaskSettings(_Section):
    """How one step is run, where that differs from what its component says."""

    runner: RunnerName | None = Field(None, description="Else SLIMLINE_RUNNER says.")
    cpu: float | None = Field(None, gt=0, description="Cores at most.")
    memory: str | None = Field(
        None, pattern=r"^[1-9]\d*(Mi|Gi|Ti)$", description="Memory at most, such as 8Gi."
    )
    gpu: int | None = Field(None, ge=0, description="GPUs.")
    timeout_minutes: int | None = Field(None, ge=1, description="Minutes at most.")

    def limits(self, needs: Resources) -> Resources:
        """A component's limits with what is said here in their place."""
        return replace(needs, **self.model_dump(exclude={"runner"}, exclude_none=True))


class Recipe(_Section):
    """One model, from its data to the places it runs."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$", description="Also the DAG's suffix.")
    description: str = Field("", description="What the model is for; goes into the model card.")
    owner: str = Field(description="Who answers for the model.")
    alerts: tuple[str, ...] = Field((), description="Who is told when a run fails (e-mail).")
    schedule: str | None = Field(None, description="Cron expression or preset such as @daily.")
    licence: str = Field("", description="Licence of the model, for the model card.")
    data: dict[str, Any] = Field(description="Parameters of check_data: source, splits, checks.")
    model: ModelSource
    train: dict[str, Any] = Field(default_factory=dict, description="Parameters of train.")
    passes: tuple[Pass, ...] = Field((), description="Compression steps, in order.")
    export: dict[str, Any] = Field(default_factory=dict, description="Parameters of export.")
    validate_: dict[str, Any] = Field(
        default_factory=dict, alias="validate", description="Further parameters of validate."
    )
    gates: Gates = Gates()
    package: dict[str, Any] = Field(default_factory=dict, description="Parameters of package.")
    releases: str | None = Field(
        None, description="Where packages go: s3://bucket/prefix; else SLIMLINE_RELEASES says."
    )
    tasks: dict[str, TaskSettings] = Field(
        default_factory=dict, description="By step: its runner and limits."
    )
    targets: tuple[Target, ...] = Field((), description="Where a promoted release goes.")
    watch: dict[str, Any] = Field(
        default_factory=dict, description="Parameters of watch: how a release is looked after."
    )

    @model_validator(mode="after")
    def _one_of_each_target(self) -> Self:
        kinds = [target.kind for target in self.targets]
        if len(set(kinds)) != len(kinds):
            msg = f"targets are {', '.join(kinds)}; a recipe has one endpoint and one fleet at most"
            raise ValueError(msg)
        return self

    @property
    def budget(self) -> Budget:
        """The tightest limits of all targets."""
        tightest: dict[str, float] = {}
        for name in Budget.model_fields:
            limits = [getattr(t.budget, name) for t in self.targets]
            given = [limit for limit in limits if limit is not None]
            if given:
                tightest[name] = min(given)
        return Budget.model_validate(tightest)

    @property
    def endpoint(self) -> EndpointTarget | None:
        """The endpoint among the targets."""
        return next((t for t in self.targets if isinstance(t, EndpointTarget)), None)

    @property
    def fleet(self) -> FleetTarget | None:
        """The fleet among the targets."""
        return next((t for t in self.targets if isinstance(t, FleetTarget)), None)


def json_schema() -> dict[str, Any]:
    """JSON Schema of a recipe, with every component's own parameters in its place."""
    schema = Recipe.model_json_schema(by_alias=True)
    definitions: dict[str, Any] = schema.setdefault("$defs", {})
    properties = schema["properties"]
    sections = {
        "data": "check_data",
        "train": "train",
        "export": "export",
        "package": "package",
        "watch": "watch",
    }
    for section, component in {**sections, "validate": "validate"}.items():
        properties[section] = _parameters_schema(component, definitions)
    definitions["Pass"] = {
        "oneOf": [
            {
                "type": "object",
                "properties": {
                    component: _parameters_schema(component, definitions),
                    "name": {"type": "string"},
                    "inputs": _INPUTS,
                },
                "required": [component],
                "additionalProperties": False,
            }
            for component in TORCH_PASSES + ONNX_PASSES
        ]
    }
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema


def _parameters_schema(component: str, definitions: dict[str, Any]) -> dict[str, Any]:
    made = load_component(component).parameters_model().model_json_schema()
    definitions.update(made.pop("$defs", {}))
    made.pop("required", None)
    return made
