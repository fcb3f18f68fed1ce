"""What register promises: one version for each package, with its numbers, whatever goes wrong."""

from __future__ import annotations

import itertools
import json

import pytest
from mlflow import MlflowClient
from support.loopback import always_answers
from support.packages import tiny_evaluation, tiny_package

from slimline.contract import (
    BadData,
    BadParameters,
    Evaluation,
    LocalStore,
    Package,
    Receipt,
    Refused,
    TryLater,
)
from slimline.embedded.ports import free_port
from slimline.register.spec import Register
from slimline.trust.keys import generate_key
from slimline.trust.package import load_manifest

PRIVATE, _ = generate_key()
_names = (f"model-{i}" for i in itertools.count())


@pytest.fixture
def name():
    return next(_names)


@pytest.fixture
def client(mlflow_server):
    return MlflowClient(mlflow_server.url)


def folder(root, file, content):
    root.mkdir()
    (root / file).write_text(content)
    return root


@pytest.fixture
def inputs(tmp_path):
    return make_inputs(tmp_path / "one", seed=0)


def make_inputs(root, seed):
    root.mkdir()
    package = Package.at(tiny_package(root / "package", private_pem=PRIVATE, seed=seed))
    uri = f"s3://bucket/releases/artifacts/{package.digest}"
    record = tiny_evaluation(load_manifest(package.path).model_digest)
    receipt = json.dumps({"uri": uri, "digest": package.digest, "bytes": 1, "files": 1})
    return {
        "package": package,
        "receipt": Receipt.at(folder(root / "receipt", "receipt.json", receipt)),
        "evaluation": Evaluation.at(
            folder(root / "evaluation", "evaluation.json", record.model_dump_json())
        ),
    }


def register(tmp_path, **values):
    work = tmp_path / f"work-{next(_names)}"
    return Register.parse(values).run(LocalStore(tmp_path / "jobs"), work_dir=work)


def test_a_version_has_the_packages_uri_digests_numbers_and_alias(inputs, name, client, tmp_path):
    outcome = register(tmp_path, **inputs, name=name, tags={"team": "vision"})
    numbers = outcome.manifest.numbers
    version = client.get_model_version_by_alias(name, "candidate")
    digest = inputs["package"].digest
    assert version.version == numbers["version"] == "1"
    assert version.source == f"s3://bucket/releases/artifacts/{digest}"
    assert version.tags["slimline.package.uri"] == version.source
    assert version.tags["slimline.package.digest"] == digest
    manifest = load_manifest(inputs["package"].path)
    assert version.tags["slimline.model.digest"] == manifest.model_digest
    assert version.tags["team"] == "vision"
    metrics = client.get_run(version.run_id).data.metrics
    assert metrics["accuracy"] == pytest.approx(0.96)
    assert metrics["speedup"] == pytest.approx(4.0)
    receipt = json.loads((outcome["registration"].path / "receipt.json").read_text())
    assert receipt["version"] == "1"


def test_the_same_package_stays_one_version(inputs, name, client, tmp_path):
    first = register(tmp_path, **inputs, name=name).manifest.numbers
    second = register(
        tmp_path, **inputs, name=name, aliases=("candidate", "blue"), tags={"a": "b"}
    ).manifest.numbers
    assert (first["created"], second["created"]) == (True, False)
    assert first["version"] == second["version"]
    assert len(client.search_model_versions(f"name = '{name}'")) == 1
    assert client.get_model_version_by_alias(name, "blue").tags["a"] == "b"


def test_another_package_is_another_version_and_takes_the_alias(inputs, name, client, tmp_path):
    register(tmp_path, **inputs, name=name)
    other = make_inputs(tmp_path / "two", seed=1)
    assert register(tmp_path, **other, name=name).manifest.numbers["version"] == "2"
    assert client.get_model_version_by_alias(name, "candidate").version == "2"
    assert len(client.search_model_versions(f"name = '{name}'")) == 2


def test_a_registration_that_was_cut_short_leaves_one_run_when_done_again(
    inputs, name, client, tmp_path, monkeypatch
):
    def cut(*_args, **_kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_model_version", cut)
        with pytest.raises(KeyboardInterrupt):
            register(tmp_path, **inputs, name=name)
    register(tmp_path, **inputs, name=name)
    experiment = client.get_experiment_by_name(name).experiment_id
    assert len(client.search_runs([experiment])) == 1
    assert len(client.search_model_versions(f"name = '{name}'")) == 1


@pytest.mark.usefixtures("mlflow_server")
def test_a_receipt_for_another_package_is_refused(inputs, name, client, tmp_path):
    other = make_inputs(tmp_path / "two", seed=1)
    with pytest.raises(Refused, match="receipt is about other bytes"):
        register(tmp_path, **{**inputs, "receipt": other["receipt"]}, name=name)
    with pytest.raises(Refused, match="evaluation is about other bytes"):
        register(tmp_path, **{**inputs, "evaluation": other["evaluation"]}, name=name)
    assert client.search_registered_models(f"name = '{name}'") == []


def test_a_receipt_that_is_none_is_bad_data(inputs, name, tmp_path):
    broken = Receipt.at(folder(tmp_path / "receipt", "receipt.json", "{}"))
    with pytest.raises(BadData, match="is none of a push"):
        register(tmp_path, **{**inputs, "receipt": broken}, name=name)


def test_no_address_is_a_bad_parameter(inputs, name, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(BadParameters, match="MLFLOW_TRACKING_URI is not set"):
        register(tmp_path, **inputs, name=name)


@pytest.fixture
def one_try(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.mark.usefixtures("one_try")
def test_a_server_that_is_down_means_try_later(inputs, name, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(TryLater, match="does not answer") as told:
        register(tmp_path, **inputs, name=name)
    assert told.value.exit_code == 75


@pytest.mark.usefixtures("one_try")
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((503, "TEMPORARILY_UNAVAILABLE"), (TryLater, "does not answer")),
        ((500, "INTERNAL_ERROR"), (TryLater, "does not answer")),
        ((401, "UNAUTHENTICATED"), (BadParameters, "MLFLOW_TRACKING_TOKEN")),
        ((403, "PERMISSION_DENIED"), (BadParameters, "MLFLOW_TRACKING_TOKEN")),
        ((400, "INVALID_PARAMETER_VALUE"), (BadParameters, "told so")),
    ],
)
def test_each_refusal_has_its_error(inputs, tmp_path, monkeypatch, answer, told):
    (status, code), (error, words) = answer, told
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "planted-secret")
    body = json.dumps({"error_code": code, "message": "told so"}).encode()
    with always_answers(status, body, "application/json") as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        with pytest.raises(error, match=words) as raised:
            register(tmp_path, **inputs, name="model")
    assert "planted-secret" not in str(raised.value)


@pytest.mark.parametrize("alias", ["latest", "v1", "V12", "deployed", "previous", "", "a b"])
def test_reserved_aliases_are_refused(inputs, alias):
    with pytest.raises(BadParameters, match="aliases"):
        Register.parse({**inputs, "aliases": (alias,)})


@pytest.mark.parametrize("tag", ["slimline.package.uri", "mlflow.source", ""])
def test_our_own_tags_cannot_be_overridden(inputs, tag):
    with pytest.raises(BadParameters, match="tags"):
        Register.parse({**inputs, "tags": {tag: "x"}})


def test_ordinary_aliases_and_tags_are_taken(inputs):
    job = Register.parse({**inputs, "aliases": ("candidate", "vision-2"), "tags": {"team": "x"}})
    assert job.parameter_values()["aliases"] == ["candidate", "vision-2"]
