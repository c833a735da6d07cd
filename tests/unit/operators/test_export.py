"""The export operator over the local Polar."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, ObjectStoragePath

from airflow_provider_polar.api import client
from airflow_provider_polar.api.pacing import Pacer
from airflow_provider_polar.exceptions import (
    PolarConfigurationError,
    PolarDestinationError,
    PolarFilterError,
    PolarIncompleteError,
)
from airflow_provider_polar.operators.export import PolarExportEventsOperator
from airflow_provider_polar.testing import LocalPolar

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEYS = {"manifest", "rows", "files", "start", "end", "requests", "complete"}


def usage(moments: list[datetime], **values: Any) -> list[dict[str, Any]]:
    return [
        {"name": "call", "timestamp": moment, "external_customer_id": f"c{i % 5}", "metadata": {"n": i}} | values
        for i, moment in enumerate(moments)
    ]


def hour_of_events() -> list[dict[str, Any]]:
    """On both edges of the hour, to the microsecond, and many on one second."""
    edges = [START + d for d in (-timedelta(microseconds=1), timedelta(0), HOUR - timedelta(microseconds=1), HOUR)]
    return usage(
        [*edges, *([START + timedelta(seconds=100)] * 150), *(START + timedelta(seconds=7 * i) for i in range(400))]
    )


def run(tmp_path: Path, **options: Any) -> dict[str, Any]:
    arguments = {
        "destination": f"file://{tmp_path}/out",
        "start": START,
        "end": START + HOUR,
        "requests_per_minute": 60_000,
    }
    arguments |= options
    return PolarExportEventsOperator(task_id="export", **arguments).execute({})


def exported(result: dict[str, Any]) -> list[dict[str, Any]]:
    path = ObjectStoragePath(result["manifest"])
    lines = []
    for file in json.loads(path.read_text())["files"]:
        lines += [json.loads(line) for line in (path.parent / file["path"]).read_text().splitlines()]
    return lines


def due(polar: LocalPolar, start: datetime = START, end: datetime = START + HOUR) -> list[dict[str, Any]]:
    found = [
        {k: v for k, v in event.items() if k != "external_id"}
        for event in polar.events()
        if start <= datetime.fromisoformat(event["timestamp"]) < end
    ]
    return sorted(found, key=lambda e: (datetime.fromisoformat(e["timestamp"]), e["id"]))


@pytest.fixture
def polar(polar_server: LocalPolar, polar_connection: Any) -> LocalPolar:
    return polar_server


def test_exports_the_window_exactly(polar: LocalPolar, tmp_path: Path) -> None:
    polar.add_events(hour_of_events())
    polar.clear_requests()
    result = run(tmp_path)
    assert exported(result) == due(polar)
    assert len(due(polar)) == 552
    assert set(result) == KEYS
    assert json.loads(json.dumps(result)) == result
    assert result | {"manifest": "", "requests": 0} == {
        "manifest": "",
        "rows": 552,
        "files": 1,
        "start": "2026-01-01T00:00:00Z",
        "end": "2026-01-01T01:00:00Z",
        "requests": 0,
        "complete": True,
    }
    assert result["requests"] == len(polar.requests)


def test_adjacent_hours_meet(polar: LocalPolar, tmp_path: Path) -> None:
    polar.add_events(hour_of_events())
    parts = [run(tmp_path, start=START + HOUR * i, end=START + HOUR * (i + 1)) for i in (-1, 0, 1)]
    together = [event["id"] for part in parts for event in exported(part)]
    assert together == [event["id"] for event in due(polar, START - HOUR, START + HOUR * 2)]
    assert len(together) == polar.count()


def test_a_second_export_has_the_same_bytes(polar: LocalPolar, tmp_path: Path) -> None:
    polar.add_events(hour_of_events())
    run(tmp_path)
    first = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    run(tmp_path, max_concurrency=1)
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == first


def test_an_export_of_some_customers_without_their_data(polar: LocalPolar, tmp_path: Path) -> None:
    polar.add_customer(external_id="c1", email="secret@example.com", name="Secret")
    polar.add_events(hour_of_events())
    result = run(tmp_path, filters={"external_customer_id": ["c1", "c2"]}, exclude_fields=["customer"])
    wanted = [e for e in due(polar) if e["external_customer_id"] in ("c1", "c2")]
    assert exported(result) == [{k: v for k, v in e.items() if k != "customer"} for e in wanted]
    assert wanted
    content = b"".join(p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert b"secret@example.com" not in content
    assert json.loads(ObjectStoragePath(result["manifest"]).read_text())["filters"] == {
        "external_customer_id": ["c1", "c2"]
    }


@pytest.mark.parametrize("file_format", ["csv", "parquet"])
@pytest.mark.parametrize("compression", [None, "gzip", "zstd"])
def test_every_format(polar: LocalPolar, tmp_path: Path, file_format: str, compression: str | None) -> None:
    polar.add_events(hour_of_events())
    result = run(tmp_path, file_format=file_format, compression=compression, max_file_rows=200)
    assert (result["rows"], result["files"]) == (552, 3)
    extension = file_format + (
        {"gzip": ".gz", "zstd": ".zst"}.get(compression or "", "") if file_format == "csv" else ""
    )
    assert len(list((tmp_path / "out").glob(f"*.{extension}"))) == 3


def test_look_back_exports_what_gained_events_again(polar: LocalPolar, tmp_path: Path) -> None:
    hours = [{"start": START + HOUR * n, "end": START + HOUR * (n + 1)} for n in range(4)]
    polar.add_events(usage([START + timedelta(minutes=10 * i) for i in range(24)]))
    for n in (0, 1):
        run(tmp_path, **hours[n])
    before = (tmp_path / "out").stat().st_mtime_ns, run(tmp_path, **hours[1])["rows"]
    assert before[1] == 6
    polar.add_events(usage([START + timedelta(seconds=90)]))
    polar.clear_requests()
    result = run(tmp_path, **hours[3], lookback=timedelta(hours=4))
    assert set(result) == {*KEYS, "changed", "unexported"}
    manifest = result["manifest"].replace("T030000Z_20260101T040000Z", "T000000Z_20260101T010000Z")
    start, end = "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"
    assert result["changed"] == [{"start": start, "end": end, "manifest": manifest, "rows": 7}]
    assert result["unexported"] == [
        {"start": "2025-12-31T23:00:00Z", "end": start},
        {"start": "2026-01-01T02:00:00Z", "end": "2026-01-01T03:00:00Z"},
    ]
    assert exported({"manifest": manifest}) == due(polar, START, START + HOUR)
    # Two counts, and one request for each of the two small windows exported.
    assert result["requests"] == len(polar.requests) == 4
    assert run(tmp_path, **hours[3], lookback=4)["changed"] == []


def test_an_earlier_window_that_cannot_be_proved_does_not_block_the_runs_own(polar: LocalPolar, tmp_path: Path) -> None:
    polar.add_events(usage([START + timedelta(minutes=10 * i) for i in range(12)]))
    run(tmp_path)
    polar.add_events(usage([START + timedelta(seconds=90)]), store=False)
    with pytest.raises(PolarIncompleteError, match=r"gave 6 of them: \[2026-01-01T00:0.*1 counted, 0 given"):
        run(tmp_path, start=START + HOUR, end=START + 2 * HOUR, lookback=1)
    assert (tmp_path / "out" / "events_20260101T010000Z_20260101T020000Z.manifest.json").exists()


def test_rows_that_polar_counts_and_does_not_give(polar: LocalPolar, tmp_path: Path) -> None:
    polar.add_events(hour_of_events())
    polar.add_events(usage([START + timedelta(seconds=1)]), store=False)
    with pytest.raises(PolarIncompleteError, match="counts 553 events and gave 552") as error:
        run(tmp_path)
    (spot,) = error.value.missing
    assert spot["start"] <= "2026-01-01T00:00:01Z" < spot["end"] <= "2026-01-01T00:00:07Z"
    assert not list((tmp_path / "out").glob("*.manifest.json"))
    result = run(tmp_path, on_incomplete="warn")
    assert (result["complete"], result["rows"]) == (False, 552)
    assert exported(result) == due(polar)
    manifest = json.loads(ObjectStoragePath(result["manifest"]).read_text())
    assert (manifest["counted"], len(manifest["missing"])) == (553, 1)


def test_a_server_that_fails_now_and_then(polar: LocalPolar, tmp_path: Path) -> None:
    polar.add_events(hour_of_events())
    polar.fail("status", status=503, path="list", every=3)
    polar.fail("truncated", path="list", every=4)
    assert exported(run(tmp_path)) == due(polar)


def test_settling_is_waited_for(polar: LocalPolar, tmp_path: Path, monkeypatch: Any) -> None:
    waits: list[float] = []
    monkeypatch.setattr("airflow_provider_polar.operators._base.time.sleep", waits.append)
    end = datetime.now(UTC)
    run(tmp_path, start=end - HOUR, end=end, settle=timedelta(minutes=2))
    assert waits == [pytest.approx(120, abs=5)]
    run(tmp_path, settle=timedelta(minutes=2))
    assert len(waits) == 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"file_format": "xml"}, PolarConfigurationError, "xml"),
        ({"compression": "rar"}, PolarConfigurationError, "rar"),
        ({"filters": {"nmae": "x"}}, PolarFilterError, "nmae"),
        ({"on_incomplete": "ignore"}, PolarConfigurationError, "on_incomplete"),
        ({"exclude_fields": ["custmer"]}, PolarConfigurationError, "custmer"),
        ({"include_fields": ["id"], "exclude_fields": ["id"]}, PolarConfigurationError, "not both"),
        ({"max_concurrency": 0}, PolarConfigurationError, "max_concurrency"),
        ({"requests_per_minute": 0}, PolarConfigurationError, "requests_per_minute"),
        ({"lookback": 0}, PolarConfigurationError, "lookback"),
        ({"settle": timedelta(-1)}, PolarConfigurationError, "settle"),
    ],
)
def test_wrong_parameters_are_refused_at_parse_time(options: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        PolarExportEventsOperator(task_id="export", destination="s3://b/x", **options)


def test_templates_are_not_judged_at_parse_time() -> None:
    PolarExportEventsOperator(
        task_id="export",
        destination="s3://{{ params.bucket }}/x",
        file_format="{{ params.format }}",
        filters={"name": ["{{ params.name }}"]},
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": datetime(2026, 1, 1)}, "without a time zone"),  # noqa: DTZ001
        ({"start": START + HOUR}, "empty"),
        ({"start": START + 2 * HOUR}, "reversed"),
        ({"start": "yesterday"}, "not an ISO 8601 moment"),
        ({"destination": " "}, "destination"),
        ({"destination": "None"}, "destination"),
        ({"file_format": "{{ never }}"}, "file_format"),
        ({"filters": {"name": []}}, "name"),
    ],
)
def test_what_can_be_known_is_refused_before_any_request(
    polar: LocalPolar, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises((AirflowFailException, PolarConfigurationError), match=message):
        run(tmp_path, **options)
    assert polar.requests == []
    assert not (tmp_path / "out").exists()


def test_an_unwritable_destination_is_refused_before_any_request(polar: LocalPolar, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(PolarDestinationError, match="out"):
        run(tmp_path)
    # Airflow before 3.2 knows a scheme that there is not from a store that cannot be used only by its words.
    with pytest.raises((AirflowFailException, PolarDestinationError), match="nosuch"):
        run(tmp_path, destination="nosuch://bucket/x")
    with pytest.raises(AirflowFailException, match=r"gs://.*pip install 'airflow-provider-polar\[gcs\]'"):
        run(tmp_path, destination="gs://bucket/x")
    assert polar.requests == []


def test_a_wrong_token_fails_without_retries_and_is_never_shown(
    polar: LocalPolar, tmp_path: Path, caplog: Any, monkeypatch: Any
) -> None:
    wrong = json.loads(polar.connection_uri()) | {"password": "polar_oat_wrong_secret"}
    monkeypatch.setenv("AIRFLOW_CONN_POLAR_DEFAULT", json.dumps(wrong))
    with pytest.raises(AirflowFailException) as error:
        run(tmp_path)
    assert "polar_oat_wrong_secret" not in str(error.value) + str(error.value.__cause__) + caplog.text


def test_the_token_is_in_nothing_that_is_written(polar: LocalPolar, tmp_path: Path, caplog: Any) -> None:
    polar.add_events(hour_of_events())
    result = run(tmp_path)
    content = b"".join(p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()).decode()
    assert polar.token not in content + caplog.text + json.dumps(result)


def test_in_a_real_airflow(polar: LocalPolar, tmp_path: Path, run_dag: Any) -> None:
    from airflow.sdk import DAG

    polar.add_events(hour_of_events())
    with DAG("export_in_airflow", schedule=None, start_date=START) as dag:
        PolarExportEventsOperator(
            task_id="export",
            destination=f"file://{tmp_path}/{{{{ dag.dag_id }}}}",
            start="{{ dag_run.conf.start }}",
            end="{{ dag_run.conf.end }}",
            requests_per_minute=60_000,
        )
    window = {"start": "2026-01-01T00:00:00+00:00", "end": "2026-01-01T01:00:00+00:00"}
    done = run_dag(dag, run_conf=window)
    assert done.state == "success"
    result = done.xcom("export")
    assert exported(result) == due(polar)
    assert result["manifest"].startswith(f"file://{tmp_path}/export_in_airflow/events_")


def test_the_request_budget_is_used_and_never_passed(
    polar: LocalPolar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a clock's time, which only pauses move: how fast the machine is does not matter."""
    clock, real_delay = [0.0], Pacer.delay

    def delay(pacer: Pacer, moment: float) -> float | None:
        left = real_delay(pacer, moment)
        if left:
            clock[0] = moment
        return left

    monkeypatch.setattr(Pacer, "delay", delay)
    monkeypatch.setitem(Pacer.__init__.__kwdefaults__, "clock", lambda: clock[0])
    monkeypatch.setattr(client, "time", SimpleNamespace(sleep=lambda seconds: None, monotonic=time.monotonic))
    times: list[float] = []
    polar.on_request(lambda record: times.append(clock[0]))
    polar.add_events(usage([START + timedelta(milliseconds=180 * i) for i in range(20_000)]))
    assert run(tmp_path, requests_per_minute=60, max_concurrency=1)["rows"] == 20_000
    assert len(times) <= 1.05 * 20_000 / 100
    assert all(later - earlier >= 60 for earlier, later in zip(times, times[60:], strict=False))
    assert len(times) >= 0.95 * times[-1]


@pytest.mark.parametrize(("events", "requests"), [(0, 1), (99, 1), (100, 2), (101, 3)])
def test_a_small_window_costs_one_request(polar: LocalPolar, tmp_path: Path, events: int, requests: int) -> None:
    """A response that is no full page is plan, events and proof; what takes more is counted at the end."""
    polar.add_events(usage([START + timedelta(seconds=i) for i in range(events)]))
    result = run(tmp_path, start=START, end=START + HOUR)
    assert (result["rows"], result["requests"], result["complete"]) == (events, requests, True)


def test_a_full_page_is_not_its_own_proof(polar: LocalPolar, tmp_path: Path) -> None:
    """A newcomer early in the window pushes an old event off the page, and 100 are counted as 100 are given."""
    polar.add_events(usage([START + timedelta(seconds=10 + i) for i in range(99)]))

    def arrive(record: Any) -> None:
        if len(polar.requests) == 1:
            polar.add_events(usage([START + timedelta(seconds=1), START + timedelta(seconds=5)]))

    polar.on_request(arrive)
    result = run(tmp_path)
    assert result["complete"]
    assert exported(result) == due(polar)


def test_the_log_tells_mapped_exports_apart(polar: LocalPolar, tmp_path: Path, caplog: Any, capsys: Any) -> None:
    caplog.set_level("INFO")
    polar.add_events(usage([START + timedelta(seconds=1)]))
    run(tmp_path, filters={"name": "call"})
    text = caplog.text + capsys.readouterr().out
    assert f"with the filters {{'name': ['call']}} to file://{tmp_path}/out" in text
    assert "exported 1 event of [2026-01-01T00:00:00Z, 2026-01-01T01:00:00Z) in 1 file: 1 request, 0 rep" in text


def test_an_event_of_the_first_years(polar: LocalPolar, tmp_path: Path) -> None:
    polar.add_events(usage([START - timedelta(days=365 * 2000)]))
    result = run(tmp_path, start="0001-01-01T00:00:00Z", end=START, file_format="parquet")
    assert result["rows"] == 1
