"""Events that earlier runs have sent, to tell rows whose key is known and whose value has changed since."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from airflow_provider_polar.engine.ingesting.identity import canonical

_BYTES = 16


class EarlierEvents:
    """Knows of each event what it said when it was sent first; kept on disk.

    :param database: the ingest's temporary one.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._database.execute("CREATE TABLE earlier (id BLOB PRIMARY KEY, content BLOB, told INTEGER) WITHOUT ROWID")
        self._told: list[str] = []

    def add(self, told: str, events: Iterable[bytes]) -> int:
        """Adds events as they were sent, later ones last; how many of them are new.

        :param told: where they are known from, in words.
        """
        self._told.append(told)
        before = self._database.total_changes
        self._database.executemany("INSERT OR IGNORE INTO earlier VALUES (?, ?, ?)", self._rows(events))
        return self._database.total_changes - before

    def _rows(self, events: Iterable[bytes]) -> Iterator[tuple[bytes, bytes, int]]:
        for payload in events:
            event = msgspec.json.decode(payload)
            yield _hash(event["external_id"].encode()), _hash(canonical(event)), len(self._told) - 1

    def other_value(self, event: Mapping[str, Any]) -> str | None:
        """Where an event is known from that has this one's ``external_id`` and other content; None where none is."""
        found = self._database.execute(
            "SELECT content, told FROM earlier WHERE id = ?", (_hash(event["external_id"].encode()),)
        ).fetchone()
        return self._told[found[1]] if found and found[0] != _hash(canonical(event)) else None


def _hash(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:_BYTES]
