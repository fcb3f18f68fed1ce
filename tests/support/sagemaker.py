"""A stand-in for SageMaker that takes time, checks what it is asked, and runs real containers.

It speaks the service's JSON protocol over HTTP, checks every request against botocore's own model
of the service (required fields, types, enums, patterns, bounds), and moves endpoints through the
states of the real one, a step with each `describe_endpoint`: Creating, Updating, RollingBack,
InService, Failed, Deleting. A "container" is the real model server, started as SageMaker does it:
argument `serve`, SAGEMAKER_BIND_TO_PORT for its port, the package that ModelDataSource names, its
health by `/ping`.

What it leaves out: permissions, instances, several variants, time limits.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import botocore.session
import httpx
from botocore.validate import ParamValidator

from support import web

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from botocore.model import Shape

_MODEL = botocore.session.get_session().get_service_model("sagemaker")
_ARN = "arn:aws:sagemaker:eu-central-1:123456789012"


class ServiceError(Exception):
    """An answer of 400 with a code and a message, as AWS gives it."""

    def __init__(self, message: str, code: str = "ValidationException") -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Container:
    """A model server that was started as SageMaker starts one."""

    process: subprocess.Popen[bytes]
    port_file: Path

    def state(self) -> str:
        """starting, healthy or dead."""
        if self.process.poll() is not None:
            return "dead"
        try:
            port = int(self.port_file.read_text())
            healthy = web.get(f"http://127.0.0.1:{port}/ping", timeout=2).status_code == 200
        except (FileNotFoundError, httpx.TransportError):
            return "starting"
        return "healthy" if healthy else "starting"

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


@dataclass
class Endpoint:
    status: str
    config: str
    container: Container | None
    pending: str = ""
    arriving: Container | None = None
    rollout: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    reason: str = ""


class StandIn:
    """The service's state; tests read its fields and set what goes wrong."""

    def __init__(self, directory: Path, packages: dict[str, Path]) -> None:
        self.directory, self.packages = directory, packages
        self.models: dict[str, dict[str, Any]] = {}
        self.configs: dict[str, dict[str, Any]] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.seen: list[str] = []
        """States in the order in which they were told."""
        self.firing: set[str] = set()
        """Alarms that are in state ALARM."""
        self.next_error: tuple[str, ServiceError] | None = None
        """Operation that fails once, and how."""
        self.update_fails_hard = False
        """An update ends as Failed, not as rolled back."""
        self.containers: list[Container] = []
        self.lock = threading.Lock()

    def call(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            self.calls.append((operation, request))
            if self.next_error and self.next_error[0] == operation:
                (_, error), self.next_error = self.next_error, None
                raise error
            check_request(operation, request)
            answer: dict[str, Any] = getattr(self, operation)(request)
            return answer

    def close(self) -> None:
        for container in self.containers:
            container.stop()

    def CreateModel(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - AWS's name
        name = request["ModelName"]
        if name in self.models:
            raise ServiceError(f'Cannot create already existing model "{_ARN}:model/{name}".')
        self.models[name] = request
        return {"ModelArn": f"{_ARN}:model/{name}"}

    def CreateEndpointConfig(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        name = request["EndpointConfigName"]
        if name in self.configs:
            raise ServiceError("Cannot create already existing endpoint configuration.")
        model = request["ProductionVariants"][0]["ModelName"]
        if model not in self.models:
            raise ServiceError(f'Could not find model "{_ARN}:model/{model}".')
        self.configs[name] = request
        return {"EndpointConfigArn": f"{_ARN}:endpoint-config/{name}"}

    def CreateEndpoint(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        name, config = request["EndpointName"], request["EndpointConfigName"]
        if name in self.endpoints:
            raise ServiceError(f'Cannot create already existing endpoint "{name}".')
        self._config(config)
        self.endpoints[name] = Endpoint("Creating", config, self._start(config))
        return {"EndpointArn": f"{_ARN}:endpoint/{name}"}

    def UpdateEndpoint(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        name, config = request["EndpointName"], request["EndpointConfigName"]
        found = self._endpoint(name)
        self._config(config)
        if found.status not in ("InService", "OutOfService"):
            raise ServiceError(f"Cannot update in-progress endpoint. Status is {found.status}.")
        if config == found.config:
            raise ServiceError("Cannot update endpoint with the configuration it already has.")
        _check_rollout(request.get("DeploymentConfig", {}))
        found.status, found.pending, found.reason = "Updating", config, ""
        found.rollout, found.steps = request.get("DeploymentConfig", {}), 0
        found.arriving = self._start(config)
        return {"EndpointArn": f"{_ARN}:endpoint/{name}"}

    def DeleteEndpoint(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        found = self._endpoint(request["EndpointName"])
        if found.status in ("Creating", "Updating"):
            raise ServiceError(f"Cannot update in-progress endpoint. Status is {found.status}.")
        found.status = "Deleting"
        return {}

    def DescribeEndpoint(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        name = request["EndpointName"]
        found = self._endpoint(name)
        answer = {
            "EndpointName": name,
            "EndpointArn": f"{_ARN}:endpoint/{name}",
            "EndpointConfigName": found.config,
            "EndpointStatus": found.status,
            "CreationTime": 1.0,
            "LastModifiedTime": 1.0,
        }
        if found.reason:
            answer["FailureReason"] = found.reason
        if found.pending:
            answer["PendingDeploymentSummary"] = {"EndpointConfigName": found.pending}
        self.seen.append(found.status)
        self._step(name, found)
        return answer

    def DescribeEndpointConfig(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        name = request["EndpointConfigName"]
        return {**self._config(name), "EndpointConfigArn": name, "CreationTime": 1.0}

    def DescribeModel(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        name = request["ModelName"]
        if name not in self.models:
            raise ServiceError(f'Could not find model "{_ARN}:model/{name}".')
        return {**self.models[name], "ModelArn": name, "CreationTime": 1.0}

    def invoke(self, name: str, headers: dict[str, str], body: bytes) -> httpx.Response:
        with self.lock:
            container = self._endpoint(name).container
        assert container is not None
        port = int(container.port_file.read_text())
        kept = {"content-type": headers["content-type"]}  # SageMaker passes little else on
        url = f"http://127.0.0.1:{port}/invocations"
        return web.post(url, content=body, headers=kept, timeout=60)

    def _step(self, name: str, found: Endpoint) -> None:
        if found.status == "Creating":
            self._created(found)
        elif found.status == "Updating":
            self._updated(found)
        elif found.status == "RollingBack":
            found.status, found.pending = "InService", ""
        elif found.status == "Deleting":
            if found.container:
                found.container.stop()
            del self.endpoints[name]

    def _created(self, found: Endpoint) -> None:
        assert found.container is not None
        health = found.container.state()
        if health == "dead":
            found.status, found.reason = "Failed", _unhealthy()
        elif health == "healthy":
            found.status = "InService"

    def _updated(self, found: Endpoint) -> None:
        assert found.arriving is not None
        alarms = found.rollout.get("AutoRollbackConfiguration", {}).get("Alarms", [])
        health = found.arriving.state()
        if self.update_fails_hard:
            found.status, found.reason, found.pending = "Failed", "Internal failure.", ""
        elif health == "dead":
            self._roll_back(found, _unhealthy())
        elif health == "healthy" and (rung := self.firing & {a["AlarmName"] for a in alarms}):
            self._roll_back(found, f"Deployment was rolled back: alarm {', '.join(rung)} fired.")
        elif health == "healthy" and found.steps < _steps(found.rollout):
            found.steps += 1
        elif health == "healthy":
            found.status, found.config, found.pending = "InService", found.pending, ""
            found.container, old, found.arriving = found.arriving, found.container, None
            if old:
                old.stop()

    def _roll_back(self, found: Endpoint, reason: str) -> None:
        found.status, found.reason = "RollingBack", reason
        assert found.arriving is not None
        found.arriving.stop()
        found.arriving = None

    def _start(self, config: str) -> Container:
        model = self.models[self.configs[config]["ProductionVariants"][0]["ModelName"]]
        container = model["PrimaryContainer"]
        source = container["ModelDataSource"]["S3DataSource"]["S3Uri"]
        place = self.directory / f"container{len(self.containers)}"
        place.mkdir(parents=True)
        environment = {
            **{k: os.environ[k] for k in ("PATH", "HOME") if k in os.environ},
            **container.get("Environment", {}),
            "SLIMLINE_SERVING_HOST": "127.0.0.1",
            "SLIMLINE_SERVING_PORT_FILE": str(place / "port"),
            "SLIMLINE_SERVING_LINGER": "0.1",
            "SAGEMAKER_BIND_TO_PORT": "0",
            "MODEL_DIR": str(self.packages[source]),
        }
        argv = [sys.executable, "-m", "slimline.serving", "serve"]
        with (place / "log").open("wb") as log:
            process = subprocess.Popen(argv, env=environment, stdout=log, stderr=log)
        self.containers.append(Container(process, place / "port"))
        return self.containers[-1]

    def _endpoint(self, name: str) -> Endpoint:
        if name not in self.endpoints:
            raise ServiceError(f'Could not find endpoint "{_ARN}:endpoint/{name}".')
        return self.endpoints[name]

    def _config(self, name: str) -> dict[str, Any]:
        if name not in self.configs:
            raise ServiceError(f'Could not find endpoint configuration "{name}".')
        return self.configs[name]


def check_request(operation: str, request: dict[str, Any]) -> None:
    """Hold a request to botocore's model of the service."""
    shape = _MODEL.operation_model(operation).input_shape
    report = ParamValidator().validate(request, shape)
    if report.has_errors():
        raise ServiceError(report.generate_report())
    _check_values(request, shape, operation)


def _check_values(value: Any, shape: Shape, where: str) -> None:
    """Patterns, enums and largest values, which botocore itself leaves to the service."""
    limits = shape.metadata
    if shape.type_name == "structure":
        for name, inner in value.items():
            _check_values(inner, shape.members[name], f"{where}.{name}")
    elif shape.type_name == "list":
        for inner in value:
            _check_values(inner, shape.member, where)
        if len(value) > limits.get("max", len(value)):
            raise ServiceError(f"{where}: too many")
    elif shape.type_name == "string":
        wrong = (
            len(value) > limits.get("max", len(value))
            or ("enum" in limits and value not in limits["enum"])
            or ("pattern" in limits and not re.fullmatch(limits["pattern"], value))
        )
        if wrong:
            raise ServiceError(f"Value '{value}' at '{where}' failed to satisfy constraint")
    elif shape.type_name == "integer" and value > limits.get("max", value):
        raise ServiceError(f"Value '{value}' at '{where}' failed to satisfy constraint")


def _check_rollout(rollout: dict[str, Any]) -> None:
    """What the service's guide says of the sizes, which its model does not."""
    traffic = rollout.get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration", {})
    due = {"CANARY": "CanarySize", "LINEAR": "LinearStepSize"}.get(traffic.get("Type"))
    for name in ("CanarySize", "LinearStepSize"):
        if (name == due) != (name in traffic):
            raise ServiceError(f"{name} does not fit traffic routing {traffic.get('Type')}")
    if due and traffic[due]["Type"] == "CAPACITY_PERCENT" and traffic[due]["Value"] > 50:
        raise ServiceError(f"{due} must be at most 50 percent")


def _steps(rollout: dict[str, Any]) -> int:
    traffic = rollout.get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration", {})
    return {"CANARY": 2, "LINEAR": 4}.get(traffic.get("Type", ""), 0)


def _unhealthy() -> str:
    return (
        "The primary container for production variant AllTraffic did not pass the ping health "
        "check. Please check CloudWatch logs for this endpoint."
    )


@contextmanager
def running(directory: Path, packages: dict[str, Path]) -> Iterator[tuple[StandIn, str]]:
    """Serve a stand-in on a free port; gives it and its URL.

    `packages` says which directory lies under which S3 prefix (`s3://.../`).
    """
    standin = StandIn(directory, packages)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"on": standin}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield standin, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        standin.close()


class _Handler(BaseHTTPRequestHandler):
    on: StandIn

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.startswith("/endpoints/"):
            self._invoke(body)
            return
        operation = self.headers["X-Amz-Target"].removeprefix("SageMaker.")
        try:
            answer, status = self.on.call(operation, json.loads(body)), 200
        except ServiceError as error:
            answer, status = {"__type": error.code, "message": str(error)}, 400
        self._answer(status, json.dumps(answer).encode(), "application/x-amz-json-1.1")

    def _invoke(self, body: bytes) -> None:
        headers = {k.lower(): v for k, v in self.headers.items()}
        found = self.on.invoke(self.path.split("/")[2], headers, body)
        if found.status_code == 200:
            self._answer(200, found.content, found.headers["content-type"])
        else:
            told = {"__type": "ModelError", "Message": found.text}
            self._answer(424, json.dumps(told).encode(), "application/json")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def wait_for(standin: StandIn, state: str) -> None:
    """Wait until a state was told."""
    deadline = time.monotonic() + 60
    while state not in standin.seen:
        assert time.monotonic() < deadline, f"{state} was never told: {standin.seen}"
        time.sleep(0.02)
