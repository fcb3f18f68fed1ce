"""The newest operator set of the runtime that is installed."""

import onnx
import pytest

from slimline.contract import BadData
from slimline.measure.opset import identity_model, newest_opset
from slimline.measure.runtime import session


def test_the_runtime_runs_the_newest_opset_and_refuses_the_next():
    newest = newest_opset()

    assert newest >= 21  # ONNX Runtime 1.20
    session(identity_model(newest))
    with pytest.raises(BadData):
        session(identity_model(newest + 1))


@pytest.mark.parametrize("opset", [13, 127, 128, 300])
def test_the_model_that_asks_is_valid_onnx_of_that_opset(opset):
    read = onnx.load_from_string(identity_model(opset))

    assert [o.version for o in read.opset_import] == [opset]
    assert [n.op_type for n in read.graph.node] == ["Identity"]
    if opset == 13:
        onnx.checker.check_model(read)
