"""The stores, started once; each test gets a directory of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.storage.stores import S3, Azure, Disk, Store, azurite_server, s3_server


@pytest.fixture(scope="session")
def s3_options() -> Iterator[dict[str, Any]]:
    with s3_server() as options:
        import boto3

        client = boto3.client("s3", endpoint_url=options["client_kwargs"]["endpoint_url"])
        client.create_bucket(Bucket="events")
        yield options


@pytest.fixture(scope="session")
def azure_options(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with azurite_server(tmp_path_factory.mktemp("azurite")) as options:
        from azure.storage.blob import ContainerClient

        with ContainerClient.from_connection_string(options["connection_string"], "events") as client:
            client.create_container()
        yield options


@pytest.fixture(params=["disk", "s3", "azure"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty directory of each store in turn."""
    folder = f"usage/{uuid.uuid4().hex}"
    if request.param == "s3":
        return S3(f"s3://events/{folder}", request.getfixturevalue("s3_options"))
    if request.param == "azure":
        return Azure(f"abfs://events/{folder}", request.getfixturevalue("azure_options"))
    return Disk(f"file://{tmp_path}/{folder}")
