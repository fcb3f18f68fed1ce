"""The janitor DAG: once a day, leftovers and old results go, and fleets' signatures are renewed."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, BaseOperator, Param

from slimline.adapters.airflow import connections
from slimline.adapters.airflow.common import START, component_task, task_defaults
from slimline.adapters.airflow.operator import store_uri
from slimline.adapters.airflow.release_tasks import open_registry
from slimline.adapters.janitor import Find, sweep_store, sweep_work
from slimline.adapters.runners.process import work_directory
from slimline.contract import open_store
from slimline.recipe.plan import Step
from slimline.recipe.release import release_plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow.sdk import Context

    from slimline.recipe.schema import Recipe


class SweepOperator(BaseOperator):
    """Base of the two sweeps: reads the run's params, tells what was found."""

    def execute(self, context: Context) -> dict[str, Any]:
        """Sweep, and give a list of what went (or would go), with reasons."""
        params = context["params"]
        dry_run = bool(params["dry_run"])
        found = [f"{find.what}: {find.reason}" for find in self.sweep(params, dry_run=dry_run)]
        for line in found:
            self.log.info("%s %s", "would remove" if dry_run else "removed", line)
        return {"dry_run": dry_run, "count": len(found), "found": found[:100]}

    def sweep(self, params: dict[str, Any], *, dry_run: bool) -> Iterable[Find]:
        """Find and remove."""
        raise NotImplementedError


class SweepWorkOperator(SweepOperator):
    """Removes job directories whose process has ended long ago; on this worker machine."""

    def sweep(self, params: dict[str, Any], *, dry_run: bool) -> Iterable[Find]:
        """See `sweep_work`."""
        older_than = timedelta(days=params["work_days"])
        return sweep_work(work_directory(), older_than=older_than, dry_run=dry_run)


class SweepContainersOperator(SweepOperator):
    """Removes containers that nobody came back for; of the engine that this worker uses."""

    def sweep(self, params: dict[str, Any], *, dry_run: bool) -> Iterable[Find]:
        """See `sweep_containers`."""
        from slimline.adapters.runners.docker.engine import Engine  # noqa: PLC0415 - heavy
        from slimline.adapters.runners.docker.sweep import sweep_containers  # noqa: PLC0415

        older_than = timedelta(days=params["work_days"])
        return sweep_containers(Engine(), older_than=older_than, dry_run=dry_run)


class SweepPodsOperator(SweepOperator):
    """Removes pods that ended and that nobody came back for, in the namespace of jobs."""

    def sweep(self, params: dict[str, Any], *, dry_run: bool) -> Iterable[Find]:
        """See `sweep_pods`."""
        from slimline.adapters.runners.pod.runner import job_pods  # noqa: PLC0415 - heavy
        from slimline.adapters.runners.pod.sweep import sweep_pods  # noqa: PLC0415

        older_than = timedelta(days=params["work_days"])
        return sweep_pods(job_pods(), older_than=older_than, dry_run=dry_run)


class SweepStoreOperator(SweepOperator):
    """Removes old results from the store, but none that the registry knows."""

    def __init__(self, *, models: Sequence[str], **kwargs: Any) -> None:
        """Protect the packages of all versions of `models`."""
        super().__init__(**kwargs)
        self.models = list(models)

    def sweep(self, params: dict[str, Any], *, dry_run: bool) -> Iterable[Find]:
        """See `sweep_store`."""
        registry = open_registry()
        versions = (version for model in self.models for version in registry.versions(model))
        protected = {version.tags.get("slimline.package.digest", "") for version in versions}
        older_than = timedelta(days=params["store_days"])
        with connections.environment(connections.services()):
            store = open_store(store_uri())
            return sweep_store(store, older_than=older_than, dry_run=dry_run, protected=protected)


def janitor_dag(recipes: Sequence[Recipe]) -> DAG:
    """Build `janitor`.

    Args:
        recipes: the packages of their registered models stay; their fleets are renewed.
    """
    models = [recipe.name for recipe in recipes]
    with DAG(
        "janitor",
        schedule="@daily",
        start_date=START,
        catchup=False,
        max_active_runs=1,
        default_args=task_defaults("slimline"),
        tags={"slimline", "janitor"},
        doc_md="# Janitor\n\nRemoves what ended jobs left behind, and results that grew old; "
        "signs the metadata of fleets anew before it expires.",
        params={
            "dry_run": Param(default=False, type="boolean", description="Only tell what would go."),
            "work_days": Param(
                2,
                type="number",
                minimum=0.1,
                description="Days that job directories, ended containers and pods stay.",
            ),
            "store_days": Param(
                30, type="number", minimum=1, description="Days that results stay in any case."
            ),
        },
    ) as dag:
        SweepWorkOperator(task_id="work", doc_md=SweepWorkOperator.__doc__)
        if _use(recipes, "docker"):
            SweepContainersOperator(task_id="containers", doc_md=SweepContainersOperator.__doc__)
        if _use(recipes, "pod"):
            SweepPodsOperator(task_id="pods", doc_md=SweepPodsOperator.__doc__)
        SweepStoreOperator(task_id="store", models=models, doc_md=SweepStoreOperator.__doc__)
        for step in _renewals(recipes):
            component_task(step, "janitor")
    return dag


def _use(recipes: Sequence[Recipe], runner: str) -> bool:
    """Whether some step may be run by that runner."""
    named = {settings.runner for recipe in recipes for settings in recipe.tasks.values()}
    return runner in named | {os.environ.get("SLIMLINE_RUNNER")}


def _renewals(recipes: Sequence[Recipe]) -> Iterable[Step]:
    """A step for each fleet, named for the first recipe that has it."""
    steps = [(r.name, step) for r in recipes for step in release_plan(r)]
    fleets: dict[str, str] = {}
    for name, step in steps:
        if step.component == "ota":
            fleets.setdefault(step.parameters["repository"], name)
    return [
        Step(f"renew_{name}", "renew", {"repository": repository}, {})
        for repository, name in fleets.items()
    ]
