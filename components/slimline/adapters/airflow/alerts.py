"""Tells the people whom a recipe names when a run of its DAGs fails, by e-mail."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Context

    from slimline.recipe.schema import Recipe


def on_failure(recipe: Recipe) -> Callable[[Context], None] | None:
    """The callback of a DAG, None when the recipe names nobody."""
    if not recipe.alerts:
        return None

    def tell(context: Context) -> None:
        from airflow.utils.email import send_email  # noqa: PLC0415 - only where a mail is sent

        run = context["dag_run"]
        subject = f"{run.dag_id} failed"
        reason = html.escape(str(context.get("reason") or "see the log of the failed task"))
        send_email(list(recipe.alerts), subject, f"<p>Run {run.run_id}: {reason}</p>")

    return tell
