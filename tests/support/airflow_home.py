"""An Airflow of the tests' own: import this before anything imports airflow."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

HOME = Path(tempfile.mkdtemp(prefix="slimline-airflow-"))
DAGS = HOME / "dags"


def prepare() -> None:
    """Point Airflow to a home in a temporary directory, with SQLite and no examples."""
    if "airflow" in sys.modules:
        msg = "airflow was imported before support.airflow_home: it would use the home of the user"
        raise RuntimeError(msg)
    atexit.register(shutil.rmtree, HOME, ignore_errors=True)
    DAGS.mkdir(exist_ok=True)
    os.environ |= {
        "AIRFLOW_HOME": str(HOME),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME}/airflow.db",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
    }


prepare()
