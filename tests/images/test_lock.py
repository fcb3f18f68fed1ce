"""The lock: what a run trusts."""

import json

import pytest
from images.signing import sign_files

from slimline.adapters.images import ImageLock, load_lock, signature_path
from slimline.contract import BadParameters, Refused
from slimline.trust.keys import generate_key

ENTRY = {
    "reference": "sha256:" + "a" * 64,
    "digest": "sha256:" + "a" * 64,
    "environment": "b" * 64,
    "size": 100,
    "sbom": "sbom/torch.cdx.json",
}


def write(directory, **changes):
    file = directory / "lock.json"
    file.write_text(json.dumps({"images": {"torch": {**ENTRY, **changes}}}))
    return file


@pytest.fixture
def signed(tmp_path, monkeypatch):
    """A lock that is signed, by a key that is trusted."""
    private, public = generate_key()
    (tmp_path / "private.pem").write_text(private)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "signer.pem").write_text(public)
    monkeypatch.setenv("SLIMLINE_IMAGE_KEY", str(tmp_path / "private.pem"))
    monkeypatch.setenv("SLIMLINE_IMAGE_KEYS", str(tmp_path / "keys"))
    file = write(tmp_path)
    assert sign_files([file])
    return file


def test_a_lock_gives_each_image_by_its_name(tmp_path):
    image = load_lock(write(tmp_path)).image("torch")
    assert image.model_dump() == ENTRY


def test_a_pushed_image_is_named_by_registry_and_digest(tmp_path):
    reference = "registry.example/ml/slimline-torch@sha256:" + "a" * 64
    assert load_lock(write(tmp_path, reference=reference)).image("torch").reference == reference


def test_the_variable_names_the_lock_and_the_current_directory_is_the_default(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("SLIMLINE_IMAGES", str(write(tmp_path)))
    assert load_lock().image("torch")
    monkeypatch.delenv("SLIMLINE_IMAGES")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadParameters, match=r"images/lock\.json: no images are built.*make images"):
        load_lock()
    (tmp_path / "images").mkdir()
    write(tmp_path / "images")
    assert load_lock().image("torch")


def test_an_image_that_is_not_in_the_lock_is_told_with_those_that_are(tmp_path):
    with pytest.raises(
        BadParameters, match=r"'onnx' is not in the lock \(there: torch\).*make images"
    ):
        load_lock(write(tmp_path)).image("onnx")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("reference", "slimline-torch:latest"),
        ("digest", "sha256:short"),
        ("environment", "x"),
        ("size", 0),
        ("colour", "red"),
    ],
)
def test_a_lock_with_a_wrong_field_is_refused_by_the_field_s_name(tmp_path, field, value):
    with pytest.raises(BadParameters, match=field):
        load_lock(write(tmp_path, **{field: value}))


def test_a_lock_that_is_no_json_is_refused(tmp_path):
    file = tmp_path / "lock.json"
    file.write_text("{")
    with pytest.raises(BadParameters, match="JSON"):
        load_lock(file)


def test_a_signed_lock_is_accepted(signed):
    assert isinstance(load_lock(signed), ImageLock)


def test_a_lock_that_was_changed_after_it_was_signed_is_refused(signed):
    signed.write_text(signed.read_text().replace("a" * 64, "c" * 64))
    with pytest.raises(Refused, match="changed after it was signed"):
        load_lock(signed)


def test_a_lock_that_another_key_signed_is_refused(signed, tmp_path, monkeypatch):
    (tmp_path / "other.pem").write_text(generate_key()[0])
    monkeypatch.setenv("SLIMLINE_IMAGE_KEY", str(tmp_path / "other.pem"))
    sign_files([signed])
    with pytest.raises(Refused, match="none of the keys"):
        load_lock(signed)


@pytest.mark.parametrize("signature", [None, "not base64!", ""])
def test_a_lock_without_a_signature_is_refused_where_keys_are_configured(signed, signature):
    if signature is None:
        signature_path(signed).unlink()
    else:
        signature_path(signed).write_text(signature)
    with pytest.raises(Refused):
        load_lock(signed)


def test_without_a_key_an_old_signature_is_removed(signed, monkeypatch):
    monkeypatch.delenv("SLIMLINE_IMAGE_KEY")
    assert not sign_files([signed])
    assert not signature_path(signed).exists()


def test_a_key_that_cannot_be_read_is_told_by_its_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("SLIMLINE_IMAGE_KEY", str(tmp_path / "none.pem"))
    with pytest.raises(BadParameters, match=r"SLIMLINE_IMAGE_KEY: .*none\.pem"):
        sign_files([write(tmp_path)])
