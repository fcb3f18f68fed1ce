"""A whole run through Airflow: two steps and a gate, on a local store."""

from __future__ import annotations

import textwrap

import pytest
from support import airflow_home

DAG_FILE = textwrap.dedent(
    """
    from airflow.sdk import DAG, BaseOperator, Param

    from slimline.adapters.airflow.common import START, component_task, gate_task, task_defaults
    from slimline.adapters.airflow.params import form
    from slimline.adapters.airflow.release_tasks import RollBackOperator
    from slimline.recipe.plan import Source, Step

    steps = (
        Step("talk", "talk", {"times": 2}, {}),
        Step("judge", "passes", {}, {"heard": (Source("talk", "said"),)}),
    )
    with DAG(
        "two_steps", schedule=None, start_date=START, params=form(steps),
        default_args=task_defaults("tests"),
    ) as dag:
        tasks = [component_task(step, "two") for step in steps]
        tasks[0] >> tasks[1] >> gate_task("judge")


    class Resolve(BaseOperator):
        def execute(self, context):
            before = context["params"]["before"]
            previous = before and {"uri": before, "digest": before[-64:]}
            return {"deployed": "1", "outputs": {"previous": previous}}


    def listen(name, source):
        inputs = {"heard": (source,)}
        step = Step(name, "passes", {}, inputs)
        return component_task(step, "back", skip_without_input=name.startswith("undo_"))


    with DAG(
        "falls_back", schedule=None, start_date=START, default_args=task_defaults("tests"),
        params={"before": Param(None, type=["string", "null"]), "talk.ending": "data"},
    ) as back:
        resolve = Resolve(task_id="resolve")
        talk = component_task(Step("talk", "talk", {}, {}), "back", retries=0)
        ota = listen("ota", Source("talk", "said"))
        done = Resolve(task_id="done")
        decide = RollBackOperator(
            task_id="roll_back", watched=["talk", "ota"], changing=["talk", "ota"],
            trigger_rule="one_failed",
        )
        resolve >> talk >> ota >> done
        [talk, ota] >> decide
        decide >> [listen(f"undo_{n}", Source("roll_back", n)) for n in ("talk", "ota")]
    """
)


@pytest.fixture
def dags(airflow_db, rooms):  # noqa: ARG001 - both have to be there
    from airflow.dag_processing.bundles.manager import DagBundlesManager  # noqa: PLC0415
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db  # noqa: PLC0415

    path = airflow_home.DAGS / "two_steps.py"
    path.write_text(DAG_FILE)
    DagBundlesManager().sync_bundles_to_db()
    bag = DagBag(path, bundle_path=airflow_home.DAGS, bundle_name="dags-folder")
    assert bag.import_errors == {}
    sync_bag_to_db(bag, "dags-folder", None)
    return bag.dags


def results(run) -> dict[str, dict]:
    found = {}
    for ti in run.get_task_instances():
        found[ti.task_id] = {"state": str(ti.state), **(ti.xcom_pull(task_ids=ti.task_id) or {})}
    return found


@pytest.mark.system
def test_a_run_goes_from_step_to_gate_and_the_next_run_reuses_what_can_be(dags):
    two_steps = dags["two_steps"]
    first = results(two_steps.test())
    assert {r["state"] for r in first.values()} == {"success"}
    assert first["talk"]["executed"]
    assert first["judge"]["numbers"]["heard"] == 1

    again = results(two_steps.test(run_conf={"judge.verdict": False}))
    assert not again["talk"]["executed"]
    assert again["talk"]["reason"].startswith("reused")
    assert again["judge"]["numbers"]["passed"] is False
    assert again["judge_passed"]["state"] == "failed"


@pytest.mark.system
def test_what_a_failed_task_changed_is_undone_and_the_run_still_fails(dags):
    said = results(dags["two_steps"].test())["talk"]["outputs"]["said"]["uri"]
    run = dags["falls_back"].test(run_conf={"before": said})
    found = results(run)
    assert str(run.state) == "failed"
    states = {name: result["state"] for name, result in found.items()}
    assert states == {
        "resolve": "success",
        "talk": "failed",
        "ota": "upstream_failed",
        "done": "upstream_failed",
        "roll_back": "success",
        "undo_talk": "success",
        "undo_ota": "skipped",
    }
    assert found["undo_talk"]["numbers"]["heard"] == 1
