"""The airflow DAG of each day: leftovers and old results go, fleets' signatures are renewed."""

from pathlib import Path

from slimline.adapters.airflow.recipes import readable
from slimline.adapters.airflow.upkeep import janitor_dag

janitor_dag(readable(Path(__file__).parent / "recipes"))
