"""Reuse or run, on both stores: the decision, its reason, and which manifest counts."""

from __future__ import annotations

import pytest

from slimline.contract import Model
from slimline.contract.cache import commit, decide, latest, read_manifest, remember
from slimline.contract.manifest import Identity, Manifest, Ref
from slimline.contract.store import save_artifact


def identity(**changes):
    plain = {
        "component": "prune",
        "code": "c" * 64,
        "image": "i" * 64,
        "parameters": {"ratio": 0.5},
        "inputs": {"model": ("a" * 64,)},
    }
    return Identity(**{**plain, **changes})


@pytest.fixture
def model(store, tmp_path):
    root = tmp_path / "model"
    root.mkdir()
    (root / "model.json").write_text("{}")
    return save_artifact(store, Model.at(root))


def manifest(model, seconds=1.0, **changes):
    return Manifest(
        identity=identity(**changes),
        outputs={"model": Ref(uri=model.uri, digest=model.digest)},
        numbers={"size": 3},
        reason="ran: no earlier job is known for this step",
        seconds=seconds,
        started="2026-01-01T00:00:00+00:00",
        versions={},
    )


def test_an_equal_job_is_reused(store, model):
    assert not decide(store, identity()).hit
    made = commit(store, manifest(model))
    decision = decide(store, identity())
    assert decision.manifest == made
    assert decision.reason.startswith("reused: job ")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"parameters": {"ratio": 0.7}}, "parameter ratio changed from 0.5 to 0.7"),
        ({"inputs": {"model": ("b" * 64,)}}, "input model has other bytes"),
        ({"code": "d" * 64}, "the component's code changed"),
        ({"image": "j" * 64}, "the image digest changed"),
    ],
)
def test_what_changed_is_told(store, model, changes, reason):
    remember(store, "digits/prune", commit(store, manifest(model)).job)
    decision = decide(store, identity(**changes), lineage="digits/prune")
    assert not decision.hit
    assert reason in decision.reason


def test_a_damaged_output_is_made_again(store, model):
    commit(store, manifest(model))
    store.delete(f"artifacts/{model.digest}/model.json")
    decision = decide(store, identity())
    assert not decision.hit
    assert decision.reason.startswith("ran: output model is damaged")
    assert "lost model.json" in decision.reason


def test_a_component_that_acts_outside_always_runs(store, model):
    commit(store, manifest(model))
    assert not decide(store, identity(), cached=False).hit


def test_the_first_of_two_equal_jobs_counts(store, model):
    first, second = manifest(model, seconds=1), manifest(model, seconds=2)
    assert commit(store, first) == first
    assert commit(store, second) == first
    assert read_manifest(store, first.job) == first


@pytest.mark.parametrize("broken", [b"", b"{}", b"\xff\xfe", b"null"])
def test_a_manifest_that_cannot_be_read_is_replaced(store, model, broken):
    wanted = manifest(model)
    store.put(f"jobs/{wanted.job}/manifest.json", broken)
    assert not decide(store, wanted.identity).hit
    assert commit(store, wanted) == wanted
    assert decide(store, wanted.identity).hit


def test_a_manifest_of_another_job_is_no_hit(store, model):
    other = manifest(model, parameters={"ratio": 0.9})
    store.put(f"jobs/{identity().digest}/manifest.json", other.model_dump_json().encode())
    assert not decide(store, identity()).hit


def test_a_manifest_whose_artifact_is_gone_is_replaced(store, model):
    gone = manifest(Model(uri=f"{store.uri}/artifacts/{'0' * 64}", digest="0" * 64))
    commit(store, gone)
    wanted = manifest(model)
    assert commit(store, wanted) == wanted
    assert read_manifest(store, wanted.job) == wanted


def test_the_last_answer_of_a_step_is_remembered(store, model):
    assert latest(store, "digits/prune") is None
    made = commit(store, manifest(model))
    remember(store, "digits/prune", made.job)
    assert latest(store, "digits/prune") == made


@pytest.mark.parametrize("pointer", [b"", b"\xff", b'{"job": "../../etc", "reason": ""}', b"x"])
def test_a_tampered_pointer_means_that_no_job_is_known(store, model, pointer):
    commit(store, manifest(model))
    store.put("latest/digits/prune.json", pointer)
    assert latest(store, "digits/prune") is None
    changed = identity(parameters={"ratio": 0.7})
    reason = decide(store, changed, lineage="digits/prune").reason
    assert reason == "ran: no earlier job is known for this step"


def test_what_changed_is_told_when_the_manifest_was_lost(store, model):
    made = commit(store, manifest(model))
    remember(store, "digits/prune", made.job)
    store.delete(f"jobs/{made.job}/manifest.json")
    assert not decide(store, identity(), lineage="digits/prune").hit
