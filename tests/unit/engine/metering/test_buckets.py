"""Whole hours, days, ... of a window and the requests for them; zones are PostgreSQL's in ``tests/integration``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_polar.engine.metering.buckets import Buckets
from airflow_provider_polar.engine.window import EventWindow, aware
from airflow_provider_polar.exceptions import PolarResponseError, PolarWindowError


def buckets(start: str, end: str, *how: str) -> Buckets:
    return Buckets.of(EventWindow(start, end), *how)


@pytest.mark.parametrize(
    ("interval", "start", "end", "sizes", "days"),
    [
        ("hour", "2026-01-01T10:00Z", "2026-01-15T12:00Z", [168, 168, 2], 7),
        ("day", "2024-01-01T00:00Z", "2026-01-01T00:00Z", [366, 365], 366),
        ("week", "2023-01-02T00:00Z", "2025-01-06T00:00Z", [53, 52], 371),
        ("month", "2023-01-01T00:00Z", "2028-01-01T00:00Z", [48, 12], 1460),
        ("year", "2023-01-01T00:00Z", "2035-01-01T00:00Z", [10, 2], 3650),
    ],
)
def test_requests_end_with_the_start_of_the_last_bucket_and_keep_polars_limits(interval, start, end, sizes, days):
    its = buckets(start, end, interval)
    requests = its.requests()
    assert requests[0].start_timestamp == aware(start, "start")
    firsts = list(its)
    for request, size in zip(requests, sizes, strict=True):
        mine, firsts = firsts[:size], firsts[size:]
        assert (request.start_timestamp, request.end_timestamp) == (mine[0], mine[-1])
        assert (request.end_timestamp.date() - request.start_timestamp.date()).days <= days
    assert firsts == []
    assert its.find(aware(end, "end")) is None
    assert its.find(aware(end, "end") - timedelta(microseconds=1)) == requests[-1].end_timestamp


def test_days_of_a_zone_over_a_change_of_the_clocks():
    its = buckets("2026-03-28T23:00Z", "2026-03-30T22:00Z", "day", "Europe/Berlin")
    assert list(its) == [datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 3, 29, 22, tzinfo=UTC)]


def test_after_a_midnight_that_is_left_out_the_last_day_is_still_asked_for():
    # In Cairo, 24 April 2026 begins at 01:00, and there Polar's steps stay.
    its = buckets("2026-04-22T22:00Z", "2026-04-26T21:00Z", "day", "Africa/Cairo")
    [request] = its.requests()
    assert request.end_timestamp == datetime(2026, 4, 25, 22, tzinfo=UTC)
    assert [its.find(datetime(2026, 4, 25, hour, tzinfo=UTC)) for hour in (20, 21, 23)] == [
        *list(its)[2:],
        list(its)[3],
    ]


def test_an_hour_that_comes_twice_is_two():
    its = buckets("2026-10-24T23:00Z", "2026-10-25T03:00Z", "hour", "Europe/Berlin")
    assert len(set(its)) == len(its) == 4


@pytest.mark.parametrize(
    ("start", "end", "how", "bound"),
    [
        ("2026-11-02T10:30Z", "2026-11-02T12:00Z", ["hour"], "start"),
        ("2026-11-02T10:00Z", "2026-11-02T12:00:00.000001Z", ["hour"], "end"),
        ("2026-11-02T00:00Z", "2026-11-03T00:00Z", ["day", "Europe/Berlin"], "start"),
        ("2026-01-31T00:00Z", "2026-03-01T00:00Z", ["month"], "start"),
        ("2026-11-02T10:00Z", "2026-11-02T12:00Z", ["hour", "Asia/Kolkata"], "start"),
    ],
)
def test_a_window_of_broken_buckets_is_refused(start, end, how, bound):
    with pytest.raises(PolarWindowError, match=f"at its {bound} no {how[0]} begins in"):
        buckets(start, end, *how)


def test_a_response_that_lacks_a_bucket_or_has_another_is_refused():
    its = buckets("2026-11-02T10:00Z", "2026-11-02T12:00Z")
    first, second = its
    assert its.by_bucket([(second, 2.0), (first, 1.0)]) == {first: 1.0, second: 2.0}
    for given in ([(first, 1.0)], [(first, 1.0), (second, 2.0), (second + timedelta(hours=1), 3.0)], []):
        with pytest.raises(PolarResponseError, match=f"Polar gave {len(given)} quantities by hour .* where 2 were"):
            its.by_bucket(given)


def test_only_some():
    its = buckets("2026-11-02T00:00Z", "2026-11-03T00:00Z")
    hours = list(its)
    assert list(its.only({hours[3], hours[5]})) == hours[3:6]
    assert its.only(hours[:1]).find(hours[1]) is None
    assert [(it.start_timestamp, it.end_timestamp) for it in its.only(hours[7:8]).requests()] == [(hours[7], hours[7])]
