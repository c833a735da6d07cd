"""The index of a local Polar's events: what lists take ids, order and count from."""

from __future__ import annotations

import time
from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Any

from airflow_provider_polar.testing.database import Database

TIE_ORDERS = 4


@dataclass(frozen=True)
class Selection:
    """What a list selects, as SQL on `analytics`, without the bounds of time."""

    clause: str
    parameters: tuple[Any, ...]


class Analytics:
    """Reads the index. Safe to use from the server's thread and from the test's."""

    def __init__(self, database: Database) -> None:
        self._lock = database.lock
        self._db = database.connection
        self._counted: dict[Selection, int] = {}
        self._moments: dict[Selection, array[int]] = {}

    def changed(self) -> None:
        """To be called when the index has been written."""
        self._counted.clear()
        self._moments.clear()

    def _reveal(self) -> None:
        """Let what is due be seen."""
        due = "visible = 0 AND visible_at <= ?"
        now = time.time()
        if self._db.execute(f"SELECT 1 FROM analytics WHERE {due} LIMIT 1", (now,)).fetchone():
            self._db.execute(f"UPDATE analytics SET visible = 1 WHERE {due}", (now,))
            self.changed()

    def page(
        self,
        selection: Selection,
        *,
        after: int | None,
        before: int | None,
        descending: bool,
        page: int,
        limit: int,
    ) -> list[str]:
        """Ids of one page as the index has them, duplicates included; `after` and `before` are exclusive ms.

        The order is by millisecond alone. Events of one millisecond come in one of several random orders that
        depends on the request, so that pages are not a partition, while a repeated request repeats its response.
        """
        with self._lock:
            self._reveal()
            offset = (page - 1) * limit
            tie = (page + limit + 2 * descending + (after or 0) % 7 + (before or 0) % 5) % TIE_ORDERS
            moments = self._moments.get(selection)
            if moments is not None:
                low, high = _span(moments, after, before)
                if offset >= high - low:
                    return []
                after, before, offset = _seek(
                    moments, low, high, after=after, before=before, descending=descending, offset=offset
                )
            clause, parameters = _bounded(selection, after, before)
            direction = "DESC" if descending else "ASC"
            rows = self._db.execute(
                f"SELECT id FROM analytics JOIN (SELECT rowid AS r, milliseconds AS m, tie{tie} AS t"
                f" FROM analytics WHERE {clause} ORDER BY milliseconds {direction}, tie{tie} LIMIT ? OFFSET ?)"
                f" ON analytics.rowid = r ORDER BY m {direction}, t",
                (*parameters, limit, offset),
            ).fetchall()
            return [row[0] for row in rows]

    def matching(self, selection: Selection, *, after: int | None, before: int | None) -> int:
        """What the index counts between two exclusive bounds in milliseconds, duplicates included."""
        with self._lock:
            self._reveal()
            return self._matching(selection, after, before)

    def _matching(self, selection: Selection, after: int | None, before: int | None) -> int:
        moments = self._moments.get(selection)
        if moments is None:
            # Counting the same selection again and again is what a reader of a large window does.
            self._counted[selection] = times = self._counted.get(selection, 0) + 1
            if times <= 2:
                clause, parameters = _bounded(selection, after, before)
                count: int = self._db.execute(f"SELECT count(*) FROM analytics WHERE {clause}", parameters).fetchone()[
                    0
                ]
                return count
            rows = self._db.execute(
                f"SELECT milliseconds FROM analytics WHERE {selection.clause} ORDER BY milliseconds",
                selection.parameters,
            )
            moments = self._moments[selection] = array("q", (row[0] for row in rows))
        low, high = _span(moments, after, before)
        return max(0, high - low)

    def names(self, selection: Selection) -> list[tuple[str, str, int, int, int]]:
        """(name, source, occurrences, first, last) with moments in milliseconds."""
        with self._lock:
            self._reveal()
            return self._db.execute(
                "SELECT name, source, count(*), min(milliseconds), max(milliseconds) FROM analytics"
                f" WHERE {selection.clause} GROUP BY name, source",
                selection.parameters,
            ).fetchall()

    def has_events_before_1970(self, organization: str) -> bool:
        with self._lock:
            row = self._db.execute(
                "SELECT 1 FROM analytics WHERE organization = ? AND milliseconds < 0 AND visible = 1 LIMIT 1",
                (organization,),
            ).fetchone()
            return row is not None

    def is_visible(self, organization: str, event_id: str) -> bool:
        with self._lock:
            self._reveal()
            row = self._db.execute(
                "SELECT 1 FROM analytics WHERE id = ? AND organization = ? AND visible = 1 LIMIT 1",
                (event_id, organization),
            ).fetchone()
            return row is not None


def _bounded(selection: Selection, after: int | None, before: int | None) -> tuple[str, tuple[Any, ...]]:
    clause, parameters = selection.clause, selection.parameters
    if after is not None:
        clause, parameters = f"{clause} AND milliseconds > ?", (*parameters, after)
    if before is not None:
        clause, parameters = f"{clause} AND milliseconds < ?", (*parameters, before)
    return clause, parameters


def _span(moments: array[int], after: int | None, before: int | None) -> tuple[int, int]:
    low = 0 if after is None else bisect_right(moments, after)
    high = len(moments) if before is None else bisect_left(moments, before)
    return low, high


def _seek(
    moments: array[int], low: int, high: int, *, after: int | None, before: int | None, descending: bool, offset: int
) -> tuple[int | None, int | None, int]:
    """Start at the millisecond that the offset falls into, so that a deep page costs no more than the first.

    The bound is moved and not joined by another one: SQLite would use only one of the two to find its place.
    """
    if descending:
        moment = moments[high - 1 - offset]
        return after, moment + 1, offset - max(0, high - bisect_right(moments, moment))
    moment = moments[low + offset]
    return moment - 1, before, offset - max(0, bisect_left(moments, moment) - low)
