"""What Polar's ingest accepts, refuses, drops and stumbles over."""

from __future__ import annotations

import gzip
import json
import socket
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from airflow_provider_polar.testing import LocalPolar
from airflow_provider_polar.testing.ingest import MAX_BODY, MAX_NEW_EVENTS

JSON = {"Content-Type": "application/json"}


def event(**fields: Any) -> dict[str, Any]:
    return {"name": "api.call", "external_customer_id": "c1", **fields}


def send(client: httpx.Client, *events: dict[str, Any]) -> httpx.Response:
    return client.post("/v1/events/ingest", json={"events": events})


class TestIdentity:
    def test_an_external_id_is_stored_once_for_ever(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        first = send(client, event(external_id="a", metadata={"n": 1}))
        assert first.json() == {"inserted": 1, "duplicates": 0}
        again = send(client, event(external_id="a", name="other"), event(external_id="b"))
        assert again.json() == {"inserted": 1, "duplicates": 1}
        assert sorted((e["external_id"], e["name"]) for e in polar_server.events()) == [
            ("a", "api.call"),
            ("b", "api.call"),
        ]

    def test_also_within_one_request(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        answer = send(client, event(external_id="a", name="first"), event(external_id="a", name="second"))
        assert answer.json() == {"inserted": 1, "duplicates": 1}
        assert [e["name"] for e in polar_server.events()] == ["first"]

    def test_without_one_nothing_is_deduplicated(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        same = event(timestamp="2026-10-01T00:00:00Z")
        assert send(client, same, same).json() == {"inserted": 2, "duplicates": 0}
        assert send(client, same).json() == {"inserted": 1, "duplicates": 0}
        assert polar_server.count() == 3

    def test_each_organization_has_its_own(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        other = polar_server.add_organization()
        polar_server.add_token("other", organization_id=other)
        send(client, event(external_id="a"))
        answer = client.post(
            "/v1/events/ingest",
            json={"events": [event(external_id="a")]},
            headers={"Authorization": "Bearer other"},
        )
        assert answer.json() == {"inserted": 1, "duplicates": 0}
        assert (polar_server.count(), polar_server.count(other)) == (1, 1)


class TestCustomers:
    def test_with_both_the_external_one_is_kept(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        customer = polar_server.add_customer("known")
        assert send(client, event(customer_id=customer["id"])).status_code == 200
        unknown = "5c27e45b-7259-4c1b-a3fa-1f1625ba8e66"
        moment = "2026-10-01T00:00:00Z"
        assert send(client, event(customer_id=unknown)).status_code == 200
        assert send(client, event(customer_id=customer["id"], timestamp=moment)).status_code == 200
        assert {(e["customer_id"], e["external_customer_id"]) for e in polar_server.events()} == {(None, "c1")}

    def test_a_customer_is_shown_once_it_is_known(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        send(client, event())
        [before] = client.get("/v1/events/").json()["items"]
        customer = polar_server.add_customer("c1", "c1@example.com")
        [after] = client.get("/v1/events/").json()["items"]
        assert (before["customer"], after["customer"]) == (None, customer)
        assert after["customer_id"] is None

    def test_by_polar_id(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        customer = polar_server.add_customer("c9")
        assert send(client, {"name": "a", "customer_id": customer["id"]}).status_code == 200
        [item] = client.get("/v1/events/").json()["items"]
        assert (item["customer_id"], item["external_customer_id"]) == (customer["id"], None)
        assert item["customer"] == customer


class TestRefusals:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"timestamp": None},
            {"timestamp": "yesterday"},
            {"name": None},
            {"name": "x" * 129},
            {"metadata": {"a": "x" * 501}},
            {"metadata": {"a": []}},
            {"metadata": {"_llm": {"vendor": "v"}}},
            {"metadata": {"_cost": None}},
            {"external_id": 5},
        ],
    )
    def test_one_wrong_event_refuses_the_batch(
        self, polar_server: LocalPolar, client: httpx.Client, wrong: dict[str, Any]
    ) -> None:
        answer = send(client, event(), event(**wrong))
        assert answer.status_code == 422
        assert {tuple(problem["loc"][:3]) for problem in answer.json()["detail"]} == {("body", "events", 1)}
        assert polar_server.count() == 0

    def test_one_second_in_the_future(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        soon = datetime.now(UTC) + timedelta(seconds=1)
        assert send(client, event(timestamp=soon.isoformat())).status_code == 422
        now = datetime.now(UTC)
        assert send(client, event(timestamp=now.isoformat())).status_code == 200

    def test_more_than_documented_is_accepted(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        metadata = {f"{n:060}": n for n in range(60)}
        assert send(client, event(metadata=metadata, nonsense=1)).status_code == 200
        assert polar_server.events()[0]["metadata"] == metadata

    def test_nan_is_a_server_error(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        body = json.dumps({"events": [event(metadata={"a": float("nan")})]})
        answer = client.post("/v1/events/ingest", content=body, headers=JSON)
        assert (answer.status_code, answer.text, polar_server.count()) == (500, "Internal Server Error", 0)

    def test_a_body_too_large(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        body = json.dumps({"events": [event()]}).encode()
        assert client.post("/v1/events/ingest", content=body.ljust(MAX_BODY), headers=JSON).status_code == 200
        assert client.post("/v1/events/ingest", content=body.ljust(MAX_BODY + 1), headers=JSON).status_code == 413
        assert polar_server.count() == 1

        assert client.post("/v1/events/ingest", content=body.ljust(MAX_BODY + 1), headers=JSON).json()["detail"]

    @pytest.mark.parametrize("headers", [{}, {"Content-Type": "text/plain"}])
    def test_a_body_that_does_not_say_that_it_is_json(
        self, polar_server: LocalPolar, client: httpx.Client, headers: dict[str, str]
    ) -> None:
        body = json.dumps({"events": [event()]})
        answer = client.post("/v1/events/ingest", content=body, headers=headers)
        assert (answer.status_code, answer.json()["detail"][0]["loc"], polar_server.count()) == (422, ["body"], 0)
        headers = {"Content-Type": "application/json; charset=utf-8"}
        assert client.post("/v1/events/ingest", content=body, headers=headers).status_code == 200

    @pytest.mark.parametrize("fields", [{"name": "a\0"}, {"metadata": {"k": "\0b"}}, {"metadata": {"k\0": 1}}])
    def test_nul_is_refused(self, polar_server: LocalPolar, client: httpx.Client, fields: dict[str, Any]) -> None:
        assert (send(client, event(**fields)).status_code, polar_server.count()) == (422, 0)

    def test_a_body_without_its_length(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        body = json.dumps({"events": [event()]}).encode()
        answer = client.post("/v1/events/ingest", content=iter([body]), headers=JSON)
        assert (answer.status_code, answer.json()["detail"]) == (411, "Length Required")
        assert polar_server.count() == 0

    def test_a_compressed_body(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        body = gzip.compress(json.dumps({"events": [event()]}).encode())
        answer = client.post("/v1/events/ingest", content=body, headers={**JSON, "Content-Encoding": "gzip"})
        assert (answer.status_code, polar_server.count()) == (400, 0)

    def test_too_many_new_events(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        small = [{"name": "a", "external_customer_id": "c", "external_id": str(n)} for n in range(MAX_NEW_EVENTS + 1)]
        answer = send(client, *small)
        assert (answer.status_code, answer.text, polar_server.count()) == (500, "Internal Server Error", 0)
        assert send(client, small[0]).json() == {"inserted": 1, "duplicates": 0}
        # What is stored already does not count.
        assert send(client, *small).json() == {"inserted": MAX_NEW_EVENTS, "duplicates": 1}


def test_amounts_come_back_as_text(polar_server: LocalPolar, client: httpx.Client) -> None:
    cost = {"amount": 0.025, "currency": "usd"}
    assert send(client, event(metadata={"_cost": cost, "n": 1})).status_code == 200
    [item] = client.get("/v1/events/").json()["items"]
    assert item["metadata"] == {"_cost": {"amount": "0.025", "currency": "usd"}, "n": 1}


def test_a_model_comes_back_with_prompt_and_response(polar_server: LocalPolar, client: httpx.Client) -> None:
    model = {"vendor": "openai", "model": "gpt", "input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    assert send(client, event(metadata={"_llm": model}), event(metadata={"_llm": {**model, "prompt": "p"}})).is_success
    given = [item["metadata"]["_llm"] for item in client.get("/v1/events/").json()["items"]]
    assert sorted(given, key=str) == sorted(
        [{**model, "prompt": None, "response": None}, {**model, "prompt": "p", "response": None}], key=str
    )


def test_amounts_come_back_as_they_were_written(polar_server: LocalPolar, client: httpx.Client) -> None:
    assert send(client, event(metadata={"_cost": {"amount": 12.0, "currency": "usd"}})).is_success
    assert client.get("/v1/events/").json()["items"][0]["metadata"]["_cost"]["amount"] == "12.0"


@pytest.mark.parametrize(
    ("method", "path", "target"),
    [
        ("GET", "/v1/events", "/v1/events/"),
        ("GET", "/v1/events/names/", "/v1/events/names"),
        ("POST", "/v1/events/ingest/", "/v1/events/ingest"),
    ],
)
def test_slashes(client: httpx.Client, method: str, path: str, target: str) -> None:
    answer = client.request(method, path, content=b"{}" if method == "POST" else None, headers=JSON)
    assert (answer.status_code, answer.headers["location"]) == (307, str(client.base_url.join(target)))


def test_a_sender_that_dies_halfway_stores_nothing(polar_server: LocalPolar, client: httpx.Client) -> None:
    body = json.dumps({"events": [event()]}).encode()
    with socket.create_connection(("127.0.0.1", polar_server.port)) as connection:
        head = f"POST /v1/events/ingest HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body) * 2}\r\n"
        head += f"Authorization: Bearer {polar_server.token}\r\n\r\n"
        connection.sendall(head.encode() + body)
    assert client.get("/v1/events/").json()["items"] == []
    assert polar_server.count() == 0


def test_events_put_in_are_stored_all_or_not_at_all(polar_server: LocalPolar, client: httpx.Client) -> None:
    polar_server.add_events([{"name": "a", "external_id": "1"}])
    with pytest.raises(sqlite3.IntegrityError):
        polar_server.add_events([{"name": "b"}, {"name": "c", "external_id": "1"}])
    assert client.get("/v1/events/").json()["pagination"]["total_count"] == polar_server.count() == 1
