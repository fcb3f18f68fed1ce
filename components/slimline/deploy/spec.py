"""What a deployment takes: a package, a target, and the target's own settings."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from slimline.contract import Access, Component, Input, Output, Package, Receipt, Resources, output

ENDPOINT = r"^[a-z0-9](-*[a-z0-9]){0,62}$"


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _OnThisMachine(_Settings):
    state_dir: str = Field(
        "", description="Where endpoints live; the directory SLIMLINE_ENDPOINTS if not given."
    )
    port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port of the stable address; 0 takes a free one and keeps it.",
    )
    start_seconds: float = Field(
        60, gt=0, le=3600, description="How long a new server may take to become ready."
    )


class Local(_OnThisMachine):
    """A server process on this machine."""

    python: str = Field(
        "", description="Python that runs the server (extra serving); this one if not given."
    )


class Docker(_OnThisMachine):
    """A server in a container of this machine's Docker engine."""

    image: str = Field(
        "", description="Image `serving` by id or digest, such as images/lock.json names it."
    )
    network: str = Field(
        "",
        description="Network of the endpoint's containers, one with names (not `bridge`); "
        "SLIMLINE_DOCKER_NETWORK if not given.",
    )
    publish: str = Field(
        "",
        pattern=r"^(\d{1,3}(\.\d{1,3}){3})?$",
        description="Address of this machine that listens; the network's gateway if not given, "
        "which this machine and containers of the network reach and nobody else.",
    )
    cpu: float = Field(1, gt=0, description="Cores of each server at most.")
    memory: str = Field(
        "1Gi", pattern=r"^[1-9]\d*(Mi|Gi)$", description="Memory of each server at most."
    )


class SageMaker(_Settings):
    """A real-time endpoint of Amazon SageMaker; the package must lie in S3."""

    role_arn: str = Field("", description="IAM role that SageMaker reads image and package with.")
    image_uri: str = Field("", description="ECR URI of the serving image, best by digest.")
    region: str = Field("", description="AWS region; that of the environment if not given.")
    instance_type: str = Field("ml.m5.large", description="Kind of instance.")
    instance_count: int = Field(1, ge=1, le=100, description="Number of instances.")
    environment: dict[str, str] = Field(
        default_factory=dict,
        description="Variables of the container, such as SLIMLINE_TRUSTED_KEYS.",
    )
    isolated: bool = Field(
        default=True, description="Whether the container is kept from any network."
    )
    rollout: Literal["all-at-once", "canary", "linear"] = Field(
        "all-at-once", description="How traffic moves to the new fleet."
    )
    step_percent: int = Field(
        10, ge=5, le=50, description="Capacity of the canary, or of each linear step."
    )
    wait_seconds: int = Field(
        300, ge=0, le=3600, description="How long each step is watched before the next."
    )
    alarms: tuple[str, ...] = Field(
        (), max_length=10, description="CloudWatch alarms that roll the update back."
    )
    timeout_minutes: int = Field(
        60, ge=10, le=480, description="When AWS gives an update up and rolls it back."
    )
    poll_seconds: float = Field(15, gt=0, le=300, description="How often the state is read.")


class Deploy(Component):
    """Put a package behind an endpoint, blue/green; the old one stays when the new one fails."""

    image: ClassVar[str] = "ship"
    needs: ClassVar[Resources] = Resources(network=True, timeout_minutes=8 * 60)
    cached: ClassVar[bool] = False
    access: ClassVar[tuple[Access, ...]] = (
        Access("releases", "read", "artifacts/*"),
        Access("endpoints", "write"),
    )

    package: Input[Package] = Field(description="The signed package to serve.")
    receipt: Output[Receipt] = output("What was deployed where, and its answer to a request.")

    target: Literal["local", "docker", "sagemaker"] = Field(
        "local", description="Where it is to run."
    )
    endpoint: str = Field(
        "model", pattern=ENDPOINT, description="The endpoint's name; its address stays the same."
    )
    local: Local = Field(default_factory=Local, description="Settings of target local.")
    docker: Docker = Field(default_factory=Docker, description="Settings of target docker.")
    sagemaker: SageMaker = Field(
        default_factory=SageMaker, description="Settings of target sagemaker."
    )

    def resources(self) -> Resources:
        """It starts containers, and so reaches the engine, only where they are its target."""
        return replace(self.needs, engine=self.target == "docker")

    @model_validator(mode="after")
    def _target_has_its_settings(self) -> Self:
        if self.target == "docker" and not self.docker.image:
            msg = "docker.image is needed for target docker: that of `serving` in images/lock.json"
            raise ValueError(msg)
        if self.target == "sagemaker":
            for name in ("role_arn", "image_uri"):
                if not getattr(self.sagemaker, name):
                    msg = f"sagemaker.{name} is needed for target sagemaker"
                    raise ValueError(msg)
            if self.sagemaker.rollout != "all-at-once" and self.sagemaker.instance_count == 1:
                msg = "sagemaker.rollout canary or linear needs an instance_count of 2 or more"
                raise ValueError(msg)
        return self
