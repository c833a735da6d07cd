"""Polar's meters: whose events they count, lists of them, and a store of their own."""

from __future__ import annotations

import sqlite3
from typing import Any

import httpx
import pytest
from polar.v2026_04 import Polar

from airflow_provider_polar.testing import LocalPolar
from tests.unit.testing.meters import HOUR, NOON, amounts, both, clause, validate


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


def test_polar_s_own_client_reads_them(polar_server: LocalPolar) -> None:
    acme = polar_server.add_customer("acme")
    polar_server.add_events(
        {"name": "use", "timestamp": NOON + n * HOUR, "customer_id": acme["id"], "metadata": {"n": n}} for n in range(3)
    )
    meters = {
        func: polar_server.add_meter(
            name=func, aggregation={"func": func, "property": "n"} if func != "count" else None
        )
        for func in ("count", "sum", "max", "min", "avg", "unique")
    }
    sdk = Polar(polar_server.token, base_url=polar_server.base_url)
    assert {meter.name: meter.id for meter in sdk.meters.iter_list(limit=4)} == meters
    for func, total in (("count", 2), ("sum", 3), ("max", 2), ("min", 1), ("avg", 1), ("unique", 3)):
        assert sdk.meters.get(meters[func]).aggregation.func == func
        given = sdk.meters.quantities(
            meters[func],
            start_timestamp=(NOON + HOUR).isoformat(),
            end_timestamp=(NOON + 2 * HOUR).isoformat(),
            interval="hour",
            timezone="Europe/Paris",
            external_customer_id=["acme"],
        )
        assert (len(given.quantities), given.total) == (2, total), func
    consumed = {item.meter.name: item.consumed_units for item in sdk.customer_meters.list(limit=100).items}
    assert consumed == {"count": 3, "sum": 3, "max": 2, "min": 0, "avg": 1, "unique": 3}


def test_a_cost_is_kept_as_a_number_and_given_as_text(polar_server: LocalPolar, client: httpx.Client) -> None:
    events = [
        {
            "name": "use",
            "external_customer_id": "acme",
            "timestamp": NOON.replace(year=2025).isoformat(),
            "metadata": {"_cost": {"amount": amount, "currency": "usd"}},
        }
        for amount in (12, "0.025")
    ]
    assert client.post("/v1/events/ingest", json={"events": events}).json()["inserted"] == 2
    given = [event["metadata"]["_cost"]["amount"] for event in client.get("/v1/events/").json()["items"]]
    assert sorted(given) == ["0.025", "12.0"]
    meter = polar_server.add_meter(aggregation={"func": "sum", "property": "_cost.amount"})
    assert amounts(client, meter, NOON.replace(year=2025)) == [12.025]


def test_an_event_whose_parent_is_not_there_is_metered(
    polar_server: LocalPolar, client: httpx.Client, count: str
) -> None:
    polar_server.add_events([{"name": "n", "timestamp": NOON, "parent_id": "unknown"}])
    assert client.get("/v1/events/").json()["items"] == []
    assert amounts(client, count) == [1]
