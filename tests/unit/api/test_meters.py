"""The calls about meters, of both clients, and what is refused before any request."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from airflow_provider_polar import exceptions
from airflow_provider_polar.api.buckets import buckets_of
from airflow_provider_polar.api.models import Meter
from tests.unit.api.conftest import Both

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
ID = "0b2b1c55-6a52-4a0e-a0f7-0c1f6f5b3f10"


@pytest.fixture
def meter(polar):
    acme = polar.server.add_customer("acme")
    polar.server.add_events(
        {
            "name": "use",
            "timestamp": NOON + n * HOUR,
            "metadata": {"n": n, "paid": n % 2 == 0},
            "customer_id": acme["id"],
        }
        for n in range(4)
    )
    return polar.server.add_meter(
        {"conjunction": "and", "clauses": [{"property": "name", "operator": "eq", "value": "use"}]},
        name="Use",
        aggregation={"func": "sum", "property": "n"},
        metadata={"team": "a"},
    )


class TestCalls:
    def test_meters(self, polar, meter):
        old = polar.server.add_meter(name="Old", archived=True)
        page = polar("list_meters", sorting=["-name"], limit=1, page=2)
        assert ([one.id for one in page.items], page.pagination.total_count) == ([old], 2)
        assert page.items[0].archived_at.tzinfo is UTC
        for filters in ({"is_archived": False}, {"query": "US"}, {"metadata": {"team": "a"}}):
            assert [one.id for one in polar("list_meters", **filters).items] == [meter]
        one = polar("get_meter", meter)
        assert (one.name, one.unit, one.aggregation) == ("Use", "scalar", {"func": "sum", "property": "n"})
        assert one.filter["clauses"][0]["value"] == "use"

    def test_quantities_are_polar_s_own(self, polar, meter):
        bounds = {"start_timestamp": NOON, "end_timestamp": NOON + 2 * HOUR, "interval": "hour"}
        found = polar("meter_quantities", meter, **bounds)
        assert [(one.timestamp, one.quantity) for one in found.quantities] == [
            (NOON, 0),
            (NOON + HOUR, 1),
            (NOON + 2 * HOUR, 2),
        ]
        assert found.total == 3
        for filters, total in (
            ({"external_customer_id": ["acme", "globex"]}, 3),
            ({"customer_id": ID}, 0),
            ({"metadata": {"paid": True}}, 2),
            ({"timezone": "Asia/Kathmandu", "customer_aggregation_function": "max"}, 3),
        ):
            assert polar("meter_quantities", meter, **bounds, **filters).total == total, filters
        sent = dict(polar.server.requests[-1].params)
        assert sent == {
            "start_timestamp": "2026-11-02T12:00:00Z",
            "end_timestamp": "2026-11-02T14:00:00Z",
            "interval": "hour",
            "timezone": "Asia/Kathmandu",
            "customer_aggregation_function": "max",
        }

    def test_customer_meters(self, polar, meter):
        page = polar("list_customer_meters", meter_id=[meter, ID], external_customer_id="acme", sorting="balance")
        [one] = page.items
        assert (one.consumed_units, one.credited_units, one.balance, one.meter.id) == (6, 0, -6, meter)
        assert polar("list_customer_meters", customer_id=ID).items == []

    def test_what_is_not_known_is_kept(self):
        meter = Meter.model_validate({"id": ID, "name": "n", "filter": {}, "aggregation": {"func": "p99"}, "new": [1]})
        assert meter.model_dump()["new"] == [1]

    def test_a_missing_scope_is_named(self, polar, meter):
        polar.server.add_token("polar_oat_reader", scopes=("events:read",))
        for scope, call in (
            ("meters:read or meters:write", ("list_meters",)),
            ("meters:read or meters:write", ("get_meter", meter)),
            ("customer_meters:read", ("list_customer_meters",)),
        ):
            with pytest.raises(exceptions.PolarScopeError, match=f"needs {scope}"):
                polar(*call, token="polar_oat_reader")

    def test_what_is_not_there(self, polar):
        bounds = {"start_timestamp": NOON, "end_timestamp": NOON, "interval": "day"}
        for call, given in (("get_meter", {}), ("meter_quantities", bounds)):
            with pytest.raises(exceptions.PolarNotFoundError, match=f"^Polar has no meter {ID} \\(http://[^)]*\\)$"):
                polar(call, ID, **given)


class TestRefused:
    @pytest.mark.parametrize(
        ("given", "error", "told"),
        [
            ({"interval": "minute"}, exceptions.PolarConfigurationError, "none of hour, day, week"),
            ({"timezone": "Mars/Olympus"}, exceptions.PolarConfigurationError, "'Mars/Olympus' is not known"),
            ({"timezone": "../etc"}, exceptions.PolarConfigurationError, "is not known"),
            ({"customer_aggregation_function": "p99"}, exceptions.PolarConfigurationError, "none of count, sum"),
            ({"customer_id": "acme"}, exceptions.PolarFilterError, "customer_id.*is not a UUID"),
            ({"external_customer_id": ""}, exceptions.PolarFilterError, "external_customer_id"),
            ({"start_timestamp": NOON.replace(tzinfo=None)}, exceptions.PolarConfigurationError, "no time zone"),
            ({"start_timestamp": datetime(2022, 12, 31, 23, tzinfo=UTC)}, exceptions.PolarWindowError, "before 2023"),
            ({"end_timestamp": NOON - HOUR}, exceptions.PolarWindowError, "the start is after the end"),
            ({"customer": "acme"}, exceptions.PolarFilterError, "did you mean customer_id"),
        ],
    )
    def test_quantities(self, polar, given, error, told):
        good = {"start_timestamp": NOON, "end_timestamp": NOON, "interval": "hour"}
        with pytest.raises(error, match=told):
            polar("meter_quantities", ID, **{**good, **given})
        assert polar.server.requests == []

    @pytest.mark.parametrize(
        ("call", "args", "filters"),
        [
            ("get_meter", ("x",), {}),
            ("list_meters", (), {"name": "x"}),
            ("list_meters", (), {"is_archived": "no"}),
            ("list_meters", (), {"sorting": "unit"}),
            ("list_meters", (), {"limit": 101}),
            ("list_customer_meters", (), {"meter_id": "x"}),
            ("list_customer_meters", (), {"metadata": {"a": "b"}}),
        ],
    )
    def test_others(self, polar, call, args, filters):
        with pytest.raises(exceptions.PolarConfigurationError):
            polar(call, *args, **filters)
        assert polar.server.requests == []

    @pytest.mark.parametrize(
        ("interval", "days"), [("hour", 7), ("day", 366), ("week", 371), ("month", 1460), ("year", 3650)]
    )
    def test_the_limits_are_polar_s_own(self, polar_server, interval, days):
        client = Both("sync", polar_server)
        meter = polar_server.add_meter()
        # By the calendar of UTC, whatever zone the bounds are written in.
        start = datetime(2023, 1, 1, 1, tzinfo=timezone(HOUR))
        end = datetime(2023, 1, 1, 23, 59, tzinfo=UTC) + days * DAY
        bounds = {"start_timestamp": start, "end_timestamp": end, "interval": interval}
        client("meter_quantities", meter, **bounds)
        with pytest.raises(exceptions.PolarWindowError, match=f"{days:,} days at most"):
            client("meter_quantities", meter, **bounds | {"end_timestamp": end + timedelta(minutes=1)})
        assert [request.status for request in polar_server.requests] == [200]


class TestBuckets:
    @pytest.mark.parametrize(
        ("interval", "zone", "start", "end", "number"),
        [
            ("hour", "UTC", "2026-11-02T10", "2026-11-02T12", 2),
            ("hour", "Asia/Kathmandu", "2026-11-02T10:15", "2026-11-02T12:15", 2),
            ("hour", "America/New_York", "2026-11-01T04", "2026-11-02T05", 25),
            ("day", "America/New_York", "2026-10-31T04", "2026-11-03T05", 3),
            ("day", "America/Santiago", "2026-09-05T04", "2026-09-09T03", 4),
            ("day", "America/Havana", "2026-10-31T04", "2026-11-03T05", 3),
            ("week", "UTC", "2026-11-02T00", "2026-11-16T00", 2),
            ("month", "Europe/Paris", "2025-12-31T23", "2026-04-30T22", 4),
            ("year", "UTC", "2024-01-01T00", "2026-01-01T00", 2),
        ],
    )
    def test_the_last_of_a_window_is_the_last_that_polar_gives(self, polar_server, interval, zone, start, end, number):
        start, end = (datetime.fromisoformat(f"{text}+00:00") for text in (start, end))
        polar_server.add_events(
            {"name": "n", "timestamp": moment}
            for moment in (start - timedelta(microseconds=1), start, end - timedelta(microseconds=1), end)
        )
        buckets = buckets_of(start, end, interval, zone)
        found = Both("sync", polar_server)(
            "meter_quantities",
            polar_server.add_meter(),
            start_timestamp=buckets[0],
            end_timestamp=buckets[-1],
            interval=interval,
            timezone=zone,
        )
        assert len(buckets) == number
        assert [one.timestamp for one in found.quantities] == buckets
        assert (found.total, found.quantities[-1].quantity) == (2, 1)

    @pytest.mark.parametrize(
        ("interval", "zone", "start", "end", "told"),
        [
            ("hour", "UTC", "2026-11-02T10:30", "2026-11-02T12", "at its start no hour begins in UTC"),
            ("hour", "UTC", "2026-11-02T10", "2026-11-02T11:59:59.999999", "at its end no hour begins"),
            ("day", "America/New_York", "2026-11-01T04", "2026-11-02T04", "at its end no day begins in America/New_Y"),
            ("week", "UTC", "2026-11-01T00", "2026-11-16T00", "at its start no week begins"),
            ("month", "UTC", "2026-11-01T00", "2026-11-16T00", "at its end no month begins"),
            ("hour", "UTC", "0001-01-01T00", "2026-11-09T01", "before 2023"),
        ],
    )
    def test_other_windows_are_refused(self, interval, zone, start, end, told):
        start, end = (datetime.fromisoformat(f"{text}+00:00") for text in (start, end))
        with pytest.raises(exceptions.PolarWindowError, match=told):
            buckets_of(start, end, interval, zone)

    def test_a_window_may_be_of_more_than_one_request(self):
        start = datetime(2023, 1, 1, tzinfo=UTC)
        assert len(buckets_of(start, start + 60 * DAY, "hour")) == 60 * 24

    def test_bounds_may_be_written_in_any_zone(self):
        there = ZoneInfo("America/New_York")
        days = buckets_of(datetime(2026, 11, 1, tzinfo=there), datetime(2026, 11, 3, tzinfo=there), "day", there.key)
        assert days == [datetime(2026, 11, 1, 4, tzinfo=UTC), datetime(2026, 11, 2, 5, tzinfo=UTC)]
