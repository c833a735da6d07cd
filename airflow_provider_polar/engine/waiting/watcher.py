"""What a watcher tells of the events that it finds, and when."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from airflow_provider_polar.engine.waiting.cursor import SeenEvent, WatchCursor
from airflow_provider_polar.engine.waiting.watch import Look
from airflow_provider_polar.engine.window import MICROSECOND, EventWindow

SHOWN_IDS = 100
"""Ids in a payload at most."""
MOST_PAYLOADS = 10
"""Payloads at once at most; where new and told events alternate more often, the nearest new ones share a window."""


@dataclass(slots=True)
class Watcher:
    """One watcher: its cursors, and what it has found and not told yet.

    :param cursors: by event name.
    :param min_interval: what is found so long after the first new event is told together with it.
    """

    cursors: dict[str, WatchCursor]
    min_interval: timedelta = timedelta(0)
    _gathered: dict[bytes, SeenEvent] = field(default_factory=dict)
    _first: datetime | None = None

    def take(self, look: Look) -> list[dict[str, Any]]:
        """Takes what a poll found and returns what is to be told of it now: payloads, oldest first, or none."""
        for name, cursor in self.cursors.items():
            for row in cursor.take(look.rows.get(name, ()), look.gone):
                self._gathered[row.key] = row
        payloads: list[dict[str, Any]] = []
        if self._gathered:
            self._first = self._first or look.now
            if look.now - self._first >= self.min_interval:
                payloads = payloads_of(sorted(self._gathered.values()), self._told())
                self._gathered, self._first = {}, None
        for cursor in self.cursors.values():
            cursor.advance(look.since)
        return payloads

    def _told(self) -> list[int]:
        known = (cursor.known.items() for cursor in self.cursors.values())
        return sorted(ms for of_name in known for key, ms in of_name if key not in self._gathered)

    def state(self) -> dict[str, dict[str, Any]]:
        """By name, the cursors that may be stored: none while something is found and not told."""
        if self._gathered:
            return {}
        return {name: cursor.to_dict() for name, cursor in self.cursors.items() if cursor.settled}


def payloads_of(rows: Sequence[SeenEvent], told: Sequence[int] = ()) -> list[dict[str, Any]]:
    """What is told of new events (at least one, oldest first): a payload for each run without a told one in between.

    A payload has their number, their names, the ids of the first, and the smallest window that holds them, to export.

    :param told: milliseconds of the events that were told before, in order.
    """
    gaps = [
        (later.timestamp - earlier.timestamp, place)
        for place, (earlier, later) in enumerate(pairwise(rows), start=1)
        if earlier.timestamp < later.timestamp and bisect_left(told, earlier.ms) < bisect_right(told, later.ms)
    ]
    widest = sorted(gaps, reverse=True)[: MOST_PAYLOADS - 1]
    edges = [0, *sorted(place for _, place in widest), len(rows)]
    return [_payload(rows[start:end]) for start, end in pairwise(edges)]


def _payload(rows: Sequence[SeenEvent]) -> dict[str, Any]:
    return {
        "count": len(rows),
        "names": dict(Counter(row.name for row in rows)),
        "ids": [row.id for row in rows[:SHOWN_IDS]],
        "window": EventWindow(rows[0].timestamp, rows[-1].timestamp + MICROSECOND).to_dict(),
    }
