"""Traps of Polar's meters: which events they take, whole buckets, totals, and a store of their own."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from airflow_provider_polar.testing import LocalPolar
from tests.paths import DATA

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
DESCRIPTION: dict[str, Any] = json.loads((DATA / "openapi" / "polar-meters.openapi.json").read_text())


def clause(prop: str, operator: str, value: Any) -> dict[str, Any]:
    return {"property": prop, "operator": operator, "value": value}


def both(*clauses: dict[str, Any], conjunction: str = "and") -> dict[str, Any]:
    return {"conjunction": conjunction, "clauses": list(clauses)}


def quantities(client: httpx.Client, meter: str, start: Any = NOON, end: Any = None, **params: Any) -> dict[str, Any]:
    end = start if end is None else end
    params = {"interval": "hour", "start_timestamp": start.isoformat(), "end_timestamp": end.isoformat(), **params}
    response = client.get(f"/v1/meters/{meter}/quantities", params=params)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def amounts(client: httpx.Client, meter: str, *bounds: Any, **params: Any) -> list[float]:
    return [bucket["quantity"] for bucket in quantities(client, meter, *bounds, **params)["quantities"]]


def moments(client: httpx.Client, meter: str, *bounds: Any, **params: Any) -> list[str]:
    return [bucket["timestamp"] for bucket in quantities(client, meter, *bounds, **params)["quantities"]]


@pytest.fixture
def count(polar_server: LocalPolar) -> str:
    """A meter that counts every event."""
    return polar_server.add_meter()


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


class TestWhoseEvents:
    @pytest.fixture
    def acme(self, polar_server: LocalPolar) -> dict[str, Any]:
        acme = polar_server.add_customer("acme")
        who = [{"customer_id": acme["id"]}, *[{"external_customer_id": one} for one in ("acme", "acme", "globex")]]
        polar_server.add_events(
            {"name": "n", "timestamp": NOON, "metadata": {"n": 2**bit, "plan": "a.b" if bit else True}, **whose}
            for bit, whose in enumerate(who)
        )
        return acme

    def test_a_customer_is_meant_by_either_id(
        self, polar_server: LocalPolar, client: httpx.Client, acme: dict[str, Any]
    ) -> None:
        meter = polar_server.add_meter(aggregation={"func": "sum", "property": "n"})
        unknown = "0b2b1c55-6a52-4a0e-a0f7-0c1f6f5b3f10"
        for whose, quantity in (
            ({"customer_id": acme["id"]}, 7),
            ({"external_customer_id": "acme"}, 7),
            ({"external_customer_id": ["acme", "globex"]}, 15),
            ({"external_customer_id": "globex", "customer_id": unknown}, 8),
            ({"customer_id": unknown}, 0),
        ):
            assert amounts(client, meter, **whose) == [quantity], whose

    def test_metadata_compares_as_text(
        self, polar_server: LocalPolar, client: httpx.Client, acme: dict[str, Any], count: str
    ) -> None:
        for given, quantity in (
            (("plan", "true"), 1),
            (("plan", ["true", "a.b"]), 4),
            (("n", "1"), 1),
            (("x", "1"), 0),
        ):
            assert amounts(client, count, **{f"metadata[{given[0]}]": given[1]}) == [quantity]

    def test_customers_aggregated(self, polar_server: LocalPolar, client: httpx.Client, acme: dict[str, Any]) -> None:
        meter = polar_server.add_meter(aggregation={"func": "sum", "property": "n"})
        # By id 1, by external id 6 and 8: who comes under both of its ids is two.
        for func, quantity in (("max", 8), ("min", 1), ("avg", 5), ("sum", 15), ("count", 3), ("unique", 3)):
            assert amounts(client, meter, customer_aggregation_function=func) == [quantity], func


class TestMeters:
    def test_list_and_get(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.add_meter(name="Tokens", metadata={"team": "a"}, archived=True)
        calls = polar_server.add_meter(
            both(clause("metadata.name", "eq", "x")), name="API calls", metadata={"free": True}
        )
        page = client.get("/v1/meters/").json()
        validate("ListResource_Meter_", page)
        assert [meter["name"] for meter in page["items"]] == ["API calls", "Tokens"]
        meter = client.get(f"/v1/meters/{calls}").json()
        assert meter == page["items"][0]
        assert meter["filter"]["clauses"][0]["property"] == "name"
        for given, names in (
            ({"query": "CALL"}, ["API calls"]),
            ({"is_archived": True}, ["Tokens"]),
            ({"is_archived": False}, ["API calls"]),
            ({"metadata[free]": "true"}, ["API calls"]),
            ({"metadata[team]": ["a", "b"]}, ["Tokens"]),
            ({"sorting": "-created_at"}, ["API calls", "Tokens"]),
            ({"limit": 1, "page": 2}, ["Tokens"]),
            ({"organization_id": polar_server.add_organization()}, []),
        ):
            items = client.get("/v1/meters/", params=given).json()["items"]
            assert [meter["name"] for meter in items] == names, given
        assert client.get("/v1/meters/", params={"sorting": "unit"}).status_code == 422

    def test_what_is_not_there(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        theirs = polar_server.add_meter(organization_id=polar_server.add_organization())
        good = {"start_timestamp": NOON.isoformat(), "end_timestamp": NOON.isoformat(), "interval": "hour"}
        for path, params in ((f"/v1/meters/{theirs}", {}), (f"/v1/meters/{theirs}/quantities", good)):
            response = client.get(path, params=params)
            assert response.status_code == 404
            validate("ResourceNotFound", response.json())
            assert client.get(path.replace(theirs, "x"), params=params).status_code == 422
        assert client.get("/v1/meters/").json()["items"] == []

    def test_slashes(self, client: httpx.Client, count: str) -> None:
        for path in ("/v1/meters", f"/v1/meters/{count}/", f"/v1/meters/{count}/quantities/", "/v1/customer-meters"):
            assert client.get(path).status_code == 307, path

    def test_scopes(self, polar_server: LocalPolar, client: httpx.Client, count: str) -> None:
        polar_server.add_token("polar_oat_other", scopes=("events:read",))
        for path, scope in (
            ("/v1/meters/", "meters:read meters:write"),
            (f"/v1/meters/{count}", "meters:read meters:write"),
            (f"/v1/meters/{count}/quantities", "meters:read meters:write"),
            ("/v1/customer-meters/", "customer_meters:read"),
        ):
            response = client.get(path, headers={"Authorization": "Bearer polar_oat_other"})
            assert (response.status_code, f'scope="{scope}"' in response.headers["www-authenticate"]) == (403, True)

    def test_customer_meters(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        meter = polar_server.add_meter(aggregation={"func": "sum", "property": "n"})
        acme, globex = polar_server.add_customer("acme"), polar_server.add_customer("globex")

        def use(n: int, **whose: str) -> None:
            polar_server.add_events([{"name": "n", "metadata": {"n": n}, "timestamp": "2020-01-01T00:00:00Z", **whose}])

        def tell(name: str, customer: dict[str, Any], **metadata: Any) -> None:
            polar_server.add_events(
                [
                    {
                        "name": f"meter.{name}",
                        "source": "system",
                        "customer_id": customer["id"],
                        "metadata": {"meter_id": meter, **metadata},
                    }
                ]
            )

        use(100, external_customer_id="acme")
        tell("reset", acme)
        use(1, external_customer_id="acme")
        use(2, customer_id=acme["id"])
        use(5, external_customer_id="globex")
        use(9, external_customer_id="nobody's")
        for units in (10, -15, 4):
            tell("credited", globex, units=units)
        page = client.get("/v1/customer-meters/", params={"sorting": "balance", "meter_id": meter}).json()
        validate("ListResource_CustomerMeter_", page)
        keys = ("consumed_units", "credited_units", "balance")
        assert [tuple(item[key] for key in keys) for item in page["items"]] == [(3, 0, -3), (5, 4, -1)]
        for whose in ({"customer_id": acme["id"]}, {"external_customer_id": "acme"}):
            [item] = client.get("/v1/customer-meters/", params=whose).json()["items"]
            assert item["id"] == page["items"][0]["id"]

    def test_they_do_without_the_analytics_store(
        self, polar_server: LocalPolar, client: httpx.Client, count: str
    ) -> None:
        polar_server.settings.analytics = False
        polar_server.add_events([{"name": "n", "timestamp": NOON}], visible_after=3600)
        assert amounts(client, count) == [1]


class TestTwoStores:
    @pytest.fixture
    def ids(self, polar_server: LocalPolar) -> list[str]:
        return polar_server.add_events(
            {"name": "n", "timestamp": NOON, "external_customer_id": "acme", "external_id": f"e{n}"} for n in range(3)
        )

    def seen(self, client: httpx.Client, count: str) -> tuple[int, int, float]:
        """Events counted and given by the list, and metered."""
        page = client.get("/v1/events/").json()
        return page["pagination"]["total_count"], len(page["items"]), amounts(client, count)[0]

    def test_listed_only_and_counted_twice(
        self, polar_server: LocalPolar, client: httpx.Client, count: str, ids: list[str]
    ) -> None:
        polar_server.meter_otherwise(ids[:1], copies=0)
        assert self.seen(client, count) == (3, 3, 2)
        polar_server.meter_otherwise(ids, copies=2)
        assert self.seen(client, count) == (3, 3, 6)
        polar_server.meter_otherwise(ids)
        assert self.seen(client, count) == (3, 3, 3)

    def test_of_another_customer(
        self, polar_server: LocalPolar, client: httpx.Client, count: str, ids: list[str]
    ) -> None:
        polar_server.meter_otherwise(ids[:1], external_customer_id="globex")
        assert self.seen(client, count) == (3, 3, 3)
        for whose, quantity in (("acme", 2), ("globex", 1)):
            assert amounts(client, count, external_customer_id=whose) == [quantity]
        assert {event["external_customer_id"] for event in polar_server.events()} == {"acme"}

    def test_metered_only(self, polar_server: LocalPolar, client: httpx.Client, count: str, ids: list[str]) -> None:
        polar_server.remove_events(ids[:1], store=False)
        assert self.seen(client, count) == (2, 2, 3)
        polar_server.add_events([{"name": "n", "timestamp": NOON}], index=False)
        assert self.seen(client, count) == (2, 2, 4)

    def test_removed_and_restored(
        self, polar_server: LocalPolar, client: httpx.Client, count: str, ids: list[str]
    ) -> None:
        before = polar_server.events()
        polar_server.remove_events(ids[:2])
        assert self.seen(client, count) == (1, 1, 1)
        assert client.get(f"/v1/events/{ids[0]}").status_code == 404
        polar_server.restore_events(ids)
        assert self.seen(client, count) == (3, 3, 3)
        assert polar_server.events() == before

    def test_what_is_stored_anew_cannot_be_restored(
        self, polar_server: LocalPolar, client: httpx.Client, count: str, ids: list[str]
    ) -> None:
        polar_server.remove_events(ids)
        polar_server.add_events([{"name": "n", "timestamp": NOON, "external_id": "e1"}])
        with pytest.raises(sqlite3.IntegrityError):
            polar_server.restore_events(ids)
        assert self.seen(client, count) == (1, 1, 1)
        polar_server.restore_events(ids[:1])
        assert self.seen(client, count) == (2, 2, 2)

    def test_from_another_process(
        self, polar_server: LocalPolar, client: httpx.Client, count: str, ids: list[str]
    ) -> None:
        meter = {"meter_filter": both(clause("name", "eq", "n")), "name": "N", "aggregation": {"func": "count"}}
        added = client.post("/_local/meters", json=meter).json()["id"]
        assert amounts(client, added) == [3]
        client.post("/_local/events/meter", json={"ids": ids[:1], "copies": 3})
        assert amounts(client, added) == [5]
        client.post("/_local/events/remove", json={"ids": ids[:1]})
        assert self.seen(client, added) == (2, 2, 2)
        client.post("/_local/events/restore", json={"ids": ids[:1]})
        assert self.seen(client, added) == (3, 3, 5)
        wrong = client.post("/_local/meters", json={"aggregation": {"func": "median"}})
        assert wrong.status_code == 400


def validate(schema: str, value: Any) -> None:
    root = {"$ref": f"#/components/schemas/{schema}", "components": DESCRIPTION["components"]}
    errors = [error.message for error in Draft202012Validator(root).iter_errors(value)]
    assert not errors, errors[:3]


def test_quantities_are_as_described(client: httpx.Client, count: str) -> None:
    validate("MeterQuantities", quantities(client, count, NOON, NOON + HOUR))
