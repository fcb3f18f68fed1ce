"""Models of feature rows: float32 in JSON, .npy and CSV, and what is refused of them."""

from __future__ import annotations

import io

import numpy as np
import pytest

from slimline.contract import BadData
from slimline.data.preprocess import Preprocessing
from slimline.models.info import ModelInfo
from slimline.serving.codecs.invocations import decode
from slimline.serving.http import HttpError, Request
from slimline.serving.model import ServedModel

ROWS = np.array([[1.5, -2, 3e-7], [4, 5, 6]], np.float32)


@pytest.fixture(scope="module")
def model() -> ServedModel:
    info = ModelInfo(
        name="rows",
        stage="student",
        format="onnx",
        labels=("no", "yes"),
        preprocessing=Preprocessing(shape=(3,), dtype="float32"),
    )
    return ServedModel("rows", "1", "d" * 64, "m" * 64, info, session=None)


def _request(kind: str, body: bytes) -> Request:
    return Request({b"content-type": kind.encode()}, body)


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json; charset=utf-8", b'{"instances": [[1.5, -2, 3e-7], [4, 5, 6]]}'),
        ("application/x-npy", _npy(ROWS)),
        ("text/csv", b"1.5,-2,3e-7\r\n4,5,6\r\n"),
    ],
)
def test_the_same_rows_come_out_of_every_encoding(
    model: ServedModel, kind: str, body: bytes
) -> None:
    raw = decode(_request(kind, body), model, 10)
    assert raw.dtype == np.float32
    np.testing.assert_array_equal(raw, ROWS)


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 422), (b"a,b,c\n1,2,3", 400), (b"1,2\n3,4,5", 422), (b"1,2,\xff", 400), (b"1,,2", 400)],
)
def test_bad_csv_is_refused(model: ServedModel, body: bytes, status: int) -> None:
    with pytest.raises(HttpError) as caught:
        decode(_request("text/csv", body), model, 10)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/csv", b"1,nan,3"),
        ("text/csv", b"1,inf,3"),
        ("application/json", b"[[1, 1e300, 3]]"),
        ("application/x-npy", _npy(np.array([[1, np.nan, 3]], np.float32))),
    ],
)
def test_numbers_that_are_not_finite_are_refused(
    model: ServedModel, kind: str, body: bytes
) -> None:
    with pytest.raises(BadData, match="NaN or infinity"):
        model.predict(decode(_request(kind, body), model, 10))


def test_an_integer_too_large_for_a_float_is_refused(model: ServedModel) -> None:
    body = b"[[1, " + b"9" * 400 + b", 3]]"
    with pytest.raises((HttpError, BadData)):
        model.predict(decode(_request("application/json", body), model, 10))
