"""One airflow DAG for each recipe with targets, started by hand: the version before comes back."""

from pathlib import Path

from slimline.adapters.airflow.recipes import readable
from slimline.adapters.airflow.release import rollback_dag

for recipe in readable(Path(__file__).parent / "recipes"):
    if recipe.targets:
        rollback_dag(recipe)
