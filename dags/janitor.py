"""The airflow DAG that cleans up each day: leftovers of processes, and results that grew old."""

from pathlib import Path

from slimline.adapters.airflow.recipes import readable
from slimline.adapters.airflow.upkeep import janitor_dag

janitor_dag([recipe.name for recipe in readable(Path(__file__).parent / "recipes")])
