"""The laws of half-open windows: exact to the microsecond, met without a gap or an overlap."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_polar.api.rows import to_ms
from airflow_provider_polar.engine.window import EventWindow, aware, exclusive_bounds, moment_of, moment_text
from airflow_provider_polar.exceptions import PolarWindowError

moments = st.datetimes(
    min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC)  # noqa: DTZ001
)  # fmt: skip
near = st.builds(
    lambda us: datetime(2026, 3, 1, tzinfo=UTC) + timedelta(microseconds=us), st.integers(-3_000_000, 3_000_000)
)
windows = st.one_of(
    *(
        st.tuples(m, m).filter(lambda pair: pair[0] != pair[1]).map(lambda pair: EventWindow(*sorted(pair)))
        for m in (moments, near)
    )
)


@given(windows, st.one_of(moments, near))
def test_the_request_holds_the_window_and_at_most_its_edge_milliseconds(window: EventWindow, moment: datetime) -> None:
    start, end = window.api_bounds()
    selected = to_ms(start) < to_ms(moment) < to_ms(end)
    if moment in window:
        assert selected
    if selected:
        slack = timedelta(microseconds=999)
        assert window.start - slack <= moment < window.end + slack


@given(windows, st.integers(0, 999))
def test_the_request_holds_the_edges_of_the_window(window: EventWindow, inside: int) -> None:
    microsecond = timedelta(microseconds=1)
    start, end = (to_ms(bound) for bound in window.api_bounds())
    for moment in (window.start, window.start + inside * microsecond, window.end - microsecond):
        if moment in window:
            assert start < to_ms(moment) < end
    assert not start < to_ms(window.start - timedelta(milliseconds=1)) < end
    assert not start < to_ms(window.end + timedelta(milliseconds=1) - microsecond) < end


@given(windows, st.integers(1, 40), near)
def test_parts_meet(window: EventWindow, parts: int, moment: datetime) -> None:
    pieces = window.split(parts)
    assert pieces[0].start == window.start
    assert pieces[-1].end == window.end
    assert all(a.end == b.start for a, b in pairwise(pieces))
    assert sum(moment in piece for piece in pieces) == (moment in window)
    assert len(pieces) <= parts


@given(near, st.integers(1, 10_000_000), st.integers(100_000, 5_000_000))
def test_steps_meet(start: datetime, length: int, step: int) -> None:
    window = EventWindow(start, start + timedelta(microseconds=length))
    pieces = list(window.steps(timedelta(microseconds=step)))
    assert pieces[0].start == window.start
    assert pieces[-1].end == window.end
    assert all(a.end == b.start for a, b in pairwise(pieces))
    assert all(piece.duration <= timedelta(microseconds=step) for piece in pieces)


@given(windows)
def test_survives_as_text(window: EventWindow) -> None:
    assert EventWindow.from_dict(window.to_dict()) == window


@given(moments, st.integers(-14 * 60, 14 * 60))
def test_the_zone_of_a_moment_does_not_matter(moment: datetime, offset: int) -> None:
    there = moment.astimezone(timezone(timedelta(minutes=offset)))
    assert aware(there, "start") == moment
    assert aware(there.isoformat(), "start") == moment
    assert aware(there, "start").tzinfo is UTC


@pytest.mark.parametrize(
    ("start", "end", "says"),
    [
        ("2026-03-01T00:00:00", "2026-03-02T00:00:00Z", "start is .* without a time zone"),
        ("2026-03-01T00:00:00Z", "2026-03-02", "end is .* without a time zone"),
        ("2026-03-01T00:00:00Z", "2026-03-01T01:00:00+01:00", "empty"),
        ("2026-03-01T00:00:00Z", "2026-02-01T00:00:00Z", "reversed"),
        ("soon", "2026-02-01T00:00:00Z", "not an ISO 8601 moment"),
        (None, "2026-02-01T00:00:00Z", "a moment is an aware datetime"),
        ("0001-01-01T00:00:00+01:00", "2026-02-01T00:00:00Z", "calendar"),
    ],
)
def test_refuses_what_is_no_window(start: str, end: str, says: str) -> None:
    with pytest.raises(PolarWindowError, match=says):
        EventWindow(start, end)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["2026-03-02", "2026-03-02 12:00", "20260302T120000.5"])
def test_the_zone_that_a_refusal_suggests_is_taken(text: str) -> None:
    with pytest.raises(PolarWindowError) as caught:
        aware(text, "start")
    assert aware(str(caught.value).rpartition(" ")[2], "start") == datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize("bad", [0, -1])
def test_refuses_no_parts(bad: int) -> None:
    window = EventWindow("2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z")  # type: ignore[arg-type]
    with pytest.raises(PolarWindowError, match=f"into {bad} parts"):
        window.split(bad)
    with pytest.raises(PolarWindowError, match="in steps of"):
        next(window.steps(timedelta(bad)))


def test_the_calendars_ends_have_bounds() -> None:
    window = EventWindow(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
    start, end = window.api_bounds()
    assert start == window.start
    assert end == datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)


def test_bounds_stand_up_to_the_calendars_own_milliseconds() -> None:
    first, last = to_ms(datetime.min.replace(tzinfo=UTC)), to_ms(datetime.max.replace(tzinfo=UTC))
    assert exclusive_bounds(first + 1, last) == (moment_of(first), moment_of(last))
    assert exclusive_bounds(first, last + 1) == (None, None)
    assert moment_of(first - 1) == moment_of(first) == datetime.min.replace(tzinfo=UTC)
    assert moment_of(last + 1) == moment_of(last)


def test_the_zone_of_the_machine_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    there = datetime(2026, 3, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    try:
        with monkeypatch.context() as patch:
            patch.setenv("TZ", "Asia/Tokyo")
            time.tzset()
            assert (aware(there, "start"), moment_text(there)) == (
                datetime(2026, 3, 1, tzinfo=UTC),
                "2026-03-01T00:00:00Z",
            )
    finally:
        time.tzset()


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 3, 1, tzinfo=UTC), "2026-03-01T00:00:00Z"),
        (datetime(2026, 3, 1, 0, 0, 0, 1, tzinfo=UTC), "2026-03-01T00:00:00.000001Z"),
        (datetime(2026, 3, 1, 1, tzinfo=timezone(timedelta(hours=1))), "2026-03-01T00:00:00Z"),
    ],
)
def test_moments_are_written_as_polar_writes_them(moment: datetime, text: str) -> None:
    assert moment_text(moment) == text
