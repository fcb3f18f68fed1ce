"""A source on S3 reads like a local one, and what goes wrong there is told with its cure."""

import numpy as np
import pytest
from support.sources import pictures, read, write_folder, write_idx

from slimline.contract import BadData, BadParameters, TryLater

COLOR = pictures(6)
Y = np.array([0, 1, 0, 1, 0, 1], np.uint8)
NO_TEST = {"test_images": None, "test_labels": None}


def upload(s3, directory):
    """Copy a directory to a new prefix; returns its URI."""
    uri = s3.new_prefix()
    prefix = uri.removeprefix(f"s3://{s3.bucket}/")
    for path in directory.rglob("*"):
        if path.is_file():
            key = f"{prefix}/{path.relative_to(directory).as_posix()}"
            s3.client().put_object(Bucket=s3.bucket, Key=key, Body=path.read_bytes())
    return uri


def test_files_on_s3_give_the_same_examples_and_digest_as_local_ones(s3, tmp_path):
    write_idx(tmp_path, COLOR[..., 0], Y, suffix=".xz")
    here = read(kind="idx", path=str(tmp_path), **NO_TEST)
    there = read(kind="idx", path=upload(s3, tmp_path), **NO_TEST)
    assert np.array_equal(here.x, there.x)
    assert here.digest == there.digest


def test_an_image_folder_on_s3_is_listed_and_read(s3, tmp_path):
    write_folder(tmp_path, {"cat": COLOR[:4], "dog": COLOR[4:]})
    there = read(kind="folder", path=upload(s3, tmp_path))
    assert np.array_equal(there.x, COLOR)
    assert there.labels == ("cat", "dog")
    assert there.digest == read(kind="folder", path=str(tmp_path)).digest


def test_an_object_that_is_not_there_is_bad_data_with_the_parameter(s3):
    uri = s3.new_prefix()
    with pytest.raises(BadData, match=rf"source.train_images: '{uri}/train.*no file there"):
        read(kind="idx", path=uri, **NO_TEST)
    with pytest.raises(BadData, match=r"source.path.*no file there"):
        read(kind="folder", path=uri)
    with pytest.raises(BadData, match=r"source.path.*(no file there|not there)"):
        read(kind="csv", path="s3://no-such-bucket-anywhere/d.csv")


def test_an_object_larger_than_the_limit_is_not_fetched(s3, tmp_path):
    (tmp_path / "d.csv").write_bytes(bytes(2**20 + 1))
    with pytest.raises(BadData, match=r"raise source.max_mib"):
        read(kind="csv", path=f"{upload(s3, tmp_path)}/d.csv", max_mib=1)


def test_wrong_credentials_are_bad_parameters(s3, tmp_path, monkeypatch):
    (tmp_path / "d.csv").write_text("a,label\n1,x\n")
    uri = upload(s3, tmp_path)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    with pytest.raises(BadParameters, match=r"source.path.*check the credentials"):
        read(kind="csv", path=f"{uri}/d.csv")


def test_a_server_that_is_away_or_overloaded_means_try_later(s3, tmp_path, monkeypatch):
    (tmp_path / "d.csv").write_text("a,label\n1,x\n")
    uri = upload(s3, tmp_path)
    s3.inject_503(50)
    with pytest.raises(TryLater, match=r"503.*try later"):
        read(kind="csv", path=f"{uri}/d.csv")
    s3.inject_503(0)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    with pytest.raises(TryLater, match=r"does not answer.*AWS_ENDPOINT_URL_S3"):
        read(kind="csv", path=f"{uri}/d.csv")


def test_a_uri_without_a_bucket_is_told():
    with pytest.raises(BadParameters, match=r"names no bucket"):
        read(kind="csv", path="s3:///d.csv")


def test_without_credentials_the_message_names_the_variables(s3, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(BadParameters, match=r"source.path.*set AWS_ACCESS_KEY_ID"):
        read(kind="csv", path=f"{s3.new_prefix()}/d.csv")
