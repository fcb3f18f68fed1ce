from __future__ import annotations

import pytest

from slimline.contract import open_store


@pytest.fixture(params=["local", "s3"])
def store(request, tmp_path):
    """Each test that takes it runs on a directory and on a real S3 server."""
    if request.param == "local":
        return open_store(str(tmp_path / "a store"))
    return open_store(request.getfixturevalue("s3").new_prefix())
