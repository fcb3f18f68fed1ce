from __future__ import annotations

import pytest
from support import probe


@pytest.fixture
def docker_bench(tmp_path, monkeypatch):
    """Opens benches of the real engine; their containers are removed at the end."""
    from support.docker_bench import open_bench  # noqa: PLC0415 - needs the Docker SDK

    probe.install(monkeypatch)
    opened = []

    def make(**settings):
        opened.append(open_bench(tmp_path, **settings))
        return opened[-1]

    yield make
    for bench in opened:
        bench.clear()
