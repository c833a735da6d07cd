"""What a watcher tells: windows that hold no event twice, and bursts in one piece."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_polar.engine.waiting.cursor import SeenEvent, WatchCursor
from airflow_provider_polar.engine.waiting.watch import Look
from airflow_provider_polar.engine.waiting.watcher import MOST_PAYLOADS, Watcher, payloads_of
from airflow_provider_polar.engine.window import EventWindow
from tests.unit.engine.listing import Listed

T = datetime(2026, 11, 1, 12, tzinfo=UTC)


def seen(seconds: float, name: str = "order.paid") -> SeenEvent:
    return SeenEvent.of(Listed(T + timedelta(seconds=seconds), name=name).row())


def look(now: float, *rows: SeenEvent) -> Look:
    by_name: dict[str, list[SeenEvent]] = {}
    for row in sorted(rows):
        by_name.setdefault(row.name, []).append(row)
    moment = T + timedelta(seconds=now)
    return Look(by_name, frozenset(), moment, moment - timedelta(minutes=15))


def watcher(min_interval: float = 0, *names: str) -> Watcher:
    cursors = {name: WatchCursor.from_start(T) for name in names or ("order.paid",)}
    return Watcher(cursors, timedelta(seconds=min_interval))


def window(*seconds: float) -> dict[str, str]:
    start, end = (T + timedelta(seconds=second) for second in (seconds[0], seconds[-1]))
    return EventWindow(start, end + timedelta(microseconds=1)).to_dict()


def windows(payloads: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [payload["window"] for payload in payloads]


def test_a_late_event_has_a_window_of_its_own() -> None:
    watching = watcher()
    assert windows(watching.take(look(60, seen(10), seen(30), seen(50)))) == [window(10, 50)]
    late = [seen(20), seen(70), seen(80)]
    payloads = watching.take(look(120, *late))
    assert windows(payloads) == [window(20), window(70, 80)]
    assert [payload["ids"] for payload in payloads] == [[late[0].id], [late[1].id, late[2].id]]
    assert [payload["count"] for payload in payloads] == [1, 2]


def test_events_of_any_watched_name_part_windows() -> None:
    watching = watcher(0, "order.paid", "order.refunded")
    (payload,) = watching.take(look(60, seen(10), seen(30, "order.refunded")))
    assert payload["names"] == {"order.paid": 1, "order.refunded": 1}
    assert windows(watching.take(look(120, seen(20), seen(40)))) == [window(20), window(40)]


def test_events_of_the_same_moment_share_a_window_however_many_come_later() -> None:
    watching = watcher()
    watching.take(look(60, seen(10), seen(10), seen(10.0001)))
    assert windows(watching.take(look(120, seen(10), seen(10)))) == [window(10)]


def test_a_burst_makes_one_payload() -> None:
    watching = watcher(120)
    told = [watching.take(look(now, seen(now - 1), seen(now - 2))) for now in (5, 65, 124)]
    assert told == [[], [], []]
    assert watching.state() == {}
    (payload,) = watching.take(look(125))
    assert (payload["count"], payload["window"]) == (6, window(3, 123))
    assert watching.state().keys() == {"order.paid"}
    assert watching.take(look(500)) == []
    assert watching.take(look(900, seen(880))) == []
    assert windows(watching.take(look(1020))) == [window(880)]


def test_a_payload_stays_small() -> None:
    watching = watcher()
    watching.take(look(60, *[seen(i / 10) for i in range(0, 400, 2)]))
    payloads = watching.take(look(120, *[seen(i / 10) for i in range(1, 400, 2)]))
    assert len(payloads) == MOST_PAYLOADS
    assert sum(payload["count"] for payload in payloads) == 200
    assert max(len(json.dumps(payload)) for payload in payloads) < 5_000


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 60_000_000), max_size=6), max_size=8))
def test_windows_hold_each_event_once(polls: list[list[int]]) -> None:
    """To the microsecond, except among events of one millisecond or where there are too many windows."""
    watching = watcher()
    told: list[datetime] = []
    for number, micros in enumerate(polls):
        rows = [seen(micro / 1e6) for micro in micros]
        payloads = watching.take(look(60 + number, *rows))
        assert sum(payload["count"] for payload in payloads) == len(rows)
        for found in [EventWindow.from_dict(payload["window"]) for payload in payloads]:
            again = [moment for moment in told if moment in found]
            assert not again or found.duration == timedelta(microseconds=1)
        told += [row.timestamp for row in rows]


def test_without_told_events_there_is_one_payload() -> None:
    (payload,) = payloads_of([seen(1), seen(900)])
    assert payload["window"] == window(1, 900)
