from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

from slimline.contract import Refused
from slimline.trust.dsse import pae, sign_statement, statement, verify_statement
from slimline.trust.keys import TrustedKeys, keyid_of, load_public, public_of, sign

SECRET = 97358161215184420915383655311931858321456579547487070936769975997791359926199
X = 46950820868899156662930047687818585632848591499744589407958293238635476079160
Y = 5640078356564379163099075877009565129882514886557779369047442380624545832820
SIGNATURE = base64.b64decode(
    "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="
)
"""Key and signature of the example in DSSE v1.0's protocol.md, r and s as 32 bytes each."""

ABOUT = statement({"model": "a" * 64}, "https://example.com/v1", {"answer": True})


def _changed(envelope: bytes, **fields) -> bytes:
    return json.dumps({**json.loads(envelope), **fields}).encode()


def _signed(payload: bytes, private: str) -> bytes:
    signature = sign(private, pae("application/vnd.in-toto+json", payload))
    return json.dumps(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": "application/vnd.in-toto+json",
            "signatures": [{"keyid": "", "sig": base64.b64encode(signature).decode()}],
        }
    ).encode()


def test_the_example_of_the_specification_comes_out():
    key = ec.derive_private_key(SECRET, ec.SECP256R1())
    assert (key.public_key().public_numbers().x, key.public_key().public_numbers().y) == (X, Y)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    message = pae("http://example.com/HelloWorld", b"hello world")
    assert message == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    r, s = int.from_bytes(SIGNATURE[:32], "big"), int.from_bytes(SIGNATURE[32:], "big")
    assert sign(private, message) == encode_dss_signature(r, s)


def test_what_was_signed_is_read_and_signing_twice_gives_the_same_bytes(keys, trusted):
    envelope = sign_statement(ABOUT, keys[0])
    assert verify_statement(envelope, trusted) == ABOUT
    assert envelope == sign_statement(ABOUT, keys[0])


def test_securesystemslib_verifies_our_envelope(keys):
    envelope = Envelope.from_dict(json.loads(sign_statement(ABOUT, keys[0])))
    key = SSlibKey.from_crypto(load_public(keys[1]), keyid_of(keys[1]))
    assert envelope.verify([key], 1)


def test_a_foreign_key_is_refused_even_when_the_envelope_claims_a_trusted_one(
    keys, foreign, trusted
):
    envelope = sign_statement(ABOUT, foreign[0])
    with pytest.raises(Refused, match="signed by a key that is not trusted"):
        verify_statement(envelope, trusted)
    [signature] = json.loads(envelope)["signatures"]
    lie = _changed(envelope, signatures=[{**signature, "keyid": keyid_of(keys[1])}])
    with pytest.raises(Refused, match="changed after it was signed"):
        verify_statement(lie, trusted)


def test_one_trusted_signature_among_foreign_ones_is_enough(keys, foreign, trusted):
    mine, theirs = sign_statement(ABOUT, keys[0]), sign_statement(ABOUT, foreign[0])
    both = json.loads(theirs)["signatures"] + json.loads(mine)["signatures"]
    assert verify_statement(_changed(mine, signatures=both), trusted) == ABOUT


def test_no_flipped_byte_changes_what_is_read(keys, trusted):
    envelope = sign_statement(ABOUT, keys[0])
    refused = 0
    for place in range(len(envelope)):
        bent = bytearray(envelope)
        bent[place] ^= 1
        try:
            assert verify_statement(bytes(bent), trusted) == ABOUT
        except Refused:
            refused += 1
    assert refused > len(envelope) - 80  # only the 64 digits of the key's hint may change


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"payload": 7}, "payload"),
        ({"payload": "not base64!"}, "no base64"),
        ({"payload": ""}, "no base64"),
        ({"payloadType": "text/plain"}, "payloadType"),
        ({"signatures": []}, "signatures"),
        ({"signatures": None}, "signatures"),
        ({"signatures": [{"sig": "AA=="}] * 17}, "signatures"),
        ({"signatures": [{"keyid": "a"}]}, "signatures.0.sig"),
        ({"more": 1}, "more"),
    ],
)
def test_a_malformed_envelope_is_refused_and_the_field_is_named(keys, trusted, fields, reason):
    with pytest.raises(Refused, match=f"statement is malformed: .*{reason}"):
        verify_statement(_changed(sign_statement(ABOUT, keys[0]), **fields), trusted)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "malformed"),
        (b"[]", "no JSON object"),
        (b"\xff\xfe{}", "malformed"),
        (b'{"a": 1, "a": 2}', "a key stands twice"),
        (b'{"a": NaN}', "holds NaN"),
        (b'{"a": -Infinity}', "holds -Infinity"),
        (b'{"a": 1e999}', "holds 1e999"),
        (b"[" * 100_000, "malformed"),
        (b'{"a":' * 100_000, "malformed"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "malformed"),
        (b'{"a": "\\ud800"}', "malformed"),
        (b" " * (5 * 2**20), "at most"),
    ],
)
def test_hostile_json_is_refused_outside_and_inside_a_valid_signature(keys, trusted, text, reason):
    with pytest.raises(Refused, match=reason):
        verify_statement(text, trusted)
    if 0 < len(text) < 10**6:
        with pytest.raises(Refused, match=reason):
            verify_statement(_signed(text, keys[0]), trusted)


@pytest.mark.parametrize(
    "fields",
    [
        {"_type": "https://in-toto.io/Statement/v0.1"},
        {"subject": []},
        {"subject": [{"name": "model"}]},
        {"subject": [{"name": "model", "digest": {"sha256": 5}}]},
        {"predicate": None},
        {"predicateType": 1},
    ],
)
def test_a_signed_payload_that_is_no_statement_is_refused(keys, trusted, fields):
    payload = json.dumps({**ABOUT, **fields}).encode()
    with pytest.raises(Refused, match="statement is malformed"):
        verify_statement(_signed(payload, keys[0]), trusted)


def test_a_second_spelling_of_the_same_base64_is_refused(keys, trusted):
    for filler in range(3):
        envelope = sign_statement({**ABOUT, "predicate": {"a": "x" * filler}}, keys[0])
        payload = json.loads(envelope)["payload"]
        if payload.endswith("=") and not payload.endswith("=="):
            break
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    spare = payload[:-2] + letters[letters.index(payload[-2]) + 1] + "="
    assert base64.b64decode(spare) == base64.b64decode(payload)
    with pytest.raises(Refused, match="no base64"):
        verify_statement(_changed(envelope, payload=spare), trusted)


def test_url_safe_base64_is_read_as_the_specification_wants(keys, trusted):
    envelope = sign_statement(ABOUT, keys[0])
    [signature] = json.loads(envelope)["signatures"]
    safe = signature["sig"].translate(str.maketrans("+/", "-_"))
    changed = _changed(envelope, signatures=[{**signature, "sig": safe}])
    assert verify_statement(changed, trusted) == ABOUT


def test_nothing_is_trusted_when_no_key_is(keys):
    with pytest.raises(Refused, match="not trusted"):
        verify_statement(sign_statement(ABOUT, keys[0]), TrustedKeys(()))


def test_the_keyid_is_that_of_the_public_half(keys):
    assert public_of(keys[0]) == keys[1]
    [signature] = json.loads(sign_statement(ABOUT, keys[0]))["signatures"]
    assert signature["keyid"] == keyid_of(keys[1])
