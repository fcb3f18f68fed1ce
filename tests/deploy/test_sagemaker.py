"""SageMaker deployments against a stand-in that takes its time, and moto for what it has."""

from __future__ import annotations

import json
import os
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
import pytest
from botocore.stub import Stubber
from moto.server import ThreadedMotoServer
from support import web
from support.sagemaker import ServiceError, StandIn, running

from slimline.contract import BadData, BadParameters, Package, TryLater
from slimline.deploy import sagemaker as target
from slimline.deploy.requests import config_request, model_request, rollout_request
from slimline.deploy.spec import Deploy, SageMaker
from slimline.trust.package import load_manifest
from slimline.trust.request import golden_request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from slimline.deploy.receipt import DeployReceipt

ROLE = "arn:aws:iam::123456789012:role/slimline-endpoint"
ENDPOINT_ARN = "arn:aws:sagemaker:eu-central-1:123456789012:endpoint/digits"
IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/slimline-serving@sha256:" + "a" * 64


class Cloud(NamedTuple):
    standin: StandIn
    first: Package
    second: Package
    wrong: Package


def _in_s3(package: Package) -> Package:
    uri = f"s3://releases/digits/artifacts/{package.digest}"
    return Package(uri=uri, digest=package.digest).located(package.path)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return monkeypatch


@pytest.fixture
def cloud(
    first: Package, second: Package, wrong: Package, tmp_path: Path, aws: pytest.MonkeyPatch
) -> Iterator[Cloud]:
    packages = [_in_s3(p) for p in (first, second, wrong)]
    places = {f"{p.uri}/": p.path for p in packages}
    with running(tmp_path / "cloud", places) as (standin, url):
        aws.setenv("AWS_ENDPOINT_URL_SAGEMAKER", url)
        aws.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", url)
        yield Cloud(standin, *packages)


def _job(package: Package, **settings: Any) -> Deploy:
    given = {
        "role_arn": ROLE,
        "image_uri": IMAGE,
        "environment": {"SLIMLINE_TRUSTED_KEYS": os.environ["SLIMLINE_TRUSTED_KEYS"]},
        "poll_seconds": 0.05,
        **settings,
    }
    job = Deploy.parse(
        {"package": package, "target": "sagemaker", "endpoint": "digits", "sagemaker": given}
    )
    assert isinstance(job, Deploy)
    return job.model_copy(update={"package": package})


def _deploy(package: Package, **settings: Any) -> DeployReceipt:
    manifest = load_manifest(package.path)
    golden = golden_request(package.path, manifest)
    return target.deploy(_job(package, **settings), manifest, golden)


def _served(cloud: Cloud) -> str:
    """The digest of the package that the endpoint's container really serves."""
    container = cloud.standin.endpoints["digits"].container
    assert container is not None
    port = container.port_file.read_text()
    digest: str = web.get(f"http://127.0.0.1:{port}/readyz").json()["package_digest"]
    return digest


def _operations(cloud: Cloud) -> list[str]:
    return [name for name, _ in cloud.standin.calls if not name.startswith("Describe")]


def test_an_endpoint_is_created_updated_and_brought_back(cloud: Cloud) -> None:
    one = _deploy(cloud.first)
    two = _deploy(cloud.second, rollout="canary", instance_count=2, alarms=["digits-5xx"])
    assert "Updating" in cloud.standin.seen
    assert _served(cloud) == cloud.second.digest
    back = _deploy(cloud.first)
    assert (one.before, one.after) == ("", cloud.first.digest)
    assert (two.before, two.after) == (cloud.first.digest, cloud.second.digest)
    assert (back.before, back.after) == (cloud.second.digest, cloud.first.digest)
    assert (
        one.address == two.address == "arn:aws:sagemaker:eu-central-1:123456789012:endpoint/digits"
    )
    assert two.golden.difference <= two.golden.tolerance
    assert _served(cloud) == cloud.first.digest
    (update, _) = [request for name, request in cloud.standin.calls if name == "UpdateEndpoint"]
    traffic = update["DeploymentConfig"]["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    assert traffic["CanarySize"] == {"Type": "CAPACITY_PERCENT", "Value": 10}
    assert update["DeploymentConfig"]["AutoRollbackConfiguration"] == {
        "Alarms": [{"AlarmName": "digits-5xx"}]
    }


def test_deploying_again_changes_nothing(cloud: Cloud) -> None:
    _deploy(cloud.first)
    receipt = _deploy(cloud.first)
    assert receipt.changed is False
    assert _operations(cloud).count("CreateEndpoint") == 1
    assert "UpdateEndpoint" not in _operations(cloud)


def test_a_first_fleet_that_gets_not_healthy_is_removed_with_the_reason(cloud: Cloud) -> None:
    with pytest.raises(BadData, match=r"removed again: .*ping health check"):
        _deploy(cloud.wrong)
    assert cloud.standin.endpoints == {}
    assert _deploy(cloud.first).after == cloud.first.digest


def test_an_update_that_gets_not_healthy_leaves_the_old_fleet(cloud: Cloud) -> None:
    _deploy(cloud.first)
    with pytest.raises(BadData, match=r"rolled back .*ping health check"):
        _deploy(cloud.wrong)
    assert "RollingBack" in cloud.standin.seen
    assert _served(cloud) == cloud.first.digest
    assert _operations(cloud).count("UpdateEndpoint") == 1


def test_an_alarm_in_the_canary_brings_the_old_fleet_back(cloud: Cloud) -> None:
    _deploy(cloud.first)
    cloud.standin.firing = {"latency"}
    with pytest.raises(BadData, match=r"rolled back .*alarm latency fired"):
        _deploy(cloud.second, rollout="linear", instance_count=4, alarms=["latency"])
    assert _served(cloud) == cloud.first.digest


def test_an_update_that_ends_as_failed_is_made_anew_with_the_old_configuration(
    cloud: Cloud,
) -> None:
    _deploy(cloud.first)
    before = cloud.standin.endpoints["digits"].config
    cloud.standin.update_fails_hard = True
    with pytest.raises(BadData, match="rolled back to what served before: Internal failure"):
        _deploy(cloud.second)
    assert cloud.standin.endpoints["digits"].config == before
    assert _served(cloud) == cloud.first.digest


def test_a_fleet_that_is_healthy_and_answers_wrongly_is_undone(
    cloud: Cloud, second: Package
) -> None:
    """The S3 prefix of one package holds the bytes of another: healthy, signed, and not it."""
    _deploy(cloud.first)
    before = cloud.standin.endpoints["digits"].config
    other = f"s3://releases/digits/artifacts/{cloud.wrong.digest}/"
    cloud.standin.packages[other] = second.path
    with pytest.raises(BadData, match="other logits"):
        _deploy(cloud.wrong)
    assert cloud.standin.endpoints["digits"].config == before
    assert _served(cloud) == cloud.first.digest
    assert _operations(cloud).count("UpdateEndpoint") == 2


def test_a_first_fleet_that_answers_wrongly_is_removed(cloud: Cloud, second: Package) -> None:
    cloud.standin.packages[f"{cloud.first.uri}/"] = second.path
    with pytest.raises(BadData, match="other logits"):
        _deploy(cloud.first)
    assert cloud.standin.endpoints == {}


def test_a_second_try_goes_on_with_what_the_first_one_began(cloud: Cloud) -> None:
    """The first try was killed after `update_endpoint`."""
    _deploy(cloud.first)
    job = _job(cloud.second)
    aws = boto3.Session().client("sagemaker")
    model = model_request("digits", cloud.second, job.sagemaker)
    config = config_request("digits", model["ModelName"], job.sagemaker)
    aws.create_model(**model)
    aws.create_endpoint_config(**config)
    aws.update_endpoint(EndpointName="digits", EndpointConfigName=config["EndpointConfigName"])
    assert _deploy(cloud.second).after == cloud.second.digest
    assert _operations(cloud).count("UpdateEndpoint") == 1
    assert _served(cloud) == cloud.second.digest


def test_an_endpoint_that_is_busy_with_something_else_is_left_alone(cloud: Cloud) -> None:
    _deploy(cloud.first)
    cloud.standin.endpoints["digits"].status = "SystemUpdating"
    with pytest.raises(TryLater, match="SystemUpdating"):
        _deploy(cloud.second)
    assert "UpdateEndpoint" not in _operations(cloud)


ERRORS = {
    "throttled": ("ThrottlingException", TryLater, "not ready"),
    "no permission": ("AccessDeniedException", BadParameters, "policy"),
    "old credentials": ("ExpiredTokenException", BadParameters, "renew"),
    "quota": ("ResourceLimitExceeded", BadParameters, "instance_type"),
    "wrong parameter": ("ValidationException", BadParameters, "parameter wrong"),
    "anything else": ("Conflict", BadData, "Conflict"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_aws_refuses_is_told_with_its_cure(cloud: Cloud, case: str) -> None:
    code, kind, cure = ERRORS[case]
    cloud.standin.next_error = ("CreateModel", ServiceError("No.", code))
    with pytest.raises(kind, match=cure) as caught:
        _deploy(cloud.first)
    assert "create model digits-" in str(caught.value)
    assert cloud.standin.endpoints == {}


def test_an_aws_that_cannot_be_reached_is_tried_later(
    first: Package, aws: pytest.MonkeyPatch
) -> None:
    aws.setenv("AWS_ENDPOINT_URL_SAGEMAKER", "http://127.0.0.1:9")
    with pytest.raises(TryLater, match="cannot be reached"):
        _deploy(_in_s3(first))


def test_without_credentials_or_region_the_cure_is_told(
    first: Package, aws: pytest.MonkeyPatch
) -> None:
    aws.setenv("AWS_ENDPOINT_URL_SAGEMAKER", "http://127.0.0.1:9")
    aws.delenv("AWS_ACCESS_KEY_ID")
    aws.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(BadParameters, match="no AWS credentials"):
        _deploy(_in_s3(first))
    aws.delenv("AWS_REGION")
    aws.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(BadParameters, match=r"sagemaker\.region"):
        _deploy(_in_s3(first))


def test_a_package_that_is_not_in_s3_is_told_to_be_pushed(
    first: Package, aws: pytest.MonkeyPatch
) -> None:
    aws.setenv("AWS_ENDPOINT_URL_SAGEMAKER", "http://127.0.0.1:9")
    with pytest.raises(BadParameters, match="push it"):
        _deploy(first)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"role_arn": ""}, "role_arn"),
        ({"image_uri": ""}, "image_uri"),
        ({"rollout": "canary"}, "instance_count"),
        ({"step_percent": 60}, "step_percent"),
        ({"alarms": ["a"] * 11}, "alarms"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_wrong_settings_are_named(
    first: Package, private_pem: str, settings: dict[str, Any], named: str
) -> None:
    assert private_pem
    with pytest.raises(BadParameters, match=named):
        _job(first, **settings)


@pytest.mark.parametrize("rollout", ["all-at-once", "canary", "linear"])
def test_botocore_itself_accepts_every_rollout(rollout: str, aws: pytest.MonkeyPatch) -> None:
    """Its Stubber holds parameters to the service's model."""
    assert aws
    settings = SageMaker.model_validate({"rollout": rollout, "alarms": ["a"]})
    request = {
        "EndpointName": "digits",
        "EndpointConfigName": "digits-0123456789ab",
        "DeploymentConfig": rollout_request(settings),
    }
    client = boto3.Session().client("sagemaker")
    with Stubber(client) as stub:
        stub.add_response("update_endpoint", {"EndpointArn": ENDPOINT_ARN}, request)
        assert client.update_endpoint(**request)["EndpointArn"] == ENDPOINT_ARN
        stub.assert_no_pending_responses()


def test_a_long_endpoint_name_still_makes_names_that_aws_takes(first: Package) -> None:
    settings = SageMaker(role_arn=ROLE, image_uri=IMAGE)
    request = model_request("a" * 49 + "-" + "b" * 13, _in_s3(first), settings)
    assert len(request["ModelName"]) <= 63
    assert "--" not in request["ModelName"]


@pytest.fixture
def moto(aws: pytest.MonkeyPatch) -> Iterator[str]:
    """moto's control plane; its runtime cannot read a binary body, so a test brings its own."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    web.post(f"{url}/moto-api/reset")
    aws.setenv("AWS_ENDPOINT_URL_SAGEMAKER", url)
    yield url
    server.stop()


@contextmanager
def _runtime(answer: dict[str, Any], aws: pytest.MonkeyPatch) -> Iterator[None]:
    """Answer every invocation with the same JSON."""
    body = json.dumps(answer).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        aws.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", f"http://127.0.0.1:{port}")
        yield
        server.shutdown()


def test_moto_takes_the_model_the_configuration_and_the_endpoint(
    moto: str, first: Package, aws: pytest.MonkeyPatch
) -> None:
    assert moto
    package = _in_s3(first)
    golden = golden_request(package.path, load_manifest(package.path))
    rows = [
        {"label": "0", "probabilities": [1.0], "logits": row} for row in golden.expected.tolist()
    ]
    with _runtime({"predictions": rows}, aws):
        receipt = _deploy(package)
    assert receipt.changed is True
    client = boto3.Session().client("sagemaker")
    endpoint = client.describe_endpoint(EndpointName="digits")
    assert endpoint["EndpointStatus"] == "InService"
    config = client.describe_endpoint_config(EndpointConfigName=endpoint["EndpointConfigName"])
    (variant,) = config["ProductionVariants"]
    assert (variant["InstanceType"], variant["InitialInstanceCount"]) == ("ml.m5.large", 1)
    model = client.describe_model(ModelName=variant["ModelName"])
    assert model["ExecutionRoleArn"] == ROLE
    assert model["PrimaryContainer"]["Image"] == IMAGE
    assert receipt.address == endpoint["EndpointArn"]


def test_a_wrong_answer_in_moto_removes_the_endpoint_again(
    moto: str, first: Package, aws: pytest.MonkeyPatch
) -> None:
    assert moto
    with _runtime({"sorry": 1}, aws), pytest.raises(BadData, match="no predictions"):
        _deploy(_in_s3(first))
    assert boto3.Session().client("sagemaker").list_endpoints()["Endpoints"] == []
