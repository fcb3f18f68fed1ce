"""What a registration takes: a pushed package with its numbers, and how the version is marked."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, StringConstraints

from slimline.contract import (
    Component,
    Evaluation,
    Input,
    Output,
    Package,
    Receipt,
    Resources,
    output,
)

_RESERVED = re.compile(r"latest|deployed|previous|v[0-9]+", re.IGNORECASE)
_OURS = ("slimline.", "mlflow.")


def _free_alias(alias: str) -> str:
    """`latest` and `v<N>` are MLflow's; `deployed` and `previous` are set by a release alone."""
    if _RESERVED.fullmatch(alias):
        msg = "is reserved: latest, v<N>, deployed and previous are; give another name"
        raise ValueError(msg)
    return alias


def _free_tag(tag: str) -> str:
    if tag.startswith(_OURS):
        msg = "is reserved: tags that begin with slimline. or mlflow. are; give another name"
        raise ValueError(msg)
    return tag


Alias = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,100}$"), AfterValidator(_free_alias)
]
TagName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_. /-]{0,200}$"),
    AfterValidator(_free_tag),
]


class Register(Component):
    """Make a pushed package a version of a registered MLflow model, with its numbers and tags.

    The same package is one version, however often it is registered.
    """

    image: ClassVar[str] = "ship"
    needs: ClassVar[Resources] = Resources(network=True, timeout_minutes=10)

    package: Input[Package] = Field(description="The package that was pushed.")
    receipt: Input[Receipt] = Field(description="What push wrote about it.")
    evaluation: Input[Evaluation] = Field(description="The numbers the model was judged by.")
    registration: Output[Receipt] = output("The model version: name, version, run, package.")

    name: str = Field(
        "model",
        pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$",
        description="Name of the registered model: the recipe's.",
    )
    aliases: tuple[Alias, ...] = Field(
        ("candidate",), max_length=10, description="Aliases that the version is given."
    )
    tags: dict[TagName, str] = Field(
        default_factory=dict, max_length=50, description="Further tags of the version."
    )
