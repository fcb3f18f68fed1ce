"""Take in an ONNX file of your own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from slimline.contract import BadData, BadParameters, Numbers, sha256_file
from slimline.data.dataset import load_info
from slimline.data.preprocess import Preprocessing
from slimline.data.sources.remote import Bucket
from slimline.models.onnx_file import adopt_onnx

if TYPE_CHECKING:
    from slimline.adopt.spec import Adopt


def run(job: Adopt) -> Numbers:
    """Bring the file here, see that it is the one meant, check it, and keep it in our form."""
    data = load_info(job.train.path)
    source = _brought(job)
    found = sha256_file(source)
    if job.sha256 not in (None, found):
        msg = f"sha256: {job.path} is {found[:12]}, must be {job.sha256:.12}; give the right file"
        raise BadData(msg)
    preprocessing = Preprocessing(shape=data.shape, dtype=data.dtype, steps=job.preprocessing)
    info = adopt_onnx(
        source,
        job.model.path,
        name=job.name,
        labels=data.labels,
        preprocessing=preprocessing,
        stage=job.stage,
    )
    return {"sha256": found, "bytes": source.stat().st_size, "opset": info.opset}


def _brought(job: Adopt) -> Path:
    """The file on this machine."""
    if not job.path.startswith("s3://"):
        local = Path(job.path)
        if not local.is_file():
            msg = f"path: {job.path} is not there; give a path or an s3:// URI of an .onnx file"
            raise BadParameters(msg)
        return local
    beside = job.model.path.parent / "brought.onnx"
    beside.write_bytes(Bucket().read(job.path, "path"))
    return beside
