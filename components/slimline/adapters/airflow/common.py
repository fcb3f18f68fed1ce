"""What the DAGs have in common: who owns a task, how long it may take, when it is tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from slimline.adapters.airflow.gate import GateOperator
from slimline.adapters.airflow.operator import ComponentOperator
from slimline.adapters.airflow.retry import ExitCodePolicy
from slimline.contract import load_component

if TYPE_CHECKING:
    from slimline.recipe.plan import Step

START = datetime(2026, 1, 1, tzinfo=UTC)
RETRIES = 3
_SPARE = timedelta(minutes=5)
"""What a task may take beyond its job: to look up, to wait for a stop."""


def task_defaults(owner: str) -> dict[str, Any]:
    """`default_args` of a DAG: each task has an owner, retries by exit code, and a limit."""
    return {
        "owner": owner,
        "retries": RETRIES,
        "retry_delay": timedelta(seconds=5),
        "retry_policy": ExitCodePolicy(),
        "execution_timeout": timedelta(minutes=10),
    }


def component_task(step: Step, recipe: str, **kwargs: Any) -> ComponentOperator:
    """A task that runs a step of a recipe, documented and limited as its component says."""
    needs = step.settings.limits(load_component(step.component).needs)
    return ComponentOperator(
        task_id=step.name,
        component=step.component,
        parameters=step.parameters,
        inputs={port: tuple(sources) for port, sources in step.inputs.items() if sources},
        lineage=f"{recipe}/{step.name}",
        execution_timeout=timedelta(minutes=needs.timeout_minutes) + _SPARE,
        needs=needs,
        runner=step.settings.runner or "",
        doc_md=component_doc(step.component),
        **kwargs,
    )


def gate_task(judge: str) -> GateOperator:
    """The task that fails, with the reasons, when `judge` does not say yes."""
    doc = f"Passes only when `{judge}` says `passed: true`; else the run ends here, with reasons."
    return GateOperator(task_id=f"{judge}_passed", judge=judge, retries=0, doc_md=doc)


def component_doc(component: str) -> str:
    """A component's own words, and what it takes and gives, as Markdown."""
    kind = load_component(component)
    lines = [f"**{component}**: {kind.__doc__ or ''}", ""]
    for title, ports in (("takes", kind.inputs()), ("gives", kind.outputs())):
        lines += [
            f"- {title} `{p.name}` ({p.artifact.__name__}): {p.description}" for p in ports.values()
        ]
    cached = "an equal job is reused" if kind.cached else "its effect is outside: runs each time"
    return "\n".join([*lines, f"- {cached}; exit codes decide about retries"])
