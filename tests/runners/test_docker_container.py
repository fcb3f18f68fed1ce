"""What a job's container is given and what not, asked of the real engine and from inside."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
from support.engine_proxy import proxied

from slimline.adapters.runners.docker.container import Settings, plan
from slimline.adapters.runners.docker.engine import Engine
from slimline.adapters.runners.docker.files import IMAGE_USER, User
from slimline.contract import BadParameters, Resources, TryLater, memory_bytes

pytestmark = pytest.mark.docker
SECRET = "planted-docker-secret-17"
LOOK = """
import json, os, pathlib, socket
def writable(path):
    try:
        pathlib.Path(path, 'probe').write_text('x')
    except OSError as error:
        return error.strerror
    return True
status = pathlib.Path('/proc/self/status').read_text()
fields = dict(line.split(':', 1) for line in status.splitlines())
print(json.dumps({
    'uid': os.getuid(), 'gid': os.getgid(), 'groups': os.getgroups(), 'pid': os.getpid(),
    'caps': fields['CapEff'].strip(), 'bounding': fields['CapBnd'].strip(),
    'privileges': fields['NoNewPrivs'].strip(),
    'writable': {path: writable(path) for path in ('/', '/opt/venv', '/tmp', '/work')},
    'shm': os.statvfs('/dev/shm').f_blocks * os.statvfs('/dev/shm').f_frsize,
    'tmp': os.statvfs('/tmp').f_blocks * os.statvfs('/tmp').f_frsize,
    'links': sorted(name for _, name in socket.if_nameindex()),
    'environment': dict(os.environ),
}))
"""


def look(bench, **kwargs) -> dict:
    handle = bench.script(LOOK, **kwargs)
    assert handle.wait(bench.lines.append) == 0, bench.lines
    return json.loads(bench.lines[-1])


def test_a_container_is_hardened_and_held_to_the_limits_of_its_job(docker_bench):
    bench = docker_bench()
    needs = Resources(cpu=1.5, memory="256Mi")
    seen = look(bench, needs=needs)
    assert (seen["uid"], seen["gid"], seen["groups"]) == (65532, 65532, [65532])
    assert (seen["caps"], seen["bounding"]) == ("0" * 16, "0" * 16)
    assert seen["privileges"] == "1"
    assert seen["pid"] != 1
    refused = "Read-only file system"
    expected = {"/": refused, "/opt/venv": refused, "/tmp": True, "/work": True}  # noqa: S108
    assert seen["writable"] == expected
    assert seen["links"] == ["lo"]
    assert (seen["shm"], seen["tmp"]) == (128 * 2**20, 128 * 2**20)
    assert seen["environment"]["OMP_NUM_THREADS"] == "1"
    host = bench.inspect(bench.identities[-1])["HostConfig"]
    assert host["Memory"] == host["MemorySwap"] == 256 * 2**20
    assert (host["CpuQuota"], host["CpuPeriod"]) == (150_000, 100_000)
    assert host["PidsLimit"] == 2048
    assert host["RestartPolicy"]["Name"] == "no"
    assert not host["Privileged"]
    assert host["LogConfig"]["Type"] == "json-file"
    assert host["Init"]


def test_more_cpus_than_the_engine_has_are_cut_to_those_and_told(docker_bench, caplog):
    bench = docker_bench()
    caplog.set_level("INFO")
    seen = look(bench, needs=Resources(cpu=999))
    cores = Engine().info["NCPU"]
    assert seen["environment"]["OMP_NUM_THREADS"] == str(cores)
    assert bench.inspect(bench.identities[-1])["HostConfig"]["CpuQuota"] == cores * 100_000
    assert f"talk asks for 999 CPUs, the engine has {cores}" in caplog.text


def test_more_memory_than_the_engine_has_is_told(docker_bench, caplog):
    bench = docker_bench()
    plan_of(bench, needs=Resources(memory="900Ti"))
    assert "talk may take 900Ti, the engine has" in caplog.text


def plan_of(bench, **kwargs):
    launch = bench.launch(**{k: v for k, v in kwargs.items() if k != "store"})
    launch = replace(launch, store=kwargs.get("store", launch.store))
    image = bench.runner.lock.image("base")
    return plan(launch, image, bench.runner.engine, bench.runner.settings)


_PLACES = (
    *("PATH", "HOME", "PYTHONPATH", "LD_LIBRARY_PATH", "TMPDIR", "AIRFLOW_HOME"),
    *("SLIMLINE_WORK", "SLIMLINE_PYTHON_BASE", "SLIMLINE_STORE", "SLIMLINE_IMAGES"),
)


def test_nothing_of_the_workers_environment_gets_in_but_what_the_job_is_given(docker_bench):
    bench = docker_bench()
    bench.base = {
        **dict.fromkeys(_PLACES, "/of/the/worker"),
        "USER": "worker",
        "LANG": "de_DE.UTF-8",
        "SLIMLINE_DOCKER_NETWORK": "other",
        "SLIMLINE_FACTORY_MODULES": "own.models",
        "HTTPS_PROXY": "http://proxy.example:3128",
        "TZ": "Europe/Berlin",
    }
    made = plan_of(bench, needs=Resources(network=True)).config["environment"]
    assert "/of/the/worker" not in made.values()
    kept = ("SLIMLINE_FACTORY_MODULES", "HTTPS_PROXY", "TZ", "HOME", "SLIMLINE_LOG")
    values = ("own.models", "http://proxy.example:3128", "Europe/Berlin", "/tmp", "json")  # noqa: S108
    assert tuple(made[name] for name in kept) == values
    assert made.keys().isdisjoint({"PATH", "USER", "LANG", "SLIMLINE_DOCKER_NETWORK"})


def test_a_secret_is_in_the_environment_of_its_container_and_nowhere_else_of_it(docker_bench):
    bench = docker_bench()
    launch = bench.launch(given={"SLIMLINE_SECRET_PLANTED": SECRET}, expects_secret=True)
    handle = bench.runner.start(launch)
    assert handle.wait(bench.lines.append) == 0
    found = Engine().inspect(handle.container)
    assert SECRET in json.dumps(found["Config"].pop("Env"))
    assert SECRET not in json.dumps(found)
    assert SECRET not in "\n".join(bench.lines)
    assert SECRET not in repr(launch) + repr(handle) + repr(plan_of(bench))


def test_a_secret_file_that_only_the_worker_may_read_reaches_the_job_as_its_own(
    docker_bench, tmp_path
):
    bench = docker_bench()
    file = tmp_path / "secret"
    file.write_text(SECRET)
    file.chmod(0o600)
    given = {"SLIMLINE_SECRET_PLANTED_FILE": str(file)}
    launch = bench.launch(given=given, expects_secret=True)
    handle = bench.runner.start(launch)
    assert handle.wait(bench.lines.append) == 0
    assert '"visible": [\n   "SLIMLINE_SECRET_PLANTED_FILE"\n  ]' in "\n".join(bench.lines)
    assert SECRET not in json.dumps(Engine().inspect(handle.container))


@pytest.mark.parametrize("readable", [True, False])
def test_trusted_keys_and_ca_bundles_are_there_read_only_under_fixed_paths(
    docker_bench, tmp_path, readable
):
    bench = docker_bench()
    keys, bundle = tmp_path / "keys", tmp_path / "ca.pem"
    keys.mkdir()
    (keys / "one.pem").write_text("a key")
    bundle.write_text("a bundle")
    for path in (keys / "one.pem", bundle):
        path.chmod(0o644 if readable else 0o600)
    bench.base = {"SLIMLINE_TRUSTED_KEYS": str(keys), "SSL_CERT_FILE": str(bundle)}
    script = """
import os, pathlib
for path in (os.environ['SLIMLINE_TRUSTED_KEYS'] + '/one.pem', os.environ['SSL_CERT_FILE']):
    print(path, pathlib.Path(path).read_text())
    try:
        pathlib.Path(path).write_text('changed')
    except OSError as error:
        print(type(error).__name__)
"""
    handle = bench.script(script)
    assert handle.wait(bench.lines.append) == 0, bench.lines
    root = "/run/slimline" if readable else "/work/.slimline"
    assert bench.lines[::2] == [
        f"{root}/slimline_trusted_keys/one.pem a key",
        f"{root}/ssl_cert_file a bundle",
    ]
    assert set(bench.lines[1::2]) <= {"OSError", "PermissionError"}
    assert (keys / "one.pem").read_text() == "a key"


def test_aws_settings_of_the_workers_home_reach_the_job(docker_bench, tmp_path):
    bench = docker_bench()
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("[default]\naws_access_key_id = of-home\n")
    (tmp_path / ".aws" / "credentials").chmod(0o600)
    bench.base = {"HOME": str(tmp_path)}
    script = "import os; print(open(os.environ['AWS_SHARED_CREDENTIALS_FILE']).read())"
    assert bench.script(script).wait(bench.lines.append) == 0
    assert "aws_access_key_id = of-home" in bench.lines
    bench.base |= {"AWS_ACCESS_KEY_ID": "given"}
    assert "AWS_SHARED_CREDENTIALS_FILE" not in plan_of(bench).config["environment"]


def test_a_file_that_is_not_there_is_told_by_its_variable(docker_bench):
    bench = docker_bench()
    bench.base = {"AWS_CA_BUNDLE": "/nowhere/ca.pem"}
    with pytest.raises(BadParameters, match=r"AWS_CA_BUNDLE names /nowhere/ca\.pem"):
        bench.start()


@pytest.mark.parametrize(
    ("store", "network", "expected"),
    [
        ("s3://bucket/p", False, "for-store"),
        ("s3://bucket/p", True, "for-all"),
        ("", True, "for-all"),
        ("", False, "none"),
    ],
)
def test_the_network_is_that_of_the_component_of_the_store_or_none(
    docker_bench, store, network, expected
):
    bench = docker_bench(network="for-all", store_network="for-store")
    needs = Resources(network=network)
    made = plan_of(bench, needs=needs, store=store or bench.store)
    assert made.config["host_config"]["NetworkMode"] == expected


def test_networks_are_read_from_the_workers_environment():
    assert Settings.from_environment({}).network == "bridge"
    read = Settings.from_environment({"SLIMLINE_DOCKER_NETWORK": "own"})
    assert (read.network, read.store_network) == ("own", "own")
    both = {"SLIMLINE_DOCKER_NETWORK": "own", "SLIMLINE_DOCKER_STORE_NETWORK": "store"}
    assert Settings.from_environment(both).store_network == "store"


@pytest.mark.parametrize(
    ("variable", "address"),
    [
        ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9000"),
        ("AWS_ENDPOINT_URL", "http://localhost:9000"),
        ("MLFLOW_TRACKING_URI", "http://[::1]:5000"),
        ("HTTPS_PROXY", "127.0.0.1:3128"),
    ],
)
def test_an_address_that_means_the_container_itself_is_told_with_the_cure(
    docker_bench, variable, address
):
    bench = docker_bench()
    bench.base = {variable: address}
    with pytest.raises(BadParameters, match=rf"{variable} is .*SLIMLINE_DOCKER_NETWORK=host"):
        plan_of(bench, store="s3://bucket/prefix")
    assert variable not in plan_of(bench).config["environment"]
    on_host = docker_bench(network="host", store_network="host")
    on_host.base = {variable: address}
    made = plan_of(on_host, store="s3://bucket/prefix")
    assert made.config["environment"][variable] == address


def test_the_engine_is_given_to_the_job_that_starts_containers_and_to_no_other(
    docker_bench, tmp_path
):
    bench = docker_bench()
    bench.base = {"SLIMLINE_ENDPOINTS": str(tmp_path / "endpoints")}
    script = """
import os, socket
place = os.environ['SLIMLINE_ENDPOINTS']
print(place, os.path.isdir(place))
s = socket.socket(socket.AF_UNIX)
s.connect(os.environ['DOCKER_HOST'].removeprefix('unix://'))
s.sendall(b'GET /_ping HTTP/1.0\\r\\n\\r\\n')
print(s.recv(100).split(b'\\r\\n')[0].decode())
"""
    handle = bench.script(script, needs=Resources(engine=True))
    assert handle.wait(bench.lines.append) == 0, bench.lines
    assert bench.lines == [f"{tmp_path / 'endpoints'} True", "HTTP/1.0 200 OK"]
    other = plan_of(bench).config
    assert other["environment"].keys().isdisjoint({"SLIMLINE_ENDPOINTS", "DOCKER_HOST"})
    assert "docker.sock" not in json.dumps(other["host_config"])


def test_a_gpu_is_asked_for_by_device_request(docker_bench):
    bench = docker_bench()
    made = plan_of(bench, needs=Resources(gpu=2)).config["host_config"]
    assert [r["Count"] for r in made["DeviceRequests"]] == [2]
    bench.base = {"CUDA_VISIBLE_DEVICES": "3,5,7"}
    made = plan_of(bench, needs=Resources(gpu=2)).config["host_config"]
    assert [r["DeviceIDs"] for r in made["DeviceRequests"]] == [["3", "5"]]
    assert plan_of(bench).config["host_config"].get("DeviceRequests") is None


@pytest.mark.skipif(os.getuid() != 0, reason="gives directories to other users")
@pytest.mark.parametrize(
    ("worker", "owner", "expected"),
    [
        ((1234, 1234), 1234, 1234),
        ((0, 0), 4321, 4321),
        ((0, 0), 65532, 65532),
        ((0, 0), None, 65532),
    ],
)
def test_with_a_mounted_store_the_container_is_a_user_who_can_write_it_and_never_root(
    docker_bench, tmp_path, worker, owner, expected
):
    bench = docker_bench(user=User(*worker))
    if owner:
        (tmp_path / "store").mkdir()
        os.chown(tmp_path / "store", owner, owner)
    assert bench.run() == 0, bench.lines
    made = list((tmp_path / "store").rglob("manifest.json"))
    assert [path.stat().st_uid for path in made] == [expected]


@pytest.mark.skipif(os.getuid() != 0, reason="is about directories of root")
def test_a_mounted_store_that_containers_cannot_write_is_told_with_the_cure(docker_bench, tmp_path):
    (tmp_path / "store" / "latest" / "digits").mkdir(parents=True)
    with pytest.raises(BadParameters, match=r"65532:65532, which cannot write .*store: `chown -R"):
        plan_of(docker_bench())
    os.chown(tmp_path / "store", 65532, 65532)
    os.chown(tmp_path / "store" / "latest", 65532, 65532)
    with pytest.raises(BadParameters, match=r"cannot write .*latest/digits: `chown -R"):
        plan_of(docker_bench())


def test_with_s3_the_container_is_the_images_own_user(docker_bench):
    made = plan_of(docker_bench(user=User(1234, 1234)), store="s3://bucket/prefix")
    assert made.user == IMAGE_USER


@pytest.mark.parametrize("text", ["data:/data", "/data", "/data:/data:rw", "/a:/b:ro:ro"])
def test_a_mount_in_another_form_is_told(docker_bench, text):
    with pytest.raises(BadParameters, match=r"SLIMLINE_DOCKER_MOUNTS: '.*' is not host:container"):
        plan_of(docker_bench(mounts=(text,)))


def test_memory_is_read_as_kubernetes_writes_it():
    assert memory_bytes("512Mi") == 512 * 2**20
    assert memory_bytes("1Ti") == 2**40
    with pytest.raises(BadParameters, match=r"'8GB'.*8Gi"):
        memory_bytes("8GB")


def test_with_an_engine_on_another_machine_only_s3_can_be_the_store(tmp_path, docker_bench):
    with proxied() as proxy:
        bench = docker_bench(engine=Engine({"DOCKER_HOST": proxy.address}))
        with pytest.raises(BadParameters, match=r"another machine.*store .*: keep it in S3"):
            plan_of(bench)
        with pytest.raises(BadParameters, match="SLIMLINE_DOCKER_MOUNTS names directories"):
            plan_of(bench, store="s3://bucket/prefix")
        bench.runner.settings = Settings()
        with pytest.raises(BadParameters, match="starts containers itself"):
            plan_of(bench, store="s3://bucket/prefix", needs=Resources(engine=True))
        (tmp_path / "keys").mkdir()
        (tmp_path / "keys" / "one.pem").write_text("a key")
        bench.base = {"SLIMLINE_TRUSTED_KEYS": str(tmp_path / "keys")}
        made = plan_of(bench, store="s3://bucket/prefix")
        assert [file.target for file in made.copies] == ["/work/.slimline/slimline_trusted_keys"]
        assert made.config["host_config"].get("Mounts") in ([], None)


@pytest.mark.parametrize(
    ("settings", "needs", "words"),
    [
        ({"network": "no-such-net"}, Resources(network=True), "docker network create"),
        ({"mounts": ("/no/such/place:/data",)}, Resources(), "bind source path does not exist"),
        pytest.param(
            {},
            Resources(gpu=1),
            "install the NVIDIA Container Toolkit",
            marks=pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="has a GPU"),  # noqa: PTH110
        ),
    ],
)
def test_what_the_engine_refuses_is_told_with_the_cure_and_leaves_no_container(
    docker_bench, settings, needs, words
):
    bench = docker_bench(**settings)
    launch = bench.launch(needs=needs)
    with pytest.raises(TryLater, match=words):
        bench.runner.start(launch)
    assert bench.inspect(launch.identity) is None


def test_an_image_that_is_not_there_is_told_and_never_pulled(docker_bench):
    bench = docker_bench()
    base = bench.runner.lock.image("base")
    missing = base.model_copy(update={"reference": "sha256:" + "0" * 64})
    lock = bench.runner.lock.model_copy(update={"images": {"base": missing}})
    bench.runner.__dict__["lock"] = lock
    with pytest.raises(TryLater, match=r"sha256:0000.*`make images`.*a run never pulls"):
        bench.start()


def test_a_dead_engine_is_told_with_the_cure(docker_bench, tmp_path):
    bench = docker_bench(engine=Engine({"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}))
    with pytest.raises(TryLater, match=r"none\.sock does not answer.*infra/engine\.sh start"):
        bench.start()


def test_a_full_disk_of_the_engine_is_told_with_the_cure():
    engine = Engine()
    said = "write /var/lib/docker/overlay2/x: no space left on device"
    assert "free some space" in engine._refusal(said, "image x")
