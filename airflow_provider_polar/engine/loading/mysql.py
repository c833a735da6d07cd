"""MySQL and MariaDB: whatever defines a table commits, so all of that comes before the transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from airflow_provider_polar.engine.loading.columns import Column
from airflow_provider_polar.engine.loading.database import Database, P, TableFacts
from airflow_provider_polar.engine.loading.tables import TableName
from airflow_provider_polar.exceptions import PolarTableError

_PATIENCE_S = 3600
"""How long a load waits for another one."""


class MySql(Database):
    """MySQL and MariaDB."""

    title = "MySQL or MariaDB"
    types = {
        "text": "LONGTEXT",
        "timestamp": "DATETIME(6)",
        "bigint": "BIGINT",
        "double": "DOUBLE",
        "boolean": "TINYINT(1)",
        "json": "JSON",
    }
    accepted = {
        "text": {"text", "mediumtext", "varchar"},
        "timestamp": set(),
        "bigint": {"int"},
        "double": set(),
        "boolean": {"tinyint", "smallint", "int"},
        "json": {"longtext", "mediumtext", "text"},
    }
    quote_mark = "`"
    folds_case = True

    def __init__(self, connection: Any, where: str) -> None:
        super().__init__(connection, where)
        self._lock = ""
        # Else a server that is not strict cuts what is too long, in silence.
        self.run("SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')")

    def bound(self, value: Any) -> Any:
        return value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) else value

    def describe(self, table: TableName) -> TableFacts | None:
        schema = table.parts[-2] if len(table.parts) > 1 else None
        rows = self.run(
            "SELECT c.table_schema, c.column_name, c.column_type, t.engine FROM information_schema.columns c "
            "JOIN information_schema.tables t ON t.table_schema = c.table_schema AND t.table_name = c.table_name "
            f"WHERE c.table_schema = coalesce({P}, DATABASE()) AND c.table_name = {P} ORDER BY c.ordinal_position",
            [schema, table.name],
        )
        if not rows:
            return None
        name, engine = TableName((_text(rows[0][0]), table.name)), rows[0][3]
        if engine is not None and _text(engine).lower() != "innodb":
            raise PolarTableError(
                f"the table {name} in {self.where} has the engine {_text(engine)}, which has no transactions, so a "
                f"reader would see part of a window: ALTER TABLE {self.quote(name)} ENGINE = InnoDB"
            )
        return TableFacts(name, {_text(column): _text(type_) for _, column, type_, _ in rows})

    def accepts(self, column: Column, found: str | None) -> bool:
        if column.kind == "timestamp":  # fewer digits would move an event into another window
            return (found or "").lower() == "datetime(6)"
        # An id is in the primary key of the stage, which takes no text without a length.
        return super().accepts(column, found) and (column.name != "id" or (found or "").lower().startswith("varchar"))

    def _create_events(self, table: TableName, defined: list[str]) -> None:
        keys = f"PRIMARY KEY ({self.quote('id')}), INDEX ({self.quote('timestamp')})"
        self.run(
            f"CREATE TABLE {self.quote(table)} ({', '.join(defined)}, {keys}) "
            # Other collations take names that differ in case for one.
            "ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        )

    def hold(self, lock: str, *, wait: bool) -> bool:
        name = f"polar {sha256(lock.encode()).hexdigest()[:32]}"
        # What is read from here on is what others have committed by now.
        self.commit()
        held = self.run(f"SELECT GET_LOCK({P}, {P})", [name, _PATIENCE_S if wait else 0])[0][0]
        if held:
            self._lock = name
        return bool(held)

    def commit(self) -> None:
        super().commit()
        self._release()

    def rollback(self) -> None:
        super().rollback()
        with suppress(Exception):
            self._release()

    def _release(self) -> None:
        name, self._lock = self._lock, ""
        if name:
            self.run(f"SELECT RELEASE_LOCK({P})", [name])

    def stage(self, table: TableName, columns: Sequence[Column], rows: Iterable[list[Any]]) -> str:
        stage = super().stage(table, columns, rows)
        self.commit()
        return stage

    def _new_stage(self, stage: str, like: str) -> None:
        self.run(f"CREATE TEMPORARY TABLE {stage} ENGINE = InnoDB AS {like}")
        self.run(f"ALTER TABLE {stage} ADD INDEX ({self.quote('id')})")

    def _drop_stage(self, stage: str) -> None:
        self.run(f"DROP TEMPORARY TABLE {stage}")


def _text(value: Any) -> str:
    """Some drivers give what information_schema says as bytes."""
    return value.decode() if isinstance(value, (bytes, bytearray)) else str(value)
