"""Rows of real databases to Polar: streamed by the database's cursor, each hour once, whatever the query says later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_polar.engine.ingesting.query import Query, rows_of_query
from airflow_provider_polar.exceptions import PolarSourceUnavailableError
from airflow_provider_polar.operators._sql import sql_hook
from airflow_provider_polar.operators.ingest import PolarIngestEventsOperator
from airflow_provider_polar.testing import LocalPolar
from tests.integration.databases import Target, target
from tests.integration.mariadb import mariadb
from tests.integration.postgres import postgres

__all__ = ["mariadb", "postgres", "target"]

MAPPING = {
    "name": {"const": "call.made"},
    "external_customer_id": "customer",
    "timestamp": {"column": "moment", "timezone": "UTC"},
    "metadata": {"amount": {"column": "amount", "type": "float"}},
}
PROVIDERS = {"mariadb": "mysql"}
STYLES = {"sqlite": ":{}", "duckdb": "${}", "postgres": "%({})s", "mariadb": "%({})s"}
ENDLESS = {
    "sqlite": "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) SELECT id FROM n",
    "duckdb": "SELECT range AS id FROM range(1, 1000000000000)",
    "postgres": "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) SELECT id FROM n",
    "mariadb": "SELECT seq AS id FROM seq_1_to_1000000000000",
}


def execute(target: Target, *statements: str) -> None:
    with closing(target.connect()) as connection:
        cursor = connection if target.kind == "duckdb" else connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        connection.commit()


@pytest.fixture
def usage(target: Target, monkeypatch: pytest.MonkeyPatch) -> Target:
    """A table of two hours of usage, in a database that is an Airflow connection."""
    provider = PROVIDERS.get(target.kind, target.kind)
    pytest.importorskip(
        f"airflow.providers.{provider}.hooks.{provider}", reason=f"Airflow's provider {provider} is not installed"
    )
    if target.kind == "mariadb":
        pytest.importorskip("MySQLdb", reason="mysqlclient is not installed, by which Airflow reaches MariaDB")
    target.use_in_airflow(monkeypatch)
    moment = {"sqlite": "TEXT", "duckdb": "TIMESTAMPTZ", "postgres": "TIMESTAMPTZ", "mariadb": "DATETIME(6)"}
    zone, comma = ("Z", "T") if target.kind == "sqlite" else ("" if target.kind == "mariadb" else "+00", " ")
    rows = ", ".join(
        f"({n}, 'c{n % 3}', '2026-01-01{comma}{10 + n // 10}:{n % 10:02}:00{zone}', {n}.5)" for n in range(20)
    )
    execute(
        target,
        f"CREATE TABLE usage_rows (id INT, customer VARCHAR(9), moment {moment[target.kind]}, amount NUMERIC(9, 2))",
        f"INSERT INTO usage_rows VALUES {rows}",
    )
    return target


def query(target: Target) -> str:
    start, end = (STYLES[target.kind].format(name) for name in ("start", "end"))
    return f"SELECT * FROM usage_rows WHERE moment >= {start} AND moment < {end} ORDER BY id"


def ingest(target: Target, hour: int, **options: Any) -> dict[str, Any]:
    bounds = {"start": f"2026-01-01T{hour}:00:00Z", "end": f"2026-01-01T{hour + 1}:00:00Z"}
    ti = SimpleNamespace(dag_id="d", task_id="ingest", run_id=f"hour {hour}", map_index=-1)
    options = {"mapping": MAPPING, "sql": query(target), **bounds, **options}
    task: Any = PolarIngestEventsOperator(task_id="ingest", sql_conn_id="warehouse", **options)
    return task.execute({"ti": ti})  # type: ignore[no-any-return]


def test_each_hour_is_sent_once(usage: Target, polar_server: LocalPolar, polar_connection: str) -> None:
    assert ingest(usage, 10, key="id")["inserted"] == 10
    assert ingest(usage, 11, key=["id"])["inserted"] == 10
    again = ingest(usage, 10, key="id")
    assert (again["events"], again["inserted"], again["duplicates"]) == (10, 0, 10)
    sent = sorted(polar_server.events(), key=lambda event: event["timestamp"])
    assert [event["metadata"] for event in sent] == [{"amount": n + 0.5} for n in range(20)]
    assert [event["timestamp"] for event in sent[9:11]] == ["2026-01-01T10:09:00Z", "2026-01-01T11:00:00Z"]


def test_a_row_that_changes_is_not_billed_again_and_is_told(
    usage: Target, polar_server: LocalPolar, polar_connection: str, tmp_path: Path
) -> None:
    snapshots: dict[str, Any] = {"key": "id", "snapshot_path": f"file://{tmp_path}/snapshots", "keep_snapshot": True}
    assert ingest(usage, 10, **snapshots)["inserted"] == 10
    execute(usage, "UPDATE usage_rows SET amount = 99 WHERE id = 4", "DELETE FROM usage_rows WHERE id = 5")
    polar_server.clear_requests()
    told = r"1 of 9 rows had other content when an earlier run sent them.*row 5: .*kept-"
    with pytest.raises(AirflowFailException, match=told):
        ingest(usage, 10, **snapshots)
    assert not polar_server.requests
    rejected = tmp_path / "changed.jsonl"
    result = ingest(usage, 10, **snapshots, on_changed="skip", rejected_path=f"file://{rejected}")
    assert (result["inserted"], result["duplicates"], result["rejected"]) == (0, 8, 1)
    assert '"row": 5' in rejected.read_text()
    assert Counter(event["metadata"]["amount"] for event in polar_server.events())[4.5] == 1
    assert polar_server.count() == 10


def test_a_retry_sends_what_the_first_attempt_has_read(
    usage: Target, polar_server: LocalPolar, polar_connection: str, tmp_path: Path
) -> None:
    frozen: dict[str, Any] = {"snapshot_path": f"file://{tmp_path}/snapshots", "batch_size": 3, "max_concurrency": 1}
    polar_server.fail("missing_scope", path="ingest", after=1, times=1)
    with pytest.raises(AirflowFailException, match=r"Fix that and run again.*frozen in file://"):
        ingest(usage, 10, **frozen)
    execute(usage, "UPDATE usage_rows SET amount = amount + 100", "DELETE FROM usage_rows WHERE id < 5")
    result = ingest(usage, 10, **frozen)
    assert (result["inserted"], result["duplicates"]) == (7, 3)
    amounts = sorted(event["metadata"]["amount"] for event in polar_server.events())
    assert amounts == [n + 0.5 for n in range(10)]
    assert list((tmp_path / "snapshots").iterdir()) == []


def test_rows_come_while_the_query_goes_on(usage: Target) -> None:
    columns: list[Any] = []
    check: Callable[..., None] = lambda _file, found, _every: columns.extend(found)  # noqa: E731
    connect = sql_hook("warehouse")[0].get_conn
    rows = rows_of_query(connect, Query(ENDLESS[usage.kind]), "the test's database", check)
    assert [(row.number, row.value) for row in islice(rows, 5000)][-1] == (5000, {"id": 5000})
    assert columns == ["id"]


def test_what_the_database_refuses_is_told_without_values(
    usage: Target, polar_server: LocalPolar, polar_connection: str
) -> None:
    for sql, told in {
        "SELECT * FROM usage_row": "usage_row",
        "SELECT CAST(customer AS nothing) FROM usage_rows": "nothing",
    }.items():
        with pytest.raises((AirflowFailException, PolarSourceUnavailableError), match=f"'warehouse'.*{told}"):
            ingest(usage, 10, sql=sql, key="id", start=None, end=None)
    with pytest.raises(AirflowFailException, match=r"has no column 'ids', which key takes.*did you mean id"):
        ingest(usage, 10, key="ids")
    with pytest.raises(AirflowFailException, match=r"has no column 'customers', which the mapping takes"):
        ingest(usage, 10, key="id", mapping={**MAPPING, "external_customer_id": "customers"})
    assert not polar_server.requests
