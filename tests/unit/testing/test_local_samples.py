"""Every exchange recorded from Polar's server, replayed: the same status, headers and body."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from airflow_provider_polar.testing import LocalPolar
from tests.paths import DATA

SAMPLES = DATA / "samples"
NAMES = sorted(path.stem for path in SAMPLES.glob("*.json"))
# These need a server that was prepared for them, and have a test of their own below.
PREPARED = {
    "error-missing-scope",
    "error-no-events-scope",
    "error-rate-limit",
    "error-wrong-token",
    "get-event",
    "ingest-duplicate",
    "ingest-future",
    "list-filter-clause",
    "list-page",
    "list-short-page",
    "list-system-event",
    "list-user-event",
    "names-page",
    "version-2026-10",
}


def load(name: str) -> dict[str, Any]:
    sample: dict[str, Any] = json.loads((SAMPLES / f"{name}.json").read_text())
    return sample


def replay(polar: LocalPolar, sample: dict[str, Any]) -> httpx.Response:
    request = sample["request"]
    headers = {key: value for key, value in request["headers"].items() if key != "Authorization"}
    if "Authorization" in request["headers"]:
        headers["Authorization"] = f"Bearer {polar.token}"
    content = None
    if request["json"] is not None:
        content = json.dumps(request["json"])
        headers["Content-Type"] = "application/json"
    if request["method"] == "POST" and content is None:
        content = "{not json"
    with httpx.Client(base_url=polar.base_url) as client:
        return client.request(
            request["method"], request["path"], params=request["params"], content=content, headers=headers
        )


def body_of(response: httpx.Response) -> Any:
    return json.loads(response.text) if response.text else ""


def put(polar: LocalPolar, items: list[dict[str, Any]]) -> None:
    """Make the server hold the events and the customers of an answer."""
    for event in items:
        customer_id = None
        if (customer := event["customer"]) is not None:
            known = {row["external_id"]: row for row in polar._directory.customers_like(polar.organization_id, "")}
            ours = known.get(customer["external_id"]) or polar.add_customer(
                customer["external_id"], customer["email"], customer["name"], customer["metadata"]
            )
            customer_id = ours["id"] if event["customer_id"] else None
        polar.add_events(
            [
                {
                    "id": event["id"],
                    "timestamp": event["timestamp"],
                    "name": event["name"],
                    "source": event["source"],
                    "customer_id": customer_id,
                    "external_customer_id": event["external_customer_id"],
                    "metadata": event["metadata"],
                }
            ]
        )


# What a server makes up itself: these differ from one server to the next.
_OWN = ("id", "created_at", "modified_at", "avatar_url", "organization_id", "first_user_event_at")


def shape(value: Any) -> Any:
    """A body as text with its keys in their order, without what every server makes up itself."""
    if isinstance(value, dict) and "email" in value and "avatar_url" in value:
        return {
            key: "made up" if key in (*_OWN, "billing_name", "name") else shape(inner) for key, inner in value.items()
        }
    if isinstance(value, dict):
        own = {"organization_id", "customer_id"} if "child_count" in value else set()
        return {key: "made up" if key in own and inner is not None else shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    return value


def same_order(value: Any) -> str:
    return json.dumps(shape(value))


def check(response: httpx.Response, sample: dict[str, Any]) -> None:
    expected = sample["response"]
    assert response.status_code == expected["status"], response.text
    for name, value in expected["headers"].items():
        if name == "location":
            value = value.replace("https://api.polar.sh", f"http://{response.request.headers['host']}")
        assert response.headers[name] == value, name


def check_detail(response: httpx.Response, sample: dict[str, Any]) -> None:
    check(response, sample)
    ours, theirs = body_of(response), sample["response"]["body"]
    for problem in [*ours.get("detail", []), *theirs.get("detail", [])]:
        if isinstance(problem, dict) and "url" in problem:
            problem["url"] = re.sub(r"/\d+\.\d+/", "/VERSION/", problem["url"])
        if isinstance(problem, dict) and problem["type"] == "uuid_parsing":
            # The wording is pydantic's and differs between its versions.
            problem["msg"] = problem["ctx"]["error"] = "wording"
    assert ours == theirs


@pytest.mark.parametrize("name", [name for name in NAMES if name not in PREPARED])
def test_answers_that_need_no_preparation(polar_server: LocalPolar, name: str) -> None:
    sample = load(name)
    response = replay(polar_server, sample)
    if isinstance(sample["response"]["body"], dict):
        check_detail(response, sample)
    else:
        check(response, sample)
        assert response.text == sample["response"]["body"]


@pytest.mark.parametrize(
    ("name", "scopes"), [("error-missing-scope", ["events:read"]), ("error-no-events-scope", ["products:read"])]
)
def test_missing_scopes(polar_server: LocalPolar, name: str, scopes: list[str]) -> None:
    polar_server.add_token(polar_server.token, scopes)
    check_detail(replay(polar_server, load(name)), load(name))


def test_a_wrong_token(polar_server: LocalPolar) -> None:
    polar_server.remove_token(polar_server.token)
    check_detail(replay(polar_server, load("error-wrong-token")), load("error-wrong-token"))


def test_the_rate_limit() -> None:
    with LocalPolar(rate_limit=(10, 60)) as polar:
        sample = load("error-rate-limit")
        assert [replay(polar, sample).status_code for _ in range(10)] == [200] * 10
        response = replay(polar, sample)
    check(response, sample)
    assert response.text == ""


def test_a_duplicate(polar_server: LocalPolar) -> None:
    check_detail(replay(polar_server, load("ingest-ok")), load("ingest-ok"))
    check_detail(replay(polar_server, load("ingest-duplicate")), load("ingest-duplicate"))
    [event] = polar_server.events()
    assert event["metadata"] == {"tokens": 77, "model": "m1", "ok": True, "ratio": 0.5}
    assert event["timestamp"] == "2026-10-01T10:00:00.123456Z"


def test_a_moment_in_the_future(polar_server: LocalPolar) -> None:
    old = load("ingest-future")["request"]["json"]["events"][0]["timestamp"]
    soon = (datetime.now(UTC) + timedelta(seconds=5)).isoformat()
    sample = json.loads((SAMPLES / "ingest-future.json").read_text().replace(old, soon))
    check_detail(replay(polar_server, sample), sample)


@pytest.mark.parametrize("name", ["list-page", "list-system-event", "list-user-event", "version-2026-10"])
def test_pages_of_events(polar_server: LocalPolar, name: str) -> None:
    sample = load(name)
    items = sample["response"]["body"]["items"]
    put(polar_server, items)
    response = replay(polar_server, sample)
    check(response, sample)
    assert same_order(body_of(response)["items"]) == same_order(items)
    total = len(items)
    assert body_of(response)["pagination"] == {"total_count": total, "max_page": 1}


def test_a_filter_clause(polar_server: LocalPolar) -> None:
    sample = load("list-filter-clause")
    items = sample["response"]["body"]["items"]
    put(polar_server, items)
    decoys = [
        {"timestamp": "2026-09-01T00:30:00Z", "metadata": {"n": 1000}},
        {"timestamp": "2026-08-31T23:59:59.999999Z", "metadata": {"n": 1}},
        {"timestamp": "2026-09-01T01:00:00Z", "metadata": {"n": 1}},
    ]
    polar_server.add_events({"name": "decoy", **decoy} for decoy in decoys)
    response = replay(polar_server, sample)
    check(response, sample)
    assert same_order(body_of(response)["items"]) == same_order(items)


def test_a_page_short_of_rows_that_the_store_lacks(polar_server: LocalPolar) -> None:
    sample = load("list-short-page")
    items = sample["response"]["body"]["items"]
    moment = datetime(2026, 10, 1, tzinfo=UTC)
    before = [{"name": "a", "timestamp": moment + timedelta(seconds=n)} for n in range(300)]
    missing = [{"name": "a", "timestamp": items[-1]["timestamp"]}] * 96
    after = [{"name": "a", "timestamp": "2026-10-02T00:00:00Z"}] * 10
    polar_server.add_events(before)
    put(polar_server, items)
    polar_server.add_events([{**event, "timestamp": "2026-10-01T20:00:00Z"} for event in missing], store=False)
    polar_server.add_events(after)
    response = replay(polar_server, sample)
    check(response, sample)
    assert same_order(body_of(response)["items"]) == same_order(items)
    assert body_of(response)["pagination"] == sample["response"]["body"]["pagination"]


def test_one_event(polar_server: LocalPolar) -> None:
    sample = load("get-event")
    put(polar_server, [sample["response"]["body"]])
    response = replay(polar_server, sample)
    check(response, sample)
    assert same_order(body_of(response)) == same_order(sample["response"]["body"])


def test_names(polar_server: LocalPolar) -> None:
    sample = load("names-page")
    for row in sample["response"]["body"]["items"]:
        moments = [row["first_seen"]] * (row["occurrences"] - 1) + [row["last_seen"]]
        polar_server.add_events(
            {"name": row["name"], "source": row["source"], "timestamp": moment} for moment in moments
        )
    polar_server.add_events([{"name": "older", "timestamp": "2026-01-01T00:00:00Z"}])
    response = replay(polar_server, sample)
    check(response, sample)
    assert json.dumps(body_of(response)["items"]) == json.dumps(sample["response"]["body"]["items"])
    assert body_of(response)["pagination"] == {"total_count": 5, "max_page": 2}
