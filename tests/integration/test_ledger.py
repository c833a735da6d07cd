"""The ledger behind a real Airflow: what tasks keep, who may read it, and what a response holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset, AssetWatcher
from fastapi.testclient import TestClient

from airflow_provider_polar.engine.exporting.index import INDEX
from airflow_provider_polar.operators.export import PolarExportEventsOperator
from airflow_provider_polar.operators.ingest import PolarIngestEventsOperator
from airflow_provider_polar.operators.reconcile import PolarReconcileEventsOperator
from airflow_provider_polar.plugins.ledger import destinations
from airflow_provider_polar.sensors.event import PolarEventSensor
from airflow_provider_polar.triggers.watch import PolarEventWatchTrigger
from tests.airflow_env import register
from tests.integration.scheduling import Scheduling

DAY = datetime(2026, 11, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
CUSTOMER = "00000000-0000-4000-8000-00000000c0de"
SECRETS = ("acme", "somebody@example.com", "value-of-metadata")


@pytest.fixture
def auth_manager(airflow_db: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Airflow's simple auth manager, by which viewers read everything and who has no role nothing."""
    from airflow.api_fastapi import app as airflow_app

    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "a secret that is long enough for any algorithm that signs" * 2)
    yield airflow_app.create_auth_manager()
    airflow_app.purge_cached_app()


@pytest.fixture
def client(auth_manager: Any) -> Any:
    """``client(role)`` is the ledger's application as somebody of that role meets it; without a role, logged out."""
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    from airflow_provider_polar.plugins.ledger.app import app

    def logged_in(role: str | None, name: str = "ada") -> TestClient:
        token = auth_manager.generate_jwt(SimpleAuthManagerUser(username=name, role=role))
        return TestClient(app, headers={"Authorization": f"Bearer {token}"})

    return logged_in


def dag(name: str, lake: Any, **options: Any) -> DAG:
    destination = f"file://{lake}"
    with DAG(name, schedule=None, start_date=DAY) as made:
        PolarExportEventsOperator(task_id="export", window="1 hour", destination=destination, **options)
    return made


def events(polar_server: Any, *hours: int) -> None:
    polar_server.add_events(
        {
            "name": "call",
            "timestamp": DAY + hour * HOUR,
            "external_customer_id": "acme",
            "metadata": {"kind": "value-of-metadata"},
        }
        for hour in hours
    )


@pytest.fixture
def lake(run_dag: Any, polar_server: Any, polar_connection: str, tmp_path: Any) -> Any:
    """Two hours of a destination, one of which has changed since."""
    events(polar_server, 0, 1, 3)
    exporting = dag("lake", tmp_path / "lake")
    for hour in (0, 1):
        assert run_dag(exporting, logical_date=DAY + (hour + 1) * HOUR).state == "success"
    with DAG("check", schedule=None, start_date=DAY) as checking:
        PolarReconcileEventsOperator(
            task_id="check",
            destination=f"file://{tmp_path}/lake",
            start=DAY.isoformat(),
            end=(DAY + 2 * HOUR).isoformat(),
        )
    events(polar_server, 1)
    assert run_dag(checking, logical_date=DAY).state == "failed"
    return tmp_path / "lake"


def exports(client: TestClient, **query: str) -> Any:
    response = client.get("/api/exports", params=query)
    assert response.status_code == 200, response.text
    return response.json()


def states(body: Any, destination: Any) -> list[str]:
    [calendar] = [one for one in body["calendars"] if one["destination"] == f"file://{destination}"]
    return [body["states"][window[2]] for window in calendar["windows"]]


def test_windows_and_what_a_check_found(client: Any, lake: Any) -> None:
    body = exports(client("viewer"))
    assert states(body, lake) == ["verified", "changed"]
    [calendar] = [one for one in body["calendars"] if one["destination"] == f"file://{lake}"]
    start, length, _, task, rows, files, manifest = calendar["windows"][0]
    assert (start, length, rows, files, manifest) == (DAY.timestamp(), 3600, 1, 1, 1)
    dag_id, task_id, run_id, map_index, logical_date = body["tasks"][task]
    names = [*body["names"]]
    assert (names[dag_id], names[task_id], map_index) == ("lake", "export", -1)
    assert logical_date == (DAY + HOUR).timestamp()
    assert run_id


def test_nobody_reads_it_without_the_right(client: Any, lake: Any) -> None:
    from airflow_provider_polar.plugins.ledger.app import app

    for path in ("/api/exports", "/api/ingests", "/api/waits", "/api/watchers"):
        assert TestClient(app).get(path).status_code == 401
        assert client(None).get(path).status_code == 403
        assert client("viewer").get(path).status_code == 200
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert client("admin").request(method, path).status_code == 405


def test_only_the_dags_that_the_user_may_read(
    client: Any, lake: Any, auth_manager: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(auth_manager), "get_authorized_dag_ids", lambda *_, **__: {"check"})
    body = exports(client("viewer"))
    assert body["calendars"] == []
    assert "lake" not in json.dumps(body)
    monkeypatch.setattr(type(auth_manager), "get_authorized_dag_ids", lambda *_, **__: {"lake"})
    assert states(exports(client("viewer")), lake) == ["exported", "exported"], "the check is another DAG's"


def test_the_right_to_read_the_dag_in_question_is_asked_for(
    client: Any, lake: Any, auth_manager: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        type(auth_manager), "is_authorized_dag", lambda *_, details=None, **__: getattr(details, "id", None) != "lake"
    )
    assert client("viewer").get("/api/exports", params={"dag_id": "lake"}).status_code == 403
    assert exports(client("viewer"), dag_id="check")["calendars"] == []


def test_a_failed_export_is_failed_and_the_gap_before_it_a_hole(
    client: Any, lake: Any, run_dag: Any, polar_server: Any
) -> None:
    events(polar_server, 3)
    polar_server.add_events([{"name": "call", "timestamp": DAY + 3 * HOUR, "external_customer_id": "a"}], store=False)
    assert run_dag(dag("lake", lake), logical_date=DAY + 4 * HOUR).state == "failed"
    assert states(exports(client("viewer")), lake) == ["verified", "changed", "hole", "failed"]
    assert run_dag(dag("lake", lake, on_incomplete="warn"), logical_date=DAY + 5 * HOUR).state == "success"
    assert states(exports(client("viewer")), lake)[3:] == ["failed", "exported"]


def test_ingests_by_run(client: Any, run_dag: Any, polar_server: Any, polar_connection: str) -> None:
    rows = [{"name": "call", "external_customer_id": "acme", "external_id": "1"}]
    with DAG("bill", schedule=None, start_date=DAY) as billing:
        PolarIngestEventsOperator(task_id="ingest", events=rows)
    for hour in (1, 2):
        assert run_dag(billing, logical_date=DAY + hour * HOUR).state == "success"
    found = client("viewer").get("/api/ingests", params={"dag_id": "bill"}).json()["ingests"]
    assert [(one["inserted"], one["duplicates"], one["rejected"]) for one in found] == [(0, 1, 0), (1, 0, 0)]
    assert {one["state"] for one in found} == {"success"}
    assert {one["target"] for one in found} == {"polar_default"}


def test_no_response_holds_an_event_a_customer_or_a_token(
    client: Any, run_dag: Any, polar_server: Any, polar_connection: str, tmp_path: Any
) -> None:
    filters = {"name": ["call"], "external_customer_id": ["acme"], "metadata": {"kind": "value-of-metadata"}}
    events(polar_server, 0)
    assert run_dag(dag("filtered", tmp_path, filters=filters), logical_date=DAY + HOUR).state == "success"
    response = client("admin").get("/api/exports", params={"dag_id": "filtered"})
    [calendar] = response.json()["calendars"]
    assert (calendar["names"], calendar["filtered_by"]) == (["call"], ["external_customer_id", "metadata"])
    told = response.text + client("admin").get("/api/ingests").text
    assert [secret for secret in (*SECRETS, polar_server.token) if secret in told] == []


def test_the_page_brings_all_that_it_needs(client: Any) -> None:
    from airflow_provider_polar.plugins.ledger.app import app

    page = TestClient(app).get("/")
    assert page.status_code == 200
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for path in ("static/ledger.js", "static/ledger.css"):
        assert f'"{path}"' in page.text
        found = TestClient(app).get(f"/{path}")
        assert found.status_code == 200
        assert found.headers["Content-Security-Policy"] == policy
        assert "http" not in found.text.replace("http://www.w3.org/2000/svg", "")
    assert "style=" not in page.text
    assert "<script>" not in page.text


class Seen(Exception):
    """What was to be looked at has been."""


@pytest.mark.parametrize("options", [{"deferrable": True}, {"mode": "reschedule"}], ids=["deferred", "rescheduled"])
def test_a_wait_says_since_when_and_when_next(
    client: Any, airflow_db: Any, polar_server: Any, polar_connection: str, options: dict[str, Any]
) -> None:
    name = f"wait_{next(iter(options))}"
    with DAG(name, schedule="@daily", start_date=DAY, end_date=DAY + HOUR, catchup=True) as waiting:
        PolarEventSensor(task_id="wait", event_name="order.paid", start=DAY, poke_interval=120, **options)
    scheduling = Scheduling(waiting, run_triggerer=False)
    scheduling.create_runs()
    found: dict[str, Any] = {}

    def look(_: dict[str, str]) -> None:
        found.update(client("viewer").get("/api/waits", params={"dag_id": name}).json())
        raise Seen

    scheduling.while_nothing_is_ready = look
    with pytest.raises(Seen):
        next(scheduling.run_queued())
    [poll] = found["polls"]
    assert (poll["task"][:2], poll["names"]) == ([name, "wait"], ["order.paid"])
    if "mode" in options:
        assert poll["state"] == "up_for_reschedule"
        assert 100 < poll["next"] - poll["last"] < 140
    else:
        assert poll["state"] == "deferred"
        assert poll["every"] == 120
    assert poll["since"] <= poll["last"]


def test_watchers_are_shown_to_those_who_may_read_what_they_start(
    client: Any, airflow_db: Any, auth_manager: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    trigger = PolarEventWatchTrigger(event_name=["order.paid"], poll_interval=30, filters={"customer_id": CUSTOMER})
    asset = Asset("orders_of_the_ledger", watchers=[AssetWatcher(name="orders", trigger=trigger)])
    with DAG("on_order", schedule=[asset], start_date=DAY) as watching:
        EmptyOperator(task_id="work")
    Scheduling(watching)  # which lets it run: only then Airflow has a trigger for its watcher
    register(watching)
    response = client("viewer").get("/api/watchers")
    [poll] = response.json()["polls"]
    assert (poll["name"], poll["names"], poll["every"]) == ("orders_of_the_ledger", ["order.paid"], 30)
    assert poll["state"] == "waiting for a triggerer"
    assert CUSTOMER not in response.text
    monkeypatch.setattr(type(auth_manager), "get_authorized_dag_ids", lambda *_, **__: {"lake"})
    assert client("viewer").get("/api/watchers").json() == {"polls": []}
    monkeypatch.setattr(type(auth_manager), "is_authorized_asset", lambda *_, **__: False)
    assert client("viewer").get("/api/watchers").status_code == 403


def test_what_airflow_has_forgotten_is_in_the_index_of_the_destination(
    client: Any, run_dag: Any, polar_server: Any, polar_connection: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = tmp_path / "remembered"
    monkeypatch.setenv("AIRFLOW__POLAR__LEDGER_DESTINATIONS", f"file://{tmp_path}/another, file://{lake}/")
    events(polar_server, 0, 1)
    exporting = dag("remembered", lake)
    runs = [run_dag(exporting, logical_date=DAY + hour * HOUR) for hour in (1, 2)]
    forget(runs[0])
    destinations._entries.cache_clear()
    body = exports(client("viewer"), dag_id="remembered")
    [calendar] = body["calendars"]
    assert states(body, lake) == ["exported", "exported"]
    assert calendar["indexed"] == 1
    assert calendar["windows"][0][3:6] == [None, 1, 1], "no task, a row, a file"

    (lake / INDEX).unlink()
    destinations._entries.cache_clear()
    assert states(exports(client("viewer"), dag_id="remembered"), lake) == ["exported"]
    with DAG("check_remembered", schedule=None, start_date=DAY) as checking:
        bounds = {"start": DAY.isoformat(), "end": (DAY + 2 * HOUR).isoformat()}
        PolarReconcileEventsOperator(task_id="check", destination=f"file://{lake}", **bounds)
    assert run_dag(checking, logical_date=DAY).state == "success"
    destinations._entries.cache_clear()
    assert states(exports(client("viewer")), lake) == ["verified", "verified"]

    forget(runs[1])
    assert exports(client("viewer"), dag_id="remembered")["calendars"] == [], "whose it is cannot be told any more"


def forget(run: Any) -> None:
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        ours = {"dag_id": run.dag_run.dag_id, "run_id": run.dag_run.run_id}
        session.execute(delete(XComModel).filter_by(**ours))
