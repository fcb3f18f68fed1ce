"""A DAG with what the client has to handle: a result, a log, a person's answer, an asset."""

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Asset, dag, get_current_context, task


@dag(schedule=None, params={"amount": 1})
def probe():
    @task
    def count() -> dict[str, int]:
        amount = get_current_context()["params"]["amount"]
        print(f"counted to {amount}")  # noqa: T201 - the log that the test reads
        return {"counted": amount}

    ask = HITLOperator(task_id="ask", subject="Go on?", options=["Yes", "No"])
    count() >> ask


@dag(schedule=[Asset("probe-asset")])
def woken():
    @task
    def note() -> None:
        pass

    note()


probe()
woken()
