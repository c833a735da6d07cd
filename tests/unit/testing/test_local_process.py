"""The local Polar in a process of its own, steered over HTTP."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from airflow_provider_polar.testing import LocalPolar

Start = Callable[..., tuple["subprocess.Popen[str]", httpx.Client]]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[subprocess.Popen[str]] = []

    def run(*options: str) -> tuple[subprocess.Popen[str], httpx.Client]:
        command = [sys.executable, "-m", "airflow_provider_polar.testing", "--token", "polar_oat_cli", *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout is not None
        address = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert address is not None
        export = process.stdout.readline()
        name, _, value = export.removeprefix("export ").partition("=")
        assert name == "AIRFLOW_CONN_POLAR_DEFAULT"
        connection = json.loads(value.strip().strip("'"))
        assert (connection["host"], connection["password"]) == (address[0], "polar_oat_cli")
        headers = {"Authorization": "Bearer polar_oat_cli"}
        return process, httpx.Client(base_url=address[0], headers=headers)

    yield run
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_told_to_stop(start: Start, number: signal.Signals) -> None:
    process, client = start("--seed")
    with client:
        assert client.get("/v1/events/").json()["pagination"]["total_count"] > 500
        process.send_signal(number)
        _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")


def test_a_database_outlives_the_server(start: Start, tmp_path: Path) -> None:
    database = str(tmp_path / "polar.sqlite")
    process, client = start("--database", database)
    with client:
        event = {"name": "a", "external_customer_id": "c", "external_id": "1"}
        assert client.post("/v1/events/ingest", json={"events": [event]}).json()["inserted"] == 1
        assert client.post("/_local/customers", json={"external_id": "c"}).status_code == 200
        before = client.get("/v1/events/").json()
        process.kill()
        process.communicate()
    with LocalPolar("polar_oat_cli", database=database) as polar, httpx.Client(base_url=polar.base_url) as client:
        client.headers["Authorization"] = "Bearer polar_oat_cli"
        assert client.get("/v1/events/").json() == before
        assert before["items"][0]["customer"]["external_id"] == "c"
        answer = client.post("/v1/events/ingest", json={"events": [event]}).json()
        assert answer == {"inserted": 0, "duplicates": 1}
    assert "polar_oat_cli" not in Path(database).read_bytes().decode("latin-1")


def test_options(start: Start) -> None:
    _, client = start("--rate-limit", "2/30", "--visibility-lag", "60-70", "--environment", "production")
    with client:
        event = {"name": "a", "external_customer_id": "c"}
        client.post("/v1/events/ingest", json={"events": [event]})
        answer = client.get("/v1/events/")
        assert (answer.json()["items"], "x-polar-sandbox" in answer.headers) == ([], False)
        assert client.get("/v1/events/").headers["retry-after"] == "30"
        assert client.get("/_local/state").json()["count"] == 1


class TestControl:
    def test_steering_over_http(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        added = {"events": [{"name": "a", "timestamp": "2026-10-01T00:00:00Z", "external_id": "x"}], "copies": 2}
        [event_id] = client.post("/_local/events", json=added).json()["ids"]
        [truth] = client.get("/_local/truth").json()["events"]
        assert (truth["id"], truth["external_id"]) == (event_id, "x")
        client.post("/_local/faults", json={"kind": "status", "status": 500, "path": "list", "times": 1})
        assert [client.get("/v1/events/").status_code for _ in range(2)] == [500, 200]
        assert client.get("/v1/events/").json()["pagination"]["total_count"] == 2
        requests = client.get("/_local/requests").json()["requests"]
        assert [request["status"] for request in requests] == [500, 200, 200]
        state = client.get("/_local/state").json()
        assert (state["count"], state["requests"], state["faults"][0]["fired"]) == (1, 3, 1)
        client.delete("/_local/requests")
        client.delete("/_local/faults")
        state = client.get("/_local/state").json()
        assert (state["requests"], state["faults"]) == (0, [])

    def test_settings(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        client.patch("/_local/settings", json={"rate_limit": [2, 60], "visibility_lag": [0.5, 1]})
        assert polar_server.settings.rate_limit == (2, 60)
        assert polar_server.settings.visibility_lag == (0.5, 1)
        assert client.patch("/_local/settings", json={"lag": 1}).status_code == 400

    def test_organizations_and_tokens(self, polar_server: LocalPolar, client: httpx.Client) -> None:
        other = client.post("/_local/organizations", json={"name": "Other"}).json()["id"]
        client.post("/_local/tokens", json={"token": "t2", "scopes": ["events:read"], "organization_id": other})
        answer = client.get("/v1/events/", headers={"Authorization": "Bearer t2"})
        assert answer.json()["pagination"]["total_count"] == 0

    def test_mistakes_are_named(self, client: httpx.Client) -> None:
        answer = client.post("/_local/faults", json={"kind": "explode"})
        assert (answer.status_code, "lost_response" in answer.json()["detail"]) == (400, True)
        assert client.post("/_local/events", json={"events": [{"nmae": "a"}]}).status_code == 400
        assert client.get("/_local/nothing").status_code == 404
