"""The digits, checked once for all tests; and a short way to check something else."""

from __future__ import annotations

import pytest

from slimline.check_data.spec import CheckData
from slimline.contract import BadData, LocalStore

DIGITS = {"kind": "sklearn", "name": "digits"}


@pytest.fixture(scope="session")
def checked_digits(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits")
    job = CheckData.parse({"source": DIGITS, "name": "digits"})
    return job.run(LocalStore(root / "store"), work_dir=root / "work")


@pytest.fixture
def check(tmp_path):
    """Check a source, given as a recipe gives it; returns the outcome."""

    def run(source, **parameters):
        job = CheckData.parse({"source": source, "name": "it", **parameters})
        return job.run(LocalStore(tmp_path / "store"))

    return run


@pytest.fixture
def refused(check, tmp_path):
    """Check a source and expect a refusal with these words, and nothing kept."""

    def run(words, source, **parameters):
        with pytest.raises(BadData, match=f"(?s){words}") as caught:
            check(source, **parameters)
        assert caught.value.exit_code == 65
        assert not list((tmp_path / "store").rglob("*"))
        return str(caught.value)

    return run
