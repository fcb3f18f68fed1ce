"""A component is one class: its fields are its inputs, outputs and parameters.

From that class come the command line, the Airflow form and operator, the KFP component, the call in
a test and the README's table, each by one small reader in `slimline.adapters`. The class imports
pydantic only; the work lives in `run.py` beside it and is imported when a job runs.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from slimline.contract.artifact import Artifact
from slimline.contract.errors import BadParameters
from slimline.contract.resources import Access, Resources

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from importlib.metadata import EntryPoint
    from pathlib import Path

    from pydantic.fields import FieldInfo

    from slimline.contract.job import Outcome
    from slimline.contract.store import Store

T = TypeVar("T")

Scalar = bool | int | float | str | None
Numbers = dict[str, Any]
"""What a run returns: finite numbers, short strings, and lists or maps of them; plain JSON."""


@dataclass(frozen=True)
class Port:
    """Marks a field as an artifact that comes in or goes out."""

    direction: Literal["input", "output"]


Input = Annotated[T, Port("input")]
"""An artifact it reads: `Input[Model]`, `Input[Model | None]`, `Input[tuple[Model, ...]]`."""

Output = Annotated[T, Port("output")]
"""A directory the component fills: `quantized: Output[Model] = output("The integer model.")`."""


def output(description: str) -> Any:
    """Declare what an `Output` holds; at run time the field's `.path` is the directory to fill."""
    return Field(default=None, description=description)


@dataclass(frozen=True)
class PortInfo:
    """One input or output of a component, read from its annotation."""

    name: str
    direction: Literal["input", "output"]
    artifact: type[Artifact]
    description: str
    many: bool
    required: bool


class Component(BaseModel):
    """Base of every component; see the module for the rules.

    Class variables:
        image: the folder of `images/` that runs it.
        needs: its limits.
        secrets: names of secrets it may read with `secret(name)`; never values.
        cached: False for a component whose effect is outside (deploy, ota): it runs each time.
        access: what it reaches in the cloud besides its own results in the store.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    image: ClassVar[str] = "base"
    needs: ClassVar[Resources] = Resources()
    secrets: ClassVar[tuple[str, ...]] = ()
    cached: ClassVar[bool] = True
    access: ClassVar[tuple[Access, ...]] = ()

    @classmethod
    def component_name(cls) -> str:
        """The room's name: the folder that holds `spec.py`."""
        return cls.__module__.split(".")[-2]

    @classmethod
    def reference(cls) -> str:
        """What `load_component` finds it by: its name when installed, else `module:Class`."""
        path = f"{cls.__module__}:{cls.__qualname__}"
        installed = {e.name: e.value for e in entry_points(group="slimline.components")}
        name = cls.component_name()
        return name if installed.get(name) == path else path

    @classmethod
    def summary(cls) -> str:
        """The first line of the class's docstring."""
        return (cls.__doc__ or "").strip().splitlines()[0]

    @classmethod
    def inputs(cls) -> dict[str, PortInfo]:
        """The artifacts it reads, by field name."""
        return _ports(cls, "input")

    @classmethod
    def outputs(cls) -> dict[str, PortInfo]:
        """The artifacts it writes, by field name."""
        return _ports(cls, "output")

    @classmethod
    def parameters(cls) -> dict[str, FieldInfo]:
        """The fields that are neither inputs nor outputs."""
        return {n: f for n, f in cls.model_fields.items() if _port(f) is None}

    @classmethod
    @cache
    def parameters_model(cls) -> type[BaseModel]:
        """A model of the parameters alone, for recipes, forms and JSON Schema."""
        fields: dict[str, Any] = {
            n: (f.rebuild_annotation(), f) for n, f in cls.parameters().items()
        }
        made: type[BaseModel] = create_model(
            f"{cls.__name__}Parameters", __config__=cls.model_config, __doc__=cls.__doc__, **fields
        )
        return made

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Component:
        """Build a job from plain values.

        Raises:
            BadParameters: names each field, its value and what is wrong with it.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise BadParameters(explain(cls.component_name(), error)) from error

    @classmethod
    def work(cls) -> Callable[[Any], Numbers]:
        """The function `run` of the `run.py` beside the class; imports what the work needs."""
        module = importlib.import_module(cls.__module__.rsplit(".", 1)[0] + ".run")
        found: Callable[[Any], Numbers] = module.run
        return found

    def parameter_values(self) -> dict[str, Any]:
        """The parameters as plain JSON values."""
        return self.model_dump(mode="json", include=set(self.parameters()))

    def input_artifacts(self) -> dict[str, tuple[Artifact, ...]]:
        """The artifacts given to each input; an input that was left out gives an empty tuple."""
        return {name: _as_tuple(getattr(self, name)) for name in self.inputs()}

    def resources(self) -> Resources:
        """What this very job needs at most; a component may ask for more or less by its parameters.

        Only what it says here of `engine` counts: no recipe can hand a job the engine.
        """
        return self.needs

    def outside(self) -> dict[str, str]:
        """What the job reads that is no artifact: names, each with a digest of what is there now.

        Part of the identity beside the input digests, so that a changed source makes a new job.
        """
        return {}

    def run(self, store: Store | None = None, *, work_dir: Path | None = None) -> Outcome:
        """Do the work here and now, without a look into the cache; for tests and notebooks.

        Args:
            store: where outputs are kept; a temporary local store if none is given.
            work_dir: where inputs and outputs are staged; a temporary directory if none is given.

        Returns:
            The manifest, and the outputs with local paths.
        """
        from slimline.contract.job import run_here  # noqa: PLC0415 - job imports component

        return run_here(self, store, work_dir)


def load_component(name: str) -> type[Component]:
    """Find a component.

    Args:
        name: of an installed one (entry points `slimline.components`), or `module:Class` of one
            that is on the import path but not installed.

    Raises:
        BadParameters: when there is none of that name; lists those that exist.
    """
    if ":" in name:
        return _load_class(*name.split(":", 1))
    found = _installed(tuple(sys.path))
    if name not in found:
        msg = f"component {name!r} is not installed; there are: {', '.join(sorted(found))}"
        raise BadParameters(msg)
    loaded: type[Component] = found[name].load()
    return loaded


def component_names() -> tuple[str, ...]:
    """The names of all installed components, sorted."""
    return tuple(sorted(_installed(tuple(sys.path))))


@cache
def _installed(_import_path: tuple[str, ...]) -> dict[str, EntryPoint]:
    """Entry points by name; read once for each import path, since that opens hundreds of files."""
    return {e.name: e for e in entry_points(group="slimline.components")}


def explain(owner: str, error: ValidationError) -> str:
    """Tell a validation error in lines of: field, value, what is wrong."""
    lines = []
    for item in error.errors(include_url=False):
        field = ".".join(str(part) for part in item["loc"]) or "(all)"
        given = "" if item["type"] == "missing" else f" (given: {item['input']!r:.80})"
        lines.append(f"{owner}: {field}: {item['msg']}{given}")
    return "\n".join(lines)


def _load_class(module: str, attribute: str) -> type[Component]:
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        msg = f"component {module}:{attribute} cannot be imported: {error}"
        raise BadParameters(msg) from error
    if not (isinstance(found, type) and issubclass(found, Component)):
        msg = f"{module}:{attribute} is not a Component"
        raise BadParameters(msg)
    return found


def _port(field: FieldInfo) -> Port | None:
    return next((m for m in field.metadata if isinstance(m, Port)), None)


def _ports(cls: type[Component], direction: str) -> dict[str, PortInfo]:
    found: dict[str, PortInfo] = {}
    for name, field in cls.model_fields.items():
        port = _port(field)
        if port is not None and port.direction == direction:
            kind, many = _artifact_type(field.annotation)
            found[name] = PortInfo(
                name, port.direction, kind, field.description or "", many, field.is_required()
            )
    return found


def _artifact_type(annotation: Any) -> tuple[type[Artifact], bool]:
    if isinstance(annotation, type) and issubclass(annotation, Artifact):
        return annotation, False
    many = get_origin(annotation) is tuple
    for inner in get_args(annotation):
        if inner not in (type(None), Ellipsis):
            kind, nested = _artifact_type(inner)
            return kind, many or nested
    msg = f"{annotation!r} is not an artifact type"
    raise TypeError(msg)


def _as_tuple(value: Any) -> tuple[Artifact, ...]:
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)
