"""A model version per package in MLflow: found by the package's digest, made when there is none."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from slimline.contract import BadParameters, TryLater

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_VARIABLE = "MLFLOW_TRACKING_URI"
_DIGEST = "slimline.package.digest"
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
"""The client would else try for minutes; the runner tries again, and tells why."""


@dataclass(frozen=True)
class Entry:
    """What is registered: a package of a model, its numbers and tags."""

    model: str
    source: str
    digest: str
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


class Registry:
    """The registry that MLFLOW_TRACKING_URI names."""

    def __init__(self) -> None:
        """Open it.

        Raises:
            BadParameters: when the variable is not set.
        """
        self.address = os.environ.get(_VARIABLE, "")
        if not self.address:
            msg = f"{_VARIABLE} is not set: give the address of the MLflow server"
            raise BadParameters(msg)
        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        self._client: Any = MlflowClient(self.address, self.address)

    def register(self, entry: Entry, aliases: tuple[str, ...]) -> tuple[str, bool]:
        """Find or make the version of a package, then set its tags and aliases.

        Returns:
            The version's number, and whether it was made now.
        """
        with self._told():
            version = self._find(entry)
            made = version or self._make(entry)
            for key, value in entry.tags.items():
                self._client.set_model_version_tag(entry.model, made, key, value)
            for alias in aliases:
                self._client.set_registered_model_alias(entry.model, alias, made)
            return made, not version

    def _find(self, entry: Entry) -> str:
        query = f"name = '{entry.model}' AND tag.`{_DIGEST}` = '{entry.digest}'"
        found = self._client.search_model_versions(query)
        return min((str(v.version) for v in found), key=int, default="")

    def _make(self, entry: Entry) -> str:
        self._ensure(lambda: self._client.create_registered_model(entry.model))
        made = self._client.create_model_version(
            entry.model, source=entry.source, run_id=self._run(entry), tags=dict(entry.tags)
        )
        return str(made.version)

    def _run(self, entry: Entry) -> str:
        """A run that holds the numbers: a model version has none of its own."""
        self._ensure(lambda: self._client.create_experiment(entry.model))
        experiment = self._client.get_experiment_by_name(entry.model).experiment_id
        query = f"tags.`{_DIGEST}` = '{entry.digest}'"
        found = self._client.search_runs([experiment], query, max_results=1)
        if found:
            return str(found[0].info.run_id)
        title = f"package {entry.digest[:12]}"
        run = str(self._client.create_run(experiment, run_name=title).info.run_id)
        for name, value in entry.metrics.items():
            self._client.log_metric(run, name, value)
        self._client.set_tag(run, _DIGEST, entry.digest)
        self._client.set_terminated(run)
        return run

    def _ensure(self, create: Any) -> None:
        from mlflow.exceptions import MlflowException

        try:
            create()
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            status = int(error.get_http_status_code())  # type: ignore[no-untyped-call]
            if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                msg = (
                    f"MLflow at {self.address} does not answer: {error.message:.300}; try later, "
                    f"or set {_VARIABLE} to where it is"
                )
                raise TryLater(msg) from error
            if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
                msg = (
                    f"MLflow at {self.address} does not let us in: set MLFLOW_TRACKING_TOKEN, or "
                    "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
                )
                raise BadParameters(msg) from error
            msg = f"MLflow at {self.address} refused: {error.message:.300}"
            raise BadParameters(msg) from error
