"""The store on a directory and on two S3 servers: Swift everywhere, Ceph where there is Docker."""

from __future__ import annotations

import pytest
from support.ceph import Unavailable, ceph_gateway

from slimline.contract import open_store

SERVERS = ["swift", pytest.param("ceph", marks=pytest.mark.docker)]


@pytest.fixture(scope="session")
def ceph():
    """Ceph's object gateway in a container, once for the session."""
    try:
        with ceph_gateway() as server:
            yield server
    except Unavailable as why:
        pytest.skip(f"no Ceph gateway: {why}")


def _use(request, name):
    server = request.getfixturevalue({"swift": "s3"}.get(name, name))
    monkeypatch = request.getfixturevalue("monkeypatch")
    for variable, value in server.environment.items():
        monkeypatch.setenv(variable, value)
    return server


@pytest.fixture(params=SERVERS)
def server(request):
    """Each S3 server in turn; AWS_* of this process point to it for the test."""
    return _use(request, request.param)


@pytest.fixture
def s3_store(server):
    """An empty store on each S3 server in turn."""
    return open_store(server.new_prefix())


@pytest.fixture(params=["local", *SERVERS])
def store(request, tmp_path):
    """An empty store: a directory, and each S3 server in turn."""
    if request.param == "local":
        return open_store(str(tmp_path / "a store"))
    return open_store(_use(request, request.param).new_prefix())
