"""The journal of an ingest: one temporary database of the events on their way, cut into batches as they come."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from airflow_provider_polar.api.limits import MAX_BODY_BYTES
from airflow_provider_polar.engine.ingesting.places import Place

_ENVELOPE_BYTES = len(b'{"events":[]}')
MAX_EVENT_BYTES = MAX_BODY_BYTES - _ENVELOPE_BYTES
"""Bytes of one event as JSON at most: a request that holds nothing else is full."""
CHILD_OF_REJECTED = "is an event of this run that is rejected itself"


class EncodedEvent(NamedTuple):
    """One event: where its row is, and the event as it is sent."""

    place: Place
    payload: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """The events of one request.

    :param number: position among the batches of the run, from 0.
    :param first: number of its first event in the journal, from 1.
    :param events: how many events.
    :param generation: 0, or 1 for events whose parents are in generation 0, and so on.
    """

    number: int
    first: int
    events: int
    generation: int = 0


def temporary_database() -> sqlite3.Connection:
    """Opens a database that spills to a file without a name: nothing is left behind, however the process ends."""
    database = sqlite3.connect("", isolation_level=None)
    database.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -32000; BEGIN;")
    return database


class Journal:
    """Keeps the events on their way: written once and read batch by batch, also while it is written.

    Which events share a batch depends only on the events, their order and the sizes. Not thread-safe.

    :param batch_size: events of a batch at most.
    :param max_bytes: bytes of a request's body at most.
    """

    def __init__(self, batch_size: int, max_bytes: int = MAX_BODY_BYTES) -> None:
        self._batch_size, self._max_bytes = batch_size, max_bytes
        self.database = temporary_database()
        self.database.execute("CREATE TABLE events (n INTEGER PRIMARY KEY, place INTEGER, payload BLOB)")
        self.database.execute(
            "CREATE TABLE held (n INTEGER PRIMARY KEY, id TEXT, parent TEXT, place INTEGER, payload BLOB)"
        )
        self._digest = hashlib.sha256(str(batch_size).encode())
        self._open: list[EncodedEvent] = []
        self._body = _ENVELOPE_BYTES - 1
        self._generation = self.events = 0
        self.batches: list[Batch] = []

    def close(self) -> None:
        """Forgets everything."""
        self.database.close()

    def add(self, event: EncodedEvent, generation: int = 0) -> Batch | None:
        """Appends one event; the batch that is complete by that, if there is one.

        :param generation: of the event; not less than of those before it, unless it is 0.
        """
        if generation > self._generation:
            self.cut()
            self._generation = generation
        size = len(event.payload) + 1
        is_full = len(self._open) >= self._batch_size or self._body + size > self._max_bytes
        complete = self.cut() if is_full else None
        self._open.append(event)
        self._body += size
        self.events += 1
        return complete

    def cut(self) -> Batch | None:
        """Ends the open batch, if there is one, and gives it."""
        if not self._open:
            return None
        first = self.batches[-1].first + self.batches[-1].events if self.batches else 1
        batch = Batch(len(self.batches), first, len(self._open), self._generation)
        self.batches.append(batch)
        self.database.executemany("INSERT INTO events VALUES (NULL, ?, ?)", self._open)
        self._digest.update(b"\n".join([event.payload for event in self._open]) + b"\n\n")
        self._open, self._body = [], _ENVELOPE_BYTES - 1
        return batch

    @property
    def digest(self) -> str:
        """Equal for the same events in the same order and the same batches."""
        return self._digest.hexdigest()

    def read(self, batch: Batch) -> list[EncodedEvent]:
        """The events of one batch."""
        rows = self.database.execute(
            "SELECT place, payload FROM events WHERE n >= ? ORDER BY n LIMIT ?", (batch.first, batch.events)
        )
        return list(map(EncodedEvent._make, rows))

    def hold(self, event: EncodedEvent, external_id: str, parent: str | None) -> None:
        """Holds one event back until everything is read: a child, or one whose id a later row may claim."""
        self.database.execute("INSERT INTO held VALUES (NULL, ?, ?, ?, ?)", (external_id, parent, *event))

    def release(self, missing: Mapping[str, str]) -> Iterator[tuple[EncodedEvent, str]]:
        """Appends the events held back and ends the last batch; gives the orphans, each with its reason.

        Parents come before children, in batches of an earlier generation; events whose parents are in a circle come in
        the order of their rows.

        :param missing: parents that are not there, with the reason.
        """
        self.database.execute("CREATE TABLE missing (parent TEXT PRIMARY KEY, reason TEXT) WITHOUT ROWID")
        self.database.executemany("INSERT INTO missing VALUES (?, ?)", missing.items())
        self.database.execute("CREATE INDEX by_parent ON held (parent) WHERE parent IS NOT NULL")
        self.database.execute("CREATE INDEX by_id ON held (id)")
        for *event, generation, reason in self.database.execute(
            """
            WITH RECURSIVE tree (n, id, generation, reason) AS (
                SELECT n, id, 0, (SELECT reason FROM missing WHERE missing.parent = held.parent) FROM held
                WHERE parent IS NULL OR parent NOT IN (SELECT id FROM held)
                UNION ALL
                SELECT held.n, held.id, generation + 1, iif(reason IS NULL, NULL, ?)
                FROM tree JOIN held ON held.parent = tree.id
            )
            SELECT place, payload, coalesce(generation, 0), reason
            FROM held LEFT JOIN tree USING (n) ORDER BY 3, held.n
            """,
            (CHILD_OF_REJECTED,),
        ):
            if reason is not None:
                yield EncodedEvent(*event), reason
                continue
            self.add(EncodedEvent(*event), generation)
        self.cut()
