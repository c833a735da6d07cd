"""The events of a local Polar.

As on Polar's server there are two places for an event. `events` holds the rows; `analytics` holds what lists
take ids, order and count from. They can disagree, and a test can make them disagree.
"""

from __future__ import annotations

import json
import random
import time
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_polar.testing.database import Database
from airflow_provider_polar.testing.directory import Directory
from airflow_provider_polar.testing.times import to_microseconds, to_text

TIE_ORDERS = 4
Lag = float | tuple[float, float]
"""Seconds until lists show an event; a pair lets a batch be seen one by one, from the one to the other."""

_INSERT_EVENT = "INSERT INTO events VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"
_INSERT_ANALYTICS = (
    "INSERT INTO analytics VALUES (?,?,?, random() & 2147483647, random() & 2147483647,"
    " random() & 2147483647, random() & 2147483647, ?,?,?,?,?,?,?,?)"
)


@dataclass
class NewEvent:
    """One event on its way into the store; `parent` is a Polar id or an external id, as the sender wrote it."""

    name: str
    microseconds: int
    id: str
    source: str = "user"
    customer_id: str | None = None
    external_customer_id: str | None = None
    member_id: str | None = None
    external_member_id: str | None = None
    external_id: str | None = None
    parent: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Selection:
    """What a list selects, as SQL on `analytics`, without the bounds of time."""

    clause: str
    parameters: tuple[Any, ...]


class Store:
    """Safe to use from the server's thread and from the test's."""

    def __init__(self, database: Database, directory: Directory) -> None:
        self.directory = directory
        self.new_id = database.new_id
        self._lock = database.lock
        self._db = database.connection
        self._counted: dict[Selection, int] = {}
        self._moments: dict[Selection, array[int]] = {}

    # Writing

    def known_external_ids(self, organization: str, external_ids: Sequence[str]) -> set[str]:
        with self._lock:
            rows = self._db.execute(
                "SELECT external_id FROM events WHERE organization = ?"
                " AND external_id IN (SELECT value FROM json_each(?))",
                (organization, json.dumps(external_ids)),
            )
            return {row[0] for row in rows}

    def add(
        self,
        organization: str,
        events: Iterable[NewEvent],
        *,
        visible_after: Lag = 0.0,
        index: bool = True,
        store: bool = True,
        copies: int = 1,
    ) -> list[str]:
        """Put events into the store and, `copies` times, into the index, seen after `visible_after` seconds."""
        earliest, latest = visible_after if isinstance(visible_after, tuple) else (visible_after,) * 2
        now = time.time()
        ids: list[str] = []
        with self._lock:
            self._db.execute("BEGIN")
            try:
                events = list(events)
                parents = self._resolve(organization, events)
                rows: list[tuple[Any, ...]] = []
                index_rows: list[tuple[Any, ...]] = []
                for event in events:
                    parent_id = parents.get(event.parent) if event.parent else None
                    waits = event.parent is not None and parent_id is None
                    metadata = json.dumps(event.metadata, ensure_ascii=False)
                    ids.append(event.id)
                    if store:
                        rows.append(
                            (
                                event.id,
                                organization,
                                event.microseconds,
                                event.name,
                                event.source,
                                event.customer_id,
                                event.external_customer_id,
                                event.member_id,
                                event.external_member_id,
                                event.external_id,
                                event.parent,
                                parent_id,
                                metadata,
                            )
                        )
                    if index:
                        index_row = (
                            event.id,
                            organization,
                            event.microseconds // 1000,
                            int(latest <= 0 and not waits),
                            None if waits else now + random.uniform(earliest, latest),
                            event.name,
                            event.source,
                            event.customer_id,
                            event.external_customer_id,
                            parent_id,
                            metadata,
                        )
                        index_rows.extend([index_row] * copies)
                self._db.executemany(_INSERT_EVENT, rows)
                self._db.executemany(_INSERT_ANALYTICS, index_rows)
                self._adopt(organization, now + latest)
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._changed()
        return ids

    def _resolve(self, organization: str, events: Sequence[NewEvent]) -> dict[str, str]:
        """Polar ids of the parents that are known, by the name that the sender gave them."""
        wanted = {event.parent for event in events if event.parent}
        if not wanted:
            return {}
        known: dict[str, str] = {}
        rows = self._db.execute(
            "WITH wanted AS (SELECT value FROM json_each(?1))"
            " SELECT id, external_id FROM events WHERE organization = ?2 AND id IN wanted"
            " UNION SELECT id, external_id FROM events WHERE organization = ?2 AND external_id IN wanted",
            (json.dumps(sorted(wanted)), organization),
        )
        for event_id, external_id in [*rows, *((event.id, event.external_id) for event in events)]:
            known[event_id] = event_id
            if external_id is not None:
                known.setdefault(external_id, event_id)
        return {parent: known[parent] for parent in wanted if parent in known}

    def _adopt(self, organization: str, visible_at: float) -> None:
        """Give waiting events the parents that have arrived; from then on they are on their way to be seen."""
        orphans = self._db.execute(
            "SELECT child.id, parent.id FROM events child JOIN events parent"
            " ON parent.organization = child.organization"
            " AND (parent.id = child.parent OR parent.external_id = child.parent)"
            " WHERE child.organization = ? AND child.parent IS NOT NULL AND child.parent_id IS NULL",
            (organization,),
        ).fetchall()
        for child, parent in orphans:
            self._db.execute("UPDATE events SET parent_id = ? WHERE id = ?", (parent, child))
            self._db.execute(
                "UPDATE analytics SET parent_id = ?, visible_at = ? WHERE id = ?", (parent, visible_at, child)
            )

    def _changed(self) -> None:
        self._counted.clear()
        self._moments.clear()

    def _reveal(self) -> None:
        """Let what is due be seen."""
        due = "visible = 0 AND visible_at <= ?"
        now = time.time()
        if self._db.execute(f"SELECT 1 FROM analytics WHERE {due} LIMIT 1", (now,)).fetchone():
            self._db.execute(f"UPDATE analytics SET visible = 1 WHERE {due}", (now,))
            self._changed()

    # Reading

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

    def has_new_names(self, organization: str, names: set[str]) -> bool:
        """Whether a name has no event of the organization yet."""
        with self._lock:
            known = self._db.execute(
                "SELECT DISTINCT name FROM events WHERE organization = ? AND name IN (SELECT value FROM json_each(?))",
                (organization, json.dumps(sorted(names))),
            ).fetchall()
            return len(known) < len(names)

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

    def count(self, organization: str) -> int:
        with self._lock:
            row = self._db.execute("SELECT count(*) FROM events WHERE organization = ?", (organization,)).fetchone()
            return int(row[0])

    def rows(self, organization: str, ids: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
        """Stored events by id as the API writes them; all of an organization's by (timestamp, id) without `ids`."""
        columns = (
            "id, microseconds, organization, customer_id, external_customer_id, member_id, external_member_id,"
            " parent_id, name, source, metadata"
        )
        with self._lock:
            if ids is None:
                chosen = "ORDER BY microseconds, id"
                parameters: tuple[str, ...] = (organization,)
            else:
                chosen = "AND id IN (SELECT value FROM json_each(?))"
                parameters = (organization, json.dumps(ids))
            rows = self._db.execute(f"SELECT {columns} FROM events WHERE organization = ? {chosen}", parameters)
            events = {row[0]: self._render(row) for row in rows.fetchall()}
            if ids is None:
                children = self._db.execute(
                    "SELECT parent_id, count(*) FROM events WHERE parent_id IS NOT NULL GROUP BY parent_id"
                )
            else:
                children = self._db.execute(
                    "SELECT parent_id, count(*) FROM events WHERE parent_id IS NOT NULL"
                    " AND parent_id IN (SELECT value FROM json_each(?)) GROUP BY parent_id",
                    (json.dumps(ids),),
                )
            for parent_id, count in children:
                if parent_id in events:
                    events[parent_id]["child_count"] = count
            return events

    def external_ids(self, organization: str) -> dict[str, str]:
        """The external ids of stored events by Polar id."""
        with self._lock:
            return dict(
                self._db.execute(
                    "SELECT id, external_id FROM events WHERE organization = ? AND external_id IS NOT NULL",
                    (organization,),
                ).fetchall()
            )

    def _render(self, row: tuple[Any, ...]) -> dict[str, Any]:
        (event_id, microseconds, organization, customer_id, external, member, external_member, parent) = row[:8]
        name, source, metadata = row[8:]
        event: dict[str, Any] = {
            "id": event_id,
            "timestamp": to_text(microseconds),
            "organization_id": organization,
            "customer_id": customer_id,
            "customer": self.directory.customer_of(organization, customer_id, external),
            "external_customer_id": external,
            "member_id": member,
            "external_member_id": external_member,
            "child_count": 0,
            "parent_id": parent,
            "label": label(name, source),
        }
        # Polar writes the two in this order for its own events and in the other for a user's.
        event |= {"source": source, "name": name} if source == "system" else {"name": name, "source": source}
        event["metadata"] = json.loads(metadata)
        return event


def label(name: str, source: str) -> str:
    """The label of an event: its name, in words for Polar's own events."""
    return name.replace(".", " ").replace("_", " ").title() if source == "system" else name


def new_event(store: Store, fields: Mapping[str, Any]) -> NewEvent:
    """An event from a plain dict, nothing validated; raises TypeError for a field that is not known."""
    fields = dict(fields)
    moment = fields.pop("timestamp", None)
    return NewEvent(
        microseconds=time.time_ns() // 1000 if moment is None else to_microseconds(moment),
        id=str(fields.pop("id", None) or store.new_id()),
        parent=fields.pop("parent_id", None),
        metadata=dict(fields.pop("metadata", None) or {}),
        **fields,
    )


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
