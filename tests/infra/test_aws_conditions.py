"""What moto does not evaluate, by `support.iam`: conditions, variables, policies of resources.

Source of what AWS puts into a call's context: the Service Authorization Reference.
"""

import pytest
from support.aws import ACCOUNT, REGION, deploy, deployed
from support.iam import allowed, denied

OIDC = f"oidc.eks.{REGION}.amazonaws.com/id/ABCDEF"
ROOT = f"arn:aws:iam::{ACCOUNT}:root"
ADMIN = f"arn:aws:iam::{ACCOUNT}:role/admin"
THING = "iot:Connection.Thing.ThingName"


def role(name):
    return f"arn:aws:iam::{ACCOUNT}:role/{name}"


@pytest.fixture(scope="module")
def aws():
    with deployed(storage={"Administrator": ADMIN}, roles={"PodIdentity": "yes"}) as found:
        yield found


@pytest.fixture(params=["Store", "Releases", "Fleet"])
def bucket(request, aws):
    """The policy of a bucket, and the ARN of an object in it."""
    found = aws.resource("storage", f"{request.param}BucketPolicy")["PolicyDocument"]
    return found, f"arn:aws:s3:::{aws.bucket(request.param.lower())}/artifacts/a"


def context(principal, tls="true"):
    return {"aws:SecureTransport": tls, "aws:PrincipalArn": principal}


def test_a_bucket_refuses_every_call_without_tls(bucket):
    policy, thing = bucket
    ours = role("slimline-push")
    for action in ("s3:GetObject", "s3:PutObject", "s3:GetBucketLocation"):
        assert denied(policy, action, thing, context=context(ours, tls="false"))
        assert not denied(policy, action, thing, context=context(ours))


def test_a_bucket_refuses_objects_to_roles_that_are_not_ours(bucket):
    policy, thing = bucket
    for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObjectVersion", "s3:ListBucket"):
        for stranger in (role("other"), role("other-slimline-push"), f"arn:aws:iam::{ACCOUNT}:u/x"):
            assert denied(policy, action, thing, context=context(stranger))
        for known in (role("slimline-push"), role("slimline-device"), ROOT, ADMIN):
            assert not denied(policy, action, thing, context=context(known))
    assert not denied(policy, "s3:PutBucketPolicy", thing, context=context(role("other")))


@pytest.mark.parametrize("place", ["store", "releases", "fleet"])
def test_a_key_opens_its_own_bucket_through_s3_and_nothing_else(aws, place):
    policy = aws.resource("storage", f"{place.title()}Key")["KeyPolicy"]
    arn = f"arn:aws:s3:::{aws.bucket(place)}"
    through = {"kms:ViaService": f"s3.{REGION}.amazonaws.com"}
    own = {**through, "kms:EncryptionContext:aws:s3:arn": arn}
    other = {**through, "kms:EncryptionContext:aws:s3:arn": "arn:aws:s3:::another"}
    for action in ("kms:Decrypt", "kms:GenerateDataKey"):
        assert allowed(policy, action, "*", ROOT, own)
        assert not allowed(policy, action, "*", ROOT, other)
        assert not allowed(policy, action, "*", ROOT, {})
        assert not allowed(policy, action, "*", "arn:aws:iam::999999999999:root", own)
    assert allowed(policy, "kms:PutKeyPolicy", "*", ROOT)
    assert not allowed(policy, "kms:CreateGrant", "*", ROOT)


def test_deploy_hands_over_one_role_to_sagemaker_alone(aws):
    (inline,) = aws.resource("roles", "DeployRole")["Policies"]
    policy = inline["PolicyDocument"]
    to = {"iam:PassedToService": "sagemaker.amazonaws.com"}
    assert allowed(policy, "iam:PassRole", role("slimline-endpoint"), context=to)
    assert not allowed(policy, "iam:PassRole", role("slimline-worker"), context=to)
    elsewhere = {"iam:PassedToService": "ec2.amazonaws.com"}
    assert not allowed(policy, "iam:PassRole", role("slimline-endpoint"), context=elsewhere)


@pytest.mark.parametrize("component", ["train", "check-data", "deploy"])
def test_a_role_is_taken_by_the_worker_and_by_its_own_service_account(aws, component):
    policy = aws.trust(component)
    assert allowed(policy, "sts:AssumeRole", "*", role("slimline-worker"))
    assert not allowed(policy, "sts:AssumeRole", "*", role("slimline-push"))
    assert not allowed(policy, "sts:AssumeRole", "*", ROOT)
    account = {"aws:RequestTag/kubernetes-namespace": "slimline"}
    service = "aws:RequestTag/kubernetes-service-account"
    pod = ("sts:AssumeRole", "*", "pods.eks.amazonaws.com")
    assert allowed(policy, *pod, {**account, service: f"slimline-{component}"})
    assert not allowed(policy, *pod, {**account, service: "slimline-push"})
    assert not allowed(policy, *pod, {**account, service: f"slimline-{component}-2"})


def test_with_an_oidc_provider_a_role_is_taken_by_its_service_account(aws):
    deploy("storage", "pods")
    deploy("roles", "pods", OidcProvider=OIDC)
    oidc = aws.trust("train", "pods")
    provider = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{OIDC}"
    call = ("sts:AssumeRoleWithWebIdentity", "*", provider)
    own = {f"{OIDC}:aud": "sts.amazonaws.com"}
    subject = f"{OIDC}:sub"
    assert allowed(oidc, *call, {**own, subject: "system:serviceaccount:slimline:pods-train"})
    assert not allowed(oidc, *call, {**own, subject: "system:serviceaccount:slimline:pods-push"})
    assert not allowed(oidc, *call, {**own, subject: "system:serviceaccount:x:pods-train"})
    assert allowed(oidc, "sts:AssumeRole", "*", role("pods-worker"))
    assert not allowed(oidc, "sts:AssumeRole", "*", role("slimline-worker"))


@pytest.mark.parametrize(
    ("name", "service"),
    [("endpoint", "sagemaker.amazonaws.com"), ("device", "credentials.iot.amazonaws.com")],
)
def test_a_service_takes_its_role_for_this_account_alone(aws, name, service):
    policy = aws.trust(name)
    for account in ({}, {"aws:SourceAccount": ACCOUNT}):
        assert allowed(policy, "sts:AssumeRole", "*", service, account)
    other = {"aws:SourceAccount": "999999999999"}
    assert not allowed(policy, "sts:AssumeRole", "*", service, other)
    assert not allowed(policy, "sts:AssumeRole", "*", "ec2.amazonaws.com")


def test_a_device_connects_as_itself_and_speaks_on_its_own_topics(aws):
    policy = aws.resource("iot", "DevicePolicy")["PolicyDocument"]
    arn = f"arn:aws:iot:{REGION}:{ACCOUNT}"
    me = {THING: "d1", "iot:Connection.Thing.IsAttached": "true"}

    def may(action, resource, context=me):
        return allowed(policy, f"iot:{action}", f"{arn}:{resource}", context=context)

    assert may("Connect", "client/d1")
    assert not may("Connect", "client/d2")
    assert not may("Connect", "client/d1", {**me, "iot:Connection.Thing.IsAttached": "false"})
    assert not may("Connect", "client/d1", {})
    for topic in ("shadow/update", "shadow/name/model/get", "jobs/notify-next", "jobs/j1/update"):
        assert may("Publish", f"topic/$aws/things/d1/{topic}")
        assert may("Receive", f"topic/$aws/things/d1/{topic}")
        assert may("Subscribe", f"topicfilter/$aws/things/d1/{topic}")
        for action, kind in (("Publish", "topic"), ("Subscribe", "topicfilter")):
            assert not may(action, f"{kind}/$aws/things/d2/{topic}")
    for filters in ("#", "$aws/things/+/jobs/notify", "$aws/things/#", "plant/alarm"):
        assert not may("Subscribe", f"topicfilter/{filters}")
        assert not may("Publish", f"topic/{filters}")
    assert may("AssumeRoleWithCertificate", "rolealias/slimline-device")
    assert not may("AssumeRoleWithCertificate", "rolealias/admin")
    assert not may("UpdateThingShadow", "thing/d1")


def test_a_device_writes_the_report_of_its_own_thing(aws):
    (inline,) = aws.resource("iot", "DeviceRole")["Policies"]
    policy, me = inline["PolicyDocument"], {"credentials-iot:ThingName": "d1"}
    reports = f"arn:aws:s3:::{aws.bucket('fleet')}/status/g"
    assert allowed(policy, "s3:PutObject", f"{reports}/d1.json", context=me)
    assert not allowed(policy, "s3:PutObject", f"{reports}/d2.json", context=me)
    assert not allowed(policy, "s3:PutObject", f"{reports}/d1.json")
