"""What must not leave the pipeline does not, wherever it knocks.

                              push    deploy    endpoint    device
    one flipped byte            x        x          x          x
    no signature                x        x          x          x
    a foreign signature         x        x          x          x
    a verdict of other bytes    x        x          x          x
    a verdict that says no      x        x          x          x

Each of the twenty says the cause and changes nothing: S3 holds no object, the old endpoint serves
on, a new one ends before it is ready, the device runs what it ran.
"""

from __future__ import annotations

import re

import pytest
from support import web
from support.fleet import make_fleet
from support.packages import tiny_package
from support.serving import launch

from slimline.contract import LocalStore, Refused, open_store
from slimline.deploy.endpoints import stop_endpoint
from slimline.deploy.spec import Deploy, Local
from slimline.push.spec import Push
from slimline.trust.keys import generate_key

FOREIGN, _ = generate_key()


def _flip(root):
    file = root / "model" / "model.onnx"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def _unsign(root):
    (root / "signature.json").unlink()


# How the package is built, what is done to it then, and what the refusal says.
CAUSES = {
    "one flipped byte": (
        {},
        _flip,
        r"model/model\.onnx (was changed after it was signed|is not what was signed)",
    ),
    "no signature": ({}, _unsign, r"signature\.json is missing: this package is not signed"),
    "a foreign signature": (
        {"private_pem": FOREIGN},
        None,
        r"signature\.json.*key.* not trusted",
    ),
    "a verdict of other bytes": (
        {"verdict_digest": "0" * 64},
        None,
        r"verdict is for other bytes: it judged 0{12}",
    ),
    "a verdict that says no": (
        {"verdict_passed": False},
        None,
        r"verdict.*accuracy 0\.96 is below 0\.99",
    ),
}


@pytest.mark.parametrize("place", ["push", "deploy", "endpoint", "device"])
@pytest.mark.parametrize("cause", CAUSES)
def test_a_package_that_must_not_leave_is_refused_and_nothing_changes(
    cause, place, request, fleet, tmp_path
):
    options, damage, words = CAUSES[cause]
    ours = {"private_pem": fleet.private_pem, "verdict_pem": fleet.private_pem, "seed": 2}
    root = tiny_package(tmp_path / "package", **{**ours, **options})
    if damage:
        damage(root)
    knock = request.getfixturevalue(place)
    assert re.search(words, knock(root))


def test_the_same_package_undamaged_is_taken(push, deploy, device, fleet, tmp_path):
    """Else the refusals above would prove nothing; that endpoints take it, `deploy` proves."""
    root = tiny_package(tmp_path / "package", private_pem=fleet.private_pem, seed=2)
    for knock in (push, deploy, device):
        with pytest.raises(Taken):
            knock(root)


class Taken(Exception):
    """The package was not refused."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """Devices and their repository; each place trusts the key that its packages are signed with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _handle: None)
        patch.setenv("SLIMLINE_SERVING_LINGER", "0")
        made = make_fleet(tmp_path_factory.mktemp("fleet"))
        patch.setenv("SLIMLINE_TRUSTED_KEYS", str(made.trusted))
        yield made


@pytest.fixture
def push(s3, tmp_path):
    """Push to S3; nothing may be there afterwards."""

    def knock(root):
        destination = s3.new_prefix()
        reason = _refusal(Push(package=root, destination=destination), tmp_path / "push")
        assert list(open_store(destination).keys("")) == []
        return reason

    return knock


@pytest.fixture(scope="module")
def endpoint_state(fleet, tmp_path_factory):
    """The directory of an endpoint that serves a good package already, and its address."""
    state = tmp_path_factory.mktemp("endpoints")
    job = Deploy(package=fleet.package(1), endpoint="digits", local=Local(state_dir=str(state)))
    done = job.run(work_dir=tmp_path_factory.mktemp("work"))
    yield state, done.manifest.numbers["address"]
    stop_endpoint(state, "digits")


@pytest.fixture
def deploy(endpoint_state, tmp_path):
    """Deploy over an endpoint that serves; it serves on, and no file of its state changes."""
    state, address = endpoint_state

    def knock(root):
        before = _settled(state), web.get(f"{address}/readyz").json()
        settings = Local(state_dir=str(state))
        job = Deploy(package=root, endpoint="digits", local=settings)
        reason = _refusal(job, tmp_path / "deploy")
        assert (_settled(state), web.get(f"{address}/readyz").json()) == before
        return reason

    return knock


@pytest.fixture
def endpoint(fleet, tmp_path):
    """Start the server itself on the package; it ends with 65 and never was ready."""

    def knock(root):
        process = launch(root, fleet.trusted, tmp_path / "server")
        assert process.wait(60) == 65
        log = (tmp_path / "server" / "log").read_text()
        assert "ready:" not in log
        assert "Traceback" not in log
        return log

    return knock


@pytest.fixture(scope="module")
def agent(fleet):
    """A device that runs a good package."""
    started = fleet.agent()
    fleet.tell(fleet.package(1))
    assert started.poll().state == "updated"
    yield started
    started.close()


@pytest.fixture
def device(fleet, agent):
    """Release the package to the device; its record and its active slot stay what they were."""

    def knock(root):
        current = agent.settings.home / "current"
        before = agent.state.active, agent.state.running, current.resolve(), _contents(current)
        fleet.tell(root)
        status = agent.poll()
        if status.state != "refused":
            raise Taken
        assert status.after == status.before == agent.state.running
        assert before == (
            agent.state.active,
            agent.state.running,
            current.resolve(),
            _contents(current),
        )
        return status.reason

    return knock


def _refusal(job, work):
    """Why a job refuses; it leaves neither artifact nor manifest in its store."""
    store = LocalStore(work / "store")
    try:
        job.run(store, work_dir=work / "work")
    except Refused as error:
        assert list(store.keys("")) == []
        return str(error)
    raise Taken


def _contents(root):
    root = root.resolve()
    return {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def _settled(state):
    """All files of an endpoint but the logs, which grow with every question."""
    return {path: data for path, data in _contents(state).items() if path.suffix != ".log"}
