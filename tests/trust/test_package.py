from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
from support.packages import seal_again, tiny_evaluation, tiny_package, tiny_verdict

from slimline.contract import Model, Refused
from slimline.trust.keys import TrustedKeys
from slimline.trust.manifest import CHUNK_BYTES
from slimline.trust.package import REQUIRED, load_manifest, verify_package
from slimline.trust.signature import sign_tree
from slimline.trust.verdict import sign_verdict

FILES = (*REQUIRED, "signature.json")


def _change_json(path, **fields):
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_package_as_it_was_built_verifies(package, trusted):
    found = verify_package(package, trusted)
    assert (found.name, found.security_version, found.golden.count) == ("digits", 1, 4)
    assert found.model_digest == Model.at(package / "model").digest
    assert found.version == found.model_digest[:12]
    assert found == load_manifest(package)


def test_equal_builds_differ_in_the_signature_alone(built, keys, tmp_path):
    twin = tiny_package(tmp_path / "package", private_pem=keys[0])
    differing = [f for f in FILES if (built / f).read_bytes() != (twin / f).read_bytes()]
    assert differing == ["signature.json"]


def test_chunk_hashes_cover_a_file_of_several_mebibytes(keys, trusted, tmp_path):
    root = tiny_package(tmp_path / "p", private_pem=keys[0], payload_bytes=2 * CHUNK_BYTES)
    found = verify_package(root, trusted)
    [model] = [file for file in found.files if file.path == "model/model.onnx"]
    assert len(model.chunks) == 3
    assert len(set(model.chunks)) == 3


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_a_flipped_byte_in_any_file_is_refused_and_the_file_is_named(package, trusted, name, where):
    data = bytearray((package / name).read_bytes())
    data[{"first": 0, "middle": len(data) // 2, "last": -1}[where]] ^= 1
    (package / name).write_bytes(data)
    with pytest.raises(Refused, match=rf"^{name}.*(changed|malformed|not trusted)"):
        verify_package(package, trusted)


@pytest.mark.parametrize("name", FILES)
def test_a_removed_file_is_named(package, trusted, name):
    (package / name).unlink()
    with pytest.raises(Refused, match=f"{name}'? is missing"):
        verify_package(package, trusted)


@pytest.mark.parametrize("name", ["more.json", "model/more.onnx", "new/more.md"])
def test_an_extra_file_is_named(package, trusted, name):
    (package / name).parent.mkdir(exist_ok=True)
    (package / name).write_text("{}")
    with pytest.raises(Refused, match=f"^{name} is extra: the signature does not name it"):
        verify_package(package, trusted)


@pytest.mark.parametrize(
    "name", ["model.pkl", "weights.pt", "model.bin", "run.py", "README", "x.json.gz"]
)
def test_a_suffix_that_may_hold_code_is_refused_even_when_it_is_signed(
    package, keys, trusted, name
):
    (package / name).write_bytes(pickle.dumps({"a": 1}))
    sign_tree(package, keys[0])
    with pytest.raises(Refused, match=f"^{name} may not be in a package"):
        verify_package(package, trusted)


@pytest.mark.parametrize("kind", ["file link", "directory link", "dangling link", "pipe"])
def test_a_link_or_special_file_is_refused(package, trusted, kind, tmp_path):
    place = package / "card.json"
    if kind == "pipe":
        os.mkfifo(place)
    else:
        goal = {"file link": package / "card.md", "directory link": tmp_path}.get(kind, "/nowhere")
        place.symlink_to(goal)
    with pytest.raises(Refused, match=r"^card.json is a link or special file"):
        verify_package(package, trusted)


def test_a_signed_file_replaced_by_a_link_to_the_same_bytes_is_refused(package, trusted, tmp_path):
    shutil.move(package / "card.md", tmp_path / "card.md")
    (package / "card.md").symlink_to(tmp_path / "card.md")
    with pytest.raises(Refused, match=r"^card.md is a link"):
        verify_package(package, trusted)


@pytest.mark.parametrize("name", [".hidden.json", "a b.json", "a\nb.json", "-x.json", "ü.json"])
def test_a_name_that_is_not_plain_is_refused(package, trusted, name):
    (package / name).write_text("{}")
    with pytest.raises(Refused, match="is no plain file name"):
        verify_package(package, trusted)


def test_a_package_that_is_no_directory_is_refused(tmp_path, trusted):
    with pytest.raises(Refused, match="no directory, so no package"):
        verify_package(tmp_path / "nowhere", trusted)


def test_a_signature_by_a_foreign_key_is_refused(tmp_path, foreign, trusted):
    root = tiny_package(tmp_path / "p", private_pem=foreign[0])
    with pytest.raises(Refused, match=r"^signature.json is signed by a key that is not trusted"):
        verify_package(root, trusted)


def test_the_signature_of_another_package_is_refused(package, keys, trusted, tmp_path):
    other = tiny_package(tmp_path / "other", private_pem=keys[0], seed=1)
    shutil.copy(other / "signature.json", package)
    with pytest.raises(Refused, match="was changed after it was signed"):
        verify_package(package, trusted)


def test_a_verdict_by_a_foreign_key_is_refused(tmp_path, keys, foreign, trusted):
    root = tiny_package(tmp_path / "p", private_pem=keys[0], verdict_pem=foreign[0])
    with pytest.raises(Refused, match=r"^verdict is signed by a key that is not trusted"):
        verify_package(root, trusted)


def test_a_verdict_for_other_bytes_is_refused(tmp_path, keys, trusted):
    root = tiny_package(tmp_path / "p", private_pem=keys[0], verdict_digest="e" * 64)
    with pytest.raises(Refused, match=r"^verdict is for other bytes: it judged eeeeeeeeeeee"):
        verify_package(root, trusted)


def test_a_verdict_that_says_no_is_refused_with_its_reasons(tmp_path, keys, trusted):
    root = tiny_package(tmp_path / "p", private_pem=keys[0], verdict_passed=False)
    with pytest.raises(Refused, match=r"^verdict says no: accuracy 0.96 is below 0.99"):
        verify_package(root, trusted)


def test_a_signed_package_without_a_verdict_is_refused(package, keys, trusted):
    (package / "verdict.dsse.json").unlink()
    seal_again(package, keys[0])
    with pytest.raises(Refused, match=r"^verdict.dsse.json is missing: nobody judged this model"):
        verify_package(package, trusted)


@pytest.mark.parametrize(
    "case",
    [
        ({"numbers": {"accuracy": float("nan")}}, "verdict holds NaN"),
        ({"thresholds": {"margin": float("inf")}}, "verdict holds Infinity"),
        ({"passed": 1}, "verdict is malformed: passed"),
        ({"passed": "true"}, "verdict is malformed: passed"),
        ({"passed": None}, "verdict is malformed: passed"),
        ({"more": 1}, "verdict is malformed: more"),
    ],
)
def test_a_signed_verdict_with_a_wrong_predicate_is_refused(
    package, keys, trusted, monkeypatch, case
):
    predicate, reason = case
    good = json.loads(tiny_evaluation("0" * 64).model_dump_json())
    base = {
        "passed": True,
        "reasons": [],
        "thresholds": {},
        "numbers": {},
        "dataset_digest": good["dataset_digest"],
    }
    monkeypatch.setattr(
        "slimline.trust.dsse.canonical_json", lambda value: json.dumps(value).encode()
    )

    class Loose:
        def model_dump(self, **_):
            return {**base, **predicate}

    digest = load_manifest(package).model_digest
    (package / "verdict.dsse.json").write_bytes(sign_verdict(Loose(), digest, keys[0]))
    seal_again(package, keys[0])
    with pytest.raises(Refused, match=f"^{reason}"):
        verify_package(package, trusted)


@pytest.mark.parametrize(
    "fields",
    [
        {"schema_version": 2},
        {"name": "../digits"},
        {"name": "Digits"},
        {"version": ""},
        {"security_version": -1},
        {"security_version": "1"},
        {"security_version": True},
        {"files": []},
        {"model_digest": "0" * 64},
        {"golden": {"count": 0, "tolerance": 0.1}},
        {"golden": {"count": 4, "tolerance": -1}},
        {"requires": {}},
        {"more": 1},
    ],
)
def test_a_malformed_manifest_is_refused_even_when_it_is_signed(package, keys, trusted, fields):
    _change_json(package / "manifest.json", **fields)
    sign_tree(package, keys[0])
    with pytest.raises(Refused, match=r"^manifest.json is malformed"):
        verify_package(package, trusted)


@pytest.mark.parametrize("key", ["sha256", "size", "chunks", "path"])
def test_a_manifest_with_wrong_facts_about_a_file_is_refused(package, keys, trusted, key):
    manifest = json.loads((package / "manifest.json").read_text())
    wrong = {"sha256": "0" * 64, "size": 1, "chunks": [], "path": "other.md"}
    manifest["files"][0][key] = wrong[key]
    (package / "manifest.json").write_text(json.dumps(manifest))
    sign_tree(package, keys[0])
    with pytest.raises(Refused, match=r"^manifest.json is malformed: its list of files"):
        verify_package(package, trusted)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"golden": NaN}', '{"a": 1, "a": 1}'])
def test_a_manifest_that_is_no_json_object_is_refused(package, keys, trusted, text):
    (package / "manifest.json").write_text(text)
    sign_tree(package, keys[0])
    with pytest.raises(Refused, match=r"^manifest.json (is malformed|holds NaN)"):
        verify_package(package, trusted)


def _judge_again(root, keys):
    """A verdict and evaluation for the model as it is now, so that only the model is wrong."""
    digest = Model.at(root / "model").digest
    record = tiny_evaluation(digest)
    (root / "evaluation.json").write_text(record.model_dump_json())
    (root / "verdict.dsse.json").write_bytes(sign_verdict(tiny_verdict(record), digest, keys[0]))
    seal_again(root, keys[0])


@pytest.mark.parametrize(
    "fields", [{"format": "torch"}, {"labels": 5}, {"preprocessing": None}, {"more": 1}]
)
def test_an_invalid_model_description_is_refused(package, keys, trusted, fields):
    _change_json(package / "model" / "model.json", **fields)
    _judge_again(package, keys)
    with pytest.raises(Refused, match=r"^model/model.json is malformed"):
        verify_package(package, trusted)


def test_an_evaluation_of_another_model_is_refused(package, keys, trusted):
    other = tiny_evaluation("e" * 64).model_dump_json()
    (package / "evaluation.json").write_text(other)
    seal_again(package, keys[0])
    with pytest.raises(Refused, match=r"^evaluation.json is for other bytes"):
        verify_package(package, trusted)


X, LOGITS = np.zeros((4, 8, 8, 1), np.uint8), np.zeros((4, 10), np.float32)


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": X},
        {"x": X, "logits": LOGITS, "more": X},
        {"x": X, "logits": np.array([{}], dtype=object)},
        {"x": X[:3], "logits": LOGITS},
        {"x": X.astype(np.float32), "logits": LOGITS},
        {"x": X, "logits": LOGITS[:, :9]},
        {"x": X, "logits": LOGITS.astype(np.float64)},
        {"x": X, "logits": LOGITS * np.nan},
    ],
)
def test_malformed_golden_inputs_are_refused(package, keys, trusted, arrays):
    np.savez(package / "golden.npz", **arrays)
    seal_again(package, keys[0])
    with pytest.raises(Refused, match=r"^golden.npz is malformed"):
        verify_package(package, trusted)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", pickle.dumps([1]), b"\x93NUMPY\x01\x00"])
def test_a_golden_file_that_is_no_npz_is_refused(package, keys, trusted, data):
    (package / "golden.npz").write_bytes(data)
    seal_again(package, keys[0])
    with pytest.raises(Refused, match=r"^golden.npz is malformed"):
        verify_package(package, trusted)


def test_no_key_trusted_means_no_package_accepted(package):
    with pytest.raises(Refused, match="not trusted"):
        verify_package(package, TrustedKeys(()))


def test_verification_loads_no_heavy_world(package, keys, tmp_path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "k.pem").write_text(keys[1])
    script = f"""
import sys
from pathlib import Path
from slimline.trust.keys import load_trusted
from slimline.trust.package import verify_package
verify_package(Path({str(package)!r}), load_trusted(Path({str(tmp_path / "keys")!r})))
heavy = "torch boto3 botocore airflow onnx onnxruntime model_signing sigstore tuf securesystemslib"
print([name for name in heavy.split() if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
