"""PostgreSQL, by psycopg 3 or psycopg2: rows come by COPY, in the one transaction."""

from __future__ import annotations

import io
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from airflow_provider_polar.engine.loading.columns import Column
from airflow_provider_polar.engine.loading.csv_rows import csv_rows
from airflow_provider_polar.engine.loading.database import Database, P, TableFacts
from airflow_provider_polar.engine.loading.tables import TableName


class Postgres(Database):
    """PostgreSQL."""

    title = "PostgreSQL"
    types = {
        "text": "text",
        "timestamp": "timestamp with time zone",
        "bigint": "bigint",
        "double": "double precision",
        "boolean": "boolean",
        "json": "jsonb",
    }
    accepted = {
        "text": {"character varying"},
        "timestamp": set(),
        "bigint": {"integer", "numeric"},
        "double": {"numeric"},
        "boolean": set(),
        "json": {"json", "text"},
    }
    key_type = "text"

    def __init__(self, connection: Any, where: str) -> None:
        super().__init__(connection, where)
        # Stricter ones would not see, after the wait for another load, what that has committed.
        self.run("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED")
        self.commit()

    def describe(self, table: TableName) -> TableFacts | None:
        rows = self.run(
            "SELECT n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod) AS type FROM pg_class c "
            "JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid "
            f"WHERE c.oid = to_regclass({P}) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            [self.quote(table)],
        )
        if not rows:
            return None
        return TableFacts(TableName((rows[0][0], rows[0][1])), {column: type_ for _, _, column, type_ in rows})

    def accepts(self, column: Column, found: str | None) -> bool:
        # A length refuses what is longer; a precision would round it in silence.
        base = (found or "").partition("(")[0] if (found or "").startswith("character varying") else found or ""
        is_id = column.name == "id" and base == "uuid"
        return base == self.types[column.kind] or base in self.accepted[column.kind] or is_id

    def create(self, table: TableName, columns: Sequence[Column]) -> None:
        super().create(table, columns)
        self.run(f"CREATE INDEX ON {self.quote(table)} ({self.quote('timestamp')})")

    def hold(self, lock: str, *, wait: bool) -> bool:
        key = int.from_bytes(sha256(lock.encode()).digest()[:8], signed=True)
        if wait:
            self.run(f"SELECT pg_advisory_xact_lock({P})", [key])
            return True
        return bool(self.run(f"SELECT pg_try_advisory_xact_lock({P})", [key])[0][0])

    def _new_stage(self, stage: str, like: str) -> None:
        self.run(f"CREATE TEMPORARY TABLE {stage} ON COMMIT DROP AS {like}")

    def _fill(self, stage: str, columns: Sequence[Column], rows: list[list[Any]]) -> None:
        copy, content = f"COPY {stage} ({self.listed(columns)}) FROM STDIN (FORMAT csv)", csv_rows(rows)
        with self._cursor() as cursor:
            if hasattr(cursor, "copy_expert"):  # psycopg2
                cursor.copy_expert(copy, io.BytesIO(content))
                return
            with cursor.copy(copy) as stream:
                stream.write(content)

    def _staged(self, stage: str) -> None:
        # Without statistics the merge may choose a plan that is quadratic.
        self.run(f"ANALYZE {stage}")

    def _drop_stage(self, stage: str) -> None:
        """It has gone with the transaction."""
