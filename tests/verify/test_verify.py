from __future__ import annotations

import json

import pytest
from support.packages import tiny_package

from slimline.contract import BadParameters, Package, Refused
from slimline.trust.keys import generate_key, keyid_of
from slimline.verify.spec import Verify

PRIVATE, PUBLIC = generate_key()


@pytest.fixture(autouse=True)
def trusted(monkeypatch, tmp_path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "builder.pem").write_text(PUBLIC)
    monkeypatch.setenv("SLIMLINE_TRUSTED_KEYS", str(tmp_path / "keys"))


def _verify(root):
    return Verify(package=Package.at(root)).run()


def test_a_right_package_gets_a_receipt(tmp_path):
    root = tiny_package(tmp_path / "p", private_pem=PRIVATE, version="3", security_version=2)
    outcome = _verify(root)
    receipt = json.loads((outcome["receipt"].path / "receipt.json").read_text())
    assert receipt["digest"] == outcome.manifest.numbers["digest"] == Package.at(root).digest
    assert (receipt["name"], receipt["version"], receipt["security_version"]) == ("digits", "3", 2)
    assert receipt["trusted_keys"] == [keyid_of(PUBLIC)]
    assert receipt["golden_difference"] < 1e-4


def test_a_changed_package_is_refused(tmp_path):
    root = tiny_package(tmp_path / "p", private_pem=PRIVATE)
    (root / "card.md").write_text("other")
    with pytest.raises(Refused, match=r"card.md was changed"):
        _verify(root)


def test_a_signed_package_that_infers_otherwise_is_refused(tmp_path):
    root = tiny_package(tmp_path / "p", private_pem=PRIVATE, broken_golden=True)
    with pytest.raises(Refused, match="golden inputs gave other logits"):
        _verify(root)


def test_a_foreign_package_is_refused(tmp_path):
    root = tiny_package(tmp_path / "p", private_pem=generate_key()[0])
    with pytest.raises(Refused, match="not trusted"):
        _verify(root)


def test_without_trusted_keys_nothing_is_verified(tmp_path, monkeypatch):
    monkeypatch.delenv("SLIMLINE_TRUSTED_KEYS")
    root = tiny_package(tmp_path / "p", private_pem=PRIVATE)
    with pytest.raises(BadParameters, match="SLIMLINE_TRUSTED_KEYS"):
        _verify(root)


def test_verification_is_never_taken_from_the_cache():
    assert Verify.cached is False
