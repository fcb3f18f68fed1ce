"""infra/compose.yaml: rules that it keeps, and its servers' settings on real servers."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import socket
import stat
import struct
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import redis
import yaml
from support.postgres import postgres, program

from slimline.embedded.ports import free_port
from slimline.embedded.process import Launch, start

INFRA = Path(__file__).parents[2] / "infra"
FILE = INFRA / "compose.yaml"
ENV = INFRA / "compose" / "env.py"
ENDS = {"init", "bucket"}
_SECRETS = re.compile(r"(?i)password|secret|token|key|credential|conn\b|_conn_")
_NO_SECRET = {"AIRFLOW__WORKERS__SECRETS_BACKEND", "AIRFLOW__WORKERS__SECRETS_BACKEND_KWARGS"}
_IN_A_FILE = re.compile(r"(cat )?/(run/secrets|opt|tmp)/[\w./]+$")
_BY_COMMAND = re.compile(r"_(CMD|SECRET)$")


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load(FILE.read_text())


@pytest.fixture(scope="module")
def services(compose):
    return compose["services"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What env.py writes for a lock and an empty folder."""
    root = tmp_path_factory.mktemp("infra")
    lock = root / "lock.json"
    lock.write_text(json.dumps({"images": {"airflow": {"reference": "sha256:" + "a" * 64}}}))
    (root / "compose").mkdir()
    main = runpy.run_path(str(ENV))["main"]
    assert main(lock, root / "compose", "/nowhere/docker.sock") == 0
    return root


def airflow_settings(services):
    return {n: v for s in services.values() for n, v in environment(s).items() if _airflow(n)}


def environment(service):
    return service.get("environment", {})


def _airflow(name):
    return name.startswith("AIRFLOW__")


def test_every_service_is_limited_hardened_logged_and_comes_back(services):
    for name, service in services.items():
        limits = service["deploy"]["resources"]["limits"]
        assert set(limits) == {"cpus", "memory", "pids"}, name
        assert service["restart"] == ("on-failure" if name in ENDS else "unless-stopped"), name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["logging"]["options"]["max-size"], name
        assert "privileged" not in service, name


def test_every_service_that_stays_says_whether_it_is_well(services):
    for name, service in services.items():
        check = service["healthcheck"]
        if name in ENDS:
            assert check == {"disable": True}, name
        else:
            assert check["test"][0] in ("CMD", "CMD-SHELL"), name
            assert check["interval"], name


def test_nothing_starts_before_what_it_needs_is_well(services):
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if needed in ENDS else "service_healthy"
            assert how["condition"] == wanted, (name, needed)


def test_no_port_is_open_but_on_loopback(services):
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert len(ports) == 4
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_no_secret_stands_in_an_environment(services):
    for name, service in services.items():
        for variable, value in environment(service).items():
            if _SECRETS.search(variable) and variable not in _NO_SECRET:
                assert _IN_A_FILE.match(value), (name, variable)
    assert "$" not in json.dumps([environment(s) for s in services.values()])


def test_every_secret_is_declared_made_and_read_somewhere(compose, services, written):
    declared = compose["secrets"]
    read = {
        secret if isinstance(secret, str) else secret["source"]
        for service in services.values()
        for secret in service.get("secrets", ())
    }
    assert read == set(declared)
    made = {p.name for p in (written / "compose" / "secrets").iterdir()}
    assert {Path(secret["file"]).name for secret in declared.values()} <= made


def test_a_service_is_given_each_secret_that_its_settings_name_and_workers_few(services):
    for name, service in services.items():
        given = {s if isinstance(s, str) else s["target"] for s in service.get("secrets", ())}
        text = json.dumps([environment(service), service.get("command"), service["healthcheck"]])
        named = set(re.findall(r"/run/secrets/([\w.]+)", text))
        assert named <= given, name
    worker = {s if isinstance(s, str) else s["source"] for s in services["worker"]["secrets"]}
    assert worker == {"celery_broker", "celery_results", "api_secret_key", "connections"}


def test_the_engines_socket_is_the_workers_alone(services):
    holders = {n for n, s in services.items() if "docker.sock" in json.dumps(s.get("volumes", ()))}
    assert holders == {"worker"}


def test_images_are_pinned_and_ours_come_from_the_lock(services, written):
    for name, service in services.items():
        image = service["image"]
        if "SLIMLINE" in image:
            assert service["pull_policy"] == "never", name
            continue
        default = re.fullmatch(r"\$\{[A-Z0-9]+_IMAGE:-(\S+:\S+)\}", image)[1]
        assert re.search(r"\d+\.\d+", default.rpartition(":")[2]), name
        assert default in (INFRA / "compose" / "README.md").read_text(), name
    assert f"SLIMLINE_AIRFLOW_IMAGE=sha256:{'a' * 64}\n" in (written / ".env").read_text()


def test_every_variable_is_written_or_has_a_default(written):
    needed = re.findall(r"(?<!\$)\$\{(\w+)(:-)?", FILE.read_text())
    have = {line.split("=")[0] for line in (written / ".env").read_text().splitlines()}
    assert {name for name, default in needed if not default} <= have


def test_every_mount_and_network_exists(compose, services):
    for name, service in services.items():
        for volume in service.get("volumes", ()):
            if volume.startswith("$"):
                continue
            source = volume.split(":")[0]
            if source.startswith("."):
                expected = (INFRA / source).resolve()
                assert expected.exists() or expected.name == "lock.json", (name, source)
                assert volume.endswith(":ro"), (name, volume)
            else:
                assert source in compose["volumes"], (name, source)
        assert set(service["networks"]) <= set(compose["networks"]), name
    jobs = compose["networks"]["jobs"]["name"]
    assert services["worker"]["environment"]["SLIMLINE_DOCKER_NETWORK"] == jobs


def test_every_airflow_setting_exists_and_a_command_is_given_only_where_one_may_be(services):
    from airflow.configuration import conf  # noqa: PLC0415 - takes seconds
    from airflow.providers.celery.get_provider_info import get_provider_info  # noqa: PLC0415 - takes seconds

    options = {
        (section.lower(), name.lower()): option
        for told in (conf.configuration_description, get_provider_info()["config"])
        for section, about in told.items()
        for name, option in about["options"].items()
    }
    settings = airflow_settings(services)
    assert len(settings) > 15
    for variable in settings:
        section, name = _BY_COMMAND.sub("", variable).lower().split("__")[1:]
        option = options[(section, name)]
        assert not variable.endswith("_CMD") or option.get("sensitive"), variable


def test_every_airflow_command_is_one(services):
    from airflow.cli.cli_parser import get_parser  # noqa: PLC0415 - takes seconds

    commands = [words(s) for s in services.values() if words(s)[:1] == ["airflow"]]
    assert len(commands) == 6
    for command in commands:
        get_parser().parse_args(command[1:])


def words(service):
    """The command, without the shell that prepares it."""
    command = service.get("command", [])
    if command[:2] == ["sh", "-c"]:
        return re.split(r"\bexec\b", command[2])[-1].split()
    return command


def test_mlflow_knows_its_options(services):
    from mlflow.cli import server  # noqa: PLC0415 - takes seconds

    command = words(services["mlflow"])
    known = {flag for option in server.params for flag in option.opts}
    assert command[:2] == ["mlflow", "server"]
    assert {word for word in command if word.startswith("--")} <= known


def test_a_secret_is_made_once_and_no_one_else_can_enter_its_folder(written):
    folder = written / "compose" / "secrets"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    before = {p.name: p.read_text() for p in folder.iterdir()}
    main = runpy.run_path(str(ENV))["main"]
    assert main(written / "lock.json", written / "compose", "/nowhere/docker.sock") == 0
    assert {p.name: p.read_text() for p in folder.iterdir()} == before
    assert len({text for name, text in before.items() if name.startswith("password_")}) == 8


def test_without_images_the_cure_is_told(tmp_path, capsys):
    main = runpy.run_path(str(ENV))["main"]
    assert main(tmp_path / "lock.json", tmp_path, "/nowhere/docker.sock") == 64
    assert "make images" in capsys.readouterr().err


def placed(text, folder, own):
    """A server's configuration with its places in a container exchanged for places here."""
    for before, after in {"/run/secrets": str(folder / "compose" / "secrets"), **own}.items():
        assert before in text
        text = text.replace(before, after)
    return text


def ready(word):
    return lambda log: "yes" if word in log.read_text() else ""


@pytest.mark.skipif(not shutil.which("redis-server"), reason="no redis-server")
def test_redis_takes_the_password_that_was_made_and_no_other(written, tmp_path):
    port = free_port()
    conf = tmp_path / "redis.conf"
    text = (INFRA / "compose" / "redis" / "redis.conf").read_text()
    own = {
        "bind * -::*": "bind 127.0.0.1",
        "port 6379": f"port {port}",
        "dir /data": f"dir {tmp_path}",
    }
    conf.write_text(placed(text, written, own))
    broker = (written / "compose" / "secrets" / "celery_broker").read_text()
    argv = (shutil.which("redis-server"), str(conf))
    with start(Launch("redis", argv, ready("Ready to accept connections")), tmp_path):
        url = broker.replace("redis:6379", f"127.0.0.1:{port}")
        assert redis.Redis.from_url(url).ping()
        with pytest.raises(redis.exceptions.AuthenticationError):
            redis.Redis(port=port, password="wrong").ping()
        with pytest.raises(redis.exceptions.AuthenticationError):
            redis.Redis(port=port).ping()


@pytest.mark.skipif(not shutil.which("mosquitto"), reason="no mosquitto")
def test_the_broker_takes_the_password_that_was_made_and_no_other(written, tmp_path):
    port = free_port()
    conf = tmp_path / "mosquitto.conf"
    text = (INFRA / "compose" / "mosquitto" / "mosquitto.conf").read_text()
    own = {
        "listener 1883": f"listener {port} 127.0.0.1\nuser root",
        "/mosquitto/data/": f"{tmp_path}/",
        "log_dest stdout": "log_dest stderr",
    }
    conf.write_text(placed(text, written, own))
    argv = (shutil.which("mosquitto"), "-c", str(conf))
    with start(Launch("mosquitto", argv, ready(" running")), tmp_path):
        password = (written / "compose" / "secrets" / "mqtt_password").read_text()
        assert mqtt_answer(port, "device", password) == 0
        assert mqtt_answer(port, "device", "wrong") == 5
        assert mqtt_answer(port, "nobody", password) == 5


def mqtt_answer(port, user, password):
    """The return code of MQTT 3.1.1's CONNACK: 0 is yes, 5 is not authorized."""
    flags = 0b11000010  # user name, password, clean session
    said = (b"MQTT", b"test", user.encode(), password.encode())
    protocol, client, *login = (struct.pack(">H", len(text)) + text for text in said)
    body = protocol + bytes((4, flags, 0, 60)) + client + b"".join(login)
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(bytes((0x10, len(body))) + body)
        return connection.recv(4)[3]


@pytest.mark.skipif(not program("postgres"), reason="no postgresql")
def test_each_database_opens_to_its_own_role_and_password(written, tmp_path):
    folder = written / "compose" / "secrets"
    urls = {
        name: (folder / secret).read_text().removeprefix("db+")
        for name, secret in (
            ("airflow", "airflow_database"),
            ("celery", "celery_results"),
            ("mlflow", "mlflow_database"),
        )
    }
    with postgres(tmp_path, "127.0.0.1") as server:
        with psycopg.connect(plain(server.url("postgres")), autocommit=True) as admin:
            for statement in (folder / "postgres_databases").read_text().splitlines():
                admin.execute(statement)
        for name, url in urls.items():
            here = plain(url).replace("postgres:5432", f"127.0.0.1:{server.port}")
            with psycopg.connect(here) as connection:
                assert connection.info.dbname == connection.info.user == name
        with pytest.raises(psycopg.OperationalError, match="authentication failed"):
            psycopg.connect(here.replace("mlflow:", "airflow:"))


def plain(url):
    """A URL of SQLAlchemy without the driver's name."""
    return re.sub(r"^postgresql\+\w+", "postgresql", url)


def test_the_health_check_says_what_is_wrong(tmp_path):
    script, told = INFRA / "compose" / "healthy.py", tmp_path / "health"
    told.write_text(json.dumps({"scheduler": {"status": "unhealthy"}, "db": {"status": "healthy"}}))

    def check(*part):
        return run([sys.executable, script, told.as_uri(), *part])

    assert check().returncode == 0
    assert check("db").returncode == 0
    assert check("scheduler").returncode == 1
    assert check("scheduler").stderr == "scheduler is unhealthy\n"
    told.unlink()
    assert "health" in check().stderr
    assert "Traceback" not in check().stderr


def test_compose_itself_reads_the_file(written):
    program = [shutil.which("docker") or "docker", "compose"]
    if not shutil.which("docker") or run([*program, "version"]).returncode:
        pytest.skip("no docker compose here")
    done = run([*program, "--file", FILE, "--env-file", written / ".env", "config", "--quiet"])
    assert done.returncode == 0, done.stderr


def run(argv):
    return subprocess.run(argv, capture_output=True, text=True, check=False)
