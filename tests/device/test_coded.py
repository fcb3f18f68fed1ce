"""A device fetches a model in its coded form, and never depends on it."""

import pytest
from support.fleet import make_fleet

from slimline.device.disk import Disk
from slimline.device.fetch import fetch_package
from slimline.fleet.documents import Descriptor
from slimline.fleet.objects import open_objects
from slimline.trust.manifest import CHUNK_BYTES

FEW = {"payload_bytes": 3 * CHUNK_BYTES, "payload_levels": 4}


class Counted:
    """Objects that count the bytes which are read."""

    def __init__(self, uri, cut_after=10**12):
        self.inner, self.left, self.read = open_objects(uri), cut_after, 0

    def get(self, key, start=0, size=8 << 20):
        if self.left <= 0:
            raise ConnectionError
        data = self.inner.get(key, start, size)
        self.left -= len(data)
        self.read += len(data)
        return data


@pytest.fixture
def fleet(tmp_path):
    return make_fleet(tmp_path)


@pytest.fixture
def release(fleet):
    descriptor = fleet.release(fleet.package(1, **FEW))
    return descriptor, f"{fleet.objects.uri}/{descriptor.uri}"


def whole(descriptor, uri, target):
    for file in descriptor.files:
        assert (target / file.path).read_bytes() == open_objects(uri).get(file.path)
    there = {p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file()}
    return there == {file.path for file in descriptor.files}


def test_a_model_of_few_levels_takes_a_quarter_of_the_way_and_is_the_same(release, tmp_path):
    descriptor, uri = release
    objects = Counted(uri)
    fetch_package(Disk(), objects, descriptor, tmp_path / "t")
    assert whole(descriptor, uri, tmp_path / "t")
    assert objects.read < 0.3 * descriptor.size


def test_an_interrupted_coded_file_goes_on_and_costs_nothing_twice(fleet, tmp_path):
    descriptor = fleet.release(fleet.package(1, payload_bytes=5 << 20, payload_levels=16))
    uri = f"{fleet.objects.uri}/{descriptor.uri}"
    (form,) = descriptor.coded
    assert len(form.file.chunks) > 2
    for cut in range(1, len(form.file.chunks)):
        target = tmp_path / f"cut{cut}"
        broken, rest = Counted(uri, cut * CHUNK_BYTES), Counted(uri)
        with pytest.raises(ConnectionError):
            fetch_package(Disk(), broken, descriptor, target)
        fetch_package(Disk(), rest, descriptor, target)
        assert whole(descriptor, uri, target)
        plain = descriptor.size - next(f.size for f in descriptor.files if f.path == form.path)
        assert broken.read + rest.read == plain + form.file.size


@pytest.mark.parametrize("damage", ["gone", "flipped", "of another model"])
def test_a_coded_form_that_is_of_no_use_costs_time_and_no_update(fleet, release, tmp_path, damage):
    descriptor, uri = release
    (form,) = descriptor.coded
    stored = fleet.home / "repository" / descriptor.uri / form.file.path
    if damage == "gone":
        stored.unlink()
    elif damage == "flipped":
        stored.write_bytes(stored.read_bytes()[:-1] + b"!")
    else:
        other = fleet.release(fleet.package(2, **FEW))
        there = fleet.home / "repository" / other.uri / other.coded[0].file.path
        stored.write_bytes(there.read_bytes())
        file = other.coded[0].file.model_copy(update={"path": form.file.path})
        coded = form.model_copy(update={"file": file})
        descriptor = descriptor.model_copy(update={"coded": (coded,)})
    fetch_package(Disk(), open_objects(uri), descriptor, tmp_path / "t")
    assert whole(descriptor, uri, tmp_path / "t")


def test_a_whole_update_by_its_coded_form_and_one_that_is_not_worth_it(fleet):
    agent = fleet.agent()
    few = fleet.tell(fleet.package(1, **FEW))
    assert few.coded
    assert agent.poll().state == "updated"
    many = fleet.tell(fleet.package(2, payload_bytes=3 * CHUNK_BYTES))
    assert not many.coded
    assert agent.poll().state == "updated"


def test_a_descriptor_whose_coded_form_is_of_no_file_is_none(release):
    descriptor, _ = release
    said = descriptor.model_dump()
    said["coded"][0]["path"] = "model/other.onnx"
    with pytest.raises(ValueError, match="no coded form of a file"):
        Descriptor.model_validate(said)
