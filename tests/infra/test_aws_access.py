"""Each role may do what its component declares and nothing else, by moto's IAM on the templates.

What is not proven here: see `support.aws`. Conditions, variables and the policies of buckets and
keys are in `test_aws_conditions.py`; a real account decides in the end.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from unittest.mock import patch

import pytest
from botocore.exceptions import ClientError
from moto.core.authorization import enable_iam_authentication
from support.aws import THING, deployed
from support.fleet import GROUP, make_fleet
from support.packages import tiny_package
from support.sources import read

from slimline.adapters.airflow.release_tasks import read_verdict
from slimline.adapters.aws.role import role_credentials
from slimline.adapters.janitor import sweep_store
from slimline.check_data.spec import CheckData
from slimline.contract import (
    BadParameters,
    Package,
    TryLater,
    component_names,
    execute,
    load_component,
    open_store,
)
from slimline.contract.artifact import Artifact
from slimline.contract.job import Checkpoint
from slimline.contract.store import artifact_is_whole, save_artifact
from slimline.embedded.ports import free_port
from slimline.push.spec import Push
from slimline.renew.spec import Renew
from slimline.trust.keys import generate_key
from slimline.verify.spec import Verify
from slimline.watch.fleet import look_at_fleet

DATA = "factory-data"
PRIVATE, PUBLIC = generate_key()
JOB = {"store read", "store write", "store forget checkpoint"}
READ, WRITE = "releases read", "releases write"
FLEET = {"fleet read tuf", "fleet read status"}
TRAINING = JOB | {"store delete"}
MAY = {
    "adopt": JOB | {"data read"},
    "check_data": JOB | {"data read"},
    "deploy": JOB | {READ, "endpoints"},
    "distill": TRAINING,
    "export": JOB,
    "gate": JOB | {"secret signing"},
    "ota": JOB | FLEET | {READ, "fleet sign", "fleet copy", "secret tuf"},
    "package": JOB | {"secret signing"},
    "prune": TRAINING,
    "push": JOB | {READ, WRITE, "releases replace"},
    "qat": TRAINING,
    "quantize": JOB,
    "register": JOB,
    "renew": JOB | {"fleet read tuf", "fleet sign", "secret tuf"},
    "reshape": TRAINING,
    "search": TRAINING,
    "train": TRAINING,
    "validate": JOB,
    "verify": JOB | {READ},
    "watch": JOB | {READ, "fleet read status"},
}
"""Written by hand, from what the rooms do: not from what they declare."""


@pytest.fixture(scope="module")
def aws():
    with deployed(roles={"DataBucket": DATA}) as found:
        found.client("s3").create_bucket(
            Bucket=DATA, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
        for name in ("signing", "tuf"):
            found.secret(name)
        yield found


@pytest.fixture
def trusted(tmp_path, monkeypatch):
    (tmp_path / "trusted").mkdir()
    (tmp_path / "trusted" / "team.pem").write_text(PUBLIC)
    monkeypatch.setenv("SLIMLINE_TRUSTED_KEYS", str(tmp_path / "trusted"))


@pytest.fixture
def package(aws, tmp_path, trusted):  # noqa: ARG001 - trusted sets the keys
    made = Package.at(tiny_package(tmp_path / "package", private_pem=PRIVATE))
    return save_artifact(open_store(aws.uri("store")), made)


def probes(aws):
    """One call for each thing that some role may do; what it finds does not matter."""
    s3, sagemaker = aws.client("s3"), aws.client("sagemaker")
    secrets = aws.client("secretsmanager")

    def get(place, key):
        return lambda: s3.get_object(Bucket=_bucket(aws, place), Key=key)

    def put(place, key):
        return lambda: s3.put_object(Bucket=_bucket(aws, place), Key=key, Body=b"1")

    def delete(place, key):
        return lambda: s3.delete_object(Bucket=_bucket(aws, place), Key=key)

    def describe(name):
        return lambda: sagemaker.describe_endpoint(EndpointName=name)

    def secret(name):
        return lambda: secrets.get_secret_value(SecretId=f"slimline/slimline_{name}")

    return {
        "store read": get("store", "jobs/a/manifest.json"),
        "store write": put("store", "artifacts/a/b"),
        "store forget checkpoint": delete("store", "jobs/a/checkpoint"),
        "store delete": delete("store", "artifacts/a/b"),
        "store delete a manifest": delete("store", "jobs/a/manifest.json"),
        "store unlock": lambda: s3.delete_bucket_policy(Bucket=_bucket(aws, "store")),
        "releases read": get("releases", "artifacts/a/b"),
        "releases write": put("releases", "artifacts/a/b"),
        "releases write elsewhere": put("releases", "other"),
        "releases replace": delete("releases", "artifacts/a.json"),
        "releases delete": delete("releases", "artifacts/a/model.onnx"),
        "fleet read tuf": get("fleet", "tuf/metadata/timestamp.json"),
        "fleet read status": get("fleet", "status/g/d.json"),
        "fleet sign": put("fleet", "tuf/metadata/1.snapshot.json"),
        "fleet copy": put("fleet", "packages/a/b"),
        "fleet enrol": put("fleet", "devices/d.json"),
        "fleet report": put("fleet", "status/g/d.json"),
        "fleet delete": delete("fleet", "tuf/metadata/timestamp.json"),
        "data read": get("data", "d.csv"),
        "data write": put("data", "d.csv"),
        "endpoints": describe("slimline-digits"),
        "endpoints of others": describe("digits"),
        "endpoints list": sagemaker.list_endpoints,
        "secret signing": secret("signing"),
        "secret tuf": secret("tuf"),
        "users": lambda: aws.client("iam").list_users(),
        "a new bucket": lambda: s3.create_bucket(Bucket="another"),
    }


def _bucket(aws, place):
    return DATA if place == "data" else aws.bucket(place)


def _is_allowed(call):
    try:
        call()
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"] != 403
    return True


def test_every_component_is_in_the_table():
    assert set(MAY) == set(component_names())


@pytest.mark.parametrize("name", sorted(MAY))
def test_a_role_may_do_what_its_component_does_and_nothing_else(aws, name):
    with aws.role(name.replace("_", "-")):
        allowed = {what for what, call in probes(aws).items() if _is_allowed(call)}
    assert allowed == MAY[name]


def test_without_a_role_of_ours_the_probes_are_good_calls(aws):
    """Else a call that is refused for another reason would look like a policy that works."""
    assert {what for what, call in probes(aws).items() if not _is_allowed(call)} == set()


def test_push_under_its_role_writes_releases_and_no_fleet(aws, package, tmp_path):
    store = open_store(aws.uri("store"))
    job = Push(package=package, destination=aws.uri("releases"))
    with aws.role("push"):
        done = execute(job, store, work_dir=tmp_path / "work", lineage="digits/push")
        assert done.manifest.numbers["uploaded"] is True
        elsewhere = Push(package=package, destination=aws.uri("fleet"))
        with pytest.raises(BadParameters, match="AccessDenied"):
            execute(elsewhere, store, work_dir=tmp_path / "other")
    assert artifact_is_whole(open_store(aws.uri("releases")), package.digest) == ""
    assert artifact_is_whole(open_store(aws.uri("fleet")), package.digest) != ""


def test_push_under_its_role_replaces_a_release_whose_bytes_rotted(aws, package, tmp_path):
    releases, key = open_store(aws.uri("releases")), f"artifacts/{package.digest}/card.md"
    save_artifact(releases, package)
    rotten = bytes(releases.stat(key).size)
    aws.client("s3").put_object(
        Bucket=aws.bucket("releases"),
        Key=key,
        Body=rotten,
        Metadata={"sha256": releases.stat(key).sha256},
    )
    job = Push(package=package, destination=aws.uri("releases"))
    with aws.role("push"):
        execute(job, open_store(aws.uri("store")), work_dir=tmp_path / "work", force=True)
    assert releases.get(key) != rotten


def test_verify_under_its_role_reads_a_release_and_quantize_cannot(aws, package, tmp_path):
    released = save_artifact(open_store(aws.uri("releases")), package)
    job, store = Verify(package=released), open_store(aws.uri("store"))
    with aws.role("verify"):
        execute(job, store, work_dir=tmp_path / "work")
    with aws.role("quantize"), pytest.raises(BadParameters, match="AccessDenied"):
        execute(job, store, work_dir=tmp_path / "other")


def test_check_data_under_its_role_reads_the_data_bucket_and_train_cannot(aws):
    text = b"x,label\n1,a\n2,b\n"
    aws.client("s3").put_object(Bucket=DATA, Key="parts/d.csv", Body=text)
    source = {"kind": "csv", "path": f"s3://{DATA}/parts/d.csv"}
    for name in ("check-data", "worker"):
        with aws.role(name):
            assert set(CheckData(source=source).outside()) == {"source"}
            assert len(read(**source).x) == 2
    with aws.role("train"), pytest.raises(BadParameters, match="403"):
        read(**source)


def test_training_under_its_role_keeps_replaces_and_forgets_a_checkpoint(aws, tmp_path):
    store = open_store(aws.uri("store"))
    saved, before = Checkpoint(tmp_path, store, "a" * 64), _listings(store)
    with aws.role("train"):
        for text in ("one", "two"):
            (tmp_path / "state").write_text(text)
            saved.save()
        assert len(_listings(store)) == len(before) + 1
        saved.discard()
    assert _listings(store) == before


def test_large_files_go_up_in_parts_under_a_role(aws, tmp_path):
    (tmp_path / "weights").write_bytes(bytes(20 * 2**20))
    store = open_store(aws.uri("store"))
    with aws.role("export"):
        kept = save_artifact(store, Artifact.at(tmp_path))
        assert artifact_is_whole(store, kept.digest) == ""


def test_the_worker_reads_verdicts_and_sweeps_and_makes_no_result(aws, package):
    store = open_store(aws.uri("store"))
    released = save_artifact(open_store(aws.uri("releases")), package)
    with aws.role("worker"):
        verdict = read_verdict({"uri": released.uri, "digest": released.digest})
        assert verdict["passed"] is True
        sweep_store(store, older_than=timedelta(0), dry_run=False)
        store.put("latest/digits/push.json", b"{}")
        with pytest.raises(BadParameters, match="AccessDenied"):
            store.put("artifacts/a/model.onnx", b"planted")
        with pytest.raises(BadParameters, match="AccessDenied"):
            open_store(aws.uri("fleet")).get("tuf/metadata/timestamp.json")


def test_a_release_goes_through_a_fleet_with_each_part_under_its_own_role(
    aws, tmp_path, monkeypatch
):
    bucket = open_store(aws.uri("fleet"))
    for key in list(bucket.keys("")):
        bucket.delete(key)
    fleet = make_fleet(tmp_path, aws.uri("fleet"))
    fleet.agent(THING)
    with aws.role("ota"):
        fleet.tell(fleet.package(1))
    with aws.role("device"):
        status = fleet.agent(THING, start=False).poll()
    assert status.state == "updated", status
    with aws.role("watch"):
        assert look_at_fleet(fleet.uri, GROUP, "", 1.0) == ("", 1)
    monkeypatch.setenv("SLIMLINE_SECRET_TUF", json.dumps(fleet.keys))
    with aws.role("renew"):
        execute(
            Renew(repository=fleet.uri), open_store(aws.uri("store")), work_dir=tmp_path / "renew"
        )


def test_deploy_makes_and_removes_endpoints_of_its_name_and_no_others(aws):
    role = aws.outputs["serving"]["EndpointRole"]
    with aws.role("deploy"):
        sagemaker = aws.client("sagemaker")
        sagemaker.create_model(ModelName="slimline-a", ExecutionRoleArn=role)
        variant = {"VariantName": "all", "ModelName": "slimline-a", "InstanceType": "ml.m5.large"}
        sagemaker.create_endpoint_config(
            EndpointConfigName="slimline-a",
            ProductionVariants=[{**variant, "InitialInstanceCount": 1}],
        )
        sagemaker.create_endpoint(EndpointName="slimline-a", EndpointConfigName="slimline-a")
        sagemaker.delete_endpoint(EndpointName="slimline-a")
        with pytest.raises(ClientError, match="not authorized to perform: sagemaker:CreateModel"):
            sagemaker.create_model(ModelName="theirs", ExecutionRoleArn=role)


def test_an_endpoint_reads_releases_and_nothing_else(aws):
    with aws.role("endpoint"):
        allowed = {what for what, call in probes(aws).items() if _is_allowed(call)}
    assert allowed == {"releases read"}


def test_a_device_reads_the_repository_and_writes_its_own_report_alone(aws):
    with aws.role("device"):
        allowed = {what for what, call in probes(aws).items() if _is_allowed(call)}
        s3 = aws.client("s3")
        own = f"status/g/{THING}.json"
        s3.put_object(Bucket=aws.bucket("fleet"), Key=own, Body=b"{}")
    assert allowed == {"fleet read tuf"}


def test_a_job_that_the_worker_starts_gets_the_credentials_of_its_own_role(aws, monkeypatch):
    key, _, variable = aws.outputs["roles"]["Environment"].partition("=")
    assert role_credentials(Push) == {}
    monkeypatch.setenv(key, variable)
    given = role_credentials(CheckData)
    with patch.dict(os.environ, given), enable_iam_authentication():
        who = aws.client("sts").get_caller_identity()["Arn"]
        assert who.endswith(":assumed-role/slimline-check-data/slimline-check-data")
        with pytest.raises(BadParameters, match="AccessDenied"):
            open_store(aws.uri("releases")).get("artifacts/a.json")


@pytest.mark.usefixtures("aws")
def test_a_setting_that_names_one_role_for_all_is_refused(monkeypatch):
    monkeypatch.setenv("SLIMLINE_ROLES", "arn:aws:iam::123456789012:role/slimline-worker")
    with pytest.raises(BadParameters, match=r"with \{component\} in it"):
        role_credentials(Push)


def test_an_aws_that_does_not_answer_is_a_case_for_later(aws, monkeypatch):
    monkeypatch.setenv("SLIMLINE_ROLES", aws.outputs["roles"]["Environment"].partition("=")[2])
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(TryLater, match="does not answer"):
        role_credentials(Push)


def test_a_secret_is_open_to_those_who_declare_it():
    declared = {name: set(load_component(name).secrets) for name in component_names()}
    told = {
        name: {what.removeprefix("secret ") for what in may if what.startswith("secret ")}
        for name, may in MAY.items()
    }
    assert declared == told


def _listings(store):
    return [key for key in store.keys("artifacts/") if key.endswith(".json")]
