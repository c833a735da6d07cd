"""Traps of Polar's lists, each as it was measured on its server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from airflow_provider_polar.testing import LocalPolar

NOON = datetime(2026, 10, 1, 12, tzinfo=UTC)


def listed(client: httpx.Client, **parameters: Any) -> dict[str, Any]:
    parameters = {"limit": 100, "sorting": "timestamp", **parameters}
    answer = client.get("/v1/events/", params=parameters)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def names(client: httpx.Client, **parameters: Any) -> list[str]:
    return [item["name"] for item in listed(client, **parameters)["items"]]


def total(client: httpx.Client, **parameters: Any) -> int:
    count: int = listed(client, **parameters)["pagination"]["total_count"]
    return count


def pages(client: httpx.Client, **parameters: Any) -> Iterator[list[str]]:
    """The ids of page after page, as every ordinary client reads them."""
    page = 1
    while True:
        body = listed(client, page=page, **parameters)
        yield [item["id"] for item in body["items"]]
        if page >= body["pagination"]["max_page"]:
            return
        page += 1


def forward(client: httpx.Client) -> list[str]:
    """All ids by reading forward in time: the last millisecond of a page is read again."""
    ids: list[str] = []
    start: datetime | None = None
    while True:
        body = listed(client, **({} if start is None else {"start_timestamp": start.isoformat()}))
        items = body["items"]
        moments = [cut(datetime.fromisoformat(item["timestamp"])) for item in items]
        if body["pagination"]["total_count"] == len(items):
            return ids + [item["id"] for item in items]
        ids += [item["id"] for item, moment in zip(items, moments, strict=True) if moment < moments[-1]]
        start = moments[-1] - timedelta(milliseconds=1)


def cut(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def clause(prop: str, operator: str, value: Any) -> dict[str, Any]:
    return {"property": prop, "operator": operator, "value": value}


def filtered(client: httpx.Client, *clauses: dict[str, Any], conjunction: str = "and") -> list[str]:
    return sorted(names(client, filter=json.dumps({"conjunction": conjunction, "clauses": clauses})))


class TestBounds:
    @pytest.fixture(autouse=True)
    def _events(self, polar_server: LocalPolar) -> None:
        polar_server.add_events(
            {"name": name, "timestamp": NOON + timedelta(microseconds=microseconds)}
            for name, microseconds in [
                ("-1000", -1000),
                ("-1", -1),
                ("0", 0),
                ("999", 999),
                ("1000", 1000),
                ("1s", 1_000_000),
            ]
        )

    def test_both_are_exclusive_in_whole_milliseconds(self, client: httpx.Client) -> None:
        assert names(client, start_timestamp=NOON.isoformat()) == ["1000", "1s"]
        assert sorted(names(client, end_timestamp=NOON.isoformat())) == ["-1", "-1000"]
        late = (NOON + timedelta(microseconds=999)).isoformat()
        assert names(client, start_timestamp=late) == ["1000", "1s"]
        assert sorted(names(client, end_timestamp=late)) == ["-1", "-1000"]

    def test_one_millisecond_earlier_is_the_half_open_window(self, client: httpx.Client) -> None:
        start = (NOON - timedelta(milliseconds=1)).isoformat()
        end = (NOON + timedelta(seconds=1)).isoformat()
        assert sorted(names(client, start_timestamp=start, end_timestamp=end)) == ["0", "1000", "999"]

    def test_reversed_or_equal_ones_give_nothing(self, client: httpx.Client) -> None:
        for end in (NOON, NOON - timedelta(hours=1)):
            body = listed(client, start_timestamp=NOON.isoformat(), end_timestamp=end.isoformat())
            assert body == {"items": [], "pagination": {"total_count": 0, "max_page": 0}}

    def test_an_older_engine_cuts_them_to_whole_seconds(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.settings.bounds = "second"
        start = (NOON + timedelta(milliseconds=500)).isoformat()
        assert names(client, start_timestamp=start) == ["1000", "1s"]
        assert sorted(names(client, end_timestamp=start)) == ["-1", "-1000"]

    def test_a_plus_that_was_not_encoded_is_refused(self, client: httpx.Client) -> None:
        answer = client.get(f"/v1/events/?start_timestamp={NOON.isoformat()}")
        assert answer.status_code == 422


class TestPages:
    def test_5000_events_of_one_millisecond(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.add_events({"name": "rollup", "timestamp": NOON} for _ in range(5000))
        read = [event_id for page in pages(client) for event_id in page]
        assert len(read) == 5000
        assert 2500 < len(set(read)) < 4500
        assert read == [event_id for page in pages(client) for event_id in page]

    def test_events_that_share_a_millisecond_across_a_page_edge(
        self, polar_server: LocalPolar, client: httpx.Client
    ) -> None:
        polar_server.add_events({"name": "a", "timestamp": NOON + timedelta(seconds=n // 7)} for n in range(3000))
        read = [event_id for page in pages(client) for event_id in page]
        assert len(read) == 3000
        assert 2800 < len(set(read)) < 3000

    def test_no_ties_no_loss(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        ids = polar_server.add_events({"name": "a", "timestamp": NOON + timedelta(milliseconds=n)} for n in range(500))
        assert [event_id for page in pages(client) for event_id in page] == ids
        backwards = [event_id for page in pages(client, sorting="-timestamp") for event_id in page]
        assert backwards == ids[::-1]

    def test_forward_by_time_is_exact(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        ids = polar_server.add_events({"name": "a", "timestamp": NOON + timedelta(seconds=n // 7)} for n in range(3000))
        read = forward(client)
        assert len(read) == 3000
        assert set(read) == set(ids)

    def test_order_within_a_millisecond_is_not_that_of_time(
        self, polar_server: LocalPolar, client: httpx.Client
    ) -> None:
        polar_server.add_events({"name": f"{n:03}", "timestamp": NOON + timedelta(microseconds=n)} for n in range(100))
        assert names(client) != sorted(names(client))

    def test_a_deep_page_is_the_same_however_it_is_found(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.add_events({"name": "a", "timestamp": NOON + timedelta(seconds=n // 7)} for n in range(1000))
        for sorting in ("timestamp", "-timestamp"):
            parameters = {"page": 7, "limit": 30, "sorting": sorting}
            parameters |= {"start_timestamp": "2026-10-01T12:00:05Z", "end_timestamp": "2026-10-01T12:02:00Z"}
            answers = [listed(client, **parameters) for _ in range(4)]
            assert answers == [answers[0]] * 4
            assert len(answers[0]["items"]) == 30
            polar_server.add_events([])

    def test_beyond_the_end_the_count_is_0(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.add_events({"name": "a"} for _ in range(20))
        assert total(client, limit=10, page=2) == 20
        assert listed(client, limit=10, page=3) == {"items": [], "pagination": {"total_count": 0, "max_page": 0}}

    def test_limits_above_100_are_100(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.add_events({"name": "a"} for _ in range(150))
        body = listed(client, limit=1000)
        assert (len(body["items"]), body["pagination"]["max_page"]) == (100, 2)
        assert client.get("/v1/events/", params={"page": 0}).status_code == 422
        assert len(client.get("/v1/events/").json()["items"]) == 10

    def test_the_fault_of_a_short_page(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.add_events({"name": "a"} for _ in range(30))
        polar_server.fail("short_page", path="list", times=1, rows=3)
        assert [len(listed(client, limit=10)["items"]) for _ in range(2)] == [7, 10]


class TestTwoStores:
    def test_in_the_index_only_is_counted_and_not_given(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.add_events([{"name": "kept"}])
        [ghost] = polar_server.add_events([{"name": "ghost"}], store=False)
        assert (names(client), total(client)) == (["kept"], 2)
        assert client.get(f"/v1/events/{ghost}").status_code == 404
        assert [event["name"] for event in polar_server.events()] == ["kept"]

    def test_in_the_store_only_is_not_listed(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        [hidden] = polar_server.add_events([{"name": "hidden"}], index=False)
        assert (names(client), total(client), polar_server.count()) == ([], 0, 1)
        assert client.get(f"/v1/events/{hidden}").status_code == 404

    def test_a_page_is_short_by_what_is_counted_twice_on_it(
        self, polar_server: LocalPolar, client: httpx.Client
    ) -> None:
        moments = [NOON + timedelta(seconds=second) for second in range(60)]
        polar_server.add_events([{"name": str(n), "timestamp": moment} for n, moment in enumerate(moments)])
        before = [moment - timedelta(milliseconds=1) for moment in moments[:50]]
        polar_server.add_events(
            [{"name": f"twin {n}", "timestamp": moment} for n, moment in enumerate(before)], copies=2
        )
        first, second = listed(client), listed(client, page=2)
        assert [body["pagination"]["total_count"] for body in (first, second)] == [160, 160]
        assert len(first["items"]) == len({item["id"] for item in first["items"]}) < 100
        # Rows are fetched by the ids of a page: one whose two entries lie on two pages is given on both.
        assert {item["name"] for item in first["items"]} | {item["name"] for item in second["items"]} == {
            *(str(n) for n in range(60)),
            *(f"twin {n}" for n in range(50)),
        }

    def test_twice_in_the_index_is_given_once_or_twice(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.add_events([{"name": "twin"}], copies=2)
        assert (names(client), total(client)) == (["twin"], 2)
        polar_server.settings.collapse_duplicates = False
        assert (names(client), total(client)) == (["twin", "twin"], 2)

    def test_events_are_seen_after_a_while(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.settings.visibility_lag = 0.3
        client.post("/v1/events/ingest", json={"events": [{"name": "a", "external_customer_id": "c"}]})
        [event] = polar_server.events()
        assert (total(client), client.get(f"/v1/events/{event['id']}").status_code) == (0, 404)
        deadline = time.monotonic() + 5
        while total(client) == 0:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert client.get(f"/v1/events/{event['id']}").json()["id"] == event["id"]

    def test_a_batch_is_seen_in_pieces(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.settings.visibility_lag = (0.0, 0.6)
        events = [{"name": "a", "external_customer_id": "c"}] * 500
        client.post("/v1/events/ingest", json={"events": events})
        counts = {total(client)}
        deadline = time.monotonic() + 5
        while 500 not in counts:
            assert time.monotonic() < deadline
            counts.add(total(client))
        assert len(counts) > 3

    @pytest.mark.parametrize("by", ["id", "external_id"])
    def test_a_child_is_seen_once_its_parent_arrives(
        self, polar_server: LocalPolar, client: httpx.Client, by: str
    ) -> None:
        parent = {"id": "0b2b1c55-6a52-4a0e-a0f7-0c1f6f5b3f10", "external_id": "parent-1"}
        child = {"name": "child", "external_customer_id": "c", "parent_id": parent[by]}
        answer = client.post("/v1/events/ingest", json={"events": [child]})
        assert (answer.json()["inserted"], total(client)) == (1, 0)
        polar_server.add_events([{"name": "parent", **parent}])
        assert sorted(names(client)) == ["child", "parent"]
        by_name = {item["name"]: item for item in listed(client)["items"]}
        assert by_name["child"]["parent_id"] == by_name["parent"]["id"] == parent["id"]
        assert by_name["parent"]["child_count"] == 1
        assert client.get(f"/v1/events/{by_name['parent']['id']}").json()["child_count"] == 0

    def test_events_before_1970_break_filters_on_time_for_good(
        self, polar_server: LocalPolar, client: httpx.Client
    ) -> None:
        event = {"name": "a", "external_customer_id": "c", "timestamp": "1969-12-31T23:59:59Z"}
        whole = {"filter": json.dumps({"conjunction": "and", "clauses": [clause("timestamp", "gte", 0)]})}
        assert client.get("/v1/events/", params=whole).status_code == 200
        assert client.post("/v1/events/ingest", json={"events": [event]}).status_code == 200
        answer = client.get("/v1/events/", params=whole)
        assert (answer.status_code, answer.text) == (500, "Internal Server Error")
        assert answer.headers["content-type"].startswith("text/plain")
        assert names(client) == ["a"]
        assert filtered(client, clause("name", "eq", "a")) == ["a"]
        polar_server.add_token("other", organization_id=polar_server.add_organization())
        other = client.get("/v1/events/", params=whole, headers={"Authorization": "Bearer other"})
        assert other.status_code == 200


class TestFilters:
    @pytest.fixture(autouse=True)
    def _events(self, polar_server: LocalPolar) -> None:
        self.customer = polar_server.add_customer("ext", "x@example.com", "Xenia")
        polar_server.add_events(
            [
                {"name": "one", "external_customer_id": "ext", "metadata": {"n": 5, "t": "b", "ok": True}},
                {"name": "two", "customer_id": self.customer["id"], "metadata": {"n": -2.5, "t": "a%", "ok": False}},
                {"name": "three", "external_customer_id": "other", "metadata": {"t": "c", "_cost": {"amount": "3"}}},
                {"name": "four", "source": "system", "metadata": {}},
            ]
        )

    def test_repeated_parameters_are_or_and_different_ones_and(self, client: httpx.Client) -> None:
        assert sorted(names(client, name=["one", "two"])) == ["one", "two"]
        assert names(client, name="one,two") == []
        assert sorted(names(client, source=["user", "system"])) == ["four", "one", "three", "two"]
        assert names(client, name=["one", "two"], source="system") == []

    def test_a_customer_is_meant_by_either_id(self, client: httpx.Client) -> None:
        """Whichever of the two its events were ingested under, in lists and in names."""
        assert sorted(names(client, external_customer_id="ext")) == ["one", "two"]
        assert sorted(names(client, external_customer_id=["ext", "other"])) == ["one", "three", "two"]
        assert sorted(names(client, customer_id=self.customer["id"])) == ["one", "two"]
        for parameters in ({"external_customer_id": "ext"}, {"customer_id": self.customer["id"]}):
            items = client.get("/v1/events/names", params=parameters).json()["items"]
            assert sorted(item["name"] for item in items) == ["one", "two"]

    def test_an_unknown_parameter_is_ignored(self, client: httpx.Client) -> None:
        assert total(client, nmae="one") == 4
        assert total(client, **{"name[]": "one"}) == 4

    def test_metadata_compares_as_text(self, client: httpx.Client) -> None:
        assert names(client, **{"metadata[n]": "5"}) == ["one"]
        assert names(client, **{"metadata[ok]": "false"}) == ["two"]
        assert sorted(names(client, **{"metadata[t]": ["b", "c"]})) == ["one", "three"]
        assert names(client, **{"metadata[t]": ["b", "c"], "metadata[ok]": "true"}) == ["one"]

    def test_numbers_compare_as_numbers_and_a_missing_key_as_0(self, client: httpx.Client) -> None:
        assert filtered(client, clause("n", "lt", 0)) == ["two"]
        assert filtered(client, clause("n", "gte", 0)) == ["four", "one", "three"]
        assert filtered(client, clause("n", "gt", -3), clause("n", "lt", 5)) == ["four", "three", "two"]
        assert filtered(client, clause("n", "eq", 0)) == ["four", "three"]
        assert filtered(client, clause("_cost.amount", "gte", 3)) == ["three"]

    def test_texts_compare_as_texts_and_a_missing_key_as_empty(self, client: httpx.Client) -> None:
        assert filtered(client, clause("t", "lt", "b")) == ["four", "two"]
        assert filtered(client, clause("t", "gte", "b")) == ["one", "three"]
        assert filtered(client, clause("t", "like", "%")) == ["two"]
        assert filtered(client, clause("t", "not_like", "a")) == ["four", "one", "three"]

    @pytest.mark.parametrize("prop", ["ok", "n", "nothing", "name"])
    def test_a_boolean_equals_nothing(self, client: httpx.Client, prop: str) -> None:
        for value in (True, False):
            assert filtered(client, clause(prop, "eq", value)) == []
            assert filtered(client, clause(prop, "ne", value)) == ["four", "one", "three", "two"]

    def test_name_and_source_and_nesting(self, client: httpx.Client) -> None:
        assert filtered(client, clause("name", "ne", "one"), clause("source", "eq", "user")) == ["three", "two"]
        either = {"conjunction": "or", "clauses": [clause("name", "eq", "one"), clause("name", "eq", "four")]}
        assert filtered(client, either, clause("n", "gt", 0)) == ["one"]
        assert filtered(client, clause("n", "gt", 0), clause("n", "lt", 0), conjunction="or") == ["one", "two"]

    def test_time_in_whole_seconds(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.add_events(
            {"name": name, "timestamp": NOON + timedelta(milliseconds=offset)}
            for name, offset in [("before", -1), ("at", 0), ("within", 999), ("after", 1000)]
        )
        second = int(NOON.timestamp())
        whole = [clause("timestamp", "gte", second), clause("timestamp", "lt", second + 1)]
        assert filtered(client, *whole) == ["at", "within"]

    @pytest.mark.parametrize("value", [2**31, 0.5, None, [1]])
    def test_other_values_are_refused(self, client: httpx.Client, value: Any) -> None:
        text = json.dumps({"conjunction": "and", "clauses": [clause("n", "lt", value)]})
        assert client.get("/v1/events/", params={"filter": text}).status_code == 422

    def test_query(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        organization = polar_server.organization_id
        assert names(client, query="HRE", organization_id=organization) == ["three"]
        assert sorted(names(client, query="xenia", organization_id=organization)) == ["one", "two"]
        too_short = {"query": "ab", "organization_id": organization}
        assert client.get("/v1/events/", params=too_short).status_code == 422

    def test_meters(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        meter = polar_server.add_meter({"conjunction": "and", "clauses": [clause("n", "gt", 0)]})
        assert names(client, meter_id=meter) == ["one"]
        unknown = client.get("/v1/events/", params={"meter_id": "0b2b1c55-6a52-4a0e-a0f7-0c1f6f5b3f10"})
        assert (unknown.status_code, unknown.json()["detail"][0]["msg"]) == (422, "Meter not found.")

    def test_another_organization_sees_and_gives_nothing(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        other = polar_server.add_organization("Other")
        polar_server.add_token("polar_oat_other", organization_id=other)
        [theirs] = polar_server.add_events([{"name": "theirs"}], organization_id=other)
        assert total(client, organization_id=other) == 0
        assert total(client, organization_id=[other, polar_server.organization_id]) == 4
        assert client.get(f"/v1/events/{theirs}").status_code == 404
        headers = {"Authorization": "Bearer polar_oat_other"}
        assert [item["name"] for item in client.get("/v1/events/", headers=headers).json()["items"]] == ["theirs"]

    def test_families(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        [root] = polar_server.add_events([{"name": "root"}])
        [child] = polar_server.add_events([{"name": "child", "parent_id": root}])
        polar_server.add_events([{"name": "grandchild", "parent_id": child}])
        assert "child" not in names(client, depth=0)
        assert {"root", "child"} < set(names(client, depth=1))
        assert "grandchild" not in names(client, depth=1)
        assert "grandchild" in names(client, depth=2)
        assert names(client, parent_id=root) == ["child"]
        assert names(client, parent_id=root, depth=0) == []
        assert sorted(names(client, parent_id=root, depth=2)) == ["child", "grandchild"]
        assert client.get("/v1/events/", params={"depth": 6}).status_code == 422


class TestNames:
    def test_sorting_paging_and_filters(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.add_events(
            {"name": name, "timestamp": NOON + timedelta(hours=hour), "external_customer_id": customer}
            for name, hour, customer in [("b.x", 0, "c1"), ("b.x", 5, "c2"), ("a.y", 1, "c1"), ("C.x", 2, "c1")]
        )

        def ask(**parameters: Any) -> tuple[list[str], int]:
            body = client.get("/v1/events/names", params=parameters).json()
            return [item["name"] for item in body["items"]], body["pagination"]["total_count"]

        assert ask() == (["b.x", "C.x", "a.y"], 3)
        assert ask(sorting="first_seen") == (["b.x", "a.y", "C.x"], 3)
        assert ask(sorting="-occurrences", limit=1) == (["b.x"], 3)
        assert ask(sorting="name", limit=1, page=3) == (["b.x"], 3)
        assert ask(sorting="name", limit=1, page=4) == ([], 3)
        assert ask(query=".X", sorting="name") == (["C.x", "b.x"], 2)
        assert ask(external_customer_id="c2") == (["b.x"], 1)
        assert ask(source="system") == ([], 0)


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("2026-10-01T12:00:00Z", "2026-10-01T12:00:00Z"),
        ("2026-10-01T14:00:00.1+02:00", "2026-10-01T12:00:00.100000Z"),
        ("2026-10-01T12:00:00.1234569Z", "2026-10-01T12:00:00.123456Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00"),
    ],
)
def test_how_moments_are_written(polar_server: LocalPolar, client: httpx.Client, given: str, written: str) -> None:
    event = {"name": "a", "external_customer_id": "c", "timestamp": given}
    assert client.post("/v1/events/ingest", json={"events": [event]}).status_code == 200
    assert [item["timestamp"] for item in listed(client)["items"]] == [written]
    assert [event["timestamp"] for event in polar_server.events()] == [written]
