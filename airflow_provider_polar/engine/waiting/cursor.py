"""What one watcher knows of the events of one name: in memory, and as it is stored."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Self

from airflow_provider_polar.api.rows import EventRow, to_ms
from airflow_provider_polar.engine.window import aware, moment_text

KEPT = 4_000
"""Ids that a stored cursor holds at most (43 kB; Airflow warns from 64 kB on). Of older minutes it keeps the number."""
_MINUTE_MS = 60_000
_RECORD = struct.Struct(">H6s")
_VERSION = 2


class SeenEvent(NamedTuple):
    """What a watch keeps of an event while it looks at it.

    :ivar key: a short id; among all that a cursor remembers, two events share one once in ten billion.
    :ivar ms: the timestamp in whole milliseconds since 1970.
    """

    timestamp: datetime
    id: str
    name: str
    key: bytes
    ms: int

    @classmethod
    def of(cls, row: EventRow) -> Self:
        """From a row."""
        return cls(row.timestamp, row.id, str(row.get("name")), cls.key_of(row.id), row.ms)

    @staticmethod
    def key_of(event_id: str) -> bytes:
        """The short id."""
        return hashlib.blake2b(event_id.encode(), digest_size=6).digest()


@dataclass(slots=True)
class WatchCursor:
    """Which events of one name have been delivered, and from where on the next poll looks.

    :param origin: aware; since when events are delivered.
    :param since: aware; from where on the next poll looks.
    :param begun: aware; the first poll passes over what lies before it. None once there was one.
    :param known: short id to millisecond of what is delivered, or passed over, from ``since`` on.
    :param numbers: minute (since 1970) to the number of such events, where their ids were not stored.
    :param sure: False for what was known under other filters: the list may give less of it.
    :param assets: whose events it was stored for.
    :param told: a span of time before ``since`` whose events have been delivered; the next poll passes over them.
    """

    origin: datetime
    since: datetime
    begun: datetime | None = None
    known: dict[bytes, int] = field(default_factory=dict)
    numbers: dict[int, int] = field(default_factory=dict)
    sure: bool = True
    assets: list[str] = field(default_factory=list)
    told: tuple[datetime, datetime] | None = None

    @classmethod
    def beginning(cls, now: datetime, overlap: timedelta) -> Self:
        """For everything from now on, late events included."""
        return cls(origin=now, since=now - overlap, begun=now)

    @classmethod
    def from_start(cls, start: datetime) -> Self:
        """For everything since a moment."""
        return cls(origin=start, since=start)

    def extend(self, start: datetime) -> None:
        """Delivers also what happened between an earlier start and the one so far."""
        if start >= self.origin:
            return
        if self.begun is None:
            self.told = (self.origin, self.since)
        earliest = to_ms(self.origin)
        self.known = {key: ms for key, ms in self.known.items() if ms >= earliest}
        self.numbers = {minute: n for minute, n in self.numbers.items() if minute * _MINUTE_MS >= earliest}
        self.origin = self.since = start
        self.begun = None

    def forget(self) -> None:
        """Delivers again what is known, for it may not have reached everybody."""
        self.known, self.numbers = {}, {}

    @property
    def settled(self) -> bool:
        """Whether nothing that it says is only known from the next poll on, so that it can be stored."""
        return self.sure and self.told is None

    @property
    def certain(self) -> dict[bytes, int]:
        """What of ``known`` a poll may leave unread."""
        return self.known if self.sure and self.begun is None else {}

    def take(self, rows: Sequence[SeenEvent], gone: Collection[bytes] = ()) -> list[SeenEvent]:
        """Makes rows known and returns the new ones.

        A minute of which only the number is known has the same events where the number is the same; it is new as a
        whole where the number has grown.

        :param rows: all events of the name that a poll found beyond those that are certain.
        :param gone: short ids of events that are no longer listed.
        """
        there = Counter(row.ms // _MINUTE_MS for row in rows)
        same = {minute for minute, number in self.numbers.items() if there[minute] <= number}
        new = [row for row in rows if self._is_new(row) and row.ms // _MINUTE_MS not in same]
        self.known = dict(self.certain)
        self.known.update((row.key, row.ms) for row in rows)
        for key in gone:
            self.known.pop(key, None)
        self.numbers, self.begun, self.sure, self.told = {}, None, True, None
        return new

    def _is_new(self, row: SeenEvent) -> bool:
        told = self.told is not None and self.told[0] <= row.timestamp < self.told[1]
        return row.timestamp >= (self.begun or self.since) and row.key not in self.known and not told

    def advance(self, since: datetime) -> None:
        """Looks no further back than this from now on."""
        if since > self.since:
            self.since, earliest = since, to_ms(since)
            self.known = {key: ms for key, ms in self.known.items() if ms >= earliest}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, below 50 kB: the newest minutes with their ids as far as there is room, older ones without."""
        minutes: dict[int, list[bytes]] = {}
        for key, ms in self.known.items():
            minutes.setdefault(ms // _MINUTE_MS, []).append(_RECORD.pack(ms % _MINUTE_MS, key))
        known: dict[str, str | int] = {str(minute): number for minute, number in self.numbers.items()}
        room = KEPT
        for minute in sorted(minutes, reverse=True):
            records = minutes[minute]
            room -= len(records)
            known[str(minute)] = base64.b64encode(b"".join(sorted(records))).decode() if room >= 0 else len(records)
        return {
            "version": _VERSION,
            "origin": moment_text(self.origin),
            "since": moment_text(self.since),
            "begun": None if self.begun is None else moment_text(self.begun),
            "known": known,
        }

    @classmethod
    def from_dict(cls, value: Any) -> Self:
        """The reverse of :meth:`to_dict`.

        :raises ValueError: not a cursor of this version.
        """
        try:
            if value["version"] != _VERSION:
                raise ValueError(f"a cursor of version {value['version']}")
            cursor = cls(
                origin=aware(value["origin"], "origin"),
                since=aware(value["since"], "since"),
                begun=None if value["begun"] is None else aware(value["begun"], "begun"),
                assets=value.get("assets", []),
            )
            for minute, held in value["known"].items():
                if isinstance(held, int):
                    cursor.numbers[int(minute)] = held
                else:
                    for offset, key in _RECORD.iter_unpack(base64.b64decode(held)):
                        cursor.known[key] = int(minute) * _MINUTE_MS + offset
            return cursor
        except (TypeError, KeyError, AttributeError, struct.error) as error:
            raise ValueError(f"not a cursor: {error!r}") from None
