"""Our reader of the OpenSSF model signature, held against the library that defines it."""

from __future__ import annotations

import base64
import json

import pytest
from model_signing import hashing, verifying

from slimline.contract import Refused, canonical_json, sha256_file
from slimline.trust.dsse import pae
from slimline.trust.keys import TrustedKeys, sign
from slimline.trust.package import list_files
from slimline.trust.signature import sign_tree, signed_files


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "a.json").write_text("{}")
    (root / "deep" / "b.md").write_text("b")
    (root / "deep" / "er" / "empty.html").write_text("")
    return root


def _library_verifies(root, public_pem, tmp_path):
    key = tmp_path / "key.pem"
    key.write_text(public_pem)
    config = verifying.Config().use_elliptic_key_verifier(public_key=key)
    files = hashing.Config().set_ignored_paths(
        paths=[root / "signature.json"], ignore_git_paths=False
    )
    config.set_hashing_config(files).verify(root, root / "signature.json")


def _resigned(root, keys, change):
    """The bundle of a tree with a changed statement under a right signature."""
    bundle = json.loads((root / "signature.json").read_bytes())
    signed = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    change(signed)
    payload = canonical_json(signed)
    signature = sign(keys[0], pae("application/vnd.in-toto+json", payload))
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    return json.dumps(bundle).encode()


def test_we_read_what_the_library_signed_and_find_every_file(tree, keys, trusted):
    sign_tree(tree, keys[0])
    found = signed_files((tree / "signature.json").read_bytes(), trusted)
    paths = [path for path in list_files(tree) if path != "signature.json"]
    assert found == {path: sha256_file(tree / path) for path in paths}
    assert len(paths) == 3


def test_the_library_verifies_a_package_as_we_sealed_it(package, keys, tmp_path):
    _library_verifies(package, keys[1], tmp_path)
    (package / "card.md").write_text("other")
    with pytest.raises(ValueError, match=r"card.md"):
        _library_verifies(package, keys[1], tmp_path)


def test_the_library_verifies_a_statement_that_we_signed_ourselves(tree, keys, tmp_path, trusted):
    sign_tree(tree, keys[0])
    (tree / "signature.json").write_bytes(_resigned(tree, keys, dict.copy))
    _library_verifies(tree, keys[1], tmp_path)
    assert len(signed_files((tree / "signature.json").read_bytes(), trusted)) == 3


def test_both_refuse_a_foreign_key(tree, keys, foreign, trusted, tmp_path):
    sign_tree(tree, foreign[0])
    with pytest.raises(ValueError, match=r"[Kk]ey"):
        _library_verifies(tree, keys[1], tmp_path)
    with pytest.raises(Refused, match=r"signature.json is signed by a key that is not trusted"):
        signed_files((tree / "signature.json").read_bytes(), trusted)


def test_a_key_file_with_other_line_ends_is_the_same_key(tree, keys):
    sign_tree(tree, keys[0])
    trusted = TrustedKeys.of(keys[1].replace("\n", "\r\n") + "\n\n")
    assert signed_files((tree / "signature.json").read_bytes(), trusted)


def test_no_flipped_byte_in_a_signature_passes(tree, keys, trusted):
    sign_tree(tree, keys[0])
    bundle = (tree / "signature.json").read_bytes()
    assert signed_files(bundle, trusted)
    for place in range(len(bundle)):
        bent = bytearray(bundle)
        bent[place] ^= 1
        with pytest.raises(Refused, match=r"signature.json"):
            signed_files(bytes(bent), trusted)


def _drop_one(signed):
    signed["predicate"]["resources"].pop()


def _name_one_twice(signed):
    signed["predicate"]["resources"][1]["name"] = signed["predicate"]["resources"][0]["name"]


def _serialize_otherwise(field, value):
    def change(signed):
        signed["predicate"]["serialization"][field] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _drop_one,
        _name_one_twice,
        _serialize_otherwise("method", "shards"),
        _serialize_otherwise("hash_type", "blake2b"),
        _serialize_otherwise("allow_symlinks", value=True),
        _serialize_otherwise("ignore_paths", ["model"]),
        lambda signed: signed.update(predicateType="https://slimline.dev/verdict/v1"),
        lambda signed: signed["predicate"]["resources"][0].update(algorithm="md5"),
        lambda signed: signed["predicate"].pop("resources"),
        lambda signed: signed["subject"].append(signed["subject"][0]),
    ],
)
def test_a_signed_statement_that_does_not_cover_a_tree_is_refused(tree, keys, trusted, change):
    sign_tree(tree, keys[0])
    with pytest.raises(Refused, match=r"signature.json is malformed"):
        signed_files(_resigned(tree, keys, change), trusted)


def test_the_signing_key_is_left_nowhere(tree, keys, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    sign_tree(tree, keys[0])
    assert list(scratch.iterdir()) == []
    assert b"PRIVATE" not in (tree / "signature.json").read_bytes()
