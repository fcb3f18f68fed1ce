"""The search DAG: it reads in no time, and a run of it is the search of one process."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from support import airflow_home
from support.splits import small_factory
from support.teacher import taught

from slimline.contract import execute, open_store
from slimline.search.spec import Search

DAG_FILE = "from slimline.adapters.airflow.search import search_dag\n\nsearch_dag(rounds=3)\n"
SEARCH = {
    "space": {
        "factory": [small_factory(4), small_factory(4, 8)],
        "distill": {"learning_rate": [0.01]},
    },
    "epochs": [1],
    "population": 2,
    "trials": 2,
    "rounds": 11,
    "max_drop": 0.5,
    "prefer": "size",
}


@pytest.fixture
def dag(airflow_db, rooms):  # noqa: ARG001 - both have to be there
    from airflow.dag_processing.bundles.manager import DagBundlesManager  # noqa: PLC0415
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db  # noqa: PLC0415

    path = airflow_home.DAGS / "search.py"
    path.write_text(DAG_FILE)
    DagBundlesManager().sync_bundles_to_db()
    bag = DagBag(path, bundle_path=airflow_home.DAGS, bundle_name="dags-folder")
    assert bag.import_errors == {}
    sync_bag_to_db(bag, "dags-folder", None)
    return bag.dags["search"]


def test_the_dag_file_reads_in_half_a_second_beside_what_airflow_takes():
    code = textwrap.dedent(
        """
        import runpy, sys, time
        from airflow.sdk import DAG, BaseOperator
        import slimline.adapters.airflow.compress
        started = time.process_time()
        runpy.run_path(sys.argv[1])
        print(time.process_time() - started)
        """
    )
    file = Path(__file__).parents[2] / "dags" / "search.py"
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True
    )
    assert float(done.stdout.splitlines()[-1]) < 0.5


@pytest.mark.system
def test_mapped_tasks_and_one_process_share_their_trials_and_give_the_same_front(dag, rooms):
    teacher = taught()
    inputs = {"teacher": teacher.model, **teacher.inputs()}
    form = {f"search.{name}": value for name, value in SEARCH.items()}
    run = dag.test(run_conf={**{k: str(v) for k, v in inputs.items()}, **form})
    assert str(run.state) == "success"
    tasks = {(ti.task_id, ti.map_index): ti for ti in run.get_task_instances()}
    mapped = {key: str(ti.state) for key, ti in tasks.items() if key[0].startswith("trial")}
    assert mapped == {
        **{(f"trial_{n}", i): "success" for n in (1, 2) for i in (0, 1)},
        ("trial_3", -1): "skipped",
    }
    found = tasks["search", -1].xcom_pull(task_ids="search")
    alone = execute(
        Search.parse({**inputs, **SEARCH}), open_store(str(rooms / "store")), work_dir=rooms / "own"
    )
    assert alone.manifest.job == found["job"]
    assert alone.manifest.numbers["front"] == found["numbers"]["front"]
    assert found["numbers"]["trials"] == found["numbers"]["finished"] == 2
    # Nothing was trained or measured in the last task: the mapped ones had done it.
    assert found["numbers"]["minutes"] < 0.5
