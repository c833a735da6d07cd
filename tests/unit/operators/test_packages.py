"""A package that is not installed: every operator names the same command, before any request, and no retry follows."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk.io import fs as airflow_file_systems

from airflow_provider_polar.engine.files.uris import STORES
from airflow_provider_polar.operators.assemble import PolarAssembleExportOperator
from airflow_provider_polar.operators.export import PolarExportEventsOperator
from airflow_provider_polar.operators.ingest import PolarIngestEventsOperator
from airflow_provider_polar.operators.reconcile import PolarReconcileEventsOperator
from airflow_provider_polar.testing import LocalPolar

START = datetime(2026, 1, 1, tzinfo=UTC)
CONTEXT: Any = {"ti": SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1)}
EVENT = {"name": "call", "external_customer_id": "c", "external_id": "1"}


def window() -> dict[str, Any]:
    return {"start": START, "end": START + timedelta(hours=1)}


OPERATORS = {
    "export": lambda path: PolarExportEventsOperator(task_id="t", destination=path, **window()),
    "reconcile": lambda path: PolarReconcileEventsOperator(task_id="t", destination=path, **window()),
    "assemble": lambda path: PolarAssembleExportOperator(task_id="t", destination=path, plan=[]),
    "ingest": lambda path: PolarIngestEventsOperator(task_id="t", source=f"{path}/x.jsonl"),
    "ingest of a pattern": lambda path: PolarIngestEventsOperator(task_id="t", source=f"{path}/*.jsonl"),
    "rejected rows": lambda path: PolarIngestEventsOperator(
        task_id="t", events=[EVENT], on_invalid="skip", rejected_path=f"{path}/x.jsonl", idempotency_scope="s"
    ),
}


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("scheme", [*STORES, "hdfs", "sftp"])
def test_no_provider_serves_the_store(
    polar_server: LocalPolar, polar_connection: str, operator: str, scheme: str
) -> None:
    known = STORES.get(scheme)
    command = f"pip install 'airflow-provider-polar[{known.extra}]'" if known else "install the provider"
    with pytest.raises(AirflowFailException, match=f"begins with {scheme}://") as refused:
        OPERATORS[operator](f"{scheme}://bucket/folder").execute(CONTEXT)
    assert command in str(refused.value)
    assert polar_server.requests == []


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_provider_lacks_its_own_package(
    polar_server: LocalPolar, polar_connection: str, operator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_gcsfs(conn_id: str | None, options: Any = None) -> Any:
        raise ModuleNotFoundError("No module named 'gcsfs'")

    monkeypatch.setattr(airflow_file_systems, "_register_filesystems", lambda: {"gs": without_gcsfs})
    with pytest.raises(AirflowFailException, match=r"pip install 'airflow-provider-polar\[gcs\]'"):
        OPERATORS[operator]("gs://bucket/folder").execute(CONTEXT)
    assert polar_server.requests == []


@pytest.mark.parametrize(
    ("package", "extra", "export", "file"),
    [
        ("pyarrow", "parquet", {"file_format": "parquet"}, "x.parquet"),
        ("zstandard", "zstd", {"compression": "zstd"}, "x.jsonl.zst"),
    ],
)
def test_a_format_s_package(
    polar_server: LocalPolar,
    polar_connection: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    package: str,
    extra: str,
    export: dict[str, str],
    file: str,
) -> None:
    for module in (package, f"{package}.parquet"):
        monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / file).write_bytes(b"x")
    operators = (
        PolarExportEventsOperator(task_id="t", destination=f"file://{tmp_path}", **window(), **export),  # type: ignore[arg-type]
        PolarIngestEventsOperator(task_id="t", source=f"file://{tmp_path}/{file}", idempotency_scope="s"),
    )
    for operator in operators:
        with pytest.raises(AirflowFailException, match=rf"pip install 'airflow-provider-polar\[{extra}\]'"):
            operator.execute(CONTEXT)
    assert polar_server.requests == []


def test_the_extras_exist() -> None:
    extras = metadata("airflow-provider-polar").get_all("Provides-Extra")
    assert extras is not None
    assert {*(store.extra for store in STORES.values()), "parquet", "zstd"} <= set(extras)
