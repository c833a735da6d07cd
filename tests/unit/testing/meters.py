"""What tests of the local Polar's meters share."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from jsonschema import Draft202012Validator

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


def validate(schema: str, value: Any) -> None:
    root = {"$ref": f"#/components/schemas/{schema}", "components": DESCRIPTION["components"]}
    errors = [error.message for error in Draft202012Validator(root).iter_errors(value)]
    assert not errors, errors[:3]
