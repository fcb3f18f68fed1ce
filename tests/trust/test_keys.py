from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from slimline.contract import BadParameters
from slimline.trust.keys import TrustedKeys, generate_key, load_trusted, sign


def _write(directory, **texts):
    for name, text in texts.items():
        (directory / f"{name}.pem").write_text(text)
    return directory


def test_keys_of_a_directory_are_trusted_and_others_are_not(tmp_path, keys, foreign):
    found = load_trusted(_write(tmp_path, builder=keys[1]))
    assert found.signer_of(sign(keys[0], b"text"), b"text").name.endswith("builder.pem")
    assert found.signer_of(sign(keys[0], b"text"), b"other text") is None
    assert found.signer_of(sign(foreign[0], b"text"), b"text") is None


def test_the_directory_is_read_from_the_environment(tmp_path, keys, monkeypatch):
    monkeypatch.setenv("SLIMLINE_TRUSTED_KEYS", str(_write(tmp_path, builder=keys[1])))
    assert load_trusted() == load_trusted(tmp_path)


def test_without_a_directory_the_cure_is_named(monkeypatch):
    monkeypatch.delenv("SLIMLINE_TRUSTED_KEYS", raising=False)
    with pytest.raises(BadParameters, match="set SLIMLINE_TRUSTED_KEYS to a directory"):
        load_trusted()


def test_a_missing_or_empty_directory_is_an_error(tmp_path):
    with pytest.raises(BadParameters, match=r"holds no .*pem"):
        load_trusted(tmp_path)
    with pytest.raises(BadParameters, match="is no directory"):
        load_trusted(tmp_path / "nowhere")


def test_a_private_key_among_trusted_ones_is_an_error_that_does_not_quote_it(tmp_path, keys):
    with pytest.raises(BadParameters, match="holds a private key") as caught:
        load_trusted(_write(tmp_path, oops=keys[0]))
    assert keys[0].splitlines()[1] not in str(caught.value)


def test_a_key_of_another_kind_is_an_error(tmp_path):
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    pem = other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    with pytest.raises(BadParameters, match="is no EC key"):
        load_trusted(_write(tmp_path, rsa=pem))
    with pytest.raises(BadParameters, match="is no PEM public key"):
        load_trusted(_write(tmp_path, rsa="text"))


def test_a_signing_key_that_is_none_is_an_error_that_does_not_quote_it():
    with pytest.raises(BadParameters, match="no PEM private EC key") as caught:
        sign("planted-secret", b"text")
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_three_curves_sign_and_verify_and_equal_texts_give_equal_signatures(curve):
    key = ec.generate_private_key(curve)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signature = sign(private, b"text")
    assert TrustedKeys.of(public.decode()).signer_of(signature, b"text")
    assert signature == sign(private, b"text")


def test_a_generated_key_is_new_each_time():
    assert generate_key()[0] != generate_key()[0]
