"""Watching for named events: which ones are new since the last poll. Plain decisions without I/O.

Every poll looks back over an overlap, because an event may become listable long after its timestamp, and tells new
events from known ones by their ids. It requests the newest page first: mostly that is the only request. Where the
page does not hold all, Polar's count says whether anything beyond it has changed (events are never deleted), and
only then is the overlap read completely.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Self

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.api.limits import MAX_LIMIT
from airflow_provider_polar.api.rows import EventRow, from_ms, to_ms
from airflow_provider_polar.engine.drive import Steps
from airflow_provider_polar.engine.reading.forward import read_slice
from airflow_provider_polar.engine.reading.queries import Query
from airflow_provider_polar.engine.window import MICROSECOND, EventWindow, aware, moment_text
from airflow_provider_polar.exceptions import PolarConfigurationError

CELL_MS = 60_000
"""Known events are kept by the minute of their timestamp."""
REMEMBERED = 4_000
"""Ids that a stored cursor holds at most (32 kB); of older minutes it then keeps the number only, and a minute whose
number grows is delivered again as a whole."""
SHOWN_IDS = 100
"""Ids in a payload at most."""
_DOUBTS = 5
"""Polls that read everything again where Polar counted more than it gave."""
_ID_CHARS = 8
_VERSION = 1


class SeenEvent(NamedTuple):
    """What a watch keeps of an event while it looks at it.

    :ivar key: a short id; among all that a cursor remembers, two events share one once in ten billion.
    :ivar minute: of its timestamp, since 1970.
    """

    timestamp: datetime
    id: str
    name: str
    key: str
    minute: int

    @classmethod
    def of(cls, row: EventRow) -> Self:
        """From a row."""
        key = base64.urlsafe_b64encode(hashlib.blake2b(row.id.encode(), digest_size=6).digest()).decode()
        return cls(row.timestamp, row.id, str(row.get("name")), key, row.ms // CELL_MS)


@dataclass(slots=True)
class WatchCursor:
    """What has been delivered, and from where the next poll looks.

    :param since: aware; events before it are never delivered.
    :param anchor: the minute (since 1970) from which the next poll looks.
    :param known: by minute the short ids of its events, or their number where that is all that was kept.
    :param counted: what Polar counted from the anchor on when everything there was known; None where nothing was.
    :param doubts: polls to come that read everything again.
    """

    since: datetime
    anchor: int
    known: dict[int, set[str] | int] = field(default_factory=dict)
    counted: int | None = None
    doubts: int = 0

    @classmethod
    def beginning(cls, since: datetime) -> Self:
        """Nothing delivered yet, everything from ``since`` to come."""
        return cls(since, to_ms(since) // CELL_MS)

    @property
    def moment(self) -> datetime:
        """From when on the next poll looks."""
        return from_ms(self.anchor * CELL_MS)

    @property
    def exact(self) -> bool:
        """Whether every known event is known by its id."""
        return all(isinstance(cell, set) for cell in self.known.values())

    def is_new(self, row: SeenEvent) -> bool:
        """Whether a row is certainly not known. What lies in a minute kept as a number is not certain."""
        cell = self.known.get(row.minute)
        return cell is None or (isinstance(cell, set) and row.key not in cell)

    def learn(self, rows: Sequence[SeenEvent]) -> list[SeenEvent]:
        """Makes known all rows that there are from the anchor on, and returns the new ones.

        A minute kept as a number has the same events where the number is the same, for events are never deleted; it
        is new as a whole where the number has grown.
        """
        there = Counter(row.minute for row in rows)
        numbers = {minute: cell for minute, cell in self.known.items() if isinstance(cell, int)}
        new = [r for r in rows if self.is_new(r) or there[m := r.minute] > numbers.get(m, there[m])]
        for minute, number in numbers.items():
            if there[minute] >= number:
                self.known[minute] = set()
        self.add(rows)
        return new

    def add(self, rows: Iterable[SeenEvent]) -> None:
        """Makes rows known by their ids."""
        for row in rows:
            cell = self.known.setdefault(row.minute, set())
            if isinstance(cell, set):
                cell.add(row.key)

    def advance(self, anchor: int) -> None:
        """Looks no further back than this minute from now on."""
        if anchor <= self.anchor:
            return
        self.anchor = anchor
        for minute in [minute for minute in self.known if minute < anchor]:
            cell = self.known.pop(minute)
            if self.counted is not None:
                self.counted -= len(cell) if isinstance(cell, set) else cell

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, at most about 50 kB: the newest minutes with their ids, older ones as far as there is room."""
        known: dict[str, str | int] = {}
        room = REMEMBERED
        for minute in sorted(self.known, reverse=True):
            cell = self.known[minute]
            if isinstance(cell, set) and len(cell) <= room:
                known[str(minute)] = "".join(sorted(cell))
                room -= len(cell)
            else:
                known[str(minute)] = len(cell) if isinstance(cell, set) else cell
        return {
            "version": _VERSION,
            "since": moment_text(self.since),
            "anchor": moment_text(self.moment),
            "known": known,
            "counted": self.counted,
            "doubts": self.doubts,
        }

    @classmethod
    def from_dict(cls, value: Any) -> Self:
        """The reverse of :meth:`to_dict`.

        :raises ValueError: not a cursor of this version.
        """
        try:
            if value["version"] != _VERSION:
                raise ValueError(f"a cursor of version {value['version']}")
            known: dict[int, set[str] | int] = {}
            for minute, cell in value["known"].items():
                known[int(minute)] = cell if isinstance(cell, int) else set(_cut(cell))
            return cls(
                since=aware(value["since"], "since"),
                anchor=to_ms(aware(value["anchor"], "anchor")) // CELL_MS,
                known=known,
                counted=value["counted"],
                doubts=value["doubts"],
            )
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not a cursor: {error!r}") from None


@dataclass(frozen=True, slots=True)
class Watch:
    """Which events are watched for.

    :param names: event names.
    :param filters: what else they must meet; its ``name`` must be empty.
    :param overlap: how long after its timestamp an event may become listable and still be found.
    """

    names: tuple[str, ...]
    filters: EventFilters
    overlap: timedelta

    def __post_init__(self) -> None:
        if not self.names:
            raise PolarConfigurationError("event_name is empty: name one event or several.")
        if self.filters.name is not None:
            raise PolarConfigurationError(
                f"filters names events too ({', '.join(self.filters.name)}): name them in event_name only."
            )
        if self.overlap < timedelta(0):
            raise PolarConfigurationError(f"overlap is {self.overlap}; it cannot be negative.")

    def poll(self, cursor: WatchCursor, now: datetime) -> Steps[list[SeenEvent]]:
        """One poll: the new events, oldest first.

        The cursor changes only at the end of a poll, so one that fails is simply made again.

        :param now: aware; when the poll begins.
        """
        filters = self.filters.model_copy(update={"name": list(self.names)})
        anchor = cursor.moment
        page = yield Query.since(anchor, filters).request(sorting="-timestamp")
        rows = sorted({SeenEvent.of(row) for row in page.rows if row.timestamp >= anchor})
        fresh = [row for row in rows if cursor.is_new(row)]
        counted, doubts = page.total_count, 0
        if counted <= MAX_LIMIT:
            new = cursor.learn(rows)
        elif cursor.exact and not cursor.doubts and counted - (cursor.counted or 0) == len(fresh):
            cursor.add(fresh)
            new = fresh
        else:
            latest = max([now, *(row.timestamp for row in rows)])
            rows = []
            report = yield from read_slice(
                EventWindow(anchor, latest + timedelta(seconds=1)),
                filters,
                lambda more, _: rows.extend(map(SeenEvent.of, more)),
            )
            new, counted = cursor.learn(rows), report.counted
            if not report.proved:
                doubts = cursor.doubts - 1 if cursor.doubts else _DOUBTS
        cursor.counted, cursor.doubts = counted, doubts
        cursor.advance(self._anchor(now))
        return [row for row in new if row.timestamp >= cursor.since]

    def beginning(self, now: datetime) -> WatchCursor:
        """A cursor that looks back over the overlap: what a first poll with it returns was there before."""
        return WatchCursor.beginning(now - self.overlap)

    def take(self, cursor: WatchCursor, rows: Sequence[SeenEvent], now: datetime) -> list[SeenEvent]:
        """The new ones of rows that somebody else has read, oldest first; they are known from now on.

        :param rows: perhaps of other names too, but of the same filters.
        """
        new = [row for row in rows if row.minute >= cursor.anchor and cursor.is_new(row) and row.name in self.names]
        cursor.add(new)
        cursor.counted = None if cursor.counted is None else cursor.counted + len(new)
        cursor.advance(self._anchor(now))
        return [row for row in new if row.timestamp >= cursor.since]

    def _anchor(self, now: datetime) -> int:
        return to_ms(now - self.overlap) // CELL_MS


def payload_of(rows: Sequence[SeenEvent]) -> dict[str, Any]:
    """What is told of new events (at least one, oldest first).

    Their number, their names, the ids of the first, and the smallest window that holds them, to export."""
    return {
        "count": len(rows),
        "names": dict(Counter(row.name for row in rows)),
        "ids": [row.id for row in rows[:SHOWN_IDS]],
        "window": EventWindow(rows[0].timestamp, rows[-1].timestamp + MICROSECOND).to_dict(),
    }


def _cut(text: str) -> list[str]:
    return [text[i : i + _ID_CHARS] for i in range(0, len(text), _ID_CHARS)]
