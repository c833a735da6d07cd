"""What OpenLineage is told, where its Airflow provider is installed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_polar.assets.lineage import (
    events_dataset,
    export_lineage,
    ingest_lineage,
    storage_dataset,
    table_dataset,
    verify_lineage,
)
from airflow_provider_polar.operators.export import PolarExportEventsOperator


@pytest.mark.parametrize(
    ("url", "dataset"),
    [
        ("s3://aws_default@bucket/a/b", ("s3://bucket", "a/b")),
        ("s3://bucket", ("s3://bucket", "/")),
        ("file:///data/out", ("file", "/data/out")),
        ("/data/out", ("file", "/data/out")),
    ],
)
def test_names_of_object_storage(url: str, dataset: tuple[str, str]) -> None:
    assert storage_dataset(url) == dataset


def test_names_of_events() -> None:
    assert events_dataset("Acme") == ("polar://acme", "events")
    assert events_dataset("acme", "order.paid") == ("polar://acme", "events/order.paid")


@pytest.mark.parametrize(
    ("connection", "table", "dataset"),
    [
        (
            ("postgres", "db.example.com", None, "app"),
            ("public", "events"),
            "postgres://db.example.com:5432 app.public.events",
        ),
        (("mysql", "db.example.com", 3307, "app"), ("app", "events"), "mysql://db.example.com:3307 app.events"),
        (("sqlite", "/data/w.db", None, None), ("main", "events"), "sqlite:///data/w.db main.events"),
    ],
)
def test_names_of_tables(connection: tuple[Any, ...], table: tuple[str, ...], dataset: str) -> None:
    conn_type, host, port, schema = connection
    made = SimpleNamespace(conn_type=conn_type, host=host, port=port, schema=schema)
    assert " ".join(table_dataset(made, table)) == dataset


class TestFacets:
    @pytest.fixture(autouse=True)
    def _provider(self) -> None:
        pytest.importorskip(
            "airflow.providers.openlineage.extractors", reason="OpenLineage's provider is not installed"
        )

    def test_of_an_export(self, polar_server: Any, polar_connection: Any, tmp_path: Path) -> None:
        start = datetime(2026, 1, 1, tzinfo=UTC)
        polar_server.add_events([{"name": "call", "timestamp": start, "external_customer_id": "a"}] * 3)
        operator = PolarExportEventsOperator(
            task_id="export",
            destination=f"file://{tmp_path}",
            start=start,
            end="2026-01-02T00:00:00Z",
            filters={"name": "call"},
        )
        operator.execute({})
        lineage = operator.get_openlineage_facets_on_complete(SimpleNamespace())
        (read,), (written,) = lineage.inputs, lineage.outputs
        assert (read.namespace, read.name) == ("polar://polar_default", "events/call")
        assert read.inputFacets["dataQualityMetrics"].rowCount == 3
        assert (written.namespace, written.name) == ("file", str(tmp_path))
        assert written.outputFacets["outputStatistics"].rowCount == 3
        assert written.outputFacets["outputStatistics"].fileCount == 1

    def test_of_several_names_no_count_is_claimed_for_one(self) -> None:
        lineage = export_lineage("acme", ["a", "b"], "s3://b/x", {"rows": 5, "files": 2})
        assert [dataset.name for dataset in lineage.inputs] == ["events/a", "events/b"]
        assert not any(dataset.inputFacets for dataset in lineage.inputs)

    def test_of_an_ingest(self) -> None:
        lineage = ingest_lineage("acme", ["s3://b/usage.jsonl"], {"inserted": 7})
        (read,), (written,) = lineage.inputs, lineage.outputs
        assert (read.namespace, read.name) == ("s3://b", "usage.jsonl")
        assert (written.namespace, written.name) == ("polar://acme", "events")
        assert written.outputFacets["outputStatistics"].rowCount == 7

    @pytest.mark.parametrize(
        ("source", "dataset"), [(None, ("polar://acme", "events")), ("s3://b/lake", ("s3://b", "lake"))]
    )
    def test_of_a_verification(self, source: str | None, dataset: tuple[str, str]) -> None:
        lineage = verify_lineage("acme", source, {"events": 5, "report": "s3://b/report.jsonl"})
        (read,), (written,) = lineage.inputs, lineage.outputs
        assert (read.namespace, read.name) == dataset
        assert read.inputFacets["dataQualityMetrics"].rowCount == 5
        assert (written.namespace, written.name) == ("s3://b", "report.jsonl")
        assert not written.outputFacets
        assert not verify_lineage("acme", source, {"events": 5, "report": None}).outputs
