from __future__ import annotations

import json

import numpy as np
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from support.packages import LABELS, tiny_evaluation, tiny_model, tiny_verdict

from slimline.contract import (
    BadData,
    BadParameters,
    Dataset,
    Evaluation,
    Model,
    Refused,
    Report,
    Verdict,
)
from slimline.data.dataset import DatasetInfo, Examples, save_examples
from slimline.models.info import load_model_info, save_model_info
from slimline.package.run import golden_examples
from slimline.package.spec import BuildPackage
from slimline.trust.golden import check_golden, load_golden
from slimline.trust.keys import TrustedKeys, generate_key
from slimline.trust.package import list_files, load_manifest, verify_package
from slimline.trust.verdict import sign_verdict

PRIVATE, PUBLIC = generate_key()
FACTS = {
    "name": "digits",
    "owner": "vision@example.com",
    "description": "Reads one handwritten digit.",
    "limits": "Not for letters.",
    "licence": "Apache-2.0",
}


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    monkeypatch.setenv("SLIMLINE_SECRET_SIGNING", PRIVATE)
    monkeypatch.setenv("SLIMLINE_PROVENANCE", '{"dag": "digits", "run": "r1", "commit": "abc"}')
    monkeypatch.delenv("SLIMLINE_TRUSTED_KEYS", raising=False)


def save_test_split(target, count=40, split="test"):
    random = np.random.default_rng(0)
    info = DatasetInfo(
        name="digits",
        split=split,
        shape=(8, 8, 1),
        dtype="uint8",
        labels=LABELS,
        count=count,
        source_digest="5" * 64,
    )
    x = random.integers(0, 17, (count, 8, 8, 1), dtype=np.uint8)
    target.mkdir()
    save_examples(Examples(info, x, np.arange(count) % 10, np.arange(count)), target)
    return Dataset.at(target)


@pytest.fixture
def inputs(tmp_path):
    """Real inputs of the room, each a directory; tests bend them and call `job`."""
    tiny_model(tmp_path / "model")
    digest = Model.at(tmp_path / "model").digest
    for name in ("evaluation", "verdict", "report"):
        (tmp_path / name).mkdir()
    data = save_test_split(tmp_path / "test")
    record = tiny_evaluation(digest, dataset_digest=data.digest)
    (tmp_path / "evaluation" / "evaluation.json").write_text(record.model_dump_json())
    write_verdict(tmp_path, tiny_verdict(record), digest)
    (tmp_path / "report" / "index.html").write_text("<!doctype html><p>report")
    return tmp_path


def write_verdict(inputs, record, digest, private=PRIVATE):
    (inputs / "verdict" / "verdict.dsse.json").write_bytes(sign_verdict(record, digest, private))


def evaluation_of(inputs, digest):
    return tiny_evaluation(digest, dataset_digest=Dataset.at(inputs / "test").digest)


def job(inputs, **changes):
    given = {
        "model": Model.at(inputs / "model"),
        "verdict": Verdict.at(inputs / "verdict"),
        "evaluation": Evaluation.at(inputs / "evaluation"),
        "report": Report.at(inputs / "report"),
        "test": Dataset.at(inputs / "test"),
    }
    return BuildPackage(**given, **{**FACTS, **changes})


@pytest.fixture
def built(inputs):
    return job(inputs).run()["package"].path


def test_a_package_verifies_and_infers(built, inputs):
    manifest = verify_package(built, TrustedKeys.of(PUBLIC))
    assert check_golden(built, manifest) < 1e-5
    assert manifest.name == "digits"
    assert manifest.version == manifest.model_digest[:12]
    assert manifest.model_digest == Model.at(inputs / "model").digest
    assert manifest.golden.count == 16
    assert manifest.requires.opset == 17
    assert manifest.requires.memory_mb == 1.5


def test_a_package_holds_exactly_what_the_design_names(built):
    assert list_files(built) == (
        "card.md",
        "evaluation.json",
        "golden.npz",
        "manifest.json",
        "model/model.json",
        "model/model.onnx",
        "provenance.json",
        "report.html",
        "sbom.cdx.json",
        "signature.json",
        "verdict.dsse.json",
    )
    assert (built / "report.html").read_text() == "<!doctype html><p>report"


def test_two_builds_differ_in_the_signature_alone(inputs, built):
    again = job(inputs).run()["package"].path
    differing = [
        file
        for file in list_files(built)
        if (built / file).read_bytes() != (again / file).read_bytes()
    ]
    assert differing == ["signature.json"]


def test_numbers_tell_what_was_built(inputs):
    numbers = job(inputs, version="2026.11", security_version=7).run().manifest.numbers
    assert (numbers["version"], numbers["security_version"]) == ("2026.11", 7)
    assert numbers["files"] == 9


def test_golden_inputs_come_from_every_class_and_are_the_models_own(built, inputs):
    manifest = load_manifest(built)
    x, logits = load_golden(built, manifest, load_model_info(built / "model"))
    with np.load(inputs / "test" / "examples.npz") as arrays:
        places = [int(np.flatnonzero((arrays["x"] == one).all((1, 2, 3)))[0]) for one in x]
        assert set(arrays["y"][places]) == set(range(10))
    assert np.unique(logits, axis=0).shape == (16, 10)


def test_golden_examples_are_the_same_for_the_same_data_in_another_order():
    y, identity = np.array([0, 0, 0, 1, 2]), np.array([10, 11, 12, 13, 14])
    shuffle = np.array([3, 0, 4, 2, 1])
    first = identity[golden_examples(y, identity, 4)]
    assert sorted(first) == [10, 11, 13, 14]
    assert list(identity[shuffle][golden_examples(y[shuffle], identity[shuffle], 4)]) == list(first)


def test_the_bill_of_materials_is_strictly_valid_and_holds_the_model_card(built):
    text = (built / "sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    model = json.loads(text)["metadata"]["component"]
    assert model["type"] == "machine-learning-model"
    assert model["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    metrics = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert metrics[0]["value"] == "0.96"
    assert metrics[0]["confidenceInterval"] == {"lowerBound": "0.94", "upperBound": "0.98"}
    assert {m["slice"] for m in metrics if "slice" in m} == {f"class {n}" for n in LABELS}
    assert "onnxruntime" in {part["name"] for part in json.loads(text)["components"]}


def test_the_card_tells_the_numbers_and_what_the_operator_said(built):
    card = (built / "card.md").read_text()
    for said in (
        *FACTS.values(),
        "0.9600 (0.9400 to 0.9800)",
        "made for a test",
        "paired score test",
    ):
        assert said in card


def test_the_provenance_names_every_input_and_the_operators_facts(built, inputs):
    found = json.loads((built / "provenance.json").read_text())
    assert found["predicateType"] == "https://slsa.dev/provenance/v1"
    build, run = found["predicate"]["buildDefinition"], found["predicate"]["runDetails"]
    inputs_named = {d["name"]: d["digest"]["sha256"] for d in build["resolvedDependencies"]}
    assert inputs_named.keys() == {"model", "verdict", "evaluation", "report", "test"}
    assert inputs_named["model"] == Model.at(inputs / "model").digest
    assert build["internalParameters"]["facts"]["commit"] == "abc"
    assert build["externalParameters"]["owner"] == FACTS["owner"]
    assert run["metadata"]["invocationId"] == "r1"
    assert found["subject"][0]["digest"]["sha256"] == inputs_named["model"]


def test_a_run_and_its_commit_are_no_part_of_the_jobs_identity(inputs, monkeypatch):
    first = job(inputs).run().manifest.identity
    monkeypatch.setenv("SLIMLINE_PROVENANCE", '{"run": "r2"}')
    assert job(inputs).run().manifest.identity == first


def test_no_package_is_built_when_the_verdict_says_no(inputs):
    digest = Model.at(inputs / "model").digest
    write_verdict(inputs, tiny_verdict(tiny_evaluation(digest), passed=False), digest)
    with pytest.raises(Refused, match=r"verdict says no: accuracy 0.96 is below 0.99"):
        job(inputs).run(work_dir=inputs / "work")
    assert not list((inputs / "work").rglob("signature.json"))


def test_no_package_is_built_on_a_verdict_for_other_bytes(inputs):
    write_verdict(inputs, tiny_verdict(tiny_evaluation("e" * 64)), "e" * 64)
    with pytest.raises(Refused, match="verdict is for other bytes"):
        job(inputs).run()


def test_no_package_is_built_on_a_foreign_verdict(inputs):
    digest = Model.at(inputs / "model").digest
    write_verdict(inputs, tiny_verdict(evaluation_of(inputs, digest)), digest, generate_key()[0])
    with pytest.raises(Refused, match="verdict is signed by a key that is not trusted"):
        job(inputs).run()


def test_a_verdict_by_a_former_key_counts_while_that_key_is_trusted(inputs, monkeypatch):
    former, former_public = generate_key()
    digest = Model.at(inputs / "model").digest
    write_verdict(inputs, tiny_verdict(evaluation_of(inputs, digest)), digest, former)
    (inputs / "keys").mkdir()
    (inputs / "keys" / "now.pem").write_text(PUBLIC)
    (inputs / "keys" / "former.pem").write_text(former_public)
    monkeypatch.setenv("SLIMLINE_TRUSTED_KEYS", str(inputs / "keys"))
    assert job(inputs).run().manifest.numbers["name"] == "digits"


def test_a_signing_key_that_receivers_do_not_trust_is_found_at_the_build(inputs, monkeypatch):
    other = generate_key()
    digest = Model.at(inputs / "model").digest
    write_verdict(inputs, tiny_verdict(evaluation_of(inputs, digest)), digest, other[0])
    (inputs / "keys").mkdir()
    (inputs / "keys" / "other.pem").write_text(other[1])
    monkeypatch.setenv("SLIMLINE_TRUSTED_KEYS", str(inputs / "keys"))
    with pytest.raises(Refused, match=r"signature.json is signed by a key that is not trusted"):
        job(inputs).run()


def test_an_evaluation_of_another_model_is_refused(inputs):
    (inputs / "evaluation" / "evaluation.json").write_text(
        tiny_evaluation(
            "e" * 64, dataset_digest=Dataset.at(inputs / "test").digest
        ).model_dump_json()
    )
    with pytest.raises(Refused, match=r"evaluation.json is for other bytes"):
        job(inputs).run()


def _bend_model(inputs, **fields):
    info = load_model_info(inputs / "model").model_copy(update=fields)
    save_model_info(info, inputs / "model")
    digest = Model.at(inputs / "model").digest
    write_verdict(inputs, tiny_verdict(tiny_evaluation(digest)), digest)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"format": "torch"}, "export it to ONNX"), ({"opset": None}, "names no opset")],
)
def test_a_model_that_cannot_be_packaged_is_told_with_the_cure(inputs, fields, reason):
    _bend_model(inputs, **fields)
    with pytest.raises(BadData, match=reason):
        job(inputs).run()


def test_a_file_that_may_hold_code_keeps_a_model_out(inputs):
    (inputs / "model" / "weights.pkl").write_bytes(b"x")
    _bend_model(inputs)
    with pytest.raises(Refused, match=r"model/weights.pkl may not be in a package"):
        job(inputs).run()


def test_too_few_test_examples_are_told_with_the_cure(inputs):
    with pytest.raises(BadData, match="has 40 examples, golden_count is 50: lower it"):
        job(inputs, golden_count=50).run()


def test_golden_inputs_are_never_taken_from_the_training_split(inputs):
    train = save_test_split(inputs / "train", split="train")
    with pytest.raises(BadData, match="this is its train split, test is needed"):
        job(inputs).model_copy(update={"test": train}).run()


def test_golden_inputs_come_from_the_split_that_was_judged(inputs):
    other = save_test_split(inputs / "other", count=41)
    with pytest.raises(BadData, match="the evaluation used test split"):
        job(inputs).model_copy(update={"test": other}).run()


def test_a_report_without_a_page_is_told(inputs):
    (inputs / "report" / "index.html").rename(inputs / "report" / "other.html")
    with pytest.raises(BadData, match=r"holds no index.html"):
        job(inputs).run()


def test_a_licence_that_spdx_does_not_know_is_a_bad_parameter(inputs):
    with pytest.raises(BadParameters, match="licence 'mine' is no SPDX identifier"):
        job(inputs, licence="mine").run()


@pytest.mark.parametrize("text", ["text", "[]", "5"])
def test_provenance_that_is_no_object_is_a_bad_parameter(inputs, monkeypatch, text):
    monkeypatch.setenv("SLIMLINE_PROVENANCE", text)
    with pytest.raises(BadParameters, match="SLIMLINE_PROVENANCE"):
        job(inputs).run()


def test_the_signing_key_is_in_no_file(inputs):
    job(inputs).run(work_dir=inputs / "work")
    line = PRIVATE.splitlines()[1].encode()
    files = [path for path in (inputs / "work").rglob("*") if path.is_file()]
    assert len(files) > 20
    assert all(line not in path.read_bytes() for path in files)
