"""What a search may choose from, and the chain of components that a choice stands for."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from slimline.contract import BadParameters, canonical_json, digest_json, load_component
from slimline.contract.code import code_digest
from slimline.models.info import Factory

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from slimline.contract import Component

PASSES = ("distill", "reshape", "prune", "qat", "export", "quantize")
"""In the order of a chain; `export` is in each, and what follows it works on ONNX."""

_MOST_CHOICES = 64
Choices = Annotated[
    dict[str, Annotated[tuple[Any, ...], Field(min_length=1, max_length=_MOST_CHOICES)]],
    Field(default_factory=dict),
]


class ChainStep(BaseModel):
    """One component of a chain with the parameters that differ from its defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    component: str
    parameters: dict[str, Any] = Field(default_factory=dict)


Chain = tuple[ChainStep, ...]


class Space(BaseModel):
    """For each component its parameters, and for each parameter a list of what may be chosen.

    A list of one is a fixed value. A null leaves the whole step out, and so does a prune ratio
    of 0. What is not named keeps the component's default.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    factory: tuple[Factory | None, ...] = Field(
        (), max_length=_MOST_CHOICES,
        description="Students to distill: depths and widths; null stands for the teacher itself.",
    )  # fmt: skip
    distill: Choices
    reshape: Choices
    prune: Choices
    qat: Choices
    export: Choices
    quantize: Choices

    @field_validator(*PASSES)
    @classmethod
    def _known(
        cls, choices: dict[str, tuple[Any, ...]], info: ValidationInfo
    ) -> dict[str, tuple[Any, ...]]:
        """Check each choice against the component's own parameters."""
        component = str(info.field_name)
        if component == "distill" and choices and not info.data.get("factory"):
            msg = "there is no student to distill: give factory"
            raise ValueError(msg)
        if choices:
            wrong = [*_wrong(component, choices)]
            if wrong:
                raise ValueError("; ".join(wrong))
        return choices

    @cached_property
    def dimensions(self) -> dict[str, tuple[Any, ...]]:
        """What is chosen between, by name (`prune.ratio`); numbers in order."""
        found: dict[str, tuple[Any, ...]] = {}
        if self.factory:
            found["factory"] = self.factory
        for component in PASSES:
            for parameter, choices in getattr(self, component).items():
                found[f"{component}.{parameter}"] = ordered(choices)
        return found

    @property
    def size(self) -> int:
        """How many choices there are; several may stand for the same chain."""
        return math.prod(len(choices) for choices in self.dimensions.values())

    def chain(self, picked: Mapping[str, int]) -> Chain:
        """The chain of a choice.

        Args:
            picked: for each dimension the index of what was chosen.
        """
        chosen = {name: choices[picked[name]] for name, choices in self.dimensions.items()}
        made = [self._step(component, chosen) for component in PASSES]
        steps = [step for step in made if step is not None]
        named = {step.component for step in steps}
        if "qat" in named and "quantize" not in named:  # it learns levels for quantize to use
            steps.append(ChainStep(component="quantize"))
        return tuple(steps)

    def _step(self, component: str, chosen: Mapping[str, Any]) -> ChainStep | None:
        prefix = f"{component}."
        own = {k.removeprefix(prefix): v for k, v in chosen.items() if k.startswith(prefix)}
        if component == "distill":
            factory = chosen.get("factory")
            if factory is None:
                return None
            own["factory"] = factory.model_dump(mode="json")
        elif component == "export":
            return ChainStep(component=component, parameters=own)
        elif not own:
            return None
        if any(value is None for value in own.values()) or own.get("ratio") == 0:
            return None
        return ChainStep(component=component, parameters=own)

    def components(self) -> tuple[str, ...]:
        """The components that its chains may run."""
        named = {component for component in PASSES if getattr(self, component)} | {"export"}
        named |= {"distill"} if any(self.factory) else set()
        named |= {"quantize"} if "qat" in named else set()
        return tuple(component for component in PASSES if component in named)


def ordered(choices: Sequence[Any]) -> tuple[Any, ...]:
    """Numbers sorted, anything else as it was given; equal ones once."""
    once = tuple({canonical_json(_plain(choice)): choice for choice in choices}.values())
    return tuple(sorted(once)) if is_numeric(once) else once


def is_numeric(choices: Iterable[Any]) -> bool:
    """Whether all are numbers, so that they have an order."""
    return all(isinstance(c, int | float) and not isinstance(c, bool) for c in choices)


def chain_key(chain: Chain) -> str:
    """A short name of a chain, the same wherever it is computed."""
    return digest_json([step.model_dump(mode="json") for step in chain])[:16]


def is_trained(step: ChainStep) -> bool:
    """Whether a step takes its epochs from the search: it trains, and nothing else fixes them.

    A component whose epochs may be left open (reshape) chooses them by what it does.
    """
    field = load_component(step.component).parameters().get("epochs")
    return field is not None and field.default is not None and "epochs" not in step.parameters


def may_train(step: ChainStep) -> bool:
    """Whether a step trains, or may do so, when it is run as the chain says."""
    there = "epochs" in load_component(step.component).parameters()
    return there and step.parameters.get("epochs") != 0


def works_untrained(step: ChainStep) -> bool:
    """Whether a component does its work without training, as pruning does: 0 epochs are allowed."""
    model = load_component(step.component).parameters_model()
    return not any(_complaints(model, "epochs", 0))


def chain_in_words(chain: Chain) -> str:
    """`cifar_resnet depth 20; prune ratio 0.25; quantize scheme int8-static`."""
    told = []
    for step in chain:
        values = dict(step.parameters)
        factory = values.pop("factory", None)
        words = [step.component] if factory is None else [factory["call"].rpartition(":")[2]]
        values = {**(factory or {}).get("arguments", {}), **values}
        words += [f"{name} {_word(value)}" for name, value in values.items()]
        if step.component != "export" or step.parameters:
            told.append(" ".join(words))
    return "; ".join(told) or "the teacher as it is"


def sources(components: Iterable[str], factories: Iterable[Factory]) -> dict[str, str]:
    """For `Component.outside`: the code of what runs inside, and of factories of your own."""
    from slimline.models.build import factory_source  # noqa: PLC0415 - brings in the zoo

    kinds: dict[str, type[Component]] = {name: load_component(name) for name in components}
    found = {f"code of {name}": code_digest(kind) for name, kind in kinds.items()}
    for factory in factories:
        own = factory_source(factory)
        found |= {f"{what} {factory.call}": digest for what, digest in own.items()}
    return found


def _wrong(component: str, choices: Mapping[str, tuple[Any, ...]]) -> Iterable[str]:
    try:
        model = load_component(component).parameters_model()
    except BadParameters as error:
        yield str(error)
        return
    for name, values in choices.items():
        if name not in model.model_fields or (component, name) == ("distill", "factory"):
            there = ", ".join(sorted(model.model_fields))
            yield f"{name} is no parameter to choose of {component}; there are: {there}"
            continue
        for value in values:
            if value is None or (component, name, value) == ("prune", "ratio", 0):
                continue
            yield from _complaints(model, name, value)


def _complaints(model: type[BaseModel], name: str, value: Any) -> Iterable[str]:
    """What is wrong with one value; rules about several parameters are told when they meet."""
    try:
        model.model_validate({name: value})
    except ValidationError as error:
        for item in error.errors(include_url=False):
            if item["loc"] and item["loc"][0] == name:
                yield f"{'.'.join(map(str, item['loc']))}: {item['msg']} (given: {value!r:.80})"


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _word(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "-".join(map(_word, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
