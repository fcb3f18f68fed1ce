"""The search DAG: each round proposes trials, and maps them over tasks that run side by side.

How it works: `propose` tells from all results so far which trials are next, and gives a list;
`trial` is mapped over it. The last task is the component `search` itself: it goes the same course,
finds every trial in the store, goes on alone if the rounds did not suffice, and tells the front.
So a search begun here can be ended by `slimline run search`, and the other way round.

What it does not do: share minutes among tasks. The time that `minutes` names is that of the last
task; what the mapped ones take is bounded by the number of rounds and by their own limits.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, Param

from slimline.adapters.airflow.common import START, component_doc, task_defaults
from slimline.adapters.airflow.operator import ComponentOperator
from slimline.adapters.airflow.params import form, overrides
from slimline.contract import load_component
from slimline.recipe.plan import Source, Step

if TYPE_CHECKING:
    from airflow.sdk import Context

    from slimline.contract import Component

_PROPOSE = "slimline.search.propose.spec:Propose"
_TRIAL = "slimline.search.trial.spec:Trial"
_SPARE = timedelta(minutes=5)
_GIVEN = {name: (Source("params", name),) for name in ("teacher", "train", "selection")}
"""Artifacts that whoever triggers the DAG names."""
_DEFAULT_SPACE = {"quantize": {"scheme": ["int8-static"]}}


class SearchOperator(ComponentOperator):
    """Runs a component of the search; the form's `search.*` fields are its parameters."""

    def _parameters(self, context: Context) -> dict[str, Any]:
        known = load_component(self.component).parameters()
        given = overrides("search", context["params"])
        own = {name: value for name, value in given.items() if name in known}
        return {**own, **super()._parameters(context)}

    def _artifact(self, source: Source, context: Context) -> Any:
        if source.step == "params":
            return context["params"][source.output]
        return super()._artifact(source, context)


class ProposeOperator(SearchOperator):
    """Gives the parameters of the trials that are next, one entry for each; none at the end."""

    def __init__(self, *, trials: list[str], **kwargs: Any) -> None:
        """Read the results of the tasks `trials`, all of them mapped."""
        super().__init__(**kwargs)
        self.trials = list(trials)

    def execute(self, context: Context) -> Any:
        """The list that the next task is mapped over."""
        return super().execute(context)["numbers"]["trials"]

    def _inputs(self, kind: type[Component], context: Context) -> dict[str, Any]:
        pulled = context["ti"].xcom_pull(task_ids=self.trials) if self.trials else []
        results = [summary["outputs"]["result"] for summary in pulled if summary]
        return {**super()._inputs(kind, context), "results": results}


class TrialOperator(SearchOperator):
    """Measures one network; how often and what besides says the form, as for the whole search."""

    def _parameters(self, context: Context) -> dict[str, Any]:
        form_says = overrides("search", context["params"])
        measured = {"rounds": form_says["rounds"], "memory": bool(form_says.get("max_memory_mb"))}
        return {**measured, **self.parameters}


def search_dag(rounds: int = 12) -> DAG:
    """Build `search`.

    Args:
        rounds: mapped tasks in a row: a generation takes one for its untrained networks, and one
            for each round of training.
    """
    with DAG(
        "search",
        schedule=None,
        start_date=START,
        catchup=False,
        max_active_runs=2,
        dagrun_timeout=timedelta(days=7),
        default_args=task_defaults("slimline"),
        tags={"slimline", "search"},
        doc_md="# Search\n\n" + (__doc__ or ""),
        params=_params(),
    ) as dag:
        _wire(rounds)
    return dag


def _wire(rounds: int) -> None:
    exported = _task(
        SearchOperator, "export", "export", model=_GIVEN["teacher"], examples=_GIVEN["selection"]
    )
    given = {**_GIVEN, "baseline": (Source("export", "exported"),)}
    baseline = _task(TrialOperator, "baseline", _TRIAL, **given)
    before: Any = baseline
    exported >> baseline
    beside = (Source("baseline", "result"),)
    trials: list[str] = []
    for number in range(1, rounds + 1):
        propose = _task(
            ProposeOperator, f"propose_{number}", _PROPOSE, baseline_result=beside, trials=trials
        )
        trial = TrialOperator.partial(
            **_settings(f"trial_{number}", _TRIAL), inputs={**given, "baseline_result": beside}
        ).expand(parameters=propose.output)
        before >> propose >> trial
        before, trials = trial, [*trials, f"trial_{number}"]
    before >> _task(SearchOperator, "search", "search", **_GIVEN)


def _task(operator: type[SearchOperator], task_id: str, component: str, **wires: Any) -> Any:
    own = {"trials": wires.pop("trials")} if "trials" in wires else {}
    return operator(**_settings(task_id, component), inputs=wires, **own)


def _settings(task_id: str, component: str) -> dict[str, Any]:
    """What a task has from its component; a round without trials is no failure."""
    needs = load_component(component).needs
    return {
        "task_id": task_id,
        "component": component,
        "lineage": f"search/{task_id}" if component == "search" else "",
        "needs": needs,
        "execution_timeout": timedelta(minutes=needs.timeout_minutes) + _SPARE,
        "trigger_rule": "none_failed",
        "doc_md": component_doc(component),
    }


def _params() -> dict[str, Param]:
    """The trigger form: what to search for, and in what."""
    where = "URI of a stored artifact, or a directory that all workers see."
    artifacts = {
        name: Param("", type="string", title=name, description=f"{port.description} {where}")
        for name, port in load_component("search").inputs().items()
    }
    parameters = load_component("search").parameters()
    lists = {
        "search.space": Param(
            _DEFAULT_SPACE, type="object", description=parameters["space"].description
        ),
        "search.epochs": Param(
            list(parameters["epochs"].default),
            type="array",
            items={"type": "integer", "minimum": 1},
            description=parameters["epochs"].description,
        ),
    }
    return {**artifacts, **lists, **form((Step("search", "search", {}, {}),))}
