import pytest

from slimline.data.sources.fingerprint import UNKNOWN, fingerprint, fingerprint_path
from slimline.data.spec import CsvSource, SklearnSource


def test_a_changed_byte_changes_the_fingerprint_and_a_touched_file_does_not(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("x,label\n1,a\n")
    source = CsvSource(kind="csv", path=str(file))
    before = fingerprint(source)
    file.touch()
    assert fingerprint(source) == before
    file.write_text("x,label\n2,a\n")
    assert fingerprint(source) != before


def test_a_bundled_source_has_a_steady_fingerprint():
    assert fingerprint(SklearnSource(kind="sklearn")) == fingerprint(SklearnSource(kind="sklearn"))


def test_a_source_that_is_not_there_is_unknown_and_no_error():
    assert fingerprint_path("/nowhere/at/all") == UNKNOWN


@pytest.mark.usefixtures("s3")
def test_an_s3_source_changes_with_its_objects(s3):
    uri = s3.new_prefix()
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    s3.client().put_object(Bucket=bucket, Key=f"{key}/a", Body=b"1")
    before = fingerprint_path(uri)
    s3.client().put_object(Bucket=bucket, Key=f"{key}/a", Body=b"2")
    assert fingerprint_path(uri) != before
