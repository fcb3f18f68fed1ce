"""One airflow DAG for each recipe with targets: from a promotion to the endpoint and the fleet."""

from pathlib import Path

from slimline.adapters.airflow.recipes import readable
from slimline.adapters.airflow.release import release_dag

for recipe in readable(Path(__file__).parent / "recipes"):
    if recipe.targets:
        release_dag(recipe)
