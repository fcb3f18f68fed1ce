"""The DAG files as Airflow reads them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization

DAGS = Path(__file__).parents[2] / "dags"
FILES = sorted(DAGS.glob("*.py"))
RECIPES = [path.stem for path in sorted((DAGS / "recipes").glob("*.yaml"))]
HEAVY = ("torch", "onnx", "onnxruntime", "numpy", "pandas", "boto3", "mlflow", "great_expectations")


@pytest.fixture(scope="module")
def dags():
    bag = DagBag(DAGS, bundle_path=DAGS)
    assert bag.import_errors == {}
    return bag.dags


def test_there_is_a_dag_for_each_recipe_and_reason_to_run(dags):
    kinds = ("compress", "release", "rollback")
    assert set(dags) == {f"{kind}_{name}" for kind in kinds for name in RECIPES} | {
        "janitor",
        "search",
    }


def test_the_janitor_renews_each_fleet_once(dags):
    renewals = {t.task_id: t for t in dags["janitor"].tasks if t.task_id.startswith("renew_")}
    assert {t.component for t in renewals.values()} == {"renew"}
    fleets = [t.parameters["repository"] for t in renewals.values()]
    assert len(set(fleets)) == len(fleets) > 0


def test_every_dag_and_task_has_an_owner_docs_retries_by_exit_code_and_a_limit(dags):
    for dag in dags.values():
        assert dag.doc_md
        assert "slimline" in dag.tags
        for task in dag.tasks:
            assert task.owner not in ("", "airflow"), task
            assert task.doc_md, task
            limit = getattr(task, "response_timeout", None) or task.execution_timeout
            assert limit is not None, task
            assert task.retry_policy is not None, task
            judges = task.task_id.endswith("_passed") or task.task_id == "approve"
            assert task.retries == (0 if judges else 3), task


def test_dags_can_be_serialized_and_their_forms_are_valid(dags):
    for dag in dags.values():
        json.dumps(DagSerialization.to_dict(dag))
        dag.params.validate()


def test_what_the_gate_judges_waits_for_its_yes(dags):
    dag = dags["compress_digits"]
    assert dag.get_task("gate").downstream_task_ids == {"gate_passed"}
    assert "gate_passed" in dag.get_task("package").upstream_task_ids
    assert {"push", "register"} <= dag.get_task("gate_passed").get_flat_relative_ids(upstream=False)


def test_the_form_of_a_recipe_shows_its_own_values(dags):
    params = dags["compress_digits"].params
    assert params["teacher.epochs"] == 12
    assert params.get_param("teacher.epochs").schema["section"] == "teacher"
    assert not any(name.endswith((".name", ".stage")) for name in params)


def test_a_release_goes_from_promotion_to_aliases_and_back_when_a_target_fails(dags):
    dag = dags["release_digits"]
    order = ["resolve", "verify", "approve", "deploy", "ota", "ota_passed", "watch", "watch_passed"]
    for task, following in zip(order, [*order[1:], "done"], strict=True):
        assert following in dag.get_task(task).downstream_task_ids
    back = dag.get_task("roll_back")
    assert back.trigger_rule == "one_failed"
    assert back.upstream_task_ids == set(order[3:])
    assert back.downstream_task_ids == {"undo_deploy", "undo_ota"}
    assert dag.get_task("done").downstream_task_ids == set()


def test_a_rollback_is_started_by_hand_only_and_asks_nobody(dags):
    dag = dags["rollback_digits"]
    assert dag.schedule is None
    assert "approve" not in dag.task_ids
    assert dag.get_task("resolve").alias == "previous"


def test_dag_files_are_short_and_hold_no_logic():
    for path in FILES:
        lines = path.read_text().splitlines()
        assert len(lines) <= 60
        assert not any(line.startswith(("def ", "class ")) for line in lines)


def test_dag_files_load_no_heavy_module():
    code = textwrap.dedent(
        """
        import json, runpy, sys
        for path in sys.argv[1:]:
            runpy.run_path(path)
        print(json.dumps(sorted(sys.modules)))
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, FILES)], capture_output=True, text=True, check=True
    )
    assert not set(HEAVY) & set(json.loads(done.stdout.splitlines()[-1]))


def test_a_broken_recipe_is_an_import_error_with_its_line_and_hides_no_other(tmp_path):
    shutil.copytree(DAGS, tmp_path / "dags")
    good = tmp_path / "dags" / "recipes" / "digits.yaml"
    text = good.read_text()
    (good.parent / "broken.yaml").write_text(text.replace("epochs: 12", "epochs: many", 1))
    line = next(i for i, row in enumerate(text.splitlines(), 1) if "epochs: 12" in row)
    bag = DagBag(tmp_path / "dags", bundle_path=tmp_path / "dags")
    assert list(bag.import_errors) == ["broken_recipes.py"]
    error = bag.import_errors["broken_recipes.py"]
    assert f"broken.yaml:{line}: train.epochs" in error
    assert {f"compress_{name}" for name in RECIPES} <= set(bag.dags)


def test_a_name_that_two_recipes_give_is_told(tmp_path):
    shutil.copytree(DAGS, tmp_path / "dags")
    recipes = tmp_path / "dags" / "recipes"
    shutil.copy(recipes / "digits.yaml", recipes / "twin.yaml")
    bag = DagBag(tmp_path / "dags", bundle_path=tmp_path / "dags")
    assert "rename one" in bag.import_errors["broken_recipes.py"]


def test_the_airflow_home_of_the_tests_is_their_own():
    assert os.environ["AIRFLOW_HOME"].startswith("/tmp")  # noqa: S108 - where pytest works
