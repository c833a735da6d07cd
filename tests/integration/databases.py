"""The databases that events are loaded into, each test with a new one: SQLite, DuckDB, PostgreSQL, MariaDB."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_polar.engine.loading.databases import database_of
from airflow_provider_polar.engine.loading.load import Loaded, TableLoad
from airflow_provider_polar.engine.loading.manifests import ExportedWindow
from airflow_provider_polar.engine.loading.tables import TableName
from tests.integration.mariadb import MariaDb
from tests.integration.postgres import Postgres

KINDS = ("sqlite", "duckdb", "postgres", "mariadb")


@dataclass(frozen=True)
class Target:
    """A new database.

    :param connect: to it; the arguments are another user's name.
    :param airflow: its connection, as Airflow's JSON.
    """

    kind: str
    connect: Callable[..., Any]
    airflow: dict[str, Any] = field(default_factory=dict)

    @property
    def quote(self) -> str:
        return "`" if self.kind == "mariadb" else '"'

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a statement, in a transaction of its own."""
        with closing(self.connect()) as connection:
            # A cursor of DuckDB is another connection.
            cursor = connection if self.kind == "duckdb" else connection.cursor()
            cursor.execute(sql.replace('"', self.quote))
            rows = cursor.fetchall() if cursor.description else []
            if self.kind != "duckdb":
                connection.commit()
            return [tuple(row) for row in rows]

    def ids(self, table: str = "events") -> list[str]:
        return [id_ for (id_,) in self.query(f'SELECT "id" FROM {table} ORDER BY "timestamp", "id"')]

    def load(self, *windows: ExportedWindow, table: str = "events", **options: Any) -> list[Loaded]:
        """Loads windows over one connection."""
        with closing(self.connect()) as connection:
            load = TableLoad(database_of(connection, f"the test's {self.kind}"), TableName.parse(table), **options)
            return [load.load(window) for window in windows]

    def use_in_airflow(self, patch: pytest.MonkeyPatch, conn_id: str = "warehouse") -> str:
        """Makes it an Airflow connection."""
        patch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(self.airflow))
        return conn_id


def new_sqlite(folder: Path) -> Target:
    import sqlite3

    path = folder / "warehouse.sqlite"
    return Target("sqlite", lambda: sqlite3.connect(path), {"conn_type": "sqlite", "host": str(path)})


def new_duckdb(folder: Path) -> Target:
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed: nothing is loaded into it here")
    path = folder / "warehouse.duckdb"
    return Target("duckdb", lambda: duckdb.connect(str(path)), {"conn_type": "duckdb", "host": str(path)})


def new_postgres(server: Postgres) -> Target:
    psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed: nothing is loaded into PostgreSQL here")
    name = f"polar_{uuid.uuid4().hex[:12]}"
    server.run(f"CREATE DATABASE {name}")

    def connect(user: str = "tests") -> Any:
        return psycopg.connect(host=server.host, port=server.port, user=user, dbname=name)

    found = {"conn_type": "postgres", "host": server.host, "port": server.port, "login": "tests", "schema": name}
    return Target("postgres", connect, found)


def new_mariadb(server: MariaDb) -> Target:
    driver = pytest.importorskip("pymysql", reason="PyMySQL is not installed: nothing is loaded into MariaDB here")
    name = f"polar_{uuid.uuid4().hex[:12]}"
    server.run(f"CREATE DATABASE {name}")

    def connect(user: str = "tests") -> Any:
        return driver.connect(host=server.host, port=server.port, user=user, database=name, charset="utf8mb4")

    found = {"conn_type": "mysql", "host": server.host, "port": server.port, "login": "tests", "schema": name}
    return Target("mariadb", connect, found)


@pytest.fixture(params=KINDS)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Target:
    """A new database of each kind; those whose server or driver is not installed are skipped, and say so."""
    return new_target(request, request.param, tmp_path)


def new_target(request: pytest.FixtureRequest, kind: str, folder: Path) -> Target:
    """A new database of a kind."""
    if kind in ("sqlite", "duckdb"):
        return {"sqlite": new_sqlite, "duckdb": new_duckdb}[kind](folder)
    server = request.getfixturevalue(kind)
    return new_postgres(server) if kind == "postgres" else new_mariadb(server)
