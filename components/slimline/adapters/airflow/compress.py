"""The compress DAG of a recipe: each step of its plan is a task, each parameter a form field."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk import DAG

from slimline.adapters.airflow.alerts import on_failure
from slimline.adapters.airflow.common import START, component_task, gate_task, task_defaults
from slimline.adapters.airflow.params import form
from slimline.recipe.plan import plan

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from slimline.recipe.plan import Step
    from slimline.recipe.schema import Recipe

_JUDGES = frozenset({"gate"})


def compress_dag(recipe: Recipe) -> DAG:
    """Build `compress_<name>`: from data to a signed package in the registry."""
    steps = plan(recipe)
    with DAG(
        f"compress_{recipe.name}",
        schedule=recipe.schedule,
        start_date=START,
        catchup=False,
        max_active_runs=2,
        dagrun_timeout=timedelta(hours=24),
        default_args=task_defaults(recipe.owner),
        params=form(steps),
        tags={"slimline", "compress", recipe.name},
        doc_md=_doc(recipe, steps),
        on_failure_callback=on_failure(recipe),
    ) as dag:
        _wire(recipe, steps)
    return dag


def _wire(recipe: Recipe, steps: tuple[Step, ...]) -> None:
    tasks: dict[str, BaseOperator] = {}
    gates: dict[str, BaseOperator] = {}
    for step in steps:
        task = component_task(step, recipe.name)
        sources = {source.step for sources in step.inputs.values() for source in sources}
        for source in sorted(sources):
            task.set_upstream(gates.get(source, tasks[source]))
        tasks[step.name] = task
        if step.component in _JUDGES:
            gates[step.name] = gate_task(step.name)
            gates[step.name].set_upstream(task)


def _doc(recipe: Recipe, steps: tuple[Step, ...]) -> str:
    rows = [f"| `{s.name}` | {s.component} | {', '.join(_sources(s)) or '-'} |" for s in steps]
    return "\n".join(
        [
            f"# {recipe.name}",
            "",
            recipe.description or "A model that Slimline compresses.",
            "",
            f"Owner: {recipe.owner}. A step whose job was done before is reused; the task's log",
            f"and `slimline why {recipe.name}` say why it ran or not.",
            "",
            "| step | component | takes from |",
            "|---|---|---|",
            *rows,
        ]
    )


def _sources(step: Step) -> list[str]:
    return sorted({source.step for sources in step.inputs.values() for source in sources})
