"""Archives that mean harm, and what is left on disk after each: nothing."""

from __future__ import annotations

import gzip
import io
import os
import tarfile

import pytest

from slimline.contract import Refused, TryLater
from slimline.trust.archive import Limits, unpack

SMALL = Limits(files=20, file_bytes=10_000, total_bytes=50_000, ratio=50)


def _member(name="a.json", data=b"{}", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def _tar(path, *members, mode="w", format=tarfile.PAX_FORMAT):  # noqa: A002
    with tarfile.open(path, mode, format=format) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return path


def _refused(tmp_path, archive, reason, limits=SMALL):
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    with pytest.raises(Refused, match=reason):
        unpack(archive, work / "out", limits)
    assert list(work.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "../a.json",
        "/var/a.json",
        "a/../../b.json",
        "a/./b.json",
        "a\\..\\b.json",
        "a\nb",
        "..",
        "a//b",
    ],
)
def test_a_path_outside_is_refused(tmp_path, name):
    archive = _tar(tmp_path / "a.tar", _member("fine.json"), _member(name))
    _refused(tmp_path, archive, "leaves its directory")
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.CONTTYPE,
        b"Z",
    ],
)
def test_a_link_or_device_is_refused(tmp_path, kind):
    info, _ = _member("link.json", b"", type=kind, linkname="/etc/passwd")
    _refused(tmp_path, _tar(tmp_path / "a.tar", (info, b"")), "a link or special file")


def test_a_link_followed_by_a_file_through_it_writes_nothing_outside(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    link, _ = _member("d", b"", type=tarfile.SYMTYPE, linkname=str(outside))
    _refused(tmp_path, _tar(tmp_path / "a.tar", (link, b""), _member("d/a.json")), "link")
    assert list(outside.iterdir()) == []


def test_a_sparse_file_is_refused(tmp_path):
    info, data = _member("s.json", b"1\n0\n2\n".ljust(512, b"\0") + b"{}")
    sparse = {"major": "1", "minor": "0", "name": "s.json", "realsize": "1000000"}
    info.pax_headers = {f"GNU.sparse.{key}": value for key, value in sparse.items()}
    _refused(tmp_path, _tar(tmp_path / "a.tar", (info, data)), "link or special")


@pytest.mark.parametrize("twin", ["a.json", "A.JSON", "d/../a.json"])
def test_a_name_given_twice_is_refused(tmp_path, twin):
    archive = _tar(tmp_path / "a.tar", _member("a.json"), _member(twin, b"[]"))
    _refused(tmp_path, archive, "twice|leaves")


def test_a_file_used_as_a_directory_is_refused(tmp_path):
    archive = _tar(tmp_path / "a.tar", _member("a"), _member("a/b.json"))
    _refused(tmp_path, archive, "crosses a file")
    archive = _tar(tmp_path / "b.tar", _member("a/b.json"), _member("a"))
    _refused(tmp_path, archive, "crosses a file")


def test_too_many_members_are_refused(tmp_path):
    archive = _tar(tmp_path / "a.tar", *(_member(f"{i}.json") for i in range(21)))
    _refused(tmp_path, archive, "more than 20 members")
    empty = [(_member(f"d{i}", b"", type=tarfile.DIRTYPE)[0], b"") for i in range(21)]
    _refused(tmp_path, _tar(tmp_path / "b.tar", *empty), "more than 20 members")


def test_a_file_or_sum_that_is_too_large_is_refused(tmp_path):
    one = _tar(tmp_path / "a.tar", _member("a.json", bytes(10_001)))
    _refused(tmp_path, one, "'a.json' of 10001 bytes: at most 10000")
    many = _tar(tmp_path / "b.tar", *(_member(f"{i}.json", bytes(9_000)) for i in range(6)))
    _refused(tmp_path, many, "at most 50000|more than 50000")


def test_a_decompression_bomb_is_refused_before_it_is_written(tmp_path):
    bomb = tmp_path / "a.tar.gz"
    bomb.write_bytes(gzip.compress(bytes(30 * 2**20)))
    _refused(tmp_path, bomb, "refused as a bomb", Limits(ratio=50))
    _refused(tmp_path, bomb, "refused as a bomb", Limits(total_bytes=2**20))


def test_a_header_that_claims_gigabytes_of_names_is_refused(tmp_path):
    info, _ = _member("long", b"", type=tarfile.XHDTYPE)
    info.size = 4 * 2**30
    (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    _refused(tmp_path, tmp_path / "a.tar", "header claims to be larger")


def test_a_pax_header_cannot_smuggle_another_size_or_path(tmp_path):
    info, data = _member("fine.json")
    info.pax_headers = {"path": "../../evil.json"}
    _refused(tmp_path, _tar(tmp_path / "a.tar", (info, data)), "leaves its directory")
    info, data = _member("fine.json")
    info.pax_headers = {"size": str(10**12)}
    _refused(tmp_path, _tar(tmp_path / "b.tar", (info, data)), "at most|malformed")


def test_a_very_long_name_is_refused(tmp_path):
    _refused(tmp_path, _tar(tmp_path / "a.tar", _member("a" * 300)), "name of 300 characters")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        b"\x1f\x8b",
        b"\x1f\x8b\x08\x00garbage",
        b"PK\x03\x04" + bytes(600),
        bytes(10_240),
        os.urandom(2048),
    ],
)
def test_what_is_no_tar_is_refused(tmp_path, data):
    (tmp_path / "a.tar").write_bytes(data)
    _refused(tmp_path, tmp_path / "a.tar", "archive is malformed")


def test_an_archive_cut_in_a_file_is_refused(tmp_path):
    whole = _tar(tmp_path / "a.tar", _member("a.json", os.urandom(9_000))).read_bytes()
    (tmp_path / "b.tar").write_bytes(whole[:5_000])
    _refused(tmp_path, tmp_path / "b.tar", "archive is malformed")
    packed = gzip.compress(whole)
    (tmp_path / "c.tar.gz").write_bytes(packed[: len(packed) // 2])
    _refused(tmp_path, tmp_path / "c.tar.gz", "archive is malformed")


def test_a_disk_that_cannot_be_written_is_told_with_the_cure(tmp_path):
    archive = _tar(tmp_path / "a.tar", _member())
    (tmp_path / "file").write_text("")
    with pytest.raises(TryLater, match=r"cannot write .*give another directory"):
        unpack(archive, tmp_path / "file" / "out", SMALL)


def test_modes_of_an_archive_are_not_taken_over(tmp_path):
    archive = _tar(tmp_path / "a.tar", _member("a.json", mode=0o4777, uid=0))
    out = unpack(archive, tmp_path / "out", SMALL)
    assert (out / "a.json").stat().st_mode & 0o7111 == 0
