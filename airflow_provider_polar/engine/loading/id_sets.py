"""Sets of event ids on this machine's disk: memory stays flat however many there are."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from airflow_provider_polar.engine.ingesting.journal import temporary_database
from airflow_provider_polar.exceptions import PolarLocalDiskError


class IdSets:
    """Some sets of ids, by their names; a context manager, which leaves nothing behind.

    :param names: of the sets, known to the code only.
    :raises PolarLocalDiskError: this machine's disk is full, from any method; a retry helps once there is room.
    """

    def __init__(self, *names: str) -> None:
        self._database = temporary_database()
        for name in names:
            self._run(f"CREATE TABLE {name} (id TEXT PRIMARY KEY) WITHOUT ROWID")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._database.close()

    def add(self, name: str, ids: Iterable[str]) -> None:
        """Adds ids to a set; one that is there already stays there once."""
        self._run(f"INSERT OR IGNORE INTO {name} VALUES (?)", [(id_,) for id_ in ids])

    def has(self, name: str, id_: str) -> bool:
        """Whether a set has an id."""
        return bool(self._run(f"SELECT 1 FROM {name} WHERE id = ?", (id_,)))

    def size(self, name: str) -> int:
        """How many ids a set has."""
        return int(self._run(f"SELECT count(*) FROM {name}")[0][0])

    def common(self, one: str, other: str) -> int:
        """How many ids two sets share."""
        return int(self._run(f"SELECT count(*) FROM {one} JOIN {other} USING (id)")[0][0])

    def only_in(self, one: str, other: str, limit: int) -> list[str]:
        """Ids that one set has and the other has not, in order.

        :param limit: how many at most.
        """
        rows = self._run(f"SELECT id FROM {one} EXCEPT SELECT id FROM {other} ORDER BY id LIMIT {limit:d}")
        return [id_ for (id_,) in rows]

    def _run(self, sql: str, values: tuple[str, ...] | list[tuple[str]] = ()) -> list[tuple[str]]:
        run = self._database.executemany if isinstance(values, list) else self._database.execute
        try:
            return run(sql, values).fetchall()
        except sqlite3.OperationalError as error:
            raise PolarLocalDiskError(
                f"this machine's disk does not take the ids of a window: {error}. Make room there, or set "
                "SQLITE_TMPDIR to another disk"
            ) from error
