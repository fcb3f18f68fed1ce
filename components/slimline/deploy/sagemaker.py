"""A real-time endpoint of SageMaker: create or update it blue/green, prove it, undo what fails.

    model -> endpoint configuration -> create or update the endpoint -> wait -> golden request

SageMaker itself starts the new fleet beside the old one, moves traffic in steps, and rolls back on
an alarm or when the new fleet does not get healthy. What it cannot see, a model that answers
wrongly, the golden request shows: then the configuration of before is put back here.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from slimline.contract import BadData, Meter, TryLater, get_logger
from slimline.deploy.aws import clients, code_of, told
from slimline.deploy.receipt import DeployReceipt
from slimline.deploy.requests import at_once, config_request, model_request, rollout_request
from slimline.trust.request import CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable

    from slimline.deploy.spec import Deploy
    from slimline.trust.manifest import PackageManifest
    from slimline.trust.request import GoldenAnswer, GoldenRequest

log = get_logger(__name__)
_BUSY = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
_WAIT_BEYOND = 15 * 60
"""Seconds we go on waiting after the time at which AWS itself gives an update up."""


def deploy(job: Deploy, manifest: PackageManifest, golden: GoldenRequest) -> DeployReceipt:
    """Serve a verified package at a SageMaker endpoint.

    Raises:
        BadParameters: when AWS refuses a parameter, the credentials or the permission.
        BadData: when the new fleet fails; what served before serves again.
        TryLater: when AWS cannot be reached or the endpoint is busy.
    """
    made = _Endpoint(job)
    model = model_request(job.endpoint, job.package, job.sagemaker)
    config = config_request(job.endpoint, model["ModelName"], job.sagemaker)
    name = str(config["EndpointConfigName"])
    _create(f"create model {model['ModelName']}", made.aws.create_model, model)
    _create(f"create endpoint configuration {name}", made.aws.create_endpoint_config, config)
    state = made.describe()
    if state and state["EndpointStatus"] in _BUSY:
        state = made.resume(state, name)
    if state and state["EndpointStatus"] == "Failed":
        made.delete("it failed before, and can only be made anew")
        state = None
    before = str(state["EndpointConfigName"]) if state else ""
    served = made.package_of(before)
    if before != name:
        made.move(name, fresh=state is None, before=before)
    answer = made.prove(golden, name, before)
    found = made.describe() or {}
    return DeployReceipt(
        target="sagemaker",
        endpoint=job.endpoint,
        address=str(found.get("EndpointArn", "")),
        package=manifest.name,
        version=manifest.version,
        before=served,
        after=job.package.digest,
        changed=before != name,
        golden=answer,
    )


class _Endpoint:
    """One endpoint of one job, with the few things that are done to it."""

    def __init__(self, job: Deploy) -> None:
        self.job, self.name = job, job.endpoint
        self.aws, self.runtime = clients(job.sagemaker.region)

    def describe(self) -> dict[str, Any] | None:
        """The endpoint as AWS tells it; None when there is none."""
        with told(f"describe endpoint {self.name}"):
            try:
                return dict(self.aws.describe_endpoint(EndpointName=self.name))
            except self.aws.exceptions.ClientError as error:
                if "could not find" in code_of(error)[1].lower():
                    return None
                raise

    def resume(self, state: dict[str, Any], name: str) -> dict[str, Any] | None:
        """Wait for what an earlier try of this job began; anything else is another's work.

        Raises:
            TryLater: when the endpoint is busy with something else.
        """
        pending = state.get("PendingDeploymentSummary", {}).get("EndpointConfigName")
        ours = state["EndpointConfigName"] == name or pending == name
        if not ours or state["EndpointStatus"] == "Deleting":
            msg = f"endpoint {self.name} is {state['EndpointStatus']}: wait until that is over"
            raise TryLater(msg)
        return self.wait()

    def move(self, name: str, *, fresh: bool, before: str) -> None:
        """Create the endpoint with a configuration, or update it to that, and see it through."""
        with told(f"{'create' if fresh else 'update'} endpoint {self.name}"):
            if fresh:
                self.aws.create_endpoint(EndpointName=self.name, EndpointConfigName=name)
            else:
                self.aws.update_endpoint(
                    EndpointName=self.name,
                    EndpointConfigName=name,
                    DeploymentConfig=rollout_request(self.job.sagemaker),  # type: ignore[arg-type]  # plain data
                )
        state = self.wait()
        if state["EndpointStatus"] == "InService" and state["EndpointConfigName"] == name:
            return
        reason = str(state.get("FailureReason", "AWS gives no reason"))
        self.undo(state, before)
        kept = "rolled back to what served before" if before else "removed again"
        msg = f"endpoint {self.name}: the new fleet failed and was {kept}: {reason}"
        raise BadData(msg)

    def undo(self, state: dict[str, Any], before: str) -> None:
        """Bring the configuration of before back, unless AWS did so; without one, remove all."""
        status = state["EndpointStatus"]
        if not before:
            self.delete("its first deployment failed")
        elif status == "Failed":
            self.delete("it failed, and can only be made anew")
            with told(f"create endpoint {self.name} as it was"):
                self.aws.create_endpoint(EndpointName=self.name, EndpointConfigName=before)
            self._settle(before)
        elif status != "InService" or state["EndpointConfigName"] != before:
            with told(f"put endpoint {self.name} back"):
                self.aws.update_endpoint(
                    EndpointName=self.name,
                    EndpointConfigName=before,
                    DeploymentConfig=at_once(),  # type: ignore[arg-type]  # plain data
                )
            self._settle(before)

    def prove(self, golden: GoldenRequest, name: str, before: str) -> GoldenAnswer:
        """Send the golden request; a wrong answer undoes the deployment."""
        try:
            with told(f"invoke endpoint {self.name}"):
                answer = self.runtime.invoke_endpoint(
                    EndpointName=self.name, ContentType=CONTENT_TYPE, Body=golden.body
                )
            return golden.check(answer["Body"].read(), f"endpoint {self.name}")
        except Exception:
            if before != name:
                log.warning("endpoint %s: its golden request failed; undoing", self.name)
                self.undo({"EndpointStatus": "InService", "EndpointConfigName": name}, before)
            raise

    def wait(self) -> dict[str, Any]:
        """Wait until the endpoint is at rest; returns what AWS then says.

        Raises:
            TryLater: when it is not, long after AWS should have given up.
        """
        settings, began = self.job.sagemaker, time.monotonic()
        longest = settings.timeout_minutes * 60 + _WAIT_BEYOND
        meter = Meter(longest, f"endpoint {self.name}")
        while True:
            state = self.describe() or {"EndpointStatus": "Failed", "EndpointConfigName": ""}
            passed = int(time.monotonic() - began)
            if state["EndpointStatus"] not in _BUSY:
                meter.show(longest, state["EndpointStatus"])
                return state
            if passed > longest:
                msg = f"endpoint {self.name} is {state['EndpointStatus']} after {passed} s: look"
                raise TryLater(msg)
            meter.show(passed, state["EndpointStatus"])
            time.sleep(settings.poll_seconds)

    def delete(self, why: str) -> None:
        """Delete the endpoint and wait until it is gone; its configurations stay."""
        log.warning("endpoint %s is deleted: %s", self.name, why)
        with told(f"delete endpoint {self.name}"):
            self.aws.delete_endpoint(EndpointName=self.name)
        deadline = time.monotonic() + _WAIT_BEYOND
        while self.describe() is not None:
            if time.monotonic() > deadline:
                msg = f"endpoint {self.name} is still being deleted: wait until it is gone"
                raise TryLater(msg)
            time.sleep(self.job.sagemaker.poll_seconds)

    def package_of(self, config: str) -> str:
        """The digest of the package that a configuration serves; "" when it is none of ours."""
        if not config:
            return ""
        with told(f"read endpoint configuration {config}"):
            try:
                variants = self.aws.describe_endpoint_config(EndpointConfigName=config)
                model = str(variants["ProductionVariants"][0].get("ModelName", ""))
                container = self.aws.describe_model(ModelName=model).get("PrimaryContainer", {})
            except self.aws.exceptions.ClientError as error:
                if "could not find" in code_of(error)[1].lower():
                    return ""  # someone removed it; the endpoint serves on without it
                raise
        source = container.get("ModelDataSource", {}).get("S3DataSource", {})
        return str(source.get("S3Uri", "")).rstrip("/").rsplit("/", 1)[-1]

    def _settle(self, before: str) -> None:
        state = self.wait()
        if state["EndpointStatus"] != "InService" or state["EndpointConfigName"] != before:
            reason = state.get("FailureReason", "AWS gives no reason")
            msg = (
                f"endpoint {self.name} is {state['EndpointStatus']} and could not be put back to"
                f" {before}: {reason}: a person must look"
            )
            raise BadData(msg)


def _create(what: str, call: Callable[..., Any], request: dict[str, Any]) -> None:
    """Create something whose name stands for its content: if it is there, it is right."""
    with told(what):
        try:
            call(**request)
        except Exception as error:
            if "already exist" not in code_of(error)[1].lower():
                raise
