"""Objects are the same in a directory and on a real S3 server."""

from __future__ import annotations

import os

import pytest

from slimline.contract import BadData, BadParameters, TryLater
from slimline.contract.store import Missing
from slimline.fleet.objects import open_objects


@pytest.fixture(params=["directory", "s3"])
def objects(request, tmp_path):
    if request.param == "directory":
        return open_objects(str(tmp_path / "objects"))
    return open_objects(request.getfixturevalue("s3").new_prefix())


def test_what_was_put_is_got_whole_and_in_parts(objects):
    objects.put("a/b c+d%2F~ü.json", b"0123456789")
    assert objects.get("a/b c+d%2F~ü.json") == b"0123456789"
    assert objects.get("a/b c+d%2F~ü.json", 2, 3) == b"234"
    assert objects.get("a/b c+d%2F~ü.json", 8, 100) == b"89"
    assert objects.get("a/b c+d%2F~ü.json", 10, 5) == b""


def test_an_empty_object_is_empty(objects):
    objects.put("empty", b"")
    assert objects.get("empty") == b""


def test_what_is_not_there_is_missing(objects):
    with pytest.raises(Missing):
        objects.get("nothing")


def test_put_if_absent_keeps_the_first(objects):
    assert objects.put("k", b"1", if_absent=True)
    assert not objects.put("k", b"2", if_absent=True)
    assert objects.get("k") == b"1"
    assert objects.put("k", b"3")
    assert objects.get("k") == b"3"


def test_keys_are_listed_by_prefix(objects):
    for key in ("devices/b.json", "devices/a.json", "status/a.json", "devices-old/x"):
        objects.put(key, b"x")
    assert list(objects.keys("devices/")) == ["devices/a.json", "devices/b.json"]
    assert list(objects.keys("none/")) == []


def test_a_long_listing_is_read_to_its_end(s3, monkeypatch):
    monkeypatch.setattr("slimline.fleet.objects._PAGE", 2)
    objects = open_objects(s3.new_prefix())
    for number in range(5):
        objects.put(f"many/{number} &+.json", b"x")
    assert list(objects.keys("many/")) == [f"many/{number} &+.json" for number in range(5)]


def test_a_server_that_is_busy_is_asked_again(s3):
    objects = open_objects(s3.new_prefix())
    objects.put("k", b"v")
    s3.inject_503(2)
    assert objects.get("k") == b"v"


def test_a_wrong_secret_is_told_with_its_cure(s3, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(BadParameters, match="access denied; check AWS_ACCESS_KEY_ID"):
        open_objects(s3.new_prefix()).get("k")


def test_a_server_that_is_down_is_for_later(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    with pytest.raises(TryLater, match="does not answer"):
        open_objects("s3://bucket/prefix").get("k")


def test_missing_credentials_are_told_with_their_cure(monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    with pytest.raises(BadParameters, match="set AWS_ACCESS_KEY_ID"):
        open_objects("s3://bucket/prefix")


def test_a_key_that_leaves_the_directory_is_refused(tmp_path):
    with pytest.raises(BadData, match="leaves its directory"):
        open_objects(str(tmp_path)).get("../secret")


def test_what_one_user_writes_into_a_directory_another_may_read(tmp_path):
    before = os.umask(0o022)
    try:
        open_objects(str(tmp_path)).put("status/d1.json", b"{}")
    finally:
        os.umask(before)
    assert (tmp_path / "status" / "d1.json").stat().st_mode & 0o777 == 0o644
