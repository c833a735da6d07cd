"""SQLite: moments as text that sorts as time does, JSON as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from airflow_provider_polar.engine.loading.columns import Column
from airflow_provider_polar.engine.loading.database import Database, P, TableFacts
from airflow_provider_polar.engine.loading.tables import TableName

_PATIENCE_MS = 600_000
"""How long a load waits for another one, or for any other writer of the file."""


class Sqlite(Database):
    """SQLite."""

    title = "SQLite"
    types = {
        "text": "TEXT",
        "timestamp": "TEXT",
        "bigint": "INTEGER",
        "double": "REAL",
        "boolean": "BOOLEAN",
        "json": "TEXT",
    }
    accepted = {
        "text": {"varchar", "char", "clob"},
        "timestamp": {"datetime", "timestamp"},
        "bigint": {"bigint", "int"},
        "double": {"double", "double precision", "float"},
        "boolean": {"integer", "bool", "int"},
        "json": {"json", "clob"},
    }
    key_type = "TEXT"
    folds_case = True

    def __init__(self, connection: Any, where: str) -> None:
        super().__init__(connection, where)
        # The driver begins transactions by itself at some statements and not at others.
        connection.isolation_level = None

    def bound(self, value: Any) -> Any:
        if isinstance(value, datetime):
            return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
        return value

    def describe(self, table: TableName) -> TableFacts | None:
        schema = table.parts[-2] if len(table.parts) > 1 else "main"
        rows = self.run(f"SELECT name, type FROM pragma_table_info({P}, {P})", [table.name, schema])
        return TableFacts(TableName((schema, table.name)), dict(rows)) if rows else None

    def create(self, table: TableName, columns: Sequence[Column]) -> None:
        super().create(table, columns)
        index = self.quote(table.beside(f"{table.name}_timestamp"))
        self.run(f"CREATE INDEX {index} ON {self.quote(table.name)} ({self.quote('timestamp')})")

    def hold(self, lock: str, *, wait: bool) -> bool:  # noqa: ARG002
        self.run(f"PRAGMA busy_timeout = {_PATIENCE_MS if wait else 0}")
        try:
            self.run("BEGIN IMMEDIATE")
        except Exception as error:
            if wait or "locked" not in str(error):
                raise
            return False
        finally:
            self.run(f"PRAGMA busy_timeout = {_PATIENCE_MS}")
        return True

    def stage(self, table: TableName, columns: Sequence[Column], rows: Iterable[list[Any]]) -> str:
        # In a transaction of its own, which touches no other file than that of temporary tables.
        self.run("BEGIN")
        stage = super().stage(table, columns, rows)
        self.commit()
        return stage

    def _staged(self, stage: str) -> None:
        self.run(f"CREATE INDEX temp.polar_stage_id ON {stage} ({self.quote('id')})")
