"""Training told to MLflow while it runs, when MLFLOW_TRACKING_URI is set.

One job is one run, found again by its tag `slimline.job` when a killed job goes on. A server that
cannot be reached costs a warning, never the training.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from slimline.contract import Killed, get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

log = get_logger(__name__)
_JOB_TAG = "slimline.job"
_LONGEST_VALUE = 500
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
"""The client would else try for minutes where no server is, and print among results."""


@contextmanager
def tracked(name: str, job: str, title: str, params: Mapping[str, Any]) -> Iterator[Tracker]:
    """Open the run of a job and end it with the right status.

    Args:
        name: of the experiment: the model's.
        job: the job's identity.
        title: of the run.
        params: what is logged once.
    """
    tracker = Tracker()
    if os.environ.get("MLFLOW_TRACKING_URI"):
        tracker.open(name, job, title, params)
    status = "FAILED"
    try:
        yield tracker
        status = "FINISHED"
    except Killed:
        status = "KILLED"
        raise
    finally:
        tracker.close(status)


class Tracker:
    """A run that is open, or nothing at all: then every call does nothing."""

    def __init__(self) -> None:
        self._client: Any = None
        self._run = ""

    def open(self, name: str, job: str, title: str, params: Mapping[str, Any]) -> None:
        """Find or start the job's run and log its parameters."""
        for variable, value in _SETTINGS.items():
            os.environ.setdefault(variable, value)
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient()

        def start() -> None:
            self._run = self._find(name, job) or self._create(name, job, title)
            self._client.update_run(self._run, status="RUNNING")
            values = {k: str(v)[:_LONGEST_VALUE] for k, v in params.items()}
            self._client.log_batch(self._run, params=[Param(k, v) for k, v in values.items()])

        self._try(start)

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Log the numbers of an epoch."""
        if self._client is None:
            return
        from mlflow.entities import Metric

        now = time.time_ns() // 1_000_000
        metrics = [Metric(k, v, now, step) for k, v in numbers.items()]
        self._try(lambda: self._client.log_batch(self._run, metrics=metrics))

    def close(self, status: str) -> None:
        """End the run."""
        if self._client is not None:
            self._try(lambda: self._client.set_terminated(self._run, status))

    def _find(self, name: str, job: str) -> str:
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            return ""
        found = self._client.search_runs(
            [experiment.experiment_id], f"tags.`{_JOB_TAG}` = '{job}'", max_results=1
        )
        return str(found[0].info.run_id) if found else ""

    def _create(self, name: str, job: str, title: str) -> str:
        from mlflow.exceptions import MlflowException

        try:
            experiment = self._client.create_experiment(name)
        except MlflowException:  # it is there already, or the server is not: then this fails too
            experiment = self._client.get_experiment_by_name(name).experiment_id
        run = self._client.create_run(experiment, tags={_JOB_TAG: job}, run_name=title)
        return str(run.info.run_id)

    def _try(self, call: Callable[[], object]) -> None:
        from mlflow.exceptions import MlflowException

        try:
            call()
        except (MlflowException, OSError) as error:
            log.warning(
                "MLflow at %s does not take the numbers, training goes on without: %.200s; "
                "start the server or unset MLFLOW_TRACKING_URI",
                os.environ.get("MLFLOW_TRACKING_URI"),
                error,
            )
            self._client = None
