"""Both clients against the local Polar, its faults, and beside polar-sdk."""

import inspect
import logging
import socket
from datetime import UTC, datetime

import pytest
from polar.v2026_04 import Polar

from airflow_provider_polar import exceptions
from airflow_provider_polar.api import requests
from airflow_provider_polar.api.client import AsyncPolarClient, PolarClient
from airflow_provider_polar.api.retrying import NO_RETRIES, Retries
from tests.paths import DATA
from tests.unit.api.conftest import Both

EVENTS = [
    {
        "name": f"sample.{n % 3}",
        "external_customer_id": f"cust_{n % 4}",
        "external_id": f"e{n}",
        "timestamp": datetime(2026, 10, 1, 10, 0, n, 123456, tzinfo=UTC),
        "metadata": {"n": n, "even": n % 2 == 0, "route": f"/r/{n % 5}"},
    }
    for n in range(25)
]


def test_the_clients_have_the_same_methods_and_parameters():
    calls = ("list", "list_rows", "list_names", "get", "ingest")
    of_meters = ("list_meters", "get_meter", "meter_quantities", "list_customer_meters")
    for name in (*calls, *of_meters, "send", "__init__"):
        sync, other = (inspect.signature(getattr(c, name)) for c in (PolarClient, AsyncPolarClient))
        assert [p for p in sync.parameters if p != "transport"] == [p for p in other.parameters if p != "transport"]


def test_every_parameter_of_polar_s_description_is_there():
    import json

    spec = {}
    for name in ("events", "meters"):
        spec |= json.loads((DATA / "openapi" / f"polar-{name}.openapi.json").read_text())["paths"]
    for path, method in (
        ("/v1/events/", PolarClient.list),
        ("/v1/events/names", PolarClient.list_names),
        ("/v1/meters/", PolarClient.list_meters),
        ("/v1/meters/{id}/quantities", PolarClient.meter_quantities),
        ("/v1/customer-meters/", PolarClient.list_customer_meters),
    ):
        described = {p["name"] for p in spec[path]["get"]["parameters"] if p["in"] == "query"}
        assert described <= set(inspect.signature(method).parameters)


def test_a_filter_that_is_none_is_refused(polar):
    for method, wrong in (
        ("list", "start"),
        ("list", "customer"),
        ("list_names", "name"),
        ("list_names", "event_name"),
    ):
        with pytest.raises(exceptions.PolarFilterError, match=f"filter {wrong}: "):
            polar(method, **{wrong: "a"})
    assert polar.server.requests == []


def test_four_operations(polar):
    assert polar("ingest", EVENTS).inserted == 25
    again = polar("ingest", EVENTS)
    assert (again.inserted, again.duplicates) == (0, 25)
    page = polar("list", limit=10, sorting="timestamp", name=["sample.0", "sample.1"], metadata={"even": True})
    assert [e.metadata["n"] for e in page.items] == [0, 4, 6, 10, 12, 16, 18, 22, 24]
    assert page.items[0].timestamp == EVENTS[0]["timestamp"]
    assert polar("get", page.items[0].id) == page.items[0]
    names = polar("list_names", sorting="name", query="SAMPLE")
    assert [(n.name, n.occurrences) for n in names.items] == [("sample.0", 9), ("sample.1", 8), ("sample.2", 8)]


def test_polar_sdk_and_the_clients_get_the_same_answers(polar):
    server = polar.server
    with Polar(server.token, base_url=server.base_url) as sdk:
        sdk.events.ingest(events=[{**e, "timestamp": e["timestamp"].isoformat()} for e in EVENTS[:10]])
        polar("ingest", EVENTS[10:])
        for asked in (
            {"limit": 100, "sorting": ["timestamp"]},
            {"limit": 7, "page": 2, "name": ["sample.1", "sample.2"]},
            {"external_customer_id": "cust_1", "metadata": {"route": "/r/0"}},
            {"filter": '{"conjunction":"and","clauses":[{"property":"n","operator":"lt","value":5}]}'},
        ):
            theirs, ours = sdk.events.list(**asked), polar("list", **asked)
            assert [e.id for e in theirs.items] == [e.id for e in ours.items]
            assert theirs.pagination.total_count == ours.pagination.total_count
            assert len(ours.items) > 0
        theirs, ours = sdk.events.list_names(), polar("list_names")
        assert [(n.name, n.occurrences) for n in theirs.items] == [(n.name, n.occurrences) for n in ours.items]
        one = ours = polar("list", limit=1).items[0]
        assert sdk.events.get(one.id).id == one.id


def test_unknown_fields_and_kinds_of_events_are_kept(polar):
    polar.server.add_events(
        [{"name": "moon.landed", "source": "system", "timestamp": "2026-10-01T00:00:00Z", "metadata": {"a": {"b": []}}}]
    )
    [event] = polar("list").items
    assert event.name == "moon.landed"
    assert event.metadata == {"a": {"b": []}}


@pytest.mark.parametrize("fault", ["status", "reset", "truncated", "broken", "lost_response"])
def test_faults_are_waited_out(polar, fault):
    polar.server.fail(fault, path="list", times=2)
    assert polar("list").items == []
    assert len(polar.server.requests) == 3


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("status", exceptions.PolarServerError),
        ("reset", exceptions.PolarTransportError),
        ("truncated", exceptions.PolarTransportError),
        ("broken", exceptions.PolarTransportError),
    ],
)
def test_lasting_faults_are_clear_errors(polar, fault, error):
    polar.server.fail(fault)
    with pytest.raises(error) as raised:
        polar("list", retries=Retries(attempts=2, initial=0.01))
    assert "GET /v1/events/" in str(raised.value)
    assert len(polar.server.requests) == 2


def test_a_time_out_is_a_transport_error(polar_server):
    polar_server.fail("delay", delay=1.0)
    client = PolarClient("t", base_url=polar_server.base_url, timeout=0.1, retries=NO_RETRIES)
    with client, pytest.raises(exceptions.PolarTransportError):
        client.list()


def test_429_waits_what_polar_says(polar):
    polar.server.fail("rate_limit", times=1, retry_after=1)
    polar("list")
    first, second = (r.time for r in polar.server.requests)
    assert second - first >= 1.0


@pytest.mark.parametrize("fault", ["status", "lost_response", "reset", "truncated"])
def test_an_ingest_without_ids_is_never_sent_twice(polar, fault):
    polar.server.fail(fault, path="ingest", times=1)
    with pytest.raises(exceptions.PolarApiError):
        polar("ingest", [{**EVENTS[0]}, {"name": "no.id", "external_customer_id": "c"}])
    assert len(polar.server.requests) == 1


def test_a_lost_response_does_not_store_twice(polar):
    polar.server.fail("lost_response", path="ingest", times=2)
    assert polar("ingest", EVENTS).duplicates == 25
    assert polar.server.count() == 25


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (("list",), {"start_timestamp": datetime(2026, 1, 1)}),  # noqa: DTZ001
        (("list",), {"limit": 101}),
        (("list",), {"page": 0}),
        (("list",), {"sorting": "name"}),
        (("list",), {"name": []}),
        (("list_names",), {"sorting": "timestamp"}),
        (("get", "abc"), {}),
        (("ingest", [{"name": "a", "metadata": {"x": float("nan")}}]), {}),
        (("ingest", [{"name": "a", "timestamp": datetime(2026, 1, 1)}]), {}),  # noqa: DTZ001
        (("ingest", [{"name": "a"}] * 32_768), {}),
        (("ingest", [{"name": "a" * 11_000_000}]), {}),
    ],
)
def test_bad_input_is_refused_before_any_request(polar, call, error):
    with pytest.raises(exceptions.PolarConfigurationError):
        polar(*call, **error)
    assert polar.server.requests == []


def test_wrong_token_scope_version_and_host(polar, caplog):
    caplog.set_level(logging.DEBUG)
    server = polar.server
    server.add_token("polar_oat_reader", scopes=("events:read",))
    seen = []
    with pytest.raises(exceptions.PolarAuthenticationError) as raised:
        polar("list", token="polar_oat_wrong")
    seen.append(str(raised.value))
    with pytest.raises(exceptions.PolarScopeError, match="events:write") as raised:
        polar("ingest", EVENTS, token="polar_oat_reader")
    seen.append(str(raised.value))
    with pytest.raises(exceptions.PolarVersionError, match="2020-01") as raised:
        Both(polar.kind, server, api_version="2020-01")("list")
    seen.append(str(raised.value))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(exceptions.PolarTransportError) as raised:
        Both(polar.kind, server, base_url=nowhere)("list", retries=NO_RETRIES)
    seen.append(str(raised.value))
    for token in (server.token, "polar_oat_wrong", "polar_oat_reader"):
        assert token not in "\n".join([*seen, caplog.text])


def test_the_budget_is_shared_by_clients_of_one_connection(polar_server):
    options = {"base_url": polar_server.base_url, "requests_per_minute": 60}
    with PolarClient("polar_oat_test", **options) as one, PolarClient("polar_oat_test", **options) as two:
        for _ in range(4):
            one.list()
            two.list()
    times = [r.time for r in polar_server.requests]
    # A tenth of the budget goes at once, the seventh and the eighth an interval each later.
    assert times[-1] - times[5] >= 1.9


def test_rows_keep_their_bytes(polar):
    polar("ingest", EVENTS[:1])
    page = polar("list_rows", requests.list_events(requests.EventFilters(), limit=100))
    [row] = page.rows
    assert row.timestamp == EVENTS[0]["timestamp"]
    assert row.to_dict()["metadata"] == EVENTS[0]["metadata"]
    assert list(row.values)[:3] == ["id", "timestamp", "organization_id"]


def test_an_event_of_year_1_comes_without_a_zone(polar):
    polar.server.add_events([{"name": "old", "timestamp": "0001-01-01T00:00:00Z"}])
    [event] = polar("list").items
    assert event.timestamp == datetime(1, 1, 1, tzinfo=UTC)
    [row] = polar("list_rows", requests.list_events(requests.EventFilters())).rows
    assert row.timestamp == datetime(1, 1, 1, tzinfo=UTC)
