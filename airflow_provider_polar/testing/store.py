"""The events of a local Polar.

As on Polar's server there are two places for an event. `events` holds the rows; `analytics` holds what lists
take ids, order and count from. They can disagree, and a test can make them disagree.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from airflow_provider_polar.testing.analytics import Analytics
from airflow_provider_polar.testing.database import Database
from airflow_provider_polar.testing.directory import Directory
from airflow_provider_polar.testing.times import to_microseconds, to_text

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


class Store:
    """Safe to use from the server's thread and from the test's."""

    def __init__(self, database: Database, directory: Directory) -> None:
        self.directory = directory
        self.database = database
        self.new_id = database.new_id
        self._lock = database.lock
        self._db = database.connection
        self.analytics = Analytics(database)

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
            self.analytics.changed()
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

    def remove(self, ids: Sequence[str], *, index: bool, store: bool) -> None:
        """Take events out of the store or the index, or out of both, until they are restored."""
        self._move(ids, source="", target="removed_", index=index, store=store)

    def restore(self, ids: Sequence[str]) -> None:
        """Give back what was removed of events; raises sqlite3.IntegrityError where their place is taken."""
        self._move(ids, source="removed_", target="", index=True, store=True)

    def _move(self, ids: Sequence[str], *, source: str, target: str, index: bool, store: bool) -> None:
        chosen = "WHERE id IN (SELECT value FROM json_each(?))"
        with self._lock, self._db:
            self._db.execute("BEGIN")
            for table in ("events",) * store + ("analytics",) * index:
                self._db.execute(
                    f"INSERT INTO {target}{table} SELECT * FROM {source}{table} {chosen}", (json.dumps(ids),)
                )
                self._db.execute(f"DELETE FROM {source}{table} {chosen}", (json.dumps(ids),))
            self.analytics.changed()

    def meter_otherwise(
        self, ids: Sequence[str], *, copies: int, customer_id: str | None, external_customer_id: str | None
    ) -> None:
        """Let meters see events `copies` times, and as another customer's if one is given."""
        with self._lock, self._db:
            self._db.execute("BEGIN")
            self._db.execute(
                "DELETE FROM metered_otherwise WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(ids),)
            )
            other = customer_id is not None or external_customer_id is not None
            columns = "?, ?" if other else "customer_id, external_customer_id"
            self._db.execute(
                f"INSERT INTO metered_otherwise SELECT events.id, ?, {columns} FROM events"
                " JOIN json_each(?) WHERE events.id IN (SELECT value FROM json_each(?))",
                (
                    int(copies > 0),
                    *((customer_id, external_customer_id) if other else ()),
                    json.dumps(list(range(max(1, copies)))),
                    json.dumps(ids),
                ),
            )

    # Reading

    def has_new_names(self, organization: str, names: set[str]) -> bool:
        """Whether a name has no event of the organization yet."""
        with self._lock:
            known = self._db.execute(
                "SELECT DISTINCT name FROM events WHERE organization = ? AND name IN (SELECT value FROM json_each(?))",
                (organization, json.dumps(sorted(names))),
            ).fetchall()
            return len(known) < len(names)

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
        match event["metadata"]:
            # The amount is kept as a number, which meters bill, and given as text.
            case {"_cost": {"amount": int() | float() as amount} as cost} if not isinstance(amount, bool):
                cost["amount"] = str(Decimal(str(amount)))
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
