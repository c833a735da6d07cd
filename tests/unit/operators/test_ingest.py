"""The ingest operator and its decorator in a real Airflow, against the local Polar."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS
from airflow.sdk import DAG, task

from airflow_provider_polar.api.retrying import Retries
from airflow_provider_polar.exceptions import PolarConfigurationError, PolarDestinationError
from airflow_provider_polar.operators.ingest import PolarIngestEventsOperator
from airflow_provider_polar.testing import LocalPolar

EVENT = {"name": "call.made", "external_customer_id": "c1", "timestamp": "2026-01-01T00:00:00Z"}
KEYS = {"events", "inserted", "duplicates", "rejected", "batches", "rejected_path"}
RunDag = Callable[..., Any]


def _dag(name: str) -> DAG:
    return DAG(dag_id=name, schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def departures(tmp_path: Path) -> Path:
    path = tmp_path / "departures.jsonl.gz"
    with gzip.open(path, "wt") as file:
        for number in range(2500):
            file.write(json.dumps({"carrier": f"c{number % 5}", "flight": number, "dep": "2026-01-01 10:00"}) + "\n")
    return path


MAPPING = {
    "name": {"const": "flight.departed"},
    "external_customer_id": "carrier",
    "timestamp": {"column": "dep", "timezone": "America/New_York"},
    "metadata": {"flight": "flight"},
}


def test_a_file_is_mapped_and_each_run_is_billed(
    run_dag: RunDag, polar_server: LocalPolar, polar_connection: str, departures: Path
) -> None:
    with _dag("ingest_file") as dag:
        PolarIngestEventsOperator(task_id="ingest", source=f"file://{departures}", mapping=MAPPING)
    run = run_dag(dag, logical_date=datetime(2026, 2, 1, tzinfo=UTC))
    assert run.state == "success"
    assert run.xcom("ingest") == {
        "events": 2500,
        "inserted": 2500,
        "duplicates": 0,
        "rejected": 0,
        "batches": 3,
        "rejected_path": None,
    }
    assert polar_server.events()[0]["timestamp"] == "2026-01-01T15:00:00Z"

    other = run_dag(dag, logical_date=datetime(2026, 2, 2, tzinfo=UTC))
    assert other.xcom("ingest")["inserted"] == 2500
    assert polar_server.count() == 5000


def test_the_same_run_stores_nothing_twice(polar_server: LocalPolar, polar_connection: str, departures: Path) -> None:
    ti = SimpleNamespace(dag_id="d", task_id="ingest", run_id="r1", map_index=-1)
    operator = PolarIngestEventsOperator(task_id="ingest", source=f"file://{departures}", mapping=MAPPING)
    assert operator.execute({"ti": ti})["inserted"] == 2500
    result = operator.execute({"ti": ti})
    assert (result["inserted"], result["duplicates"]) == (0, 2500)
    assert polar_server.count() == 2500


def test_a_retry_goes_on_from_the_stored_batches(
    polar_server: LocalPolar, polar_connection: str, departures: Path
) -> None:
    """The way Airflow 3.3 keeps state through retries, and what a success leaves of it."""
    store: dict[str, Any] = {}
    state = SimpleNamespace(get=store.get, set=store.__setitem__, delete=lambda key: store.pop(key, None))
    ti = SimpleNamespace(dag_id="d", task_id="ingest", run_id="r1", map_index=-1)
    operator = PolarIngestEventsOperator(
        task_id="ingest", source=f"file://{departures}", mapping=MAPPING, max_concurrency=1
    )
    polar_server.fail("missing_scope", path="ingest", after=1, times=1)
    told = r"needs events:write.* 1,500 are not known to be stored; .*1,001-2,000.*2,001-2,500.*Fix that and run again"
    with pytest.raises(AirflowFailException, match=told):
        operator.execute({"ti": ti, "task_state_store": state})
    polar_server.clear_requests()
    result = operator.execute({"ti": ti, "task_state_store": state})
    assert (result["inserted"], result["duplicates"]) == (2500, 0)
    assert len(polar_server.requests) == 2
    assert store == {}


def test_a_glob_is_all_its_files(polar_server: LocalPolar, polar_connection: str, tmp_path: Path) -> None:
    ti = SimpleNamespace(dag_id="d", task_id="ingest", run_id="r1", map_index=-1)
    for number in range(3):
        (tmp_path / f"{number}.jsonl").write_text(json.dumps({**EVENT, "metadata": {"n": number}}) + "\n{}\n")
    (tmp_path / "other.txt").write_text("?")
    (tmp_path / "4.jsonl").mkdir()
    operator = PolarIngestEventsOperator(
        task_id="ingest",
        source=f"file://{tmp_path}/*.jsonl",
        on_invalid="skip",
        rejected_path=f"file://{tmp_path}/rejected.jsonl",
    )
    result = operator.execute({"ti": ti})
    assert (result["events"], result["inserted"], result["rejected"]) == (6, 3, 3)
    lines = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert [(Path(line["source"]).name, line["row"]) for line in lines] == [(f"{n}.jsonl", 2) for n in range(3)]


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ("[{'name': 'a'}]", "is text that is not JSON"),
        (EVENT, "is a dict; it is a list of events"),
        ("{}", "is a dict; it is a list of events"),
        ("null", "the upstream task has returned nothing"),
    ],
)
def test_what_renders_to_no_list_is_explained(polar_connection: str, events: Any, told: str) -> None:
    ti = SimpleNamespace(dag_id="d", task_id="ingest", run_id="r1", map_index=-1)
    with pytest.raises(AirflowFailException, match=told):
        PolarIngestEventsOperator(task_id="ingest", events=events).execute({"ti": ti})


@pytest.mark.parametrize("source", ["file:///nowhere/*.jsonl", "file:///nowhere/a.jsonl"])
def test_a_source_that_is_not_there_fails_without_retries(polar_connection: str, source: str) -> None:
    ti = SimpleNamespace(dag_id="d", task_id="ingest", run_id="r1", map_index=-1)
    with pytest.raises(AirflowFailException, match="/nowhere/"):
        PolarIngestEventsOperator(task_id="ingest", source=source).execute({"ti": ti})


def test_a_state_store_that_fails_costs_nothing(polar_server: LocalPolar, polar_connection: str) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no supervisor")

    ti = SimpleNamespace(dag_id="d", task_id="ingest", run_id="r1", map_index=-1)
    state = SimpleNamespace(get=broken, set=broken, delete=broken)
    operator = PolarIngestEventsOperator(task_id="ingest", events=[EVENT])
    assert operator.execute({"ti": ti, "task_state_store": state})["inserted"] == 1


def test_events_come_from_an_upstream_task(run_dag: RunDag, polar_server: LocalPolar, polar_connection: str) -> None:
    with _dag("ingest_xcom") as dag:

        @task
        def usage() -> list[dict[str, Any]]:
            return [EVENT, EVENT, {**EVENT, "metadata": {"n": 1}}]

        PolarIngestEventsOperator(task_id="ingest", events=usage())
    run = run_dag(dag)
    assert run.xcom("ingest")["inserted"] == 3
    assert polar_server.count() == 3


def test_mapped_tasks_have_scopes_of_their_own(
    run_dag: RunDag, polar_server: LocalPolar, polar_connection: str
) -> None:
    with _dag("ingest_mapped") as dag:
        PolarIngestEventsOperator.partial(task_id="ingest").expand(events=[[EVENT], [EVENT]])
    assert run_dag(dag).state == "success"
    assert polar_server.count() == 2


def test_a_scope_of_ones_own_is_shared_by_runs_and_templated(
    run_dag: RunDag, polar_server: LocalPolar, polar_connection: str
) -> None:
    with _dag("ingest_scope") as dag:
        PolarIngestEventsOperator(task_id="one", events=[EVENT], idempotency_scope="{{ dag.dag_id }}")
        PolarIngestEventsOperator(task_id="other", events=[EVENT], idempotency_scope="ingest_scope")
    run_dag(dag, logical_date=datetime(2026, 2, 1, tzinfo=UTC))
    run_dag(dag, logical_date=datetime(2026, 2, 2, tzinfo=UTC))
    assert polar_server.count() == 1


def test_a_function_that_yields_events_is_an_ingest_task(
    run_dag: RunDag, polar_server: LocalPolar, polar_connection: str
) -> None:
    with _dag("ingest_function") as dag:

        @task.polar_ingest(batch_size=2)
        def calls(number: int, dag_run: Any = None) -> Any:
            for index in range(number):
                yield {**EVENT, "metadata": {"index": index, "run": dag_run.run_id}}

        @task.polar_ingest
        def returned() -> Any:
            return [EVENT]

        @task.polar_ingest
        def each(customer: str) -> Any:
            return [{**EVENT, "external_customer_id": customer}]

        calls(5)
        returned()
        each.expand(customer=["a", "b"])
    run = run_dag(dag)
    assert run.state == "success"
    assert run.xcom("calls")["batches"] == 3
    assert run.xcom("returned")["inserted"] == 1
    assert run.xcom("each", map_index=1)["inserted"] == 1
    assert polar_server.count() == 8


def test_invalid_rows_fail_the_task_before_any_request(
    run_dag: RunDag, polar_server: LocalPolar, polar_connection: str
) -> None:
    with _dag("ingest_invalid") as dag:
        PolarIngestEventsOperator(task_id="ingest", events=[EVENT, {"name": "x"}], retries=3)
    run = run_dag(dag)
    assert run.states() == {"ingest": "failed"}
    assert polar_server.requests == []


def test_invalid_rows_are_set_aside(
    run_dag: RunDag, polar_server: LocalPolar, polar_connection: str, tmp_path: Path
) -> None:
    with _dag("ingest_skip") as dag:
        PolarIngestEventsOperator(
            task_id="ingest",
            events=[EVENT, {"name": "x"}],
            on_invalid="skip",
            rejected_path=f"file://{tmp_path}/{{{{ run_id }}}}/rejected.jsonl",
        )
    result = run_dag(dag).xcom("ingest")
    assert set(result) == KEYS
    assert (result["inserted"], result["rejected"]) == (1, 1)
    (line,) = Path(result["rejected_path"].removeprefix("file://")).read_text().splitlines()
    said = json.loads(line)
    assert re.fullmatch("[0-9a-f]{12}", said.pop("ingest"))
    assert said == {
        "row": 2,
        "problems": [{"field": "", "message": "has no customer: give customer_id or external_customer_id"}],
        "event": {"name": "x"},
    }


def test_a_dry_run_sends_nothing_and_needs_no_connection(run_dag: RunDag, polar_server: LocalPolar) -> None:
    with _dag("ingest_dry") as dag:
        PolarIngestEventsOperator(task_id="ingest", events=[EVENT, EVENT], dry_run=True)
    result = run_dag(dag).xcom("ingest")
    assert result == {"events": 2, "inserted": 0, "duplicates": 0, "rejected": 0, "batches": 1, "rejected_path": None}
    assert polar_server.requests == []


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({}, "exactly one of events, source and sql"),
        ({"events": [], "source": "s3://b/a.jsonl"}, "exactly one of events, source and sql"),
        ({"events": [], "on_invalid": "ignore"}, "on_invalid"),
        ({"events": [], "on_invalid": "skip"}, "needs rejected_path"),
        ({"events": [], "batch_size": 0}, "batch_size"),
        ({"events": [], "batch_size": 32768}, "batch_size"),
        ({"events": [], "max_concurrency": 0}, "max_concurrency"),
        ({"events": [], "requests_per_minute": 0}, "requests_per_minute"),
        ({"events": [], "idempotency_scope": " "}, "idempotency_scope"),
        ({"events": [], "unknown_parents": "maybe"}, "unknown_parents"),
        ({"events": [], "mapping": {"nam": "x"}}, "unknown field 'nam'"),
        ({"source": "s3://bucket/data.xlsx"}, "does not say its format"),
    ],
)
def test_what_cannot_be_is_refused_when_the_dag_is_parsed(parameters: dict[str, Any], told: str) -> None:
    with pytest.raises(PolarConfigurationError, match=told):
        PolarIngestEventsOperator(task_id="ingest", **parameters)


def test_templates_are_not_judged_before_they_are_rendered() -> None:
    operator = PolarIngestEventsOperator(task_id="ingest", source="{{ params.path }}")
    assert set(operator.template_fields) >= {"events", "source", "polar_conn_id", "idempotency_scope", "rejected_path"}


def test_the_decorator_takes_no_events() -> None:
    from airflow_provider_polar.decorators.ingest import polar_ingest_task

    def calls() -> list[Any]:
        return []

    with _dag("decorator_clash"), pytest.raises(PolarConfigurationError, match="the function gives the events"):
        polar_ingest_task(events=[EVENT])(calls)()


def test_a_retry_in_airflow_remembers_what_is_stored(
    run_dag: RunDag,
    polar_server: LocalPolar,
    polar_connection: str,
    departures: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Retries, "wait", lambda *_: 0.0)
    monkeypatch.setattr("airflow_provider_polar.api.retrying.PATIENCE", 0.0)
    outage = 2  # requests: a batch and its second turn, for a client without patience
    with _dag("ingest_retry") as dag:
        PolarIngestEventsOperator(
            task_id="ingest",
            source=f"file://{departures}",
            mapping=MAPPING,
            max_concurrency=1,
            retries=1,
            retry_delay=timedelta(0),
        )
    polar_server.fail("status", status=503, path="ingest", after=1, times=outage)
    run = run_dag(dag)
    assert run.state == "success"
    assert polar_server.count() == 2500
    if AIRFLOW_V_3_3_PLUS:
        assert run.xcom("ingest")["inserted"] == 2500
        assert [record.status for record in polar_server.requests] == [200, *[503] * outage, 200, 200]


def test_a_missing_scope_fails_without_retries(
    run_dag: RunDag, polar_server: LocalPolar, polar_connection: str
) -> None:
    with _dag("ingest_scope_missing") as dag:
        PolarIngestEventsOperator(task_id="ingest", events=[EVENT], retries=2, retry_delay=timedelta(0))
    polar_server.fail("missing_scope", path="ingest")
    assert run_dag(dag).state == "failed"
    assert len(polar_server.requests) == 1


def test_rejected_rows_that_cannot_be_written_are_told_before_anything_is_billed(
    polar_server: LocalPolar, polar_connection: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    operator = PolarIngestEventsOperator(
        task_id="ingest", events=[EVENT, {}], on_invalid="skip", rejected_path=f"{tmp_path}/file/rejected.jsonl"
    )
    ti = SimpleNamespace(dag_id="d", task_id="ingest", run_id="r1", map_index=-1)
    with pytest.raises(PolarDestinationError, match=r"rejected\.jsonl"):
        operator.execute({"ti": ti})
    assert not polar_server.requests


@pytest.mark.parametrize("nothing", ["", "None"])
@pytest.mark.parametrize("parameter", ["idempotency_scope", "rejected_path", "source"])
def test_a_template_that_renders_to_nothing_is_refused(
    polar_server: LocalPolar, polar_connection: str, tmp_path: Path, parameter: str, nothing: str
) -> None:
    """``None`` as a scope would make the events of all runs without a value one another's duplicates."""
    rows: dict[str, Any] = {} if parameter == "source" else {"events": [EVENT, {}]}
    operator = PolarIngestEventsOperator(
        task_id="ingest",
        on_invalid="skip",
        **{"rejected_path": f"{tmp_path}/rejected.jsonl", **rows, parameter: "{{ params.nothing }}"},
    )
    setattr(operator, parameter, nothing)
    ti = SimpleNamespace(dag_id="d", task_id="ingest", run_id="r1", map_index=-1)
    with pytest.raises(AirflowFailException, match=parameter):
        operator.execute({"ti": ti})
    assert not polar_server.requests


def test_the_content_of_events_is_not_in_what_airflow_keeps_of_the_task(
    run_dag: RunDag, polar_server: LocalPolar, polar_connection: str, caplog: pytest.LogCaptureFixture
) -> None:
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.utils.session import create_session
    from sqlalchemy import select

    secret = {**EVENT, "external_customer_id": "s3cret"}
    with _dag("ingest_rendered") as dag:

        @task
        def usage() -> list[dict[str, Any]]:
            return [secret, {**secret, "name": "other"}]

        given = usage()
        PolarIngestEventsOperator(task_id="from_xcom", events=given)
        PolarIngestEventsOperator(task_id="from_list", events=[{**secret, "name": "{{ dag.dag_id }}"}])
        PolarIngestEventsOperator(task_id="from_text", events=json.dumps([secret]))
        PolarIngestEventsOperator(task_id="from_call", events=lambda context, jinja_env: [secret])
        PolarIngestEventsOperator.partial(task_id="mapped").expand(events=[[secret], [secret, secret]])
    run = run_dag(dag)
    assert run.state == "success"
    assert polar_server.count() == 8
    with create_session() as session:
        query = select(RenderedTaskInstanceFields).where(RenderedTaskInstanceFields.dag_id == "ingest_rendered")
        records = {(one.task_id, one.map_index): one.rendered_fields for one in session.scalars(query)}
    assert {key: fields["events"] for key, fields in records.items() if "events" in fields} == {
        ("from_xcom", -1): "2 events",
        ("from_list", -1): "1 event",
        ("from_text", -1): "events as str",
        ("from_call", -1): "1 event",
        ("mapped", 0): "1 event",
        ("mapped", 1): "2 events",
    }
    assert "s3cret" not in str(records)
    assert "s3cret" not in str([run.xcom(task_id) for task_id in ("from_xcom", "from_list", "from_text")])
    ours = [record.getMessage() for record in caplog.records if "polar" in record.name]
    assert "s3cret" not in str(ours)


def test_a_mapped_task_over_files_stores_nothing_twice_when_the_list_shifts(
    polar_server: LocalPolar, polar_connection: str, tmp_path: Path
) -> None:
    for name in "XAB":
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({**EVENT, "metadata": {"file": name}}) + "\n" * 2)
    for names in ("AB", "XAB"):
        for index, name in enumerate(names):
            ti = SimpleNamespace(dag_id="d", task_id="ingest", run_id="r1", map_index=index)
            # The same file by another way.
            folder = tmp_path if names == "AB" else f"{tmp_path}/../{tmp_path.name}"
            PolarIngestEventsOperator(task_id="ingest", source=f"file://{folder}/{name}.jsonl").execute({"ti": ti})
    assert sorted(event["metadata"]["file"] for event in polar_server.events()) == ["A", "B", "X"]


@pytest.mark.parametrize(("scope", "warned"), [(None, True), ("mine", False)])
def test_a_mapped_task_over_events_is_warned_that_its_place_counts(
    polar_server: LocalPolar,
    polar_connection: str,
    monkeypatch: pytest.MonkeyPatch,
    scope: str | None,
    warned: bool,
) -> None:
    said: list[str] = []
    operator = PolarIngestEventsOperator(task_id="ingest", events=[EVENT], idempotency_scope=scope)
    monkeypatch.setattr(operator.log, "warning", lambda text, *args: said.append(text % args))
    operator.execute({"ti": SimpleNamespace(dag_id="d", task_id="ingest", run_id="r1", map_index=0)})
    assert ("Set idempotency_scope to" in str(said)) is warned


def test_a_glob_leaves_files_of_rejected_rows_out(
    polar_server: LocalPolar, polar_connection: str, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(EVENT) + "\n{}\n")
    for run in ("r1", "r2", "r1"):
        ti = SimpleNamespace(dag_id="d", task_id="ingest", run_id=run, map_index=-1)
        result = PolarIngestEventsOperator(
            task_id="ingest",
            source=f"file://{tmp_path}/*.jsonl",
            on_invalid="skip",
            rejected_path=f"file://{tmp_path}/rejected.jsonl",
        ).execute({"ti": ti})
        assert (result["events"], result["rejected"]) == (2, 1)
    assert len(list(tmp_path.glob("rejected*.jsonl"))) == 2


def test_the_log_says_what_goes_where(
    polar_server: LocalPolar, polar_connection: str, departures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    operator = PolarIngestEventsOperator(task_id="ingest", source=f"file://{departures}", mapping=MAPPING)
    monkeypatch.setattr(operator.log, "info", lambda text, *args: said.append(text % args))
    operator.execute({"ti": SimpleNamespace(dag_id="d", task_id="ingest", run_id="r1", map_index=-1)})
    target = f"Polar ({polar_server.base_url}, connection polar_default)"
    assert f"Ingesting file://{departures} into {target}; events without an external_id are told apart" in said[0]
    assert "2,500 events inserted, 0 duplicates, 0 rejected, in 3 batches; 3 requests, 0 retries" in said[-1]
