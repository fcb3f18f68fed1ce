"""Building for real, in a copy of the checkout, and only the smallest image."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from support.engine import ROOT, engine, images, require
from support.serving import wait_until
from support.web import get

from slimline.adapters.images import load_lock
from slimline.embedded.ports import free_port
from slimline.trust.keys import generate_key

pytestmark = pytest.mark.docker


@pytest.fixture
def checkout(tmp_path):
    """A copy of what images are made of."""
    require()
    copy = tmp_path / "checkout"
    for folder in ("components/slimline", "images", "build/images"):
        shutil.copytree(
            ROOT / folder,
            copy / folder,
            copy_function=link,
            ignore=shutil.ignore_patterns("__pycache__", "*.new"),
        )
    for name in ("pyproject.toml", "requirements.lock", "README.md"):
        shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture
def altered(checkout):
    """A copy that a test changes, so that its images are like no others: they are removed."""
    before = tags_of(checkout)
    yield checkout
    remove(tags_of(checkout) - before)


def remove(tags):
    """Remove those of these images that are there."""
    present = {tag for image in engine().images.list("slimline-base") for tag in image.tags}
    for tag in tags & present:
        engine().images.remove(tag)


def tags_of(checkout):
    """The names of the images that a build of `base` makes there."""
    code = (
        "from images.build import Build, Options, chosen; from images.engine import find_engine;"
        "from images.plan import final_tag;"
        "options = chosen(Options(names=('base',), code_only=True));"
        "b = Build(find_engine(), options, print); layer = b.layers['base'];"
        "print(b.code, layer.tag, final_tag(layer, b.source))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=checkout, check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def link(source, target):
    """Wheels are linked, they are large and never written; the rest is copied."""
    if source.endswith(".whl"):
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def build(checkout, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "images.build", "base", *arguments],
        cwd=checkout,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def locked(checkout):
    return json.loads((checkout / "images" / "lock.json").read_text())["images"]["base"]


def test_new_code_makes_a_new_image_with_the_same_environment(altered):
    before = locked(altered)
    with (altered / "components" / "slimline" / "__init__.py").open("a") as file:
        file.write("\nPROBE = 'new code'\n")
    done = build(altered, "--code-only")
    assert done.returncode == 0, done.stderr
    after = locked(altered)
    assert after["reference"] != before["reference"]
    assert after["environment"] == before["environment"]
    said = engine().containers.run(
        after["reference"],
        entrypoint=["python", "-c", "import slimline; print(slimline.PROBE)"],
        remove=True,
    )
    assert said == b"new code\n"


def test_a_new_dependency_changes_the_environment_and_is_not_built_by_the_way(altered):
    before, tags = locked(altered), tags_of(altered)
    project = altered / "pyproject.toml"
    project.write_text(project.read_text().replace('"click>=8.2"]', '"click>=8.2", "six>=1"]', 1))
    remove(tags_of(altered) - tags)  # of a run that was killed before it could
    refused = build(altered, "--code-only")
    assert refused.returncode == 64
    assert "what image 'base' depends on has changed: run `make images`" in refused.stderr
    assert locked(altered) == before
    done = build(altered)
    assert done.returncode == 0, done.stderr
    assert locked(altered)["environment"] != before["environment"]
    bill = json.loads((altered / "images" / "sbom" / "base.cdx.json").read_text())
    assert any(part["name"] == "six" for part in bill["components"])


def test_what_is_there_is_not_built_again_and_the_table_tells_sizes(checkout):
    assert build(checkout, "--code-only").returncode == 0
    before = locked(checkout)
    done = build(checkout, "--code-only")
    assert done.returncode == 0, done.stderr
    assert locked(checkout) == before
    header, base, together = done.stdout.splitlines()
    assert header.split() == ["image", "MB", "own", "MB", "s", "digest"]
    assert base.split()[-1] == locked(checkout)["reference"]
    assert together.startswith("together")


@pytest.fixture
def registry(tmp_path):
    """A real registry on loopback."""
    command = shutil.which("docker-registry")
    if not command:
        pytest.skip("no registry here: apt-get install docker-registry")
    port = free_port()
    (tmp_path / "registry.yml").write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {tmp_path}/blobs}}}}\n"
        f"http: {{addr: 127.0.0.1:{port}}}\n"
    )
    process = subprocess.Popen(
        [command, "serve", str(tmp_path / "registry.yml")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: get(f"http://127.0.0.1:{port}/v2/").status_code == 200, process)
        yield f"127.0.0.1:{port}"
    finally:
        forget(f"127.0.0.1:{port}")
        process.terminate()
        process.wait(30)


def forget(registry):
    """Remove the names that images have in a registry; with the last tag its digest goes too."""
    client = engine()
    for image in client.images.list():
        for names in (image.tags, image.attrs["RepoDigests"] or ()):
            own = [name for name in names if name.startswith(f"{registry}/")]
            for name in own:
                client.images.remove(name)
            if own:
                break


def test_a_pushed_image_is_pinned_by_the_registry_s_digest_and_can_be_pulled_by_it(
    checkout, registry
):
    done = build(checkout, "--code-only", PUSH=f"{registry}/ml")
    assert done.returncode == 0, done.stderr
    entry = locked(checkout)
    assert entry["reference"] == f"{registry}/ml/slimline-base@{entry['digest']}"
    assert entry["environment"] == images().image("base").environment
    forget(registry)
    engine().images.pull(entry["reference"])
    said = engine().containers.run(entry["reference"], ["list"], remove=True)
    assert b"quantize" in said


def test_lock_and_bills_of_materials_are_signed_where_a_key_is_configured(
    checkout, tmp_path, monkeypatch
):
    private, public = generate_key()
    (tmp_path / "private.pem").write_text(private)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "signer.pem").write_text(public)
    done = build(checkout, "--code-only", SLIMLINE_IMAGE_KEY=str(tmp_path / "private.pem"))
    assert done.returncode == 0, done.stderr
    for name in ("lock.json", "sbom/base.cdx.json", "sbom/torch.cdx.json"):
        assert (checkout / "images" / f"{name}.sig").is_file()
    monkeypatch.setenv("SLIMLINE_IMAGE_KEYS", str(tmp_path / "keys"))
    assert load_lock(checkout / "images" / "lock.json").image("torch")
