"""Airflow connections as the environment of a job: addresses, credentials and secrets.

    slimline_s3        login, password: the key pair; extra: endpoint_url, region_name
    slimline_mlflow    host (with its scheme), port; login, password where it asks for them
    slimline_<name>    password: the value of the secret `<name>` (signing, tuf, ...)

A connection that does not exist leaves what the worker's own environment says. Each value that no
one may see is given to Airflow's masker before it goes anywhere.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret

from slimline.adapters.runners.environment import secret_values
from slimline.contract.secrets import secret_variable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from slimline.contract import Component


def secrets_of(component: type[Component]) -> dict[str, str]:
    """The secrets that a component declares, as far as connections have them."""
    found: dict[str, str] = {}
    for name in component.secrets:
        connection = _connection(f"slimline_{name}")
        if connection is not None and connection.password:
            found[secret_variable(name)] = connection.password
    mask(found)
    return found


def services() -> dict[str, str]:
    """Addresses and credentials of S3 and of MLflow."""
    found: dict[str, str] = {}
    s3 = _connection("slimline_s3")
    if s3 is not None:
        extra: dict[str, Any] = s3.extra_dejson
        found |= _given(
            AWS_ACCESS_KEY_ID=s3.login,
            AWS_SECRET_ACCESS_KEY=s3.password,
            AWS_SESSION_TOKEN=extra.get("aws_session_token"),
            AWS_ENDPOINT_URL_S3=extra.get("endpoint_url"),
            AWS_REGION=extra.get("region_name"),
        )
    mlflow = _connection("slimline_mlflow")
    if mlflow is not None and mlflow.host:
        found |= mlflow_environment(mlflow)
    mask(found)
    return found


def mask(environment: Mapping[str, str]) -> None:
    """Tell Airflow's masker every secret value, whole and in pieces."""
    for value in secret_values(environment):
        mask_secret(value)


def mlflow_environment(connection: Connection) -> dict[str, str]:
    """What MLflow's clients read of a connection."""
    return _given(
        MLFLOW_TRACKING_URI=address_of(connection),
        MLFLOW_TRACKING_USERNAME=connection.login,
        MLFLOW_TRACKING_PASSWORD=connection.password,
    )


@contextmanager
def environment(given: Mapping[str, str]) -> Iterator[None]:
    """Set variables of this process, for a client library that reads them, and take them back."""
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def address_of(connection: Connection) -> str:
    """The address that an HTTP connection stands for."""
    host = connection.host or ""
    scheme = "" if "://" in host else f"{connection.schema or 'http'}://"
    port = f":{connection.port}" if connection.port else ""
    return f"{scheme}{host.rstrip('/')}{port}"


def _connection(name: str) -> Connection | None:
    try:
        found: Connection = Connection.get(name)
    except AirflowNotFoundException:
        return None
    return found


def _given(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}
