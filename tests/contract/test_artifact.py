import json

import pytest

from slimline.contract import BadData, Dataset
from slimline.contract.artifact import canonical_json, digest_json, digest_tree


def write(root, **files):
    root.mkdir(exist_ok=True)
    for name, text in files.items():
        (root / name.replace("__", ".")).write_text(text)
    return root


def test_equal_trees_have_equal_digests_wherever_they_lie(tmp_path):
    one = write(tmp_path / "one", a="1", b="2")
    two = write(tmp_path / "two", b="2", a="1")
    assert digest_tree(one) == digest_tree(two)


@pytest.mark.parametrize("files", [{"a": "1", "b": "3"}, {"a": "1", "c": "2"}, {"a": "1"}])
def test_another_byte_name_or_count_gives_another_digest(tmp_path, files):
    one = write(tmp_path / "one", a="1", b="2")
    assert digest_tree(one) != digest_tree(write(tmp_path / "two", **files))


def test_the_digest_is_sha256_over_sorted_path_and_sha256_pairs(tmp_path):
    root = write(tmp_path / "one", a="1")
    sha_of_1 = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
    assert digest_tree(root) == digest_json([["a", sha_of_1]])


def test_a_link_is_no_part_of_an_artifact(tmp_path):
    root = write(tmp_path / "one", a="1")
    (root / "link").symlink_to("/etc/passwd")
    with pytest.raises(BadData, match="not a plain file"):
        digest_tree(root)


def test_an_empty_directory_is_no_artifact(tmp_path):
    with pytest.raises(BadData, match="holds no file"):
        digest_tree(tmp_path)


def test_a_stored_uri_names_its_digest_and_another_uri_is_refused():
    digest = "a" * 64
    assert Dataset.model_validate(f"s3://bucket/artifacts/{digest}").digest == digest
    with pytest.raises(ValueError, match="no stored artifact"):
        Dataset.model_validate("s3://bucket/somewhere")


def test_canonical_json_is_sorted_and_refuses_nan():
    assert canonical_json({"b": 1, "a": [1.5]}) == b'{"a":[1.5],"b":1}'
    assert json.loads(canonical_json({"é": "ü"})) == {"é": "ü"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))
