"""The export operator with an Airflow connection's file system."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_polar.exceptions import PolarDestinationError
from airflow_provider_polar.operators.export import PolarExportEventsOperator
from airflow_provider_polar.testing import LocalPolar

START = datetime(2026, 1, 1, tzinfo=UTC)


def attach(conn_id: str, file_system: Any) -> None:
    """Makes it the file system of a connection, as the store's provider would."""
    try:
        from airflow.sdk.io import attach as attach_to
    except ImportError:
        from airflow.io import attach as attach_to  # type: ignore[no-redef]
    attach_to("s3", conn_id=conn_id, fs=file_system)


@pytest.fixture
def conn_id(s3_options: dict[str, Any]) -> str:
    """The id of a connection to the S3 server."""
    s3fs = pytest.importorskip("s3fs")
    attach("lake", s3fs.S3FileSystem(**s3_options))
    return "lake"


@pytest.mark.parametrize("kind", ["text", "text with the connection", "path"])
def test_the_destination_in_each_form(polar_server: LocalPolar, polar_connection: Any, conn_id: str, kind: str) -> None:
    polar_server.add_events(
        {"name": "call", "timestamp": START + timedelta(seconds=i), "external_customer_id": "c"} for i in range(300)
    )
    key = f"events/{uuid.uuid4().hex}"
    destination: dict[str, Any] = {
        "text": {"destination": f"s3://{key}", "destination_conn_id": conn_id},
        "text with the connection": {"destination": f"s3://{conn_id}@{key}/"},
        "path": {"destination": ObjectStoragePath(f"s3://{key}", conn_id=conn_id)},
    }[kind]
    operator = PolarExportEventsOperator(
        task_id="export",
        start=START,
        end=START + timedelta(hours=1),
        compression="gzip",
        requests_per_minute=60_000,
        **destination,
    )
    result = operator.execute({})
    assert result["manifest"].startswith(f"s3://lake@{key}/events_20260101T000000Z_20260101T010000Z-")
    assert result["manifest"].endswith(".manifest.json")
    manifest = ObjectStoragePath(result["manifest"])
    (file,) = json.loads(manifest.read_text())["files"]
    assert file["rows"] == result["rows"] == 300
    assert (manifest.parent / file["path"]).stat().st_size == file["bytes"]


def test_a_store_that_is_away_is_a_clear_error(
    polar_server: LocalPolar, polar_connection: Any, s3_options: dict[str, Any]
) -> None:
    s3fs = pytest.importorskip("s3fs")
    away = s3_options | {
        "client_kwargs": {"endpoint_url": "http://127.0.0.1:9"},
        "config_kwargs": {"retries": {"total_max_attempts": 1}},
    }
    attach("away", s3fs.S3FileSystem(**away))
    operator = PolarExportEventsOperator(
        task_id="export", destination="s3://away@events/x", start=START, end=START + timedelta(hours=1)
    )
    with pytest.raises(PolarDestinationError, match="s3://away@events/x"):
        operator.execute({})
    assert polar_server.requests == []
