from __future__ import annotations

import pytest
from support import airflow_home, probe


@pytest.fixture(scope="session")
def airflow_db():
    """A metadata database, made once."""
    from airflow.utils.db import initdb  # noqa: PLC0415 - only after its home is set

    initdb()
    return airflow_home.HOME


@pytest.fixture
def rooms(monkeypatch, tmp_path):
    """The rooms of the plugin, a store and a work directory; returns the directory of all."""
    probe.install(monkeypatch)
    monkeypatch.setenv("SLIMLINE_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("SLIMLINE_WORK", str(tmp_path / "work"))
    return tmp_path
