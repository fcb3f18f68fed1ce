"""Every route of a ready server, and both encodings against ONNX Runtime in this process."""

from __future__ import annotations

import io
import json
import re
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    import httpx

INFER = "/v2/models/digits/infer"
HEADER = "Inference-Header-Content-Length"


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    "path",
    [
        "/ping",
        "/livez",
        "/readyz",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/digits/ready",
    ],
)
def test_probes_answer_200_when_the_package_verified(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 200


@pytest.mark.parametrize("form", ["instances", "nested list", "npy"])
def test_invocations_answer_what_onnx_runtime_answers(
    client: httpx.Client, images: np.ndarray, expected: np.ndarray, form: str
) -> None:
    if form == "npy":
        answer = client.post(
            "/invocations", content=_npy(images), headers={"content-type": "application/x-npy"}
        )
    else:
        value = images.tolist()
        answer = client.post("/invocations", json={"instances": value} if form[0] == "i" else value)
    assert answer.status_code == 200, answer.text
    rows = answer.json()["predictions"]
    logits = np.array([row["logits"] for row in rows], np.float32)
    np.testing.assert_array_equal(logits, expected)
    np.testing.assert_allclose(
        [row["probabilities"] for row in rows], _softmax(expected), atol=1e-6
    )
    assert [row["label"] for row in rows] == [str(i) for i in expected.argmax(axis=1)]


def test_v2_tells_what_the_model_takes_and_gives(client: httpx.Client) -> None:
    told = client.get("/v2/models/digits").json()
    assert told["inputs"] == [{"name": "input", "datatype": "UINT8", "shape": [-1, 8, 8, 1]}]
    assert [o["name"] for o in told["outputs"]] == ["logits", "probabilities", "label"]
    version = told["versions"][0]
    assert client.get(f"/v2/models/digits/versions/{version}").json() == told
    assert client.get(f"/v2/models/digits/versions/{version}/ready").json()["ready"] is True
    assert "binary_tensor_data" in client.get("/v2").json()["extensions"]


@pytest.mark.parametrize("form", ["nested", "flat"])
def test_v2_json_round_trip_is_exact(
    client: httpx.Client, images: np.ndarray, expected: np.ndarray, form: str
) -> None:
    data = images.tolist() if form == "nested" else images.ravel().tolist()
    tensor = {"name": "input", "shape": list(images.shape), "datatype": "UINT8", "data": data}
    answer = client.post(INFER, json={"id": "a1", "inputs": [tensor]})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["id"] == "a1"
    assert told["model_name"] == "digits"
    outputs = {o["name"]: o for o in told["outputs"]}
    logits = np.array(outputs["logits"]["data"], np.float32).reshape(outputs["logits"]["shape"])
    np.testing.assert_array_equal(logits, expected)
    assert outputs["label"]["data"] == [str(i) for i in expected.argmax(axis=1)]


def test_v2_binary_round_trip_is_exact(
    client: httpx.Client, images: np.ndarray, expected: np.ndarray
) -> None:
    outputs = _binary(client, images, {"parameters": {"binary_data_output": True}})
    logits = np.frombuffer(outputs["logits"], "<f4").reshape(expected.shape)
    np.testing.assert_array_equal(logits, expected)
    probabilities = np.frombuffer(outputs["probabilities"], "<f4").reshape(expected.shape)
    np.testing.assert_allclose(probabilities, _softmax(expected), atol=1e-6)
    labels = b"".join(struct.pack("<I", 1) + b"%d" % i for i in expected.argmax(axis=1))
    assert outputs["label"] == labels


def test_v2_mixes_json_and_binary_outputs_as_asked(
    client: httpx.Client, images: np.ndarray, expected: np.ndarray
) -> None:
    wanted = [{"name": "label"}, {"name": "logits", "parameters": {"binary_data": True}}]
    outputs = _binary(client, images, {"outputs": wanted})
    assert list(outputs) == ["label", "logits"]
    assert outputs["label"] == [str(i) for i in expected.argmax(axis=1)]
    np.testing.assert_array_equal(np.frombuffer(outputs["logits"], "<f4"), expected.ravel())


def test_v2_answers_at_the_version_that_is_served_and_at_no_other(
    client: httpx.Client, images: np.ndarray
) -> None:
    tensor = {"name": "input", "shape": list(images.shape), "datatype": "UINT8"}
    body = {"inputs": [{**tensor, "data": images.ravel().tolist()}]}
    version = client.get("/v2/models/digits").json()["versions"][0]
    served = client.post(f"/v2/models/digits/versions/{version}/infer", json=body)
    assert served.status_code == 200
    assert client.post("/v2/models/digits/versions/9/infer", json=body).status_code == 404
    assert client.post("/v2/models/letters/infer", json=body).status_code == 404


def test_metrics_count_requests_by_route_and_code(client: httpx.Client) -> None:
    def count() -> float:
        name = 'slimline_requests_total{route="/v2/models/{name}/infer",code="400"} '
        lines = client.get("/metrics").text.splitlines()
        return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))

    before = count()
    client.post(INFER, content=b"{")
    client.post("/v2/models/any-other/infer", content=b"{")
    assert count() == before + 1
    text = client.get("/metrics").text
    version = client.get("/v2/models/digits").json()["versions"][0]
    assert f'slimline_model_info{{name="digits",version="{version}",package_digest="' in text
    assert 'slimline_request_seconds_bucket{route="/metrics",le="+Inf"}' in text
    assert "slimline_in_flight 1" in text
    assert "slimline_ready 1" in text


def test_metrics_are_in_the_text_format_of_prometheus(client: httpx.Client) -> None:
    text = client.get("/metrics").text
    sample = re.compile(r'(\w+)(\{(\w+="[^"\n]*",?)*\})? [0-9.e+-]+')
    samples = [line for line in text.splitlines() if not line.startswith("# ")]
    assert text.endswith("\n")
    assert all(sample.fullmatch(line) for line in samples)
    buckets = [
        float(line.rsplit(" ", 1)[1])
        for line in samples
        if line.startswith('slimline_request_seconds_bucket{route="/readyz"')
    ]
    total = 'slimline_request_seconds_count{route="/readyz"} '
    assert buckets == sorted(buckets)
    assert f"{total}{buckets[-1]:g}" in samples
    assert buckets[-1] > 0


def _binary(client: httpx.Client, images: np.ndarray, extra: dict) -> dict:
    raw = images.tobytes()
    tensor = {"name": "input", "shape": list(images.shape), "datatype": "UINT8"}
    head = {"inputs": [{**tensor, "parameters": {"binary_data_size": len(raw)}}], **extra}
    message = json.dumps(head).encode()
    answer = client.post(INFER, content=message + raw, headers={HEADER: str(len(message))})
    assert answer.status_code == 200, answer.text
    length = int(answer.headers[HEADER])
    outputs, at = {}, length
    for output in json.loads(answer.content[:length])["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        outputs[output["name"]] = output["data"] if size is None else answer.content[at : at + size]
        at += size or 0
    assert at == len(answer.content)
    return outputs
