"""The templates of infra/aws/: well-formed, up to date, and as strict as they promise."""

import json
from pathlib import Path

import pytest
from cfnlint.api import lint
from cfnlint.decode.cfn_yaml import loads

from slimline.adapters.aws.template import template
from slimline.contract import component_names, load_component

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "aws"
BUCKETS = ("Store", "Releases", "Fleet")
MOST_BYTES = 51_200  # of a template that is given to CloudFormation as text


def resources(name):
    return loads((FOLDER / f"{name}.yaml").read_text())["Resources"]


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda f: f.stem)
def test_cfn_lint_finds_nothing_and_the_template_needs_no_bucket_to_deploy(file):
    text = file.read_text()
    assert lint(text) == []
    assert len(text.encode()) < MOST_BYTES


def test_cfn_lint_would_find_an_action_that_does_not_exist():
    text = (FOLDER / "serving.yaml").read_text().replace("s3:GetObject\n", "s3:FetchObject\n")
    assert {found.rule.id for found in lint(text)} == {"W3037"}


def test_roles_are_what_the_components_declare():
    now = (FOLDER / "roles.yaml").read_text()
    assert now == template(), "write it anew: slimline iam --template > infra/aws/roles.yaml"


@pytest.mark.parametrize("name", BUCKETS)
def test_a_bucket_is_versioned_encrypted_private_and_kept(name):
    bucket, key = resources("storage")[f"{name}Bucket"], resources("storage")[f"{name}Key"]
    assert bucket["DeletionPolicy"] == bucket["UpdateReplacePolicy"] == "Retain"
    assert key["DeletionPolicy"] == key["UpdateReplacePolicy"] == "Retain"
    found = bucket["Properties"]
    assert found["VersioningConfiguration"] == {"Status": "Enabled"}
    assert set(found["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(found["PublicAccessBlockConfiguration"]) == 4
    (owner,) = found["OwnershipControls"]["Rules"]
    assert owner == {"ObjectOwnership": "BucketOwnerEnforced"}
    (rule,) = found["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["BucketKeyEnabled"] is True
    encrypted = rule["ServerSideEncryptionByDefault"]
    assert encrypted["SSEAlgorithm"] == "aws:kms"
    assert encrypted["KMSMasterKeyID"] == {"Fn::GetAtt": [f"{name}Key", "Arn"]}
    assert key["Properties"]["EnableKeyRotation"] is True


@pytest.mark.parametrize("name", BUCKETS)
def test_a_lifecycle_ends_uploads_and_removes_nothing_that_is_current(name):
    rules = resources("storage")[f"{name}Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    assert all(rule["Status"] == "Enabled" for rule in rules)
    assert not [rule for rule in rules if "ExpirationInDays" in rule or "ExpirationDate" in rule]
    ends = [r["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] for r in rules[:1]]
    assert ends == [1]
    kept = [r["NoncurrentVersionExpiration"]["NoncurrentDays"] for r in rules[1:]]
    assert kept == {"Store": [7], "Releases": [365], "Fleet": [90, 7]}[name]


def test_each_image_has_a_repository_with_fixed_tags_and_scans():
    repositories = resources("registry").values()
    names = {r["Properties"]["RepositoryName"]["Fn::Sub"] for r in repositories}
    images = {file.parent.name for file in (ROOT / "images").glob("*/Dockerfile")}
    used = {load_component(name).image for name in component_names()}
    assert names == {f"${{Prefix}}-{image}" for image in images | used}
    for repository in repositories:
        found = repository["Properties"]
        assert found["ImageTagMutability"] == "IMMUTABLE"
        assert found["ImageScanningConfiguration"] == {"ScanOnPush": True}
        assert found["EncryptionConfiguration"] == {"EncryptionType": "KMS"}
        (rule,) = json.loads(found["LifecyclePolicy"]["LifecyclePolicyText"])["rules"]
        assert rule["selection"]["tagStatus"] == "untagged"


def test_no_statement_that_allows_is_wide_open():
    """Any action, or any resource but where AWS knows no other, is more than anyone needs."""
    knows_no_resource = {"ecr:GetAuthorizationToken"}
    for name in ("roles", "serving", "iot"):
        for statement in _statements(resources(name)):
            actions = _many(statement["Action"])
            assert not [a for a in actions if a.endswith(":*") or a == "*"], statement
            if "Resource" in statement and statement["Effect"] == "Allow":
                wide = "*" in _many(statement["Resource"])
                assert not wide or set(actions) <= knows_no_resource, statement


def test_stacks_say_the_settings_that_a_user_copies():
    template = loads((FOLDER / "storage.yaml").read_text())
    said = template["Outputs"]["Environment"]["Value"]["Fn::Sub"]
    names = [line.partition("=")[0] for line in said.splitlines()]
    assert names == ["SLIMLINE_STORE", "SLIMLINE_RELEASES", "SLIMLINE_FLEET", "AWS_REGION"]


def test_the_readme_deploys_every_template():
    readme = (FOLDER / "README.md").read_text()
    assert [f.name for f in FOLDER.glob("*.yaml") if f"infra/aws/{f.name}" not in readme] == []


def _statements(value):
    if isinstance(value, list):
        return [s for item in value for s in _statements(item)]
    if not isinstance(value, dict):
        return []
    own = [value] if "Effect" in value else []
    return own + [s for item in value.values() for s in _statements(item)]


def _many(value):
    return value if isinstance(value, list) else [value]
