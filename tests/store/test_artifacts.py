"""Artifacts on both stores: whole or not there, and found out when damaged."""

from __future__ import annotations

import json

import pytest

from slimline.contract import BadData, Model
from slimline.contract.artifact import FileEntry, digest_entries, digest_tree
from slimline.contract.store import Missing, artifact_is_whole, fetch_artifact, save_artifact


@pytest.fixture
def model(tmp_path):
    root = tmp_path / "my model"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "model.json").write_text("{}")
    (root / "deep" / "er" / "weights %.bin").write_bytes(b"\0\1\2" * 1000)
    return Model.at(root)


def test_an_artifact_comes_back_the_same(store, model, tmp_path):
    kept = save_artifact(store, model)
    assert type(kept) is Model
    assert kept.uri == f"{store.uri}/artifacts/{model.digest}"
    back = fetch_artifact(Model.model_validate(kept.uri), tmp_path / "back")
    assert digest_tree(back.path) == model.digest


def test_saving_twice_uploads_once(store, model, monkeypatch):
    save_artifact(store, model)
    monkeypatch.setattr(type(store), "upload", None)
    assert save_artifact(store, model).digest == model.digest


def test_many_files_come_back(store, tmp_path):
    root = tmp_path / "many"
    root.mkdir()
    for i in range(40):
        (root / f"{i}.txt").write_text(str(i))
    kept = save_artifact(store, Model.at(root))
    assert digest_tree(fetch_artifact(kept, tmp_path / "back").path) == kept.digest
    assert artifact_is_whole(store, kept.digest) == ""


def test_an_artifact_without_a_listing_is_not_there(store, model, tmp_path):
    kept = save_artifact(store, model)
    store.delete(f"artifacts/{kept.digest}.json")
    assert "is not in the store" in artifact_is_whole(store, kept.digest)
    with pytest.raises(Missing):
        fetch_artifact(kept, tmp_path / "back")


def test_a_lost_file_is_told_and_put_back_by_the_next_save(store, model, tmp_path):
    kept = save_artifact(store, model)
    store.delete(f"artifacts/{kept.digest}/model.json")
    assert artifact_is_whole(store, kept.digest).endswith("lost model.json")
    with pytest.raises(Missing, match=r"model\.json"):
        fetch_artifact(kept, tmp_path / "broken")
    save_artifact(store, model)
    assert artifact_is_whole(store, kept.digest) == ""
    assert digest_tree(fetch_artifact(kept, tmp_path / "back").path) == kept.digest


def test_a_changed_file_is_told_and_refused(store, model, tmp_path):
    kept = save_artifact(store, model)
    store.put(f"artifacts/{kept.digest}/model.json", b"[]")
    assert artifact_is_whole(store, kept.digest).endswith("has other bytes in model.json")
    with pytest.raises(BadData, match="damaged"):
        fetch_artifact(kept, tmp_path / "back")
    assert not (tmp_path / "back" / "model.json").exists()


@pytest.mark.parametrize("tampered", [b"", b"{", b"[]", b'[{"path": "x"}]', b"null"])
def test_a_tampered_listing_is_told_and_refused(store, model, tmp_path, tampered):
    kept = save_artifact(store, model)
    store.put(f"artifacts/{kept.digest}.json", tampered)
    assert "has another listing" in artifact_is_whole(store, kept.digest)
    with pytest.raises(BadData, match=r"its listing in .* was changed"):
        fetch_artifact(kept, tmp_path / "back")


@pytest.mark.parametrize("path", ["../out", "/etc/out", "a/../../out", "a\\..\\out"])
def test_a_listing_that_leaves_its_directory_is_refused(store, tmp_path, path):
    entries = (FileEntry(path=path, sha256="0" * 64, size=1),)
    digest = digest_entries(entries)
    store.put(f"artifacts/{digest}.json", json.dumps([e.model_dump() for e in entries]).encode())
    with pytest.raises(BadData, match="refused"):
        fetch_artifact(Model(uri=f"{store.uri}/artifacts/{digest}", digest=digest), tmp_path / "in")
    assert not (tmp_path / "out").exists()


def test_a_directory_below_one_named_artifacts_is_a_directory(tmp_path):
    root = tmp_path / "artifacts" / "my model"
    root.mkdir(parents=True)
    (root / "model.json").write_text("{}")
    model = Model.model_validate(str(root))
    assert digest_tree(fetch_artifact(model, tmp_path / "back").path) == model.digest
