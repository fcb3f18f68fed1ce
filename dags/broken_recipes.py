"""No airflow DAG: shows every recipe that cannot be read as an import error, file and line named.

Airflow hides all DAGs of a file with an import error; so it is raised here, where there are none.
"""

from pathlib import Path

from slimline.adapters.airflow.recipes import check_all

check_all(Path(__file__).parent / "recipes")
