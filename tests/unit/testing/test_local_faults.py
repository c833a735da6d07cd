"""Faults to order, rate limits, versions, and the record of requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from airflow_provider_polar.testing import LocalPolar, RequestRecord

EVENT = {"name": "a", "external_customer_id": "c", "external_id": "1"}


def ingest(client: httpx.Client) -> httpx.Response:
    return client.post("/v1/events/ingest", json={"events": [EVENT]})


class TestKinds:
    def test_status(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.fail("status", status=503, path="ingest", times=1)
        answer = ingest(client)
        assert (answer.status_code, answer.text) == (503, "Internal Server Error")
        assert polar_server.count() == 0
        assert ingest(client).status_code == 200

    def test_rate_limit(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.fail("rate_limit", retry_after=1, times=1)
        answer = client.get("/v1/events/")
        assert (answer.status_code, answer.text, answer.headers["retry-after"]) == (429, "", "1")

    def test_missing_scope(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.fail("missing_scope", times=1)
        answer = ingest(client)
        assert (answer.status_code, answer.json()["error"]) == (403, "insufficient_scope")
        assert 'scope="events:write"' in answer.headers["www-authenticate"]

    def test_reset_stores_nothing(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.fail("reset", path="ingest", times=1)
        with pytest.raises(httpx.ReadError):
            ingest(client)
        assert polar_server.count() == 0

    def test_a_lost_response_is_stored(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.fail("lost_response", path="ingest", times=1)
        with pytest.raises(httpx.RemoteProtocolError):
            ingest(client)
        assert polar_server.count() == 1
        assert ingest(client).json() == {"inserted": 0, "duplicates": 1}
        assert [(r.status, r.responded) for r in polar_server.requests] == [(200, False), (200, True)]

    def test_truncated(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.fail("truncated", times=1)
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
            client.get("/v1/events/")

    def test_broken(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.fail("broken", times=1)
        with pytest.raises(ValueError):
            client.get("/v1/events/").json()
        assert client.get("/v1/events/").json()["items"] == []

    def test_delay_delays_only_its_own_request(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.fail("delay", path="list", delay=2.0)
        begin = time.monotonic()
        assert client.get("/v1/events/names").status_code == 200
        assert time.monotonic() - begin < 2.0
        assert client.get("/v1/events/").status_code == 200
        assert time.monotonic() - begin >= 2.0

    def test_a_delay_beyond_the_clients_patience_is_handled_all_the_same(
        self, polar_server: LocalPolar, client: httpx.Client
    ) -> None:
        polar_server.fail("delay", path="ingest", delay=0.15, times=1)
        with pytest.raises(httpx.ReadTimeout):
            client.post("/v1/events/ingest", json={"events": [EVENT]}, timeout=0.05)
        deadline = time.monotonic() + 5
        while polar_server.count() == 0:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def test_stopping_does_not_wait_for_a_delay(self, client: httpx.Client, polar_server: LocalPolar) -> None:
        polar_server.fail("delay", delay=60)
        with pytest.raises(httpx.ReadTimeout):
            client.get("/v1/events/", timeout=0.05)
        begin = time.monotonic()
        polar_server.stop()
        assert time.monotonic() - begin < 30

    def test_an_unknown_kind_or_path(self, polar_server: LocalPolar) -> None:
        with pytest.raises(ValueError, match="lost_response"):
            polar_server.fail("explode")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="ingest"):
            polar_server.fail("reset", path="/v1/events/")  # type: ignore[arg-type]


class TestArrivals:
    """The count and the page of one request are two queries, and an event can arrive between them."""

    @pytest.mark.parametrize(("before", "count"), [("page", 100), ("count", 101)])
    def test_between_the_count_and_the_page(
        self, polar_server: LocalPolar, client: httpx.Client, before: Any, count: int
    ) -> None:
        noon = datetime(2026, 10, 1, 12, tzinfo=UTC)
        polar_server.add_events({"name": "old", "timestamp": noon + timedelta(seconds=n)} for n in range(100))
        newcomer = {"name": "new", "timestamp": noon - timedelta(seconds=1)}
        polar_server.fail("arrival", path="list", events=[newcomer], before=before, times=1)
        body = client.get("/v1/events/", params={"limit": 100, "sorting": "timestamp"}).json()
        names = [item["name"] for item in body["items"]]
        assert body["pagination"]["total_count"] == count
        # Before the page, the newcomer pushes an old event off it while the count is that of a full page.
        assert (len(names), names[0]) == (100, "new" if before == "page" else "old")
        assert client.get("/v1/events/").json()["pagination"]["total_count"] == 101

    def test_into_an_empty_window(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.fail("arrival", events=[{"name": "new"}], before="count", times=1)
        assert client.get("/v1/events/").json() == {"items": [], "pagination": {"total_count": 1, "max_page": 1}}


class TestBodies:
    def test_an_absurd_count(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.add_events([{"name": "a"}])
        polar_server.fail("count", total_count=10**9, times=1)
        body = client.get("/v1/events/", params={"limit": 500}).json()
        assert (len(body["items"]), body["pagination"]) == (1, {"total_count": 10**9, "max_page": 10**7})
        assert client.get("/v1/events/").json()["pagination"]["total_count"] == 1

    @pytest.mark.parametrize(
        ("old", "new", "found"),
        [
            ('"n":1', '"n":NaN', b'"n":NaN'),
            ('"child_count":0', '"child_count":0.0', b'"child_count":0.0'),
            ("here", "\xff", b'"\xff"'),
        ],
    )
    def test_a_rewritten_body(
        self, polar_server: LocalPolar, client: httpx.Client, old: str, new: str, found: bytes
    ) -> None:
        polar_server.add_events([{"name": "here", "metadata": {"n": 1}}])
        polar_server.fail("rewrite", old=old, new=new)
        response = client.get("/v1/events/")
        assert response.status_code == 200
        assert found in response.content

    def test_year_1_has_no_zone(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.add_events([{"name": "a", "timestamp": datetime(1, 1, 1, tzinfo=UTC)}])
        assert client.get("/v1/events/").json()["items"][0]["timestamp"] == "0001-01-01T00:00:00"

    def test_dripping(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.fail("drip", delay=0.001, times=1)
        with client.stream("GET", "/v1/events/") as response:
            sizes = [len(chunk) for chunk in response.iter_raw()]
        assert len(sizes) > 10
        assert sum(sizes) == int(response.headers["content-length"])

    def test_endless(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.fail("endless", times=1)
        size = 0
        with client.stream("GET", "/v1/events/") as response:
            for chunk in response.iter_raw():
                size += len(chunk)
                if size > 2_000_000:
                    break
        assert client.get("/v1/events/").status_code == 200

    def test_a_gzip_bomb(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.fail("gzip_bomb", times=1)
        with client.stream("GET", "/v1/events/") as response:
            assert response.headers["content-encoding"] == "gzip"
            assert sum(map(len, response.iter_raw())) < 200_000


class TestServers:
    def test_a_deadlock_on_new_names(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        fault = polar_server.fail("deadlock", path="ingest", times=1)
        assert (ingest(client).status_code, polar_server.count()) == (500, 0)
        assert (ingest(client).status_code, polar_server.count()) == (200, 1)
        fault.times = None
        assert ingest(client).json() == {"inserted": 0, "duplicates": 1}
        known = {**EVENT, "external_id": "2"}
        assert client.post("/v1/events/ingest", json={"events": [known]}).status_code == 200
        new = {**EVENT, "name": "b", "external_id": "3"}
        assert client.post("/v1/events/ingest", json={"events": [known, new]}).status_code == 500

    def test_a_failing_analytics_store(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        [event_id] = polar_server.add_events([{"name": "a"}])
        polar_server.settings.analytics = False
        paths = ("/v1/events/", "/v1/events/names", f"/v1/events/{event_id}")
        assert [client.get(path).status_code for path in paths] == [500, 500, 500]
        assert (ingest(client).status_code, polar_server.count()) == (200, 2)
        polar_server.settings.analytics = True
        assert [client.get(path).status_code for path in paths] == [200, 200, 200]

    def test_a_restart_refuses_connections(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        assert ingest(client).status_code == 200
        polar_server.restart(down=0.5)
        with pytest.raises(httpx.ConnectError):
            client.get("/v1/events/")
        deadline = time.monotonic() + 30
        while True:
            try:
                body = client.get("/v1/events/").json()
            except httpx.TransportError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            else:
                break
        assert body["pagination"]["total_count"] == 1


class TestCost:
    """What a page and a batch cost on Polar's own server; never less, and more only on a busy machine."""

    def seconds(self, *calls: Callable[[], httpx.Response]) -> float:
        begin = time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            assert all(future.result().is_success for future in [pool.submit(call) for call in calls])
        return time.monotonic() - begin

    def test_pages(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.settings.cost = "polar"
        assert self.seconds(lambda: client.get("/v1/events/")) >= 0.05
        assert self.seconds(lambda: client.get("/v1/events/", params={"page": 10_000})) >= 0.1
        # Two at once double the throughput, four do not.
        assert self.seconds(*[lambda: client.get("/v1/events/")] * 4) >= 0.1

    def test_batches(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.settings.cost = "polar"
        events = [{"name": "a", "external_customer_id": "c"}] * 1_000
        assert self.seconds(lambda: client.post("/v1/events/ingest", json={"events": events})) >= 0.35


class TestTurns:
    @pytest.mark.parametrize(
        ("order", "struck"),
        [
            ({"times": 3}, [0, 1, 2]),
            ({"every": 3}, [2, 5, 8]),
            ({"every": 3, "times": 1}, [2]),
            ({"after": 7}, [7, 8, 9]),
            ({"after": 4, "times": 1}, [4]),
            ({"after": 1, "every": 4}, [4, 8]),
            ({}, list(range(10))),
            ({"path": "ingest"}, []),
            ({"when": lambda record: ("page", "3") in record.params}, [3]),
        ],
    )
    def test_when_a_fault_strikes(
        self, polar_server: LocalPolar, client: httpx.Client, order: dict[str, Any], struck: list[int]
    ) -> None:
        polar_server.fail("status", status=500, **order)
        answers = [client.get("/v1/events/", params={"page": n} if n else {}) for n in range(10)]
        assert [n for n, answer in enumerate(answers) if answer.status_code == 500] == struck

    def test_clearing(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.fail("status")
        assert client.get("/v1/events/").status_code == 503
        polar_server.clear_faults()
        assert client.get("/v1/events/").status_code == 200


class TestRateLimit:
    def test_a_fixed_window_over_all_tokens_of_an_organization(self) -> None:
        with LocalPolar(rate_limit=(5, 1.0)) as polar, httpx.Client(base_url=polar.base_url) as client:
            polar.add_token("second")
            polar.add_token("other", organization_id=polar.add_organization())

            def status(token: str, **parameters: Any) -> int:
                headers = {"Authorization": f"Bearer {token}"}
                return client.get("/v1/events/", headers=headers, params=parameters).status_code

            statuses = [status(polar.token), status("second"), status(polar.token, limit=0)]
            statuses += [status("second"), status(polar.token), status(polar.token), status("second")]
            assert statuses == [200, 200, 422, 200, 200, 429, 429]
            assert status("other") == 200
            time.sleep(1.05)
            assert status(polar.token) == 200

    def test_retry_after_is_the_whole_window(self) -> None:
        with LocalPolar(rate_limit=(1, 60)) as polar, httpx.Client(base_url=polar.base_url) as client:
            headers = {"Authorization": f"Bearer {polar.token}"}
            client.get("/v1/events/", headers=headers)
            time.sleep(0.02)
            assert client.get("/v1/events/", headers=headers).headers["retry-after"] == "60"

    def test_an_unknown_token_has_60_a_minute(self) -> None:
        with LocalPolar(rate_limit=(1000, 60)) as polar, httpx.Client(base_url=polar.base_url) as client:
            headers = {"Authorization": "Bearer wrong"}
            statuses = [client.get("/v1/events/", headers=headers).status_code for _ in range(61)]
        assert statuses == [401] * 60 + [429]


class TestRecord:
    def test_what_is_kept(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        ingest(client)
        client.get("/v1/events/", params={"name": ["a", "b"], "limit": 0})
        first, second = polar_server.requests
        assert (first.method, first.endpoint, first.status, first.events) == ("POST", "ingest", 200, 1)
        assert first.body_bytes > 20
        assert (second.path, second.status) == ("/v1/events/", 422)
        assert second.params == [("name", "a"), ("name", "b"), ("limit", "0")]
        assert polar_server.token not in repr(polar_server.requests)
        assert polar_server.requests_per_minute() == 2
        polar_server.clear_requests()
        assert polar_server.requests == []

    def test_the_busiest_minute(self, polar_server: LocalPolar) -> None:
        for moment in (0, 1, 59, 60, 60.5, 150):
            record = RequestRecord(float(moment), "GET", "/v1/events/", "list")
            polar_server._app.requests.append(record)
        assert polar_server.requests_per_minute() == 4

    def test_events_can_arrive_while_a_list_is_read(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.add_events({"name": "early"} for _ in range(3))

        def arrive(record: RequestRecord) -> None:
            if ("page", "2") in record.params:
                polar_server.add_events([{"name": "late"}])

        polar_server.on_request(arrive)
        counts = [
            client.get("/v1/events/", params={"limit": 1, "page": page}).json()["pagination"]["total_count"]
            for page in (1, 2, 3)
        ]
        assert counts == [3, 4, 4]


class TestAnswers:
    def test_the_environment(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        assert client.get("/v1/events/").headers["x-polar-sandbox"] == "1"
        polar_server.settings.environment = "production"
        assert "x-polar-sandbox" not in client.get("/v1/events/").headers

    def test_versions(self, client: httpx.Client) -> None:
        assert client.get("/v1/events/", headers={"Polar-Version": ""}).headers["polar-version"] == "2026-04"
        for version in ("2026-04", "2026-10"):
            answer = client.get("/v1/events/", headers={"Polar-Version": version})
            assert (answer.status_code, answer.headers["polar-version"]) == (200, version)

    def test_reading_with_the_scope_to_write(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.add_token(polar_server.token, ["events:write"])
        assert client.get("/v1/events/").status_code == 200

    def test_unknown_paths_and_methods(self, client: httpx.Client) -> None:
        assert client.get("/v1/orders/").status_code == 404
        refused = client.delete("/v1/events/")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET")
        assert client.get("/v1/events/ingest").status_code == 422

    def test_one_connection_serves_many_requests_quickly(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        polar_server.add_events({"name": "a"} for _ in range(100))
        times = []
        for _ in range(10):
            begin = time.monotonic()
            client.get("/v1/events/", params={"limit": 100})
            times.append(time.monotonic() - begin)
        # 40 ms each would be Nagle's algorithm waiting for a delayed acknowledgement.
        assert min(times[1:]) < 0.03
