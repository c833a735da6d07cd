"""Watching: nothing missed and nothing twice, through late events, bursts and restarts."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.api.rows import RowPage
from airflow_provider_polar.engine.drive import drive
from airflow_provider_polar.engine.waiting import cursor as cursors
from airflow_provider_polar.engine.waiting.cursor import SeenEvent, WatchCursor
from airflow_provider_polar.engine.waiting.watch import Watch
from airflow_provider_polar.engine.waiting.watcher import Watcher
from airflow_provider_polar.exceptions import PolarConfigurationError
from tests.unit.engine.listing import Client, Listed, Listing

T = datetime(2026, 11, 1, 12, tzinfo=UTC)
OVERLAP = timedelta(minutes=15)


class Cursor:
    """A cursor for one name and the polls that feed it."""

    def __init__(self, cursor: WatchCursor, name: str = "order.paid") -> None:
        self.cursor, self.name = cursor, name
        self.watch = Watch(EventFilters(), OVERLAP)

    def poll(self, listing: Any, now: datetime) -> list[str]:
        look = drive(Client(listing), self.watch.poll({self.name: [self.cursor]}, now))
        new = self.cursor.take(look.rows[self.name], look.gone)
        self.cursor.advance(look.since)
        return [row.id for row in new]

    def restarted(self) -> Cursor:
        return Cursor(WatchCursor.from_dict(json.loads(json.dumps(self.cursor.to_dict()))), self.name)


def seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


def since(moment: datetime) -> Cursor:
    return Cursor(WatchCursor.from_start(moment))


def restarted(cursor: Cursor) -> Cursor:
    return cursor.restarted()


def poll(listing: Any, cursor: Cursor, now: datetime) -> list[str]:
    return cursor.poll(listing, now)


def first_run(listing: Listing, now: datetime = T) -> Cursor:
    cursor = Cursor(WatchCursor.beginning(now, OVERLAP))
    poll(listing, cursor, now)
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
    monkeypatch.setattr(cursors, "KEPT", kept)
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
    cursor = since(T)
    assert len(poll(listing, cursor, T + seconds(899))) == 5_000
    assert len(json.dumps(cursor.cursor.to_dict())) < 50_000
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


def test_an_event_that_is_never_given_costs_a_request_a_poll_and_none_once_it_is_past() -> None:
    listing = Listing([Listed(T - seconds(i)) for i in range(300)])
    cursor = first_run(listing)
    listing.events.append(Listed(T - seconds(200), given=False))
    requests = []
    for minute in range(20):
        listing.asked.clear()
        assert poll(listing, cursor, T + timedelta(minutes=minute)) == []
        requests.append(len(listing.asked))
    assert requests[0] <= 6
    assert max(requests[1:]) <= 2
    assert requests[-1] == 1


def test_a_batch_that_is_counted_twice_costs_no_more_than_it_did_to_read() -> None:
    listing = Listing([Listed(T - seconds(i / 10)) for i in range(3_000)])
    cursor = first_run(listing)
    listing.events += [Listed(T + seconds(i / 100), copies=2) for i in range(3_000)]
    requests = []
    delivered = []
    for minute in range(1, 20):
        listing.asked.clear()
        delivered += poll(listing, cursor, T + timedelta(minutes=minute))
        requests.append(len(listing.asked))
    assert len(delivered) == len(set(delivered)) == 3_000
    assert requests[0] <= 70
    assert max(requests[1:14]) <= 4
    assert sum(requests[14:]) <= 80
    assert requests[-1] == 1


def test_a_short_page_makes_nothing_come_twice() -> None:
    listing = Listing([Listed(T + seconds(i)) for i in range(20)])
    cursor = since(T)
    assert len(poll(listing, cursor, T + seconds(30))) == 20
    short = Listing(listing.events)

    def cut(request):  # type: ignore[no-untyped-def]
        page = short(request)
        return RowPage(page.rows[:3], page.total_count)

    assert poll(cut, cursor, T + seconds(40)) == []
    assert poll(listing, cursor, T + seconds(50)) == []


def test_a_poll_that_fails_changes_nothing() -> None:
    listing = Listing([Listed(T + seconds(i / 10)) for i in range(500)])
    cursor = since(T)
    before = cursor.cursor.to_dict()

    def broken(request):  # type: ignore[no-untyped-def]
        if len(listing.asked) == 4:
            raise ConnectionError
        return listing(request)

    with pytest.raises(ConnectionError):
        poll(broken, cursor, T + seconds(60))
    assert cursor.cursor.to_dict() == before
    assert len(poll(listing, cursor, T + seconds(60))) == 500


def test_watchers_that_know_different_things_share_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that joins later and looks further back gets what it lacks; nobody gets anything twice."""
    monkeypatch.setattr(cursors, "KEPT", 50)
    listing = Listing([Listed(T + seconds(i / 4)) for i in range(240)])
    early, late = since(T), since(T)
    assert len(poll(listing, early, T + seconds(70))) == 240
    early = restarted(early)
    new = [Listed(T + seconds(61)), Listed(T + seconds(7)), Listed(T + seconds(62), name="order.refunded")]
    listing.events += new
    late.cursor.extend(T - timedelta(hours=1))
    refunds = Cursor(WatchCursor.beginning(T, OVERLAP), "order.refunded")
    watchers = {"order.paid": [early.cursor, late.cursor], "order.refunded": [refunds.cursor]}
    watch = Watch(EventFilters(), OVERLAP)

    def shared(now: datetime) -> list[list[str]]:
        look = drive(Client(listing), watch.poll(watchers, now))
        taken = []
        for watcher in (early, late, refunds):
            taken.append([row.id for row in watcher.cursor.take(look.rows[watcher.name], look.gone)])
            watcher.cursor.advance(look.since)
        return taken

    first, second, third = shared(T + seconds(80))
    # Of a minute whose ids were not stored, one new event brings all.
    assert {event.id for event in new[:2]} <= set(first)
    assert set(second) == {event.id for event in listing.events} - {new[2].id}
    assert third == [new[2].id]
    listing.asked.clear()
    assert shared(T + seconds(90)) == [[], [], []]
    assert len(listing.asked) == 1
    listing.events.append(Listed(T + seconds(85)))
    assert shared(T + seconds(95)) == [[listing.events[-1].id]] * 2 + [[]]


def test_what_happens_before_the_first_poll_that_succeeds_is_delivered() -> None:
    there, meanwhile = Listed(T - seconds(1)), Listed(T + seconds(5))
    listing = Listing([there, meanwhile])
    cursor = Cursor(WatchCursor.beginning(T, OVERLAP)).restarted()
    assert poll(listing, cursor, T + seconds(9)) == [meanwhile.id]
    assert poll(listing, restarted(cursor), T + seconds(10)) == []


def test_an_earlier_start_delivers_what_was_before_and_a_later_one_changes_nothing() -> None:
    passed_over, older = Listed(T - seconds(60)), Listed(T - timedelta(hours=5))
    listing = Listing([older, passed_over])
    cursor = first_run(listing)
    told = [Listed(T + timedelta(minutes=minute)) for minute in range(60)]
    listing.events += told
    assert len(poll(listing, cursor, T + timedelta(hours=1))) == 60
    cursor = restarted(cursor)
    cursor.cursor.extend(T + timedelta(minutes=30))
    assert poll(listing, cursor, T + timedelta(hours=1)) == []
    cursor.cursor.extend(T - timedelta(hours=6))
    assert not cursor.cursor.settled
    assert poll(listing, cursor, T + timedelta(hours=1)) == [older.id, passed_over.id]
    cursor = restarted(cursor)
    cursor.cursor.extend(T - timedelta(hours=6))
    assert poll(listing, cursor, T + timedelta(hours=1)) == []


def test_other_filters_deliver_what_came_meanwhile_and_nothing_again() -> None:
    listing = Listing([Listed(T + seconds(i)) for i in range(10)])
    cursor = since(T)
    assert len(poll(listing, cursor, T + seconds(10))) == 10
    cursor = restarted(cursor)
    cursor.cursor.sure = False
    narrower = Listing(listing.events[::2])
    narrower.events.append(Listed(T + seconds(11)))
    assert poll(narrower, cursor, T + seconds(20)) == [narrower.events[-1].id]
    narrower.asked.clear()
    assert poll(narrower, restarted(cursor), T + seconds(30)) == []
    assert len(narrower.asked) == 1


def test_events_that_are_taken_away_cost_nothing_afterwards_and_come_again_when_they_are_restored() -> None:
    listing = Listing([Listed(T + seconds(i)) for i in range(400)])
    cursor = since(T)
    assert len(poll(listing, cursor, T + seconds(400))) == 400
    removed = listing.events.pop(100)
    assert poll(listing, cursor, T + seconds(410)) == []
    listing.asked.clear()
    assert poll(listing, cursor, T + seconds(420)) == []
    assert len(listing.asked) == 1
    listing.events.append(removed)
    assert poll(listing, cursor, T + seconds(430)) == [removed.id]


@pytest.mark.parametrize(("rate", "requests"), [(50, 1), (110, 3), (200, 4), (500, 7)])
def test_a_poll_costs_what_is_new_and_not_what_the_overlap_holds(rate: int, requests: int) -> None:
    """Events a minute, each listable 8 seconds after its timestamp, and now and then a late one."""
    listing, late = Listing(), Listing()
    cursor = since(T)
    delivered: Counter[str] = Counter()
    costs = []
    for minute in range(1, 22):
        listing.events += [Listed(T + timedelta(minutes=minute) - seconds(8 + 60 * i / rate)) for i in range(rate)]
        listing.asked.clear()
        delivered.update(poll(listing, cursor, T + timedelta(minutes=minute)))
        costs.append(len(listing.asked))
    assert max(costs) <= requests
    listing.events.append(Listed(T + timedelta(minutes=9)))
    listing.asked.clear()
    late = poll(listing, cursor, T + timedelta(minutes=21, seconds=1))
    assert late == [listing.events[-1].id]
    assert len(listing.asked) <= 14
    assert set(delivered.values()) == {1}
    # What became listable 8 seconds late is there a minute on, but not in the first minute, which began at the start.
    assert len(delivered) == len(listing.events) - 1 - sum(event.timestamp < T for event in listing.events)


def test_more_events_of_one_moment_than_a_page_holds_that_become_listable_in_pieces(polar_server) -> None:  # type: ignore[no-untyped-def]
    events = [{"name": "order.paid", "external_customer_id": f"c{i // 50}", "timestamp": T} for i in range(1_000)]
    cursor, delivered = since(T), []
    with PolarClient(polar_server.token, base_url=polar_server.base_url) as client:
        for there in (events[::3], events[1::3], events[2::3], []):
            polar_server.add_events(there)
            before = len(polar_server.requests)
            delivered += poll(client.list_rows, cursor, T + seconds(60))
    assert len(polar_server.requests) == before + 1
    assert len(delivered) == len(set(delivered)) == 1_000


def test_events_of_one_moment_that_cannot_be_told_apart_cost_only_twice() -> None:
    listing = Listing([Listed(T + seconds(60)) for _ in range(300)])
    cursor = since(T)
    poll(listing, cursor, T + seconds(61))
    requests = []
    for minute in range(2, 20):
        listing.asked.clear()
        poll(listing, cursor, T + timedelta(minutes=minute))
        requests.append(len(listing.asked))
    assert sorted(requests)[:-1] == [1] * 17


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
        patch.setattr(cursors, "KEPT", kept)
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


@settings(max_examples=25, deadline=None)
@given(
    arrivals=st.lists(
        st.tuples(
            st.integers(0, 30),  # the poll before which it is counted
            st.integers(0, 7),  # polls until it is given, too
            st.integers(0, 6 * 60_000),  # how long before that poll its timestamp lies, in milliseconds
            st.integers(1, 130),  # how many at once
            st.integers(1, 2),  # how often each is counted
        ),
        max_size=8,
    ),
    restarts=st.sets(st.integers(0, 45), max_size=3),
)
def test_every_event_once_where_counts_and_rows_disagree(arrivals, restarts) -> None:  # type: ignore[no-untyped-def]
    listing = Listing([Listed(T - seconds(i)) for i in range(150)])
    cursor = first_run(listing)
    due: set[str] = set()
    delivered: Counter[str] = Counter()
    for number in range(46):
        now = T + timedelta(minutes=number + 1)
        for when, gap, age, many, copies in arrivals:
            moments = [T + timedelta(minutes=when + 1, milliseconds=-age, microseconds=-700 * i) for i in range(many)]
            ids = [f"{when}-{gap}-{age}-{many}-{copies}-{i}" for i in range(many)]
            if when + gap == number:
                listing.events = [event for event in listing.events if event.id not in ids]
            if number in (when, when + gap):
                listing.events += [
                    Listed(moment, id=event, copies=copies, given=gap == 0 or number > when)
                    for moment, event in zip(moments, ids, strict=True)
                ]
                due |= set(ids)
        delivered.update(poll(listing, cursor, now))
        if number in restarts:
            cursor = restarted(cursor)
    assert delivered == Counter(due)


def test_many_names_take_as_many_requests_as_fit_their_length() -> None:
    names = [f"order.of.kind.{number:04}" for number in range(400)]
    listing = Listing([Listed(T + seconds(i / 10), name=name) for i, name in enumerate(names * 2)])
    watchers = {name: [WatchCursor.from_start(T)] for name in names}
    watch = Watch(EventFilters(), OVERLAP)

    def deliver(now: datetime) -> list[str]:
        look = drive(Client(listing), watch.poll(watchers, now))
        return [row.id for name in names for row in watchers[name][0].take(look.rows[name], look.gone)]

    assert sorted(deliver(T + seconds(60))) == sorted(event.id for event in listing.events)
    listing.asked.clear()
    assert deliver(T + seconds(61)) == []
    assert len(listing.asked) == 3
    assert max(sum(len(value) + 6 for key, value in one.params if key == "name") for one in listing.asked) <= 4_000


def test_against_the_local_polar(polar_server) -> None:  # type: ignore[no-untyped-def]
    with PolarClient(polar_server.token, base_url=polar_server.base_url) as client:
        watcher, watch = Watcher({"order.paid": WatchCursor.beginning(T, OVERLAP)}), Watch(EventFilters(), OVERLAP)
        assert watcher.take(drive(client, watch.poll({"order.paid": [*watcher.cursors.values()]}, T))) == []
        ids = polar_server.add_events(
            {"name": "order.paid", "external_customer_id": "c", "timestamp": T + seconds(i // 300)} for i in range(900)
        )
        polar_server.add_events([{"name": "order.other", "external_customer_id": "c", "timestamp": T}])
        cursor = watcher.cursors["order.paid"]
        (payload,) = watcher.take(drive(client, watch.poll({"order.paid": [cursor]}, T + seconds(60))))
        assert {SeenEvent.key_of(event) for event in ids} == cursor.known.keys()
        assert (payload["count"], payload["names"], len(payload["ids"])) == (900, {"order.paid": 900}, 100)
        assert payload["window"] == {"start": "2026-11-01T12:00:00Z", "end": "2026-11-01T12:00:02.000001Z"}
        assert len(json.dumps(payload)) < 5_000


@pytest.mark.parametrize(("filters", "overlap"), [({"name": "b"}, OVERLAP), ({}, -OVERLAP)])
def test_an_impossible_watch_is_refused(filters, overlap) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(PolarConfigurationError):
        Watch(EventFilters.parse(filters), overlap)


@pytest.mark.parametrize("value", [None, {}, {"version": 1}, {"version": 2, "known": []}, "x"])
def test_a_cursor_that_cannot_be_read_is_said(value) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError):
        WatchCursor.from_dict(value)
