"""A database as a load uses it: its statements in ANSI SQL, for the others to say what they do otherwise."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

from airflow_provider_polar.engine.loading.columns import Column, Kind
from airflow_provider_polar.engine.loading.failures import telling
from airflow_provider_polar.engine.loading.tables import TableName

P = "\0"
"""Stands in a statement for a parameter: whatever a database writes there, no identifier can have it."""
BATCH_ROWS = 2_000
"""Rows that are held in memory at once, and sent in one statement by some drivers."""
_STAGE = "polar_stage"


@dataclass(frozen=True, slots=True)
class TableFacts:
    """A table that there is.

    :param name: with its schema, whatever the connection's default is.
    :param columns: of each column the type, as the database writes it; None where that cannot be told.
    """

    name: TableName
    columns: Mapping[str, str | None]


class Database:
    """A database through its DB-API connection, which does not commit by itself.

    :param connection: is left open.
    :param where: the database in words, for messages.
    """

    title = "a database that this provider is not tested with, by ANSI SQL"
    types: ClassVar[Mapping[Kind, str]] = {
        "text": "VARCHAR(16000)",
        "timestamp": "TIMESTAMP(6) WITH TIME ZONE",
        "bigint": "BIGINT",
        "double": "DOUBLE PRECISION",
        "boolean": "BOOLEAN",
        "json": "VARCHAR(16000)",
    }
    """What columns are created as."""
    accepted: ClassVar[Mapping[Kind, Collection[str]]] = {}
    """The types that columns of a table that exists may have besides, without their length."""
    key_type: ClassVar[str] = "VARCHAR(255)"
    """What text is created as that stands in a key."""
    quote_mark: ClassVar[str] = '"'
    folds_case: ClassVar[bool] = False
    """Whether columns that differ in case are one."""

    def __init__(self, connection: Any, where: str) -> None:
        self.connection = connection
        self.where = where
        self._has_stage = False
        driver = sys.modules[type(connection).__module__.partition(".")[0]]
        style = getattr(driver, "paramstyle", "qmark")
        self._mark = {"qmark": "?", "format": "%s", "pyformat": "%s"}.get(style)

    # Statements

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        with closing(self.connection.cursor()) as cursor:
            yield cursor

    def run(self, sql: str, parameters: Sequence[Any] = (), most: int | None = None) -> list[tuple[Any, ...]]:
        """Runs a statement; its rows, none where it has none.

        :param most: rows that are taken; None for all.
        """
        with self._cursor() as cursor:
            bound = [self.bound(value) for value in parameters]
            cursor.execute(self._written(sql, len(bound)), *([bound] if bound else []))
            rows = []
            if cursor.description:
                rows = cursor.fetchall() if most is None else cursor.fetchmany(most)
        # Connections may have cursors that give dicts.
        return [tuple(row.values()) if isinstance(row, dict) else tuple(row) for row in rows]

    def _written(self, sql: str, parameters: int) -> str:
        if self._mark is None:
            for number in range(1, parameters + 1):
                sql = sql.replace(P, f":{number}", 1)
        elif self._mark == "%s" and parameters:
            sql = sql.replace("%", "%%")
        return sql.replace(P, self._mark or "")

    def bound(self, value: Any) -> Any:
        """A moment, or whatever else stands in a statement, as the driver takes it."""
        return value

    def quote(self, name: str | TableName) -> str:
        """An identifier, whatever is in it."""
        mark = self.quote_mark
        parts = (name,) if isinstance(name, str) else name.parts
        return ".".join(mark + part.replace(mark, mark * 2) + mark for part in parts)

    def folded(self, name: str) -> str:
        """A column's name as the database compares it."""
        return name.casefold() if self.folds_case else name

    def listed(self, columns: Iterable[Column], of: str = "") -> str:
        """The names of columns, for a statement."""
        return ", ".join(of + self.quote(column.name) for column in columns)

    def telling(self, doing: str, known: Collection[str] = ()) -> Any:
        """Says a database's error in words; see :func:`airflow_provider_polar.engine.loading.failures.telling`."""
        return telling(doing, self.where, known)

    # Tables

    def describe(self, table: TableName) -> TableFacts | None:
        """What a table is, None where there is none."""
        try:
            with self._cursor() as cursor:
                cursor.execute(f"SELECT * FROM {self.quote(table)} WHERE 1 = 0")
                return TableFacts(table, {column[0]: None for column in cursor.description})
        except Exception:  # the errors of drivers have no common class
            with suppress(Exception):
                self.connection.rollback()
            return None

    def accepts(self, column: Column, found: str | None) -> bool:
        """Whether a column of a table that exists holds what it has to, to the last digit."""
        base, own = (text.partition("(")[0].strip().lower() for text in (found or "", self.types[column.kind]))
        return found is None or base == own or base in self.accepted[column.kind]

    def type_of(self, column: Column) -> str:
        """The type that a column is created with."""
        return self.key_type if column.name == "id" and not column.of_metadata else self.types[column.kind]

    def create(self, table: TableName, columns: Sequence[Column]) -> None:
        """Creates a table of events, with what finds a window's events fast."""
        defined = [
            f"{self.quote(column.name)} {self.type_of(column)}{' NOT NULL' if column.required else ''}"
            for column in columns
        ]
        self._create_events(table, defined)

    def _create_events(self, table: TableName, defined: list[str]) -> None:
        self.run(
            f"CREATE TABLE {self.quote(table)} ({', '.join([*defined, 'PRIMARY KEY (' + self.quote('id') + ')'])})"
        )

    # Transactions

    def hold(self, lock: str, *, wait: bool) -> bool:  # noqa: ARG002
        """Begins the transaction that changes a table, and holds other loads of it off.

        Here, nothing does: of two loads at once the unique key of ``polar_loads`` lets one commit.

        :param lock: what is held, the table's full name.
        :param wait: for whoever holds it now.
        :returns: whether it is held.
        """
        return True

    def commit(self) -> None:
        """Ends the transaction."""
        self.connection.commit()

    def rollback(self) -> None:
        """Takes the transaction back, wherever it was; what fails then is no news."""
        with suppress(Exception):
            self.connection.rollback()

    # Staging

    def stage(self, table: TableName, columns: Sequence[Column], rows: Iterable[list[Any]]) -> str:
        """Puts rows into a table of this session's own; its name for statements.

        :param table: where they will go: the columns of the stage have its types.
        """
        stage, of = self.quote(_STAGE), self.quote(table)
        self._new_stage(stage, f"SELECT {self.listed(columns)} FROM {of} WHERE 1 = 0")
        self._has_stage = True
        rest = iter(rows)
        while batch := list(islice(rest, BATCH_ROWS)):
            self._fill(stage, columns, batch)
        self._staged(stage)
        return stage

    def _new_stage(self, stage: str, like: str) -> None:
        self.run(f"CREATE TEMPORARY TABLE {stage} AS {like}")

    def _fill(self, stage: str, columns: Sequence[Column], rows: list[list[Any]]) -> None:
        marks = ", ".join([P] * len(columns))
        insert = f"INSERT INTO {stage} ({self.listed(columns)}) VALUES ({marks})"
        moments = [number for number, column in enumerate(columns) if column.kind == "timestamp"]
        for row in rows:
            for number in moments:
                row[number] = self.bound(row[number])
        with self._cursor() as cursor:
            cursor.executemany(self._written(insert, len(columns)), rows)

    def _staged(self, stage: str) -> None:
        """Readies the stage, once it is filled."""

    def unstage(self) -> None:
        """Drops the stage, if there is one; at the latest it goes with the session."""
        has_stage, self._has_stage = self._has_stage, False
        if has_stage:
            with suppress(Exception):
                self._drop_stage(self.quote(_STAGE))

    def _drop_stage(self, stage: str) -> None:
        self.run(f"DROP TABLE {stage}")
