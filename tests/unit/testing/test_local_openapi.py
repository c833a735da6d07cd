"""The local Polar against Polar's own description, and through Polar's own client."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from polar.v2026_04 import Polar
from polar.v2026_04.errors import HTTPValidationError, ResourceNotFound

from airflow_provider_polar.testing import LocalPolar
from tests.paths import DATA

DESCRIPTION: dict[str, Any] = json.loads((DATA / "openapi" / "polar-events.openapi.json").read_text())
Validate = Callable[[str, Any], None]


def validate(schema: str, value: Any) -> None:
    root = {"$ref": f"#/components/schemas/{schema}", "components": DESCRIPTION["components"]}
    errors = [error.message for error in Draft202012Validator(root).iter_errors(value)]
    assert not errors, errors[:3]


@pytest.fixture(scope="module")
def seeded() -> Iterator[LocalPolar]:
    with LocalPolar(seed="demo") as polar:
        yield polar


@pytest.fixture
def http(seeded: LocalPolar) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=seeded.base_url, headers={"Authorization": f"Bearer {seeded.token}"}) as client:
        yield client


@pytest.fixture
def sdk(seeded: LocalPolar) -> Polar:
    return Polar(seeded.token, base_url=seeded.base_url)


class TestDescription:
    def test_the_seed_has_every_system_event(self, seeded: LocalPolar) -> None:
        described = DESCRIPTION["components"]["schemas"]["SystemEvent"]["discriminator"]["mapping"]
        seen = [event for event in seeded.events() if event["source"] == "system"]
        assert sorted(event["name"] for event in seen) == sorted(described)
        assert len(seen) == 35

    def test_seeded_events_of_every_name(self, seeded: LocalPolar) -> None:
        for event in {event["name"]: event for event in seeded.events()}.values():
            validate("Event", {key: value for key, value in event.items() if key != "external_id"})

    def test_system_metadata_has_no_key_that_is_not_described(self, seeded: LocalPolar) -> None:
        schemas = DESCRIPTION["components"]["schemas"]
        mapping = schemas["SystemEvent"]["discriminator"]["mapping"]
        for event in seeded.events():
            if event["source"] == "system":
                schema = schemas[mapping[event["name"]].rsplit("/", 1)[1]]
                metadata = schemas[schema["properties"]["metadata"]["$ref"].rsplit("/", 1)[1]]
                assert set(event["metadata"]) <= set(metadata["properties"]), event["name"]

    def test_answers(self, http: httpx.Client) -> None:
        page = http.get("/v1/events/", params={"limit": 100}).json()
        validate("ListResource_Event_", page)
        validate("Event", http.get(f"/v1/events/{page['items'][0]['id']}").json())
        validate("ListResource_EventName_", http.get("/v1/events/names", params={"limit": 100}).json())
        missing = http.get("/v1/events/f0bc495b-530e-45cb-923d-f58dfd94859b").json()
        validate("ResourceNotFound", missing)
        event = {"name": "openapi", "external_customer_id": "acme"}
        answer = http.post("/v1/events/ingest", json={"events": [event]}).json()
        validate("EventsIngestResponse", answer)

    def test_the_description_can_refuse(self, seeded: LocalPolar) -> None:
        event = {**seeded.events()[0], "name": None}
        with pytest.raises(AssertionError):
            validate("Event", event)


class TestPolarsOwnClient:
    def test_list_and_get(self, seeded: LocalPolar, http: httpx.Client, sdk: Polar) -> None:
        page = sdk.events.list(limit=100, sorting=["timestamp"])
        raw = http.get("/v1/events/", params={"limit": 100, "sorting": "timestamp"}).json()
        assert [event.id for event in page.items] == [item["id"] for item in raw["items"]]
        assert page.pagination.total_count == seeded.count()
        event = sdk.events.get(page.items[0].id)
        assert event == page.items[0]

    def test_every_system_event(self, sdk: Polar) -> None:
        page = sdk.events.list(limit=100, source="system")
        assert len({event.name for event in page.items}) == len(page.items) == 35

    def test_filters(self, seeded: LocalPolar, sdk: Polar) -> None:
        routes = sdk.events.list(
            limit=1, name=["api.call", "job.step"], metadata={"route": "/v1/search"}
        ).pagination.total_count
        expected = [e for e in seeded.events() if e["metadata"].get("route") == "/v1/search"]
        assert routes == len(expected) > 100

    def test_names(self, seeded: LocalPolar, sdk: Polar) -> None:
        found = {row.name: row.occurrences for row in sdk.events.iter_list_names(limit=10)}
        truth: dict[str, int] = {}
        for event in seeded.events():
            truth[event["name"]] = truth.get(event["name"], 0) + 1
        assert found == truth

    def test_ingest(self, polar_server: LocalPolar) -> None:
        sdk = Polar(polar_server.token, base_url=polar_server.base_url)
        event = {"name": "sdk", "external_customer_id": "c", "external_id": "1", "metadata": {"n": 1}}
        first, second = sdk.events.ingest(events=[event]), sdk.events.ingest(events=[event])  # type: ignore[list-item]
        assert (first.inserted, first.duplicates) == (1, 0)
        assert (second.inserted, second.duplicates) == (0, 1)
        assert polar_server.events()[0]["metadata"] == {"n": 1}

    def test_errors(self, sdk: Polar) -> None:
        with pytest.raises(ResourceNotFound):
            sdk.events.get("f0bc495b-530e-45cb-923d-f58dfd94859b")
        with pytest.raises(HTTPValidationError):
            sdk.events.list(limit=0)
