import socket

import pytest
from support.splits import small_factory, write_digits

from slimline.contract import Killed
from slimline.models.tracking import tracked
from slimline.train.spec import Train

mlflow = pytest.importorskip("mlflow")


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


def test_parameters_and_epochs_of_a_job_are_one_run(tracking_uri, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    few = write_digits(tmp_path, most=100)
    job = Train.parse(
        {**few.inputs(), "name": "tracked", "epochs": 3, "factory": small_factory(4), "seed": 7}
    )
    outcome = job.run()
    client = mlflow.MlflowClient(tracking_uri)
    experiment = client.get_experiment_by_name("tracked")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.tags["slimline.job"] == outcome.manifest.job
    assert run.data.params["seed"] == "7"
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "accuracy")
    assert [m.step for m in history] == [1, 2, 3]
    assert max(m.value for m in history) == outcome.manifest.numbers["accuracy"]


def test_a_job_that_goes_on_after_a_kill_goes_on_in_its_run(tracking_uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)

    def killed():
        with tracked("resumed", "job1", "train", {"seed": 1}) as tracker:
            tracker.log({"loss": 2.0}, 1)
            raise Killed

    with pytest.raises(Killed):
        killed()
    client = mlflow.MlflowClient(tracking_uri)
    experiment = client.get_experiment_by_name("resumed").experiment_id
    assert client.search_runs([experiment])[0].info.status == "KILLED"
    with tracked("resumed", "job1", "train", {"seed": 1}) as tracker:
        tracker.log({"loss": 1.0}, 2)
    (run,) = client.search_runs([experiment])
    assert run.info.status == "FINISHED"
    assert [m.value for m in client.get_metric_history(run.info.run_id, "loss")] == [2.0, 1.0]


def test_a_server_that_is_down_costs_a_warning_with_the_cure(monkeypatch, caplog):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with tracked("down", "job2", "train", {}) as tracker:
        tracker.log({"loss": 1.0}, 1)
    assert [r.levelname for r in caplog.records if "MLflow" in r.message] == ["WARNING"]
    assert "start the server or unset MLFLOW_TRACKING_URI" in caplog.text
