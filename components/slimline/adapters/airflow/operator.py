"""The operator that runs a component: it decides before anything starts, and re-attaches.

How it works: it builds the component from parameters and upstream results, computes the job's
identity and looks it up. On a hit nothing starts. Else the runner starts the job, or attaches to
the equal one that runs already, so a retry after `kill -9` of the task's process waits for the job
that is still there. What the job made is read from its manifest, never from its log.

XCom holds `{component, job, outputs: {name: {uri, digest}}, numbers, executed, reason, started,
seconds}`.

What it does not do: free its worker slot while it waits, and move a running job to another
machine.
"""

from __future__ import annotations

import json
import os
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from slimline.adapters.airflow import connections
from slimline.adapters.airflow.params import overrides
from slimline.adapters.airflow.retry import ExitCodePolicy, JobFailed
from slimline.adapters.argv import to_argv
from slimline.adapters.aws.role import role_credentials
from slimline.adapters.runners import Launch, open_runner
from slimline.adapters.runners.environment import job_environment, secret_values
from slimline.contract import BadData, BadParameters, load_component, open_store
from slimline.contract.cache import decide, read_manifest, remember
from slimline.contract.job import identify

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from slimline.adapters.runners import Handle, Runner
    from slimline.contract import Component, Resources, Store
    from slimline.contract.cache import Decision
    from slimline.contract.component import PortInfo
    from slimline.contract.manifest import Manifest
    from slimline.recipe.plan import Source

_LAST_LINES = 5
_LONGEST_END = 4000
"""Characters of a job's last lines that an error message holds."""
_LEVELS = {"WARNING": "warning", "ERROR": "error", "CRITICAL": "error"}


class ComponentOperator(BaseOperator):
    """Runs one component as a job; see the module."""

    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        component: str,
        parameters: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Sequence[Source]] | None = None,
        numbers: Mapping[str, Source] | None = None,
        lineage: str = "",
        skip_without_input: bool = False,
        runner: str = "",
        needs: Resources | None = None,
        **kwargs: Any,
    ) -> None:
        """Wire a component into a DAG.

        Args:
            component: its name among the installed ones.
            parameters: plain values; the run's params `<task>.<parameter>` win over them.
            inputs: for each input the upstream outputs that it takes.
            numbers: for a parameter that an upstream job found out, the number that gives it.
            lineage: the step of a recipe that the job answers for (`digits/quantize`).
            skip_without_input: skip where a required input is not there, instead of failing.
            runner: process, docker or pod; what SLIMLINE_RUNNER says if not given.
            needs: the job's limits; those of the component if not given.
            kwargs: those of BaseOperator.
        """
        kwargs.setdefault("retry_policy", ExitCodePolicy())
        super().__init__(**kwargs)
        self.component = component
        self.parameters = dict(parameters or {})
        self.inputs = {port: tuple(sources) for port, sources in (inputs or {}).items()}
        self.numbers = dict(numbers or {})
        self.lineage = lineage
        self.skip_without_input = skip_without_input
        self.runner, self.needs = runner, needs
        self._handle: Handle | None = None
        self._killed = False

    def execute(self, context: Context) -> dict[str, Any]:
        """Reuse what an equal job made, or run the job and read its manifest."""
        kind = load_component(self.component)
        job = kind.parse({**self._parameters(context), **self._inputs(kind, context)})
        services = connections.services()
        needs = self._limits(job)
        with connections.environment(services):
            given = {**services, **role_credentials(kind), **connections.secrets_of(kind)}
        environment = job_environment(kind, given, needs)
        connections.mask(environment)
        with connections.environment(services):
            store, runner = open_store(store_uri()), open_runner(self.runner)
            image = runner.image_digest(kind.image)
            identity = identify(job, image)
            decision = decide(store, identity, lineage=self.lineage, cached=kind.cached)
            self.log.info("%s %s", kind.component_name(), decision.reason)
            if decision.manifest is not None:
                remember(store, self.lineage, identity.digest, decision.reason)
                return _result(decision.manifest, decision, executed=False)
            work = runner.work_path(identity.digest)
            options = ["--store", store.uri, "--work-dir", work, "--image-digest", image]
            launch = Launch(
                identity=identity.digest,
                component=kind.component_name(),
                image=kind.image,
                arguments=(*to_argv(job), *options, "--lineage", self.lineage),
                environment=environment,
                needs=needs,
                store=store.uri,
                claim=_claim(context),
            )
            manifest = self._run(runner, launch, store)
        return _result(manifest, decision, executed=True)

    def on_kill(self) -> None:
        """Stop the job's processes; Airflow calls it when the task is killed or times out."""
        self._killed = True
        if self._handle is not None:
            self._handle.stop()

    def _limits(self, job: Component) -> Resources:
        """The task's own limits, if it has some; whether it reaches the engine says the job."""
        limits = job.resources()
        return replace(self.needs, engine=limits.engine) if self.needs else limits

    def _parameters(self, context: Context) -> dict[str, Any]:
        told = {name: _number(source, context) for name, source in self.numbers.items()}
        return {**self.parameters, **told, **overrides(self.task_id, context["params"])}

    def _inputs(self, kind: type[Component], context: Context) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, port in kind.inputs().items():
            artifacts = [self._artifact(s, context) for s in self.inputs.get(name, ())]
            made = [a for a in artifacts if a is not None]
            if made or not port.required:
                found[name] = made if port.many else next(iter(made), None)
            elif self.skip_without_input:
                msg = f"input {name}: there is nothing to give it, so nothing is done"
                raise AirflowSkipException(msg)
            else:
                raise AirflowFailException(self._missing(port))
        return found

    def _artifact(self, source: Source, context: Context) -> dict[str, str] | None:
        summary = context["ti"].xcom_pull(task_ids=source.step)
        found: dict[str, str] | None = ((summary or {}).get("outputs") or {}).get(source.output)
        return found

    def _missing(self, port: PortInfo) -> str:
        sources = ", ".join(f"{s.step}.{s.output}" for s in self.inputs.get(port.name, ()))
        return f"input {port.name}: {sources or 'no upstream task'} gave none; run that task first"

    def _run(self, runner: Runner, launch: Launch, store: Store) -> Manifest:
        handle = self._handle = runner.start(launch)
        if self._killed:  # while it was started, when there was nothing to stop yet
            handle.stop()
        if handle.attached:
            self.log.info("attached to the job that was started before; its log from the start:")
        log = _JobLog(self.log, secret_values(launch.environment))
        code = handle.wait(log.line)
        if code != 0:
            msg = f"{self.component} ended with exit code {code}: {log.end()}"
            raise JobFailed(msg, code)
        manifest = read_manifest(store, launch.identity)
        if manifest is None:
            msg = (
                f"job {launch.identity[:12]} ended well and left no manifest in {store.uri}: what "
                "it reads or its code changed meanwhile, or its Python has another slimline; "
                "start it again with both at rest"
            )
            raise BadData(msg)
        handle.discard()
        return manifest


class _JobLog:
    """Hands a job's log lines to the task's log, with their levels and without secrets."""

    def __init__(self, log: Any, secrets: Sequence[str]) -> None:
        self._log, self._secrets = log, secrets
        self._last: deque[str] = deque(maxlen=_LAST_LINES)

    def line(self, text: str) -> None:
        level, message = _told(text)
        for value in self._secrets:
            message = message.replace(value, "***")
        if message.strip():
            self._last.append(message)
            getattr(self._log, _LEVELS.get(level, "info"))("%s", message)

    def end(self) -> str:
        """What a person needs to know of a job that failed: its error, or its last lines."""
        told = [line for line in self._last if line.startswith("slimline: ")]
        end = told[-1].removeprefix("slimline: ") if told else " | ".join(self._last)
        return end[-_LONGEST_END:]


def store_uri() -> str:
    """Where artifacts and manifests are kept.

    Raises:
        BadParameters: when the worker's environment does not say it.
    """
    uri = os.environ.get("SLIMLINE_STORE", "")
    if not uri:
        msg = "SLIMLINE_STORE is not set: give s3://bucket/prefix or a directory to the workers"
        raise BadParameters(msg)
    return uri


def _number(source: Source, context: Context) -> Any:
    summary = context["ti"].xcom_pull(task_ids=source.step) or {}
    try:
        return summary["numbers"][source.output]
    except KeyError:
        msg = f"task {source.step} told no {source.output}; run that task first"
        raise AirflowFailException(msg) from None


def _claim(context: Context) -> str:
    ti = context["ti"]
    return f"{ti.dag_id}/{ti.run_id}/{ti.task_id}"


def _told(text: str) -> tuple[str, str]:
    if text.startswith('{"time"'):
        try:
            record = json.loads(text)
        except ValueError:
            return "INFO", text
        parts = (str(record.get("message", text)), record.get("exception"))
        return str(record.get("level", "INFO")), "\n".join(part for part in parts if part)
    return "INFO", text


def _result(manifest: Manifest, decision: Decision, *, executed: bool) -> dict[str, Any]:
    return {
        "component": manifest.identity.component,
        "job": manifest.job,
        "outputs": {name: ref.model_dump() for name, ref in manifest.outputs.items()},
        "numbers": manifest.numbers,
        "executed": executed,
        "reason": decision.reason,
        "started": manifest.started,
        "seconds": manifest.seconds if executed else 0.0,
    }
