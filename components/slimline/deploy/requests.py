"""What is asked of SageMaker, as plain data: the model, the endpoint's configuration, the rollout.

Names come from what they name: equal content has an equal name, so a second try finds what the
first one made, and nothing is ever overwritten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slimline.contract import BadParameters
from slimline.contract.artifact import digest_json

if TYPE_CHECKING:
    from slimline.contract import Package
    from slimline.deploy.spec import SageMaker

VARIANT = "AllTraffic"
_LONGEST_PREFIX = 50
_DIGITS = 12


def model_request(endpoint: str, package: Package, settings: SageMaker) -> dict[str, Any]:
    """Parameters of `create_model`: the image, and the package as an uncompressed S3 prefix.

    Raises:
        BadParameters: when the package does not lie in S3.
    """
    if not package.uri.startswith("s3://"):
        msg = f"package {package.uri}: SageMaker reads from S3: push it, and give its s3:// URI"
        raise BadParameters(msg)
    container: dict[str, Any] = {
        "Image": settings.image_uri,
        "ModelDataSource": {
            "S3DataSource": {
                "S3Uri": f"{package.uri}/",
                "S3DataType": "S3Prefix",
                "CompressionType": "None",
            }
        },
        "Environment": {"SLIMLINE_SERVING_HOST": "0.0.0.0", **settings.environment},  # noqa: S104 - inside the container
    }
    content = {
        "PrimaryContainer": container,
        "ExecutionRoleArn": settings.role_arn,
        "EnableNetworkIsolation": settings.isolated,
    }
    return {"ModelName": _name(endpoint, content), **content}


def config_request(endpoint: str, model: str, settings: SageMaker) -> dict[str, Any]:
    """Parameters of `create_endpoint_config`: one variant that takes all traffic."""
    content = {
        "ProductionVariants": [
            {
                "VariantName": VARIANT,
                "ModelName": model,
                "InstanceType": settings.instance_type,
                "InitialInstanceCount": settings.instance_count,
                "InitialVariantWeight": 1.0,
            }
        ]
    }
    return {"EndpointConfigName": _name(endpoint, content), **content}


def rollout_request(settings: SageMaker) -> dict[str, Any]:
    """`DeploymentConfig` of `update_endpoint`: blue/green, watched by alarms."""
    traffic: dict[str, Any] = {
        "Type": settings.rollout.upper().replace("-", "_"),
        "WaitIntervalInSeconds": settings.wait_seconds,
    }
    step = {"Type": "CAPACITY_PERCENT", "Value": settings.step_percent}
    if settings.rollout == "canary":
        traffic["CanarySize"] = step
    elif settings.rollout == "linear":
        traffic["LinearStepSize"] = step
    rollout: dict[str, Any] = {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": traffic,
            "TerminationWaitInSeconds": 0,
            "MaximumExecutionTimeoutInSeconds": settings.timeout_minutes * 60,
        }
    }
    if settings.alarms:
        alarms = [{"AlarmName": name} for name in settings.alarms]
        rollout["AutoRollbackConfiguration"] = {"Alarms": alarms}
    return rollout


def at_once() -> dict[str, Any]:
    """`DeploymentConfig` of the way back: all traffic, without a wait."""
    traffic = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": traffic}}


def _name(endpoint: str, content: dict[str, Any]) -> str:
    prefix = endpoint[:_LONGEST_PREFIX].rstrip("-")
    return f"{prefix}-{digest_json(content)[:_DIGITS]}"
