"""One airflow DAG for each recipe: from data to a signed package in the registry.

A recipe that cannot be read makes none here, and is told by `broken_recipes.py`.
"""

from pathlib import Path

from slimline.adapters.airflow.compress import compress_dag
from slimline.adapters.airflow.recipes import readable

for recipe in readable(Path(__file__).parent / "recipes"):
    compress_dag(recipe)
