"""DuckDB: rows come by COPY from a file of this machine's own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from airflow_provider_polar.engine.exporting.local_files import using_local_disk
from airflow_provider_polar.engine.loading.columns import Column
from airflow_provider_polar.engine.loading.csv_rows import csv_rows
from airflow_provider_polar.engine.loading.database import Database, P, TableFacts
from airflow_provider_polar.engine.loading.tables import TableName

# Nothing is left to be guessed: an empty cell is null, and text in quotes is text, even if it is empty.
_CSV = """FORMAT csv, HEADER false, AUTO_DETECT false, PARALLEL false, DELIMITER ',', QUOTE '"', ESCAPE '"', NULLSTR '',
    ALLOW_QUOTED_NULLS false"""


class DuckDb(Database):
    """DuckDB. A file of it is open for writing in one process only: another load fails, and its retry helps."""

    title = "DuckDB"
    types = {
        "text": "VARCHAR",
        "timestamp": "TIMESTAMP WITH TIME ZONE",
        "bigint": "BIGINT",
        "double": "DOUBLE",
        "boolean": "BOOLEAN",
        "json": "JSON",
    }
    accepted = {
        "text": set(),
        "timestamp": set(),
        "bigint": {"hugeint"},
        "double": set(),
        "boolean": set(),
        "json": {"varchar"},
    }
    key_type = "VARCHAR"
    folds_case = True

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        # A cursor of DuckDB is another connection, with transactions of its own.
        yield self.connection

    def describe(self, table: TableName) -> TableFacts | None:
        *_, database, schema = (None, None, *table.parts[:-1])
        rows = self.run(
            "SELECT database_name, schema_name, column_name, data_type FROM duckdb_columns() "
            f"WHERE database_name = coalesce({P}, current_database()) "
            f"AND schema_name = coalesce({P}, current_schema()) "
            f"AND lower(table_name) = lower({P}) ORDER BY column_index",
            [database, schema, table.name],
        )
        if not rows:
            return None
        # A database is named by its file, which may move: its name belongs to a table only where it is given.
        name = TableName((*([database] if database else []), rows[0][1], table.name))
        return TableFacts(name, {column: type_ for _, _, column, type_ in rows})

    def _create_events(self, table: TableName, defined: list[str]) -> None:
        # Without a primary key: its index is slow to fill, and refuses an event that is deleted and inserted at once.
        self.run(f"CREATE TABLE {self.quote(table)} ({', '.join(defined)})")

    def hold(self, lock: str, *, wait: bool) -> bool:  # noqa: ARG002
        self.run("BEGIN TRANSACTION")
        return True

    def _fill(self, stage: str, columns: Sequence[Column], rows: list[list[Any]]) -> None:
        with tempfile.TemporaryDirectory(prefix="polar-load-") as folder:
            path = os.path.join(folder, "rows.csv")
            with using_local_disk(folder), open(path, "wb") as file:
                file.write(csv_rows(rows))
            quoted = path.replace("'", "''")
            self.run(f"COPY {stage} ({self.listed(columns)}) FROM '{quoted}' ({_CSV})")
