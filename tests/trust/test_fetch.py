from __future__ import annotations

import pytest
from support.packages import tiny_package

from slimline.contract import BadData, BadParameters, LocalStore, Package, Refused
from slimline.contract.store import save_artifact
from slimline.trust.fetch import fetch_package, verify_uri


@pytest.fixture
def stored(package, tmp_path):
    return save_artifact(LocalStore(tmp_path / "store"), Package.at(package))


def test_a_stored_package_verifies_by_its_uri(stored, trusted, tmp_path):
    found = verify_uri(stored.uri, trusted)
    assert found.name == "digits"
    assert fetch_package(stored.uri, tmp_path / "copy", trusted) == found
    assert (tmp_path / "copy" / "model" / "model.onnx").is_file()


def test_a_local_directory_verifies_too(package, trusted):
    assert verify_uri(str(package), trusted).name == "digits"


def test_a_store_that_gives_other_bytes_is_found_out(stored, trusted, tmp_path):
    file = tmp_path / "store" / "artifacts" / stored.digest / "card.md"
    file.write_text("other")
    with pytest.raises(BadData, match="damaged"):
        verify_uri(stored.uri, trusted)


def test_a_stored_package_of_a_foreign_builder_is_refused(foreign, trusted, tmp_path):
    root = tiny_package(tmp_path / "p", private_pem=foreign[0])
    stored = save_artifact(LocalStore(tmp_path / "store"), Package.at(root))
    with pytest.raises(Refused, match="not trusted"):
        verify_uri(stored.uri, trusted)


def test_a_uri_that_names_nothing_is_a_bad_parameter(trusted):
    with pytest.raises(BadParameters, match="names no package"):
        verify_uri("s3://bucket/latest", trusted)
