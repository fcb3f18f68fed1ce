"""The tasks of a release that are no component: which version, who approves, what it leaves.

Aliases in the registry tell the state: `champion` is what people chose, `deployed` what runs on
the targets, `previous` what ran before it and comes back by a rollback.
"""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from slimline.adapters.airflow import connections
from slimline.adapters.airflow.registry import ADDRESS, Registry
from slimline.contract import BadData, open_store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

CHAMPION, DEPLOYED, PREVIOUS = "champion", "deployed", "previous"


class ResolveOperator(BaseOperator):
    """Finds the package of the version to release, and that of the version that runs now.

    The version is the run's param `version`, else that of the promotion that started the run, else
    what the alias stands for.
    """

    def __init__(self, *, model: str, alias: str, **kwargs: Any) -> None:
        """Resolve a version of `model`; `kwargs` are those of BaseOperator."""
        super().__init__(**kwargs)
        self.model, self.alias = model, alias

    def execute(self, context: Context) -> dict[str, Any]:
        """Give the outputs `package` and `previous`, and the version's number."""
        registry = open_registry()
        aliases = registry.aliases(self.model)
        version = _asked(context) or aliases.get(self.alias)
        if version is None:
            msg = f"model {self.model} has no alias {self.alias}: set it, or give a version"
            raise AirflowFailException(msg)
        package = registry.version(self.model, version).package
        deployed = aliases.get(DEPLOYED)
        before = registry.version(self.model, deployed).package if deployed else None
        self.log.info("%s version %s; version %s runs now", self.model, version, deployed or "-")
        return {
            "model": self.model,
            "version": version,
            "deployed": deployed,
            "outputs": {"package": package, "previous": before},
        }


class ReleaseApprovalOperator(ApprovalOperator):
    """Asks a person, showing the gate's numbers, or notes that nobody was asked.

    The numbers are read from the verdict inside the package, which is bound to the model's bytes.
    With the run's param `auto_approve` it does not wait; the result says so.
    """

    def __init__(self, *, model: str, source: str = "resolve", **kwargs: Any) -> None:
        """Ask about the package that the task `source` gave."""
        super().__init__(subject=f"Release {model}?", body="", **kwargs)
        self.source = source

    def execute(self, context: Context) -> Any:
        """Wait for an answer, unless the run says not to."""
        found = context["ti"].xcom_pull(task_ids=self.source)
        with connections.environment(connections.services()):
            verdict = read_verdict(found["outputs"]["package"])
        self.body = approval_body(found, verdict)
        if context["params"].get("auto_approve"):
            self.log.info("nobody was asked: the run's param auto_approve is set\n%s", self.body)
            return {"chosen_options": [self.APPROVE], "approved_by": "param auto_approve"}
        return super().execute(context)


class RollBackOperator(BaseOperator):
    """Decides, when a release failed on its way, what has to come back and where."""

    def __init__(
        self,
        *,
        watched: Sequence[str],
        changing: Sequence[str],
        source: str = "resolve",
        **kwargs: Any,
    ) -> None:
        """Decide by what became of tasks.

        Args:
            watched: the tasks whose failure asks for a rollback.
            changing: those of them that change a target.
            source: the task that knows what ran before.
            kwargs: those of BaseOperator.
        """
        super().__init__(**kwargs)
        self.watched, self.changing = list(watched), list(changing)
        self.source = source

    def execute(self, context: Context) -> dict[str, Any]:
        """Give, for each task that changed its target, the package that ran before; or skip."""
        ti = context["ti"]
        listed = ti.get_task_states(dag_id=ti.dag_id, task_ids=self.watched, run_ids=[ti.run_id])
        states: dict[str, Any] = listed.get(ti.run_id, {})
        failed = [task for task in self.watched if states.get(task) == "failed"]
        if not failed:
            msg = "the release ended before it reached a target: there is nothing to roll back"
            raise AirflowSkipException(msg)
        found = ti.xcom_pull(task_ids=self.source)
        before = found["outputs"]["previous"]
        if before is None:
            msg = f"{failed[0]} failed, and nothing ran before this release: nothing to bring back"
            raise AirflowSkipException(msg)
        done = [task for task in self.changing if states.get(task) in ("success", "failed")]
        self.log.info("%s failed: version %s comes back", failed[0], found["deployed"])
        outputs = {task: before if task in done else None for task in self.changing}
        return {"failed": failed, "version": found["deployed"], "outputs": outputs}


class SetAliasesOperator(BaseOperator):
    """Notes in the registry what runs now, and what ran before it."""

    def __init__(self, *, model: str, source: str = "resolve", **kwargs: Any) -> None:
        """Note the version that the task `source` found."""
        super().__init__(**kwargs)
        self.model, self.source = model, source

    def execute(self, context: Context) -> dict[str, Any]:
        """Set the alias `deployed`, and `previous` when another version ran before."""
        found = context["ti"].xcom_pull(task_ids=self.source)
        version, before = found["version"], found["deployed"]
        registry = open_registry()
        if before and before != version:
            registry.set_alias(self.model, PREVIOUS, before)
        registry.set_alias(self.model, DEPLOYED, version)
        self.log.info("%s: version %s runs now, before it %s", self.model, version, before or "-")
        return {"deployed": version, "previous": before}


def open_registry() -> Registry:
    """The registry that the connection `slimline_mlflow` or the worker's environment names."""
    settings = {**os.environ, **connections.services()}
    return Registry(settings.get(ADDRESS, ""), settings)


def read_verdict(package: Mapping[str, str]) -> dict[str, Any]:
    """The predicate of the verdict in a pushed package.

    Raises:
        BadData: when there is none that can be read.
    """
    root = package["uri"].rsplit("/artifacts/", 1)[0]
    key = f"artifacts/{package['digest']}/verdict.dsse.json"
    try:
        envelope = json.loads(open_store(root).get(key))
        predicate: dict[str, Any] = json.loads(base64.b64decode(envelope["payload"]))["predicate"]
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{root}/{key} is no verdict ({error!r}): build the package again"
        raise BadData(msg) from error
    return predicate


def approval_body(found: Mapping[str, Any], verdict: Mapping[str, Any]) -> str:
    """What a person reads before they answer, as Markdown."""
    passed = "passed" if verdict.get("passed") is True else "did NOT pass"
    lines = [
        f"**{found['model']} version {found['version']}** {passed} the gate.",
        f"Version {found['deployed'] or 'none'} runs now.",
        f"Package `{found['outputs']['package']['uri']}`",
        "",
        *(f"- {reason}" for reason in verdict.get("reasons", ())),
        "",
        "| | |",
        "|---|---|",
        *_rows("", verdict.get("numbers", {})),
        *_rows("limit ", verdict.get("thresholds", {})),
    ]
    return "\n".join(lines)


def _rows(prefix: str, values: Mapping[str, Any]) -> list[str]:
    shown = ((name, v) for name, v in values.items() if isinstance(v, (int, float, str)))
    return [f"| {prefix}{n} | {v:.4g} |" if isinstance(v, float) else f"| {prefix}{n} | {v} |"
            for n, v in shown]  # fmt: skip


def _asked(context: Context) -> str | None:
    given = context["params"].get("version")
    if given is not None:
        return str(given)
    events = context.get("triggering_asset_events") or {}
    payloads = [event.extra.get("payload") for asset in events for event in events[asset]]
    versions = [p["version"] for p in payloads if isinstance(p, dict) and "version" in p]
    return str(versions[-1]) if versions else None
