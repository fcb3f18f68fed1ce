"""Whatever is sent, the answer is a clear refusal, and the server lives on."""

from __future__ import annotations

import io
import json
import socket
import struct
from typing import TYPE_CHECKING, Any

import httpx  # noqa: TC002 - hypothesis reads the annotations
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from support.serving import Server

INFER = "/v2/models/digits/infer"
HEADER = "Inference-Header-Content-Length"
ONE = np.zeros((1, 8, 8, 1), np.uint8)


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _npy_with(header: str, data: bytes = b"") -> bytes:
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def _tensor(**changes: Any) -> dict[str, Any]:
    tensor = {"name": "input", "shape": [1, 8, 8, 1], "datatype": "UINT8", "data": [0] * 64}
    return {"inputs": [{k: v for k, v in {**tensor, **changes}.items() if v is not ...}]}


def _refused(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    return answer.json()["error"]


INVOCATIONS = {
    "not JSON": (b"{", 400, "no JSON"),
    "empty body": (b"", 400, "no JSON"),
    "not UTF-8": (b'{"instances": "\xff"}', 400, "no JSON"),
    "NaN": (b'{"instances": [[NaN]]}', 400, "no JSON"),
    "very deep": (b"[" * 100_000, 400, "no JSON"),
    "no instances": (b'{"rows": []}', 400, "instances"),
    "null": (b"null", 422, "list of examples"),
    "no example": (b"[]", 422, "list of examples"),
    "wrong shape": (json.dumps(np.zeros((1, 9, 8, 1)).tolist()).encode(), 422, "8 values"),
    "ragged": (json.dumps([ONE[0].tolist(), [[[0]]]]).encode(), 422, "8 values"),
    "too deep": (json.dumps(ONE[..., None].tolist()).encode(), 422, "whole numbers"),
    "text": (json.dumps(ONE.tolist()).replace("0", '"0"').encode(), 422, "whole numbers"),
    "booleans": (json.dumps(ONE.tolist()).replace("0", "true").encode(), 422, "whole numbers"),
    "fractions": (json.dumps(ONE.tolist()).replace("0", "0.5").encode(), 422, "whole numbers"),
    "above 255": (json.dumps(ONE.tolist()).replace("0", "256").encode(), 422, "whole numbers"),
    "negative": (json.dumps(ONE.tolist()).replace("0", "-1").encode(), 422, "whole numbers"),
    "enormous": (json.dumps(ONE.tolist()).replace("0", "9" * 30).encode(), 422, "whole numbers"),
    "too many": (json.dumps([ONE[0].tolist()] * 65).encode(), 422, "1 to 64"),
}


@pytest.mark.parametrize("case", INVOCATIONS)
def test_invocations_refuse_bad_json(client: httpx.Client, case: str) -> None:
    body, status, reason = INVOCATIONS[case]
    answer = client.post("/invocations", content=body, headers={"content-type": "application/json"})
    assert reason in _refused(answer, status)


NPY = {
    "no magic": (b"not an array", 400, "header cannot be read"),
    "cut off": (_npy(ONE)[:20], 400, "header cannot be read"),
    "data cut off": (_npy(ONE)[:-1], 400, "63 bytes"),
    "data too long": (_npy(ONE) + b"\0", 400, "65 bytes"),
    "float for uint8": (_npy(ONE.astype(np.float32)), 422, "dtype"),
    "NaN as float64": (_npy(np.full((1, 8, 8, 1), np.nan)), 422, "dtype"),
    "wrong shape": (_npy(np.zeros((1, 8, 8), np.uint8)), 422, "shape"),
    "no dimension": (_npy(np.zeros((), np.uint8)), 422, "shape"),
    "Fortran order": (_npy(np.asfortranarray(np.zeros((2, 8, 8, 1), np.uint8))), 422, "Fortran"),
    "huge shape": (
        _npy_with("{'descr': '|u1', 'fortran_order': False, 'shape': (1099511627775, 8, 8, 1)}"),
        422,
        "1 to 64",
    ),
    "negative shape": (
        _npy_with("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 8, 8, 1)}"),
        400,
        "cannot be",
    ),
    "pickled objects": (
        _npy_with("{'descr': '|O', 'fortran_order': False, 'shape': (1, 8, 8, 1)}", b"cos\nsystem"),
        422,
        "dtype",
    ),
    "code in the header": (_npy_with("__import__('os').abort()"), 400, "header cannot be read"),
    "deep header": (_npy_with("(" * 900), 400, "header cannot be read"),
    "header longer than the body": (b"\x93NUMPY\x01\x00\xff\xff{}   ", 400, "header"),
}


@pytest.mark.parametrize("case", NPY)
def test_invocations_refuse_a_bad_npy(client: httpx.Client, case: str) -> None:
    body, status, reason = NPY[case]
    answer = client.post(
        "/invocations", content=body, headers={"content-type": "application/x-npy"}
    )
    assert reason in _refused(answer, status)


V2 = {
    "a list": ([], 400, "object"),
    "no inputs": ({}, 400, "inputs"),
    "two inputs": ({"inputs": _tensor()["inputs"] * 2}, 400, "one tensor"),
    "other name": (_tensor(name="x"), 422, "'input'"),
    "other datatype": (_tensor(datatype="FP32"), 422, "UINT8"),
    "shape is text": (_tensor(shape="1"), 400, "shape"),
    "shape with true": (_tensor(shape=[True, 8, 8, 1]), 400, "shape"),
    "negative shape": (_tensor(shape=[-1, 8, 8, 1]), 400, "cannot be"),
    "other shape": (_tensor(shape=[1, 64]), 422, "shape"),
    "no example": (_tensor(shape=[0, 8, 8, 1], data=[]), 422, "1 to 64"),
    "data too short": (_tensor(data=[0] * 63), 422, "63 numbers"),
    "data is null": (_tensor(data=None), 400, "list"),
    "no data": (_tensor(data=...), 400, "list"),
    "nested otherwise": (_tensor(data=[[0] * 64]), 422, "8 values"),
    "id is a number": ({**_tensor(), "id": 3}, 400, "id"),
    "unknown output": ({**_tensor(), "outputs": [{"name": "weights"}]}, 422, "logits"),
    "outputs is text": ({**_tensor(), "outputs": "logits"}, 400, "outputs"),
    "parameters is a list": ({**_tensor(), "parameters": []}, 400, "parameters"),
    "flag is text": ({**_tensor(), "parameters": {"binary_data_output": "yes"}}, 400, "true"),
    "binary without bytes": (
        _tensor(data=..., parameters={"binary_data_size": 64}),
        400,
        "binary_data_size",
    ),
}


@pytest.mark.parametrize("case", V2)
def test_v2_refuses_a_bad_message(client: httpx.Client, case: str) -> None:
    message, status, reason = V2[case]
    assert reason in _refused(client.post(INFER, json=message), status)


BINARY = {
    "header length beyond the body": ({}, "1000000", b"", 400, "the body has"),
    "header length negative": ({}, "-1", b"", 400, "give a number"),
    "header length no number": ({}, "all", b"", 400, "give a number"),
    "header length enormous": ({}, "9" * 40, b"", 400, "give a number"),
    "size larger than what follows": ({"binary_data_size": 64}, None, b"\0" * 63, 400, "63 bytes"),
    "size smaller than what follows": ({"binary_data_size": 64}, None, b"\0" * 65, 400, "65 bytes"),
    "size right and shape not": ({"binary_data_size": 65}, None, b"\0" * 65, 400, "needs 64"),
    "size negative": ({"binary_data_size": -1}, None, b"", 400, "binary_data_size"),
    "size true": ({"binary_data_size": True}, None, b"\0", 400, "binary_data_size"),
    "bytes that nobody claims": ({}, None, b"\0" * 64, 400, "no input claims"),
}


@pytest.mark.parametrize("case", BINARY)
def test_v2_refuses_binary_headers_that_lie(client: httpx.Client, case: str) -> None:
    parameters, length, data, status, reason = BINARY[case]
    message = json.dumps(_tensor(data=..., parameters=parameters)).encode()
    answer = client.post(
        INFER, content=message + data, headers={HEADER: length or str(len(message))}
    )
    assert reason in _refused(answer, status)


def test_a_body_over_the_limit_is_answered_413(client: httpx.Client) -> None:
    assert "200000 bytes" in _refused(client.post("/invocations", content=b" " * 250_000), 413)


def test_a_chunked_body_over_the_limit_is_answered_413(client: httpx.Client) -> None:
    pieces = (b" " * 50_000 for _ in range(5))
    assert "200000 bytes" in _refused(client.post("/invocations", content=pieces), 413)


@pytest.mark.parametrize("length", ["999999999999", "9" * 30, "-5", "many"])
def test_a_huge_or_false_content_length_is_refused_at_once(server: Server, length: str) -> None:
    head = f"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(head.encode())
        status = connection.recv(4096).split(b" ", 2)[1]
    assert status in (b"400", b"413")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v2/models", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/invocations", 405),
        ("POST", "/ping", 405),
        ("DELETE", "/v2/models/digits", 405),
    ],
)
def test_other_paths_and_methods_are_refused(
    client: httpx.Client, method: str, path: str, status: int
) -> None:
    _refused(client.request(method, path), status)


def test_an_unknown_content_type_is_refused(client: httpx.Client) -> None:
    answer = client.post("/invocations", content=b"x", headers={"content-type": "text/plain"})
    assert "application/x-npy" in _refused(answer, 415)


def test_csv_is_refused_for_a_model_of_images(client: httpx.Client) -> None:
    answer = client.post("/invocations", content=b"1,2", headers={"content-type": "text/csv"})
    assert "feature rows" in _refused(answer, 415)


@given(
    body=st.binary(max_size=300),
    kind=st.sampled_from(["application/json", "application/x-npy", "text/csv"]),
)
def test_no_bytes_at_all_make_the_server_fail(client: httpx.Client, body: bytes, kind: str) -> None:
    for start in (b"", b"\x93NUMPY\x01\x00"):
        answer = client.post("/invocations", content=start + body, headers={"content-type": kind})
        assert answer.status_code in (400, 415, 422)


_LEAF = st.none() | st.booleans() | st.integers(-1, 300) | st.text(max_size=3)
_ANY = st.recursive(
    _LEAF, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=3), v, max_size=3)
)


@given(
    changes=st.dictionaries(
        st.sampled_from(["name", "shape", "datatype", "data", "parameters"]), _ANY, min_size=1
    ),
    outputs=_ANY,
)
def test_no_message_at_all_makes_v2_fail(
    client: httpx.Client, changes: dict[str, Any], outputs: Any
) -> None:
    answer = client.post(INFER, json={**_tensor(**changes), "outputs": outputs})
    assert answer.status_code in (200, 400, 422)


def test_after_all_that_the_server_is_ready_and_logged_no_bug(
    client: httpx.Client, server: Server
) -> None:
    assert client.get("/readyz").status_code == 200
    assert "this is a bug" not in server.text()
    assert 'code="500"' not in client.get("/metrics").text
