from __future__ import annotations

import json
import os
import subprocess
import sys

import httpx

from airflow_provider_polar.testing import LocalPolar


def test_the_fixture_serves_what_was_ingested(polar_server: LocalPolar, polar_connection: str) -> None:
    headers = {"Authorization": f"Bearer {polar_server.token}"}
    with httpx.Client(base_url=polar_server.base_url, headers=headers) as client:
        event = {"name": "api.call", "external_customer_id": "c1", "metadata": {"n": 1}}
        answer = client.post("/v1/events/ingest", json={"events": [event]})
        assert answer.json() == {"inserted": 1, "duplicates": 0}
        [listed] = client.get("/v1/events/").json()["items"]
    assert listed["metadata"] == {"n": 1}
    assert polar_server.events() == [{**listed, "external_id": None}]
    connection = json.loads(os.environ[f"AIRFLOW_CONN_{polar_connection.upper()}"])
    assert (connection["host"], connection["password"]) == (polar_server.base_url, polar_server.token)


def test_the_plugin_costs_nothing_until_its_fixture_is_used() -> None:
    code = "import sys, airflow_provider_polar.testing.plugin; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "airflow_provider_polar.testing.plugin" in loaded
    assert not {"uvicorn", "pydantic", "sqlite3", "airflow"} & set(loaded)
