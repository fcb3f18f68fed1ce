"""A pruning of the digits' teacher, as the rooms' tests ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slimline.prune.spec import Prune
from support.teacher import taught

if TYPE_CHECKING:
    from slimline.contract import Store
    from slimline.contract.job import Outcome


def pruning(**values: Any) -> Prune:
    """A job with little healing, for widths of 8 and 16."""
    teacher = taught()
    settings = {"epochs": 4, "round_to": 4, "learning_rate": 0.005}
    return Prune.parse({**teacher.inputs(), "model": teacher.model, **settings, **values})


def prune(store: Store | None = None, **values: Any) -> Outcome:
    return pruning(**values).run(store)
