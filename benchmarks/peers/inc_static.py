"""Neural Compressor 3.10: INT8StaticQuantConfig on the torch network, exported to ONNX.

Its ONNX side has left it (see `inc_tuned.py`); what it makes of a torch network is a PT2E graph,
which torch's exporter takes. Its `convert` leaves the weights float, followed by their rounding,
and offers no way to fold them; the second point does that by the option of the method below it.
"""

from __future__ import annotations

from functools import partialmethod
from typing import TYPE_CHECKING

import torch
from neural_compressor.torch.algorithms.pt2e_quant.core import W8A8PT2EQuantizer
from neural_compressor.torch.export import export
from neural_compressor.torch.quantization import INT8StaticQuantConfig, convert, prepare
from peer_common import INPUTS, examples, points
from resnet20 import published, to_onnx

if TYPE_CHECKING:
    from pathlib import Path

IMAGES = torch.from_numpy(examples("calibration")[0])


def static(target: Path) -> str:
    """Prepare, calibrate, convert as its documentation says."""
    example, batch = (IMAGES[:2],), torch.export.Dim("batch")
    module = export(published(INPUTS), example, dynamic_shapes={"x": {0: batch}})
    prepared = prepare(module, INT8StaticQuantConfig(), example_inputs=example)
    with torch.no_grad():
        for part in torch.split(IMAGES, 32):
            prepared(part)
    to_onnx(convert(prepared), target)
    return "PT2E, X86InductorQuantizer"


def folded(target: Path) -> str:
    """The same with weights stored as integers."""
    plain = W8A8PT2EQuantizer.convert
    W8A8PT2EQuantizer.convert = partialmethod(plain, fold_quantize=True)
    try:
        return f"{static(target)}, fold_quantize"
    finally:
        W8A8PT2EQuantizer.convert = plain


if __name__ == "__main__":
    points({"static": static, "static folded": folded})
