"""Watching: nothing missed and nothing twice, through late events, bursts and restarts."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.api.rows import RowPage
from airflow_provider_polar.engine.drive import drive
from airflow_provider_polar.engine.waiting import watch as watching
from airflow_provider_polar.engine.waiting.watch import SeenEvent, Watch, WatchCursor, payload_of
from airflow_provider_polar.exceptions import PolarConfigurationError
from tests.unit.engine.listing import Client, Listed, Listing

T = datetime(2026, 11, 1, 12, tzinfo=UTC)
OVERLAP = timedelta(minutes=15)
PAID = Watch(("order.paid",), EventFilters(), OVERLAP)


def seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


def restarted(cursor: WatchCursor) -> WatchCursor:
    return WatchCursor.from_dict(json.loads(json.dumps(cursor.to_dict())))


def poll(listing: Listing, cursor: WatchCursor, now: datetime, watch: Watch = PAID) -> list[str]:
    return [row.id for row in drive(Client(listing), watch.poll(cursor, now))]


def first_run(listing: Listing, now: datetime = T, watch: Watch = PAID) -> WatchCursor:
    cursor = watch.beginning(now)
    poll(listing, cursor, now, watch)
    return cursor


def test_a_first_run_passes_over_what_is_there_and_then_each_event_comes_once() -> None:
    listing = Listing([Listed(T - seconds(60))])
    cursor = first_run(listing)
    assert poll(listing, cursor, T + seconds(1)) == []
    new = [Listed(T + seconds(2)), Listed(T + seconds(3))]
    listing.events += new
    assert poll(listing, cursor, T + seconds(60)) == [event.id for event in new]
    assert poll(listing, cursor, T + seconds(120)) == []


def test_a_quiet_poll_is_one_request_however_many_events_the_overlap_holds() -> None:
    listing = Listing([Listed(T - seconds(i)) for i in range(850)])
    cursor = first_run(listing)
    listing.asked.clear()
    assert poll(listing, cursor, T + seconds(1)) == []
    assert len(listing.asked) == 1


def test_a_few_new_events_among_many_are_one_request() -> None:
    listing = Listing([Listed(T - seconds(i)) for i in range(500)])
    cursor = first_run(listing)
    new = [Listed(T + seconds(i)) for i in range(1, 51)]
    listing.events += new
    listing.asked.clear()
    assert poll(listing, cursor, T + seconds(55)) == [event.id for event in new]
    assert len(listing.asked) == 1


def test_late_events_deep_in_a_full_overlap_are_found_and_later_ones_are_not() -> None:
    listing = Listing([Listed(T - seconds(i)) for i in range(850)])
    cursor = first_run(listing)
    late, too_late = Listed(T - timedelta(minutes=10)), Listed(T - timedelta(minutes=20))
    listing.events += [late, too_late]
    assert poll(listing, cursor, T + seconds(10)) == [late.id]


def test_a_late_event_with_a_timestamp_before_the_first_run_is_delivered() -> None:
    listing = Listing()
    cursor = first_run(listing)
    listing.events.append(Listed(T - seconds(2)))
    assert poll(listing, cursor, T + seconds(1)) == [listing.events[0].id]


def test_what_happened_in_a_long_outage_is_delivered() -> None:
    listing = Listing()
    cursor = restarted(first_run(listing))
    listing.events += [Listed(T + timedelta(hours=hour)) for hour in range(72)]
    assert poll(listing, cursor, T + timedelta(hours=72)) == [event.id for event in listing.events]


@pytest.mark.parametrize("kept", [4_000, 100])
def test_a_batch_that_becomes_visible_in_pieces(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events of a few seconds, old and new ones mixed, over three polls, with a restart after each."""
    monkeypatch.setattr(watching, "REMEMBERED", kept)
    batch = [Listed(T + seconds(i % 3000 / 500), id=f"{i:032x}") for i in range(3_000)]
    listing = Listing()
    cursor = first_run(listing)
    delivered: Counter[str] = Counter()
    for piece in range(3):
        listing.events += batch[piece::3]
        delivered.update(poll(listing, cursor, T + seconds(10 + piece)))
        cursor = restarted(cursor)
    assert delivered.keys() == {event.id for event in batch}
    if kept == 4_000:
        assert delivered.total() == len(batch)


def test_a_stored_cursor_stays_small() -> None:
    listing = Listing([Listed(T + seconds(i / 6)) for i in range(5_000)])
    cursor = WatchCursor.beginning(T)
    assert len(poll(listing, cursor, T + seconds(899))) == 5_000
    assert len(json.dumps(cursor.to_dict())) < 50_000
    # And what it kept is worth it: after a restart nothing comes again.
    assert poll(listing, restarted(cursor), T + seconds(900)) == []


def test_counted_twice_is_delivered_once_and_counted_only_when_given() -> None:
    listing = Listing([Listed(T - seconds(i)) for i in range(300)])
    cursor = first_run(listing)
    twice, missing = Listed(T + seconds(1), copies=2), Listed(T + seconds(2), given=False)
    listing.events += [twice, missing]
    assert poll(listing, cursor, T + seconds(3)) == [twice.id]
    listing.events[-1] = Listed(missing.timestamp, id=missing.id)
    assert poll(listing, cursor, T + seconds(4)) == [missing.id]
    assert poll(listing, cursor, T + seconds(5)) == []


def test_events_beyond_the_newest_page_that_are_counted_before_they_are_given_are_delivered() -> None:
    listing = Listing([Listed(T - seconds(i)) for i in range(300)])
    cursor = first_run(listing)
    missing = Listed(T - seconds(200), given=False)
    listing.events.append(missing)
    assert poll(listing, cursor, T + seconds(3)) == []
    listing.events[-1] = Listed(missing.timestamp, id=missing.id)
    assert poll(listing, restarted(cursor), T + seconds(4)) == [missing.id]


def test_an_event_that_is_never_given_is_not_read_for_again_for_ever() -> None:
    listing = Listing([Listed(T - seconds(i)) for i in range(300)])
    cursor = first_run(listing)
    listing.events.append(Listed(T - seconds(200), given=False))
    requests = []
    for second in range(10):
        listing.asked.clear()
        assert poll(listing, cursor, T + seconds(second)) == []
        requests.append(len(listing.asked))
    assert all(number > 1 for number in requests[:6])
    assert requests[6:] == [1, 1, 1, 1]


def test_a_short_page_makes_nothing_come_twice() -> None:
    listing = Listing([Listed(T + seconds(i)) for i in range(20)])
    cursor = WatchCursor.beginning(T)
    assert len(poll(listing, cursor, T + seconds(30))) == 20
    short = Listing(listing.events)

    def cut(request):  # type: ignore[no-untyped-def]
        page = short(request)
        return RowPage(page.rows[:3], page.total_count)

    assert drive(Client(cut), PAID.poll(cursor, T + seconds(40))) == []
    assert poll(listing, cursor, T + seconds(50)) == []


def test_a_poll_that_fails_changes_nothing() -> None:
    listing = Listing([Listed(T + seconds(i / 10)) for i in range(500)])
    cursor = WatchCursor.beginning(T)
    before = cursor.to_dict()

    def broken(request):  # type: ignore[no-untyped-def]
        if len(listing.asked) == 4:
            raise ConnectionError
        return listing(request)

    with pytest.raises(ConnectionError):
        drive(Client(broken), PAID.poll(cursor, T + seconds(60)))
    assert cursor.to_dict() == before
    assert len(poll(listing, cursor, T + seconds(60))) == 500


def test_rows_read_for_others_are_taken_once() -> None:
    listing = Listing()
    cursor = first_run(listing)
    mine, other = Listed(T + seconds(1)), Listed(T + seconds(1), name="order.refunded")
    rows = [SeenEvent.of(event.row()) for event in (mine, other)]
    assert [row.id for row in PAID.take(cursor, rows, T + seconds(5))] == [mine.id]
    assert PAID.take(cursor, rows, T + seconds(6)) == []
    listing.events += [mine, other]
    assert poll(listing, restarted(cursor), T + seconds(7)) == []


def test_after_a_restart_rows_read_for_others_are_told_apart_in_every_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "REMEMBERED", 50)
    listing = Listing([Listed(T + seconds(i / 4)) for i in range(240)])
    cursor = WatchCursor.beginning(T)
    assert len(poll(listing, cursor, T + seconds(70))) == 240
    cursor = restarted(cursor)
    assert poll(listing, cursor, T + seconds(80)) == []
    listing.events.append(Listed(T + seconds(7)))
    rows = [SeenEvent.of(event.row()) for event in listing.events]
    assert [row.id for row in PAID.take(cursor, rows, T + seconds(90))] == [listing.events[-1].id]


arrivals = st.lists(
    st.tuples(
        st.integers(0, 40),  # the poll before which it becomes visible
        st.integers(0, 13 * 60_000),  # and how long before that poll its timestamp lies, in milliseconds
        st.integers(1, 130),  # how many at once
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(arrivals=arrivals, restarts=st.sets(st.integers(0, 40)), kept=st.sampled_from([4_000, 150]))
def test_every_event_once_whatever_arrives_when(arrivals, restarts, kept) -> None:  # type: ignore[no-untyped-def]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watching, "REMEMBERED", kept)
        listing = Listing()
        cursor = first_run(listing)
        due: Counter[str] = Counter()
        delivered: Counter[str] = Counter()
        for number in range(41):
            now = T + timedelta(minutes=number + 1)
            for when, age, many in arrivals:
                if when == number:
                    new = [Listed(now - timedelta(milliseconds=age, microseconds=300 * i)) for i in range(many)]
                    listing.events += new
                    due.update(event.id for event in new)
            delivered.update(poll(listing, cursor, now))
            if number in restarts:
                cursor = restarted(cursor)
        assert delivered.keys() == due.keys()
        if kept == 4_000:
            assert delivered == due


def test_against_the_local_polar(polar_server) -> None:  # type: ignore[no-untyped-def]
    with PolarClient(polar_server.token, base_url=polar_server.base_url) as client:
        cursor = PAID.beginning(T)
        assert drive(client, PAID.poll(cursor, T)) == []
        ids = polar_server.add_events(
            {"name": "order.paid", "external_customer_id": "c", "timestamp": T + seconds(i // 300)} for i in range(900)
        )
        polar_server.add_events([{"name": "order.other", "external_customer_id": "c", "timestamp": T}])
        new = drive(client, PAID.poll(cursor, T + seconds(60)))
        assert {row.id for row in new} == set(ids)
        assert len(new) == len(ids)
        payload = payload_of(new)
        assert (payload["count"], payload["names"], len(payload["ids"])) == (900, {"order.paid": 900}, 100)
        assert payload["window"] == {"start": "2026-11-01T12:00:00Z", "end": "2026-11-01T12:00:02.000001Z"}
        assert len(json.dumps(payload)) < 5_000


@pytest.mark.parametrize(
    ("names", "filters", "overlap"),
    [((), {}, OVERLAP), (("a",), {"name": "b"}, OVERLAP), (("a",), {}, -OVERLAP)],
)
def test_an_impossible_watch_is_refused(names, filters, overlap) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(PolarConfigurationError):
        Watch(names, EventFilters.parse(filters), overlap)


@pytest.mark.parametrize("value", [None, {}, {"version": 2}, {"version": 1, "known": []}, "x"])
def test_a_cursor_that_cannot_be_read_is_said(value) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError):
        WatchCursor.from_dict(value)
