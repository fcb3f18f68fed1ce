"""Coded models: small where weights have few levels, equal to the last bit, closed to damage."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper, numpy_helper

from slimline.coding import decode_model, encode_model
from slimline.coding.streams import decode, encode, find_grid
from slimline.coding.tensors import find_weights
from slimline.contract import BadData

RNG = np.random.default_rng(0)
WEIGHTS = RNG.standard_normal((128, 128, 3, 3)).astype(np.float32)


def model(**weights):
    """A graph with these initializers; a name that begins with x is kept as float_data."""
    tensors = []
    for name, value in weights.items():
        if name.startswith("x"):
            tensors.append(
                helper.make_tensor(name, TensorProto.FLOAT, value.shape, value.ravel().tolist())
            )
        else:
            tensors.append(numpy_helper.from_array(value, name))
    port = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    node = helper.make_node("Identity", [next(iter(weights))], ["y"])
    graph = helper.make_graph([node], "g", [], [port], tensors)
    return helper.make_model(graph).SerializeToString()


def same(bytes_, most=10**9):
    coded = encode_model(bytes_)
    assert decode_model(coded, most) == bytes_
    return len(bytes_) / len(coded)


def test_weights_on_a_grid_take_near_their_entropy():
    levels = np.rint(WEIGHTS / 0.5) + 0.0  # no negative zeros
    _, counts = np.unique(levels, return_counts=True)
    share = counts / counts.sum()
    bits = -(share * np.log2(share)).sum()
    ratio = same(model(w=(levels.astype(np.float32) * np.float32(0.037))))
    assert 0.93 * 32 / bits < ratio < 1.001 * 32 / bits


def test_sparse_weights_leave_their_zeros_behind():
    sparse = np.where(np.abs(WEIGHTS) > 1.96, WEIGHTS, 0).astype(np.float32)
    kept = np.count_nonzero(sparse) / sparse.size
    mask_bits = -kept * np.log2(kept) - (1 - kept) * np.log2(1 - kept)
    assert same(model(w=sparse)) > 0.95 * 32 / (32 * kept + mask_bits)


@pytest.mark.parametrize(
    ("weights", "least"),
    [
        (WEIGHTS, 1.05),
        (RNG.choice(np.float32([-0.7, -0.1, 0.2, 0.5]), (256, 256)), 14),
        (np.sign(WEIGHTS), 25),
        (RNG.integers(-8, 8, (256, 256), dtype=np.int8), 1.7),
        (WEIGHTS.astype(np.float16), 1.05),
        (np.zeros((256, 256), np.float32), 30),
        (np.arange(2000, dtype=np.int64), 3),
        (RNG.integers(-(2**62), 2**62, 2000) * (RNG.random(2000) > 0.8), 3),
        (np.float32([np.nan, np.inf, -0.0, 0.0] * 20), 1),
    ],
    ids=["floats", "codebook", "binary", "int8", "float16", "zeros", "shape", "int64", "odd"],
)
def test_every_kind_of_weights_is_restored_bit_for_bit(weights, least):
    assert same(model(w=weights, xtra=np.float32([1, 2, 3]))) > 0.9 * least


@settings(deadline=None, max_examples=60)
@given(
    hnp.arrays(np.int16, st.integers(1, 300), elements=st.integers(-2000, 2000)),
    st.floats(2**-60, 2**60, width=32),
)
def test_a_grid_is_found_from_its_values_alone(levels, step):
    values = levels.astype(np.float32) * np.float32(step)
    values[values == 0] = 0  # no negative zero
    found = find_grid(values)
    if found is not None:
        assert np.array_equal(found[0].astype(np.float32) * found[1], values)
    if 1 in np.abs(levels):
        assert found is not None


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=400))
def test_whatever_bytes_there_are_come_back(data):
    for itemsize in (1, 4):
        whole = data[: len(data) // itemsize * itemsize]
        stream, body = encode(whole, itemsize, floats=itemsize == 4)
        assert decode(stream, memoryview(body), len(whole)) == whole


def test_places_of_weights_are_those_that_onnx_finds():
    made = model(a=WEIGHTS, b=WEIGHTS[0], xtra=np.float32([1]))
    found = find_weights(made)
    assert [made[w.at : w.at + w.size] for w in found] == [
        t.raw_data for t in onnx.load_from_string(made).graph.initializer if t.raw_data
    ]


def test_bytes_that_are_no_model_are_refused():
    for junk in (b"\xff" * 40, b"\x3a\xff\xff\xff\x7f", b"\x3b"):
        with pytest.raises(BadData, match="no serialized ONNX model"):
            encode_model(junk)
    with pytest.raises(BadData, match="no coded model"):
        decode_model(b"hello", 100)


def test_one_flipped_byte_anywhere_is_noticed():
    coded = bytearray(encode_model(model(w=np.rint(WEIGHTS[:8]))))
    for at in RNG.integers(0, len(coded), 200):
        damaged = bytes(coded[:at]) + bytes([coded[at] ^ 0x41]) + bytes(coded[at + 1 :])
        with pytest.raises(BadData):
            decode_model(damaged, 10**6)
    with pytest.raises(BadData):
        decode_model(bytes(coded[:-7]), 10**6)


def test_a_bomb_is_refused_before_it_grows():
    zeros = encode_model(model(w=np.zeros(10**6, np.float32)))
    assert len(zeros) < 10_000
    with pytest.raises(BadData, match="at most 1000000 are expected"):
        decode_model(zeros, 10**6)
