"""What push promises: a package that verifies is there whole, any other leaves nothing behind."""

from __future__ import annotations

import json

import pytest
from support.packages import tiny_package

from slimline.contract import (
    BadData,
    BadParameters,
    LocalStore,
    Package,
    Refused,
    TryLater,
    open_store,
    sha256_file,
)
from slimline.contract.store import artifact_is_whole, fetch_artifact
from slimline.embedded.ports import free_port
from slimline.push.spec import Push
from slimline.trust.keys import generate_key, load_trusted
from slimline.trust.package import verify_package

PRIVATE, PUBLIC = generate_key()


@pytest.fixture(autouse=True)
def trusted(tmp_path, monkeypatch):
    folder = tmp_path / "trusted"
    folder.mkdir()
    (folder / "team.pem").write_text(PUBLIC)
    monkeypatch.setenv("SLIMLINE_TRUSTED_KEYS", str(folder))


@pytest.fixture
def package(tmp_path):
    return Package.at(tiny_package(tmp_path / "package", private_pem=PRIVATE))


@pytest.fixture(params=["local", "s3"])
def destination(request, tmp_path):
    if request.param == "local":
        return str(tmp_path / "releases")
    return request.getfixturevalue("s3").new_prefix()


def push(package, destination, tmp_path, name="jobs"):
    job = Push(package=package, destination=destination)
    return job.run(LocalStore(tmp_path / name), work_dir=tmp_path / f"{name}-work")


def test_a_pushed_package_comes_back_and_verifies(package, destination, tmp_path):
    numbers = push(package, destination, tmp_path).manifest.numbers
    assert numbers["digest"] == package.digest
    assert numbers["uploaded"] is True
    back = fetch_artifact(Package.model_validate(numbers["uri"]), tmp_path / "back")
    assert verify_package(back.path, load_trusted()).model_digest == numbers["model_digest"]


def test_the_receipt_tells_where_it_is_and_how_much(package, destination, tmp_path):
    outcome = push(package, destination, tmp_path)
    receipt = json.loads((outcome["receipt"].path / "receipt.json").read_text())
    files = [p for p in package.path.rglob("*") if p.is_file()]
    assert receipt["uri"] == f"{open_store(destination).uri}/artifacts/{package.digest}"
    assert receipt["digest"] == package.digest
    assert receipt["files"] == len(files)
    assert receipt["bytes"] == sum(p.stat().st_size for p in files)


def test_pushing_again_uploads_nothing_and_gives_the_same_receipt(package, destination, tmp_path):
    first = push(package, destination, tmp_path)
    second = push(package, destination, tmp_path, "again")
    assert first.manifest.numbers["uploaded"] is True
    assert second.manifest.numbers["uploaded"] is False
    assert first["receipt"].digest == second["receipt"].digest


def test_a_lost_file_is_put_back_by_the_next_push(package, destination, tmp_path):
    push(package, destination, tmp_path)
    store = open_store(destination)
    store.delete(f"artifacts/{package.digest}/card.md")
    assert push(package, destination, tmp_path, "again").manifest.numbers["uploaded"] is True
    assert artifact_is_whole(store, package.digest) == ""


def test_bytes_swapped_behind_s3s_back_are_replaced_by_the_next_push(package, s3, tmp_path):
    destination = s3.new_prefix()
    push(package, destination, tmp_path)
    key = f"{destination.split('/', 3)[3]}/artifacts/{package.digest}/card.md"
    head = s3.client().head_object(Bucket=s3.bucket, Key=key)
    s3.client().put_object(
        Bucket=s3.bucket, Key=key, Body=b"x" * head["ContentLength"], Metadata=head["Metadata"]
    )
    push(package, destination, tmp_path, "again")
    kept = Package.model_validate(f"{destination}/artifacts/{package.digest}")
    back = fetch_artifact(kept, tmp_path / "back")
    assert sha256_file(back.path / "card.md") == sha256_file(package.path / "card.md")


def test_a_package_with_a_file_that_may_hold_code_is_refused_and_nothing_is_written(
    package, destination, tmp_path
):
    (package.path / "model.pkl").write_bytes(b"x")
    with pytest.raises(Refused, match="may not be") as told:
        push(Package.at(package.path), destination, tmp_path)
    assert told.value.exit_code == 65
    assert list(open_store(destination).keys("")) == []


def test_no_trusted_keys_is_a_bad_parameter(package, tmp_path, monkeypatch):
    monkeypatch.delenv("SLIMLINE_TRUSTED_KEYS")
    with pytest.raises(BadParameters, match="SLIMLINE_TRUSTED_KEYS"):
        push(package, str(tmp_path / "releases"), tmp_path)
    assert not (tmp_path / "releases").exists()


def test_a_destination_must_be_named(package):
    with pytest.raises(BadParameters, match="destination"):
        Push.parse({"package": package})
    with pytest.raises(BadParameters, match="destination"):
        Push.parse({"package": package, "destination": ""})


@pytest.mark.parametrize("destination", ["ftp://host/x", "s3://"])
def test_a_destination_that_is_no_store_is_a_bad_parameter(package, tmp_path, destination):
    with pytest.raises(BadParameters, match="give s3://bucket/prefix"):
        push(package, destination, tmp_path)


def test_a_store_that_is_down_means_try_later(package, s3, tmp_path, monkeypatch):
    destination = s3.new_prefix()
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(TryLater, match="does not answer") as told:
        push(package, destination, tmp_path)
    assert told.value.exit_code == 75


def test_a_store_that_fails_midway_has_no_listing(package, s3, tmp_path, monkeypatch):
    destination = s3.new_prefix()
    upload = type(open_store(destination)).upload

    def fails_on_the_manifest(self, path, key, sha256):
        if key.endswith("manifest.json"):
            raise TryLater("no more room")
        upload(self, path, key, sha256)

    monkeypatch.setattr(type(open_store(destination)), "upload", fails_on_the_manifest)
    with pytest.raises(TryLater):
        push(package, destination, tmp_path)
    monkeypatch.undo()
    with pytest.raises(BadData):
        fetch_artifact(
            Package.model_validate(f"{destination}/artifacts/{package.digest}"), tmp_path / "back"
        )
