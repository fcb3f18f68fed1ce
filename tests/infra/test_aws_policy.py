"""A component's policy is read from its class, and `slimline iam` prints it."""

import json
from typing import ClassVar

import pytest
from click.testing import CliRunner

from slimline.adapters.aws.policy import cloud_of, policy
from slimline.adapters.aws.template import template
from slimline.adapters.cli import cli
from slimline.contract import Access, BadParameters, Resources, component_names, load_component
from slimline.push.spec import Push
from slimline.quantize.spec import Quantize

ALL = {
    "store": "s3://artifacts/store",
    "releases": "s3://shop",
    "fleet": "s3://plant/fleet/",
    "data": "s3://factory/parts",
    "key": "",
    "endpoints": "slimline-*",
    "prefix": "slimline",
    "account": "123456789012",
    "region": "eu-central-1",
}


def statement(component, sid, **places):
    found = policy(component, cloud_of(**{**ALL, **places}))["Statement"]
    return {s["Sid"]: s for s in found}.get(sid)


def iam(*arguments):
    return CliRunner().invoke(cli, ["iam", *arguments])


def test_keys_lie_below_the_prefix_of_the_uri():
    written = statement(Push, "ReleasesWrite")
    assert written["Resource"] == "arn:aws:s3:::shop/artifacts/*"
    assert statement(Push, "JobStoreRead")["Resource"] == "arn:aws:s3:::artifacts/store/*"
    assert statement(load_component("renew"), "FleetWrite")["Resource"] == (
        "arn:aws:s3:::plant/fleet/tuf/metadata/*"
    )


def test_a_place_that_is_a_directory_needs_no_statement():
    assert statement(Push, "ReleasesWrite", releases="/srv/releases") is None
    assert statement(Push, "JobStoreRead", releases="/srv/releases") is not None


def test_who_writes_encrypts_and_decrypts_and_who_reads_decrypts():
    key = "arn:aws:kms:eu-central-1:123456789012:key/1"
    assert statement(Push, "ReleasesKey", key=key)["Action"] == [
        "kms:Decrypt",
        "kms:GenerateDataKey",
    ]
    assert statement(load_component("verify"), "ReleasesKey", key=key)["Action"] == "kms:Decrypt"
    assert statement(Push, "ReleasesKey") is None


def test_arns_are_those_of_the_regions_partition():
    found = statement(Push, "ReleasesWrite", region="cn-north-1")
    assert found["Resource"] == "arn:aws-cn:s3:::shop/artifacts/*"


def test_what_a_class_declares_besides_is_allowed_besides():
    class Nosy(Quantize):
        access: ClassVar = (Access("fleet", "delete", "status/*"),)
        needs: ClassVar = Resources(network=True)
        secrets: ClassVar = ("planted",)

    before = policy(Quantize, cloud_of(**ALL))["Statement"]
    now = policy(Nosy, cloud_of(**ALL))["Statement"]
    more = [s for s in now if s not in before]
    assert {s["Action"] for s in more} == {"s3:DeleteObject", "secretsmanager:GetSecretValue"}
    assert [s for s in before if s not in now] == []


def test_access_beyond_artifacts_is_refused_without_a_network():
    class Quiet(Quantize):
        access: ClassVar = (Access("releases", "read"), Access("fleet", "read"))

    with pytest.raises(BadParameters, match=r"access to fleet needs a network.*needs\.network"):
        policy(Quiet, cloud_of(**ALL))


@pytest.mark.parametrize("name", component_names())
def test_every_component_has_a_policy(name):
    done = iam(name, "--store", "s3://b/store", "--releases", "s3://r", "--fleet", "s3://f")
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert found["Version"] == "2012-10-17"
    sids = [s["Sid"] for s in found["Statement"]]
    assert len(set(sids)) == len(sids)


def test_the_command_prints_the_template_of_all_roles():
    assert iam("--template").output == template()


def test_the_command_asks_for_a_component():
    done = iam()
    assert done.exit_code == 2
    assert "slimline list" in done.output
