"""Detached signatures of the lock and the bills of materials, where SLIMLINE_IMAGE_KEY is set."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import TYPE_CHECKING

from slimline.adapters.images import signature_path
from slimline.contract import BadParameters
from slimline.trust.keys import sign

if TYPE_CHECKING:
    from collections.abc import Iterable

VARIABLE = "SLIMLINE_IMAGE_KEY"
"""Names a file that holds a private EC key as PEM."""


def sign_files(files: Iterable[Path]) -> bool:
    """Write `<file>.sig` beside each; without a key, remove what an earlier key signed.

    Returns:
        Whether there is a key.

    Raises:
        BadParameters: when the key cannot be read.
    """
    named = os.environ.get(VARIABLE)
    for file in files:
        if not named:
            signature_path(file).unlink(missing_ok=True)
            continue
        try:
            pem = Path(named).read_text()
        except OSError as error:
            msg = f"{VARIABLE}: {named} cannot be read ({error.strerror}): name a PEM file"
            raise BadParameters(msg) from error
        signature = base64.b64encode(sign(pem, file.read_bytes())).decode()
        signature_path(file).write_text(signature + "\n")
    return bool(named)
