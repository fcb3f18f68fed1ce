"""Tells the people whom a recipe names when a run of its DAGs fails, by e-mail.

The mail goes out by Airflow's own settings (section `[smtp]`), from the DAG processor.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING
from urllib.parse import quote

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

        subject, body = message(context)
        send_email(list(recipe.alerts), subject, body)

    return tell


def message(context: Context) -> tuple[str, str]:
    """Subject and HTML body: which run, its last task, why, and where to look.

    Of the context only DAG, run id and reason are always there: Airflow leaves out the rest when
    it knows no task of the run any more.
    """
    from airflow.configuration import conf  # noqa: PLC0415 - only where a mail is sent

    dag, run = context["dag"].dag_id, context["run_id"]
    task = context.get("task_instance")
    last = f"; its last task was {task.task_id}" if task is not None else ""
    told = html.escape(f"Run {run} failed ({context.get('reason') or 'no reason given'}){last}.")
    address = conf.get("api", "base_url", fallback="").rstrip("/")
    page = html.escape(f"{address}/dags/{quote(dag)}/runs/{quote(run)}")
    link = f'<p><a href="{page}">{page}</a></p>' if address else ""
    return f"{dag} failed", f"<p>{told}</p>{link}"
