"""Inputs and outputs of tasks for OpenLineage, with their row counts. Needs its Airflow provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_polar.engine.files.uris import StorageUri

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage  # type: ignore[import-not-found,unused-ignore]

_PORTS = {"postgres": 5432, "mysql": 3306}


def events_dataset(organization: str, name: str | None = None) -> tuple[str, str]:
    """Namespace and name of Polar's events, the same as of the asset ``polar://ORGANIZATION/events/NAME``."""
    return f"polar://{organization.lower()}", f"events/{name}" if name else "events"


def storage_dataset(url: str) -> tuple[str, str]:
    """Namespace and name of an object or a directory, as OpenLineage names them."""
    uri = StorageUri.parse(url)
    if uri.is_on_disk:
        return "file", uri.path
    return f"{uri.scheme}://{uri.bucket}", uri.path.strip("/") or "/"


def table_dataset(connection: Any, table: Sequence[str]) -> tuple[str, str]:
    """Namespace and name of a table, as OpenLineage names those of PostgreSQL and MySQL; others likewise.

    :param connection: of the database.
    :param table: its name with its schema, which in MySQL is the database.
    """
    kind, port = connection.conn_type, connection.port or _PORTS.get(connection.conn_type)
    database = [connection.schema] if connection.schema and kind != "mysql" else []
    return f"{kind}://{connection.host or ''}{f':{port}' if port else ''}", ".".join([*database, *table])


def export_lineage(
    organization: str, names: Sequence[str], destination: str, result: Mapping[str, Any] | None
) -> OperatorLineage:
    """From Polar's events to a directory.

    :param names: the event names exported; none for all.
    :param result: the export's ``rows`` and ``files``; None while it runs.
    """
    return _lineage(
        inputs=[events_dataset(organization, name) for name in names or [None]],  # type: ignore[list-item]
        outputs=[storage_dataset(destination)],
        rows=None if result is None else result["rows"],
        files=None if result is None else result["files"],
    )


def ingest_lineage(organization: str, sources: Sequence[str], result: Mapping[str, Any] | None) -> OperatorLineage:
    """From files to Polar's events.

    :param sources: the files read; none for rows handed over in memory.
    :param result: the ingest's ``inserted``; None while it runs.
    """
    return _lineage(
        inputs=[storage_dataset(source) for source in sources],
        outputs=[events_dataset(organization)],
        rows=None if result is None else result["inserted"],
        files=None,
    )


def load_lineage(sources: Sequence[str], table: tuple[str, str], result: Mapping[str, Any]) -> OperatorLineage:
    """From exported files to a table.

    :param sources: the manifests that were loaded.
    :param table: its namespace and name.
    :param result: the load's ``rows``.
    """
    return _lineage(inputs=[storage_dataset(s) for s in sources], outputs=[table], rows=result["rows"], files=None)


def _lineage(
    *, inputs: Sequence[tuple[str, str]], outputs: Sequence[tuple[str, str]], rows: int | None, files: int | None
) -> OperatorLineage:
    from airflow.providers.common.compat.openlineage.facet import (
        InputDataset,
        OutputDataset,
        OutputStatisticsOutputDatasetFacet,
    )
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.facet_v2 import (  # type: ignore[import-not-found,unused-ignore]
        data_quality_metrics_input_dataset as metrics,
    )

    read: dict[str, Any] = {}
    written: dict[str, Any] = {}
    if rows is not None:
        written["outputStatistics"] = OutputStatisticsOutputDatasetFacet(rowCount=rows, fileCount=files)
        if len(inputs) == 1:  # how many came from which is not known of several
            read["dataQualityMetrics"] = metrics.DataQualityMetricsInputDatasetFacet(columnMetrics={}, rowCount=rows)
    return OperatorLineage(
        inputs=[InputDataset(namespace=namespace, name=name, inputFacets=read) for namespace, name in inputs],
        outputs=[OutputDataset(namespace=namespace, name=name, outputFacets=written) for namespace, name in outputs],
    )
