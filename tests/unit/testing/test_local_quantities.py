"""Traps of Polar's meters: which events they take, what they make of them, whole buckets and totals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from airflow_provider_polar.testing import LocalPolar
from tests.unit.testing.meters import DAY, HOUR, NOON, amounts, both, clause, moments, quantities, validate


class TestFilters:
    VALUES: tuple[Any, ...] = (5, "abc", True, "t", 1, "5", False, 5.0, {"n": {"a": "t"}})

    def taken(self, polar: LocalPolar, client: httpx.Client, *clauses: dict[str, Any], **joined: Any) -> list[Any]:
        """The values of `x` that a meter takes, by the sum of powers of two."""
        meter = polar.add_meter(both(*clauses, **joined), aggregation={"func": "sum", "property": "bit"})
        taken = int(amounts(client, meter)[0])
        return [value for bit, value in enumerate(self.VALUES) if taken >> bit & 1]

    @pytest.fixture(autouse=True)
    def _events(self, polar_server: LocalPolar) -> None:
        polar_server.add_events(
            {"name": "use", "timestamp": NOON, "metadata": {"x": value, "bit": 2**bit}}
            for bit, value in enumerate(self.VALUES)
        )
        polar_server.add_events(
            {"name": name, "timestamp": NOON, "metadata": {**x, "bit": 2**20}}
            for name, x in (("bare", {}), ("null", {"x": None}))
        )

    @pytest.mark.parametrize(
        ("operator", "value", "taken"),
        [
            # As PostgreSQL was seen to respond to Polar's own statement.
            ("eq", "abc", ["abc"]),
            ("ne", "abc", ["t", "5"]),
            ("gt", "5", ["abc", "t"]),
            ("eq", 5, [5, "5", 5.0]),
            ("gte", 5, [5, "abc", "t", "5", 5.0]),
            ("eq", True, [True, "t", 1]),
            ("ne", True, [5, "abc", "5", False, 5.0]),
            ("like", True, [True, "t", {"n": {"a": "t"}}]),
            ("not_like", "a", [5, True, "t", 1, "5", 5.0]),
            ("like", "5.", [5.0]),
            ("like", "B", []),
            ("like", "_b", []),
            ("like", "", list(VALUES)),
        ],
    )
    def test_the_type_of_the_property_decides(
        self, polar_server: LocalPolar, client: httpx.Client, operator: str, value: Any, taken: list[Any]
    ) -> None:
        found = self.taken(polar_server, client, clause("metadata.x", operator, value))
        assert list(map(repr, found)) == list(map(repr, taken))

    def test_paths(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        assert self.taken(polar_server, client, clause("x.n.a", "ne", "u")) == [{"n": {"a": "t"}}]

    def test_groups(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        either = both(clause("x", "eq", "t"), clause("x", "eq", "abc"), conjunction="or")
        assert self.taken(polar_server, client, either, clause("x", "like", "b")) == ["abc"]
        everything = polar_server.add_meter(both(conjunction="or"))
        assert amounts(client, everything) == [11]

    def test_what_every_event_has(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        seconds = int(NOON.timestamp())
        for given, number in (
            (clause("name", "ne", "use"), 2),
            (clause("name", "like", "US"), 0),
            (clause("name", "not_like", "us"), 2),
            (clause("name", "ne", 5), 0),
            (clause("source", "eq", "user"), 11),
            (clause("timestamp", "gte", seconds), 11),
            (clause("timestamp", "gt", seconds), 0),
            (clause("timestamp", "gte", str(seconds)), 0),
        ):
            assert amounts(client, polar_server.add_meter(both(given))) == [number], given

    def test_seconds_are_rounded_half_up(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.add_events(
            {"name": "late", "timestamp": NOON + timedelta(microseconds=n)} for n in (499_999, 500_000)
        )
        later = polar_server.add_meter(both(clause("timestamp", "gt", int(NOON.timestamp()))))
        assert amounts(client, later) == [1]

    @pytest.mark.parametrize(("prop", "operator"), [("x", "gt"), ("unused", "lte"), ("timestamp", "eq")])
    def test_some_comparisons_with_a_boolean_break_polar(
        self, polar_server: LocalPolar, client: httpx.Client, prop: str, operator: str
    ) -> None:
        meter = polar_server.add_meter(both(clause(prop, operator, True)))
        params = {"interval": "hour", "start_timestamp": NOON.isoformat(), "end_timestamp": NOON.isoformat()}
        assert client.get(f"/v1/meters/{meter}/quantities", params=params).status_code == 500

    def test_a_list_of_events_takes_a_meter_s_filter(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        meter = polar_server.add_meter(both(clause("metadata.x", "eq", "abc")))
        assert client.get("/v1/events/", params={"meter_id": meter}).json()["pagination"]["total_count"] == 1


class TestAggregations:
    VALUES: tuple[Any, ...] = (3, 3.0, 4.5, "3", True, False, {"a": 7}, -1)

    @pytest.fixture(autouse=True)
    def _events(self, polar_server: LocalPolar) -> None:
        polar_server.add_events({"name": "n", "timestamp": NOON, "metadata": {"n": value}} for value in self.VALUES)
        polar_server.add_events([{"name": "n", "timestamp": NOON}])

    @pytest.mark.parametrize(
        ("func", "prop", "quantity"),
        [
            ("count", None, 9),
            ("sum", "n", 9.5),
            ("max", "metadata.n", 4.5),
            ("min", "n", -1),
            ("avg", "n", 9.5 / 4),
            ("unique", "n", 7),
            ("sum", "n.a", 7),
            ("sum", "name", 0),
            ("unique", "name", 0),
            ("max", "timestamp", NOON.timestamp()),
            ("max", "nothing", 0),
        ],
    )
    def test_each(
        self, polar_server: LocalPolar, client: httpx.Client, func: str, prop: str | None, quantity: float
    ) -> None:
        aggregation = {"func": func} if prop is None else {"func": func, "property": prop}
        meter = polar_server.add_meter(aggregation=aggregation)
        body = quantities(client, meter)
        assert (body["quantities"][0]["quantity"], body["total"]) == (quantity, quantity)

    @pytest.mark.parametrize("aggregation", [{"func": "sum"}, {"func": "count", "property": "n"}, {"func": "median"}])
    def test_others_are_no_meter(self, polar_server: LocalPolar, aggregation: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="Aggregation"):
            polar_server.add_meter(aggregation=aggregation)


class TestBuckets:
    def test_the_last_one_is_included_and_each_is_whole(
        self, polar_server: LocalPolar, client: httpx.Client, count: str
    ) -> None:
        polar_server.add_events(
            {"name": "n", "timestamp": NOON + minutes * timedelta(minutes=1)} for minutes in (0, 29, 59, 60, 119, 120)
        )
        assert amounts(client, count, NOON, NOON + HOUR) == [3, 2]
        half = timedelta(minutes=30)
        assert amounts(client, count, NOON + half, NOON + half + HOUR) == [3, 2]
        assert moments(client, count, NOON + half, NOON + HOUR) == ["2026-11-02T12:30:00Z"]
        assert quantities(client, count, NOON, NOON + HOUR)["total"] == 5

    def test_to_the_microsecond(self, polar_server: LocalPolar, client: httpx.Client, count: str) -> None:
        polar_server.add_events({"name": "n", "timestamp": NOON + timedelta(microseconds=n)} for n in (-1, 0))
        assert amounts(client, count, NOON - HOUR, NOON) == [1, 1]

    @pytest.mark.parametrize(
        ("interval", "start", "end", "buckets"),
        [
            ("day", "2026-10-31", "2026-11-02", ["2026-10-31", "2026-11-01", "2026-11-02"]),
            ("week", "2026-10-28", "2026-11-11", ["2026-10-28", "2026-11-04", "2026-11-11"]),
            ("month", "2026-01-31", "2026-04-30", ["2026-01-31", "2026-02-28", "2026-03-28", "2026-04-28"]),
            ("year", "2024-02-29", "2026-03-01", ["2024-02-29", "2025-02-28", "2026-02-28"]),
        ],
    )
    def test_longer_ones(
        self, client: httpx.Client, count: str, interval: str, start: str, end: str, buckets: list[str]
    ) -> None:
        bounds = (datetime.fromisoformat(f"{day}T00:00:00+00:00") for day in (start, end))
        assert moments(client, count, *bounds, interval=interval) == [f"{day}T00:00:00Z" for day in buckets]

    def test_days_of_a_zone_whose_clocks_change(
        self, polar_server: LocalPolar, client: httpx.Client, count: str
    ) -> None:
        polar_server.add_events(
            {"name": "n", "timestamp": datetime(2026, 11, 1, 4, tzinfo=UTC) + n * HOUR} for n in range(25)
        )
        days = datetime(2026, 10, 31, 4, tzinfo=UTC), datetime(2026, 11, 2, 5, tzinfo=UTC)
        body = quantities(client, count, *days, interval="day", timezone="America/New_York")
        assert [(bucket["timestamp"], bucket["quantity"]) for bucket in body["quantities"]] == [
            ("2026-10-31T04:00:00Z", 0),
            ("2026-11-01T04:00:00Z", 25),
            ("2026-11-02T05:00:00Z", 0),
        ]

    @pytest.mark.parametrize(
        ("zone", "start", "days"),
        [
            # A midnight that no clock shows: from there on the series keeps to one o'clock.
            ("America/Santiago", "2026-09-05T04", ["05T04", "06T04", "07T04", "08T04"]),
            # A midnight that clocks show twice.
            ("America/Havana", "2026-10-31T04", ["31T04", "01T05", "02T05", "03T05"]),
        ],
    )
    def test_a_midnight_that_is_missing_or_comes_twice(
        self, client: httpx.Client, count: str, zone: str, start: str, days: list[str]
    ) -> None:
        first = datetime.fromisoformat(f"{start}:00:00+00:00")
        given = moments(client, count, first, first + 3 * DAY + HOUR, interval="day", timezone=zone)
        assert [moment[8:13] for moment in given] == days

    def test_hours_that_a_clock_shows_twice_are_two(
        self, polar_server: LocalPolar, client: httpx.Client, count: str
    ) -> None:
        start = datetime(2026, 11, 1, 5, tzinfo=UTC)
        polar_server.add_events({"name": "n", "timestamp": start + n * HOUR / 2} for n in range(5))
        assert amounts(client, count, start, start + 2 * HOUR, timezone="America/New_York") == [2, 2, 1]

    def test_hours_of_a_clock_that_moves_by_half_an_hour(
        self, polar_server: LocalPolar, client: httpx.Client, count: str
    ) -> None:
        start = datetime(2026, 4, 4, 14, tzinfo=UTC)
        polar_server.add_events({"name": "n", "timestamp": start + n * HOUR / 2} for n in range(4))
        # 15:00 is the second half past one, and its hour began, by its own clock, at 14:30.
        assert amounts(client, count, start, start + HOUR, timezone="Australia/Lord_Howe") == [2, 1]

    @pytest.mark.parametrize(
        ("interval", "days"), [("hour", 7), ("day", 366), ("week", 371), ("month", 1460), ("year", 3650)]
    )
    def test_limits_go_by_the_calendar(self, client: httpx.Client, count: str, interval: str, days: int) -> None:
        start = datetime(2023, 1, 1, 5, tzinfo=UTC)
        end = start.replace(hour=23) + days * DAY
        assert quantities(client, count, start, end, interval=interval)
        params = {"start_timestamp": start.isoformat(), "end_timestamp": (end + HOUR).isoformat(), "interval": interval}
        response = client.get(f"/v1/meters/{count}/quantities", params=params)
        assert (response.status_code, response.json()["error"]) == (422, "PolarRequestValidationError")

    @pytest.mark.parametrize(
        "wrong",
        [
            {"start_timestamp": "2022-12-31T23:59:59Z"},
            {"start_timestamp": "2026-11-03T00:00:00Z"},
            {"start_timestamp": "2026-11-02T00:00:00"},
            {"end_timestamp": None},
            {"interval": None},
            {"interval": "minute"},
            {"timezone": "Mars/Olympus"},
            {"timezone": ""},
            {"customer_id": "acme"},
            {"customer_aggregation_function": "median"},
        ],
    )
    def test_what_is_refused(self, client: httpx.Client, count: str, wrong: dict[str, str | None]) -> None:
        good = {"start_timestamp": NOON.isoformat(), "end_timestamp": NOON.isoformat(), "interval": "hour"}
        params = {key: value for key, value in {**good, **wrong}.items() if value is not None}
        response = client.get(f"/v1/meters/{count}/quantities", params=params)
        assert response.status_code == 422, response.text
        validate("HTTPValidationError", response.json())

    def test_totals(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.add_events(
            {"name": "n", "timestamp": NOON + hours * HOUR, "metadata": {"n": n}}
            for hours, n in ((0, 1), (0, 2), (1, 2), (2, 3), (-1000, 100), (1000, 4))
        )
        for func, given, total in (
            ("sum", [3, 2, 3], 8),
            ("max", [2, 2, 3], 3),
            ("min", [1, 2, 3], 1),
            # These two are of all time.
            ("avg", [1.5, 2, 3], 112 / 6),
            ("unique", [2, 1, 1], 5),
        ):
            body = quantities(
                client, polar_server.add_meter(aggregation={"func": func, "property": "n"}), NOON, NOON + 2 * HOUR
            )
            assert [bucket["quantity"] for bucket in body["quantities"]] == given
            assert body["total"] == total, func


def test_quantities_are_as_described(client: httpx.Client, count: str) -> None:
    validate("MeterQuantities", quantities(client, count, NOON, NOON + HOUR))
