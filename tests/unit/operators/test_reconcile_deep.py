"""Exports compared with Polar event by event, over the local Polar."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_provider_polar.engine.ingesting.journal import temporary_database
from airflow_provider_polar.exceptions import PolarConfigurationError, PolarIncompleteError, PolarLocalDiskError
from airflow_provider_polar.operators.export import PolarExportEventsOperator
from airflow_provider_polar.operators.reconcile import PolarReconcileEventsOperator
from airflow_provider_polar.testing import LocalPolar
from tests.paths import DATA
from tests.unit.engine.rows import minutes

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
NAMES = ("api.call", "llm.completion", "storage", "seat")
SWAPS = int(os.environ.get("RECONCILE_SWAPS", "20"))


def span(first: float, last: float) -> dict[str, Any]:
    return {"start": START + HOUR * first, "end": START + HOUR * last}


def usage(number: int, moment: datetime, **values: Any) -> dict[str, Any]:
    metadata = {"tokens": number, "price": number / 7, "text": f'a,"b"\n{number}', "trial": number % 2 == 0}
    return {
        "name": NAMES[number % len(NAMES)],
        "timestamp": moment,
        "external_customer_id": f"c{number % 3}",
        "metadata": metadata,
    } | values


def every(minutes: int, hours: int) -> list[dict[str, Any]]:
    step = timedelta(minutes=minutes, microseconds=1)
    return [usage(number, START + step * number) for number in range(60 // minutes * hours)]


@pytest.fixture
def polar(polar_server: LocalPolar, polar_connection: Any) -> LocalPolar:
    return polar_server


def export(target: Path, first: float, last: float, **options: Any) -> dict[str, Any]:
    return PolarExportEventsOperator(
        task_id="export", destination=str(target), requests_per_minute=600_000, **span(first, last), **options
    ).execute({})


def reconcile(target: Path, first: float, last: float, **options: Any) -> dict[str, Any]:
    given = {"on_difference": "warn", **span(first, last)} | options
    return PolarReconcileEventsOperator(
        task_id="reconcile", destination=str(target), requests_per_minute=600_000, **given
    ).execute({})


LAYOUTS = [
    {},
    {"compression": "gzip", "max_file_rows": 7},
    {"file_format": "csv"},
    {"file_format": "parquet"},
    {"exclude_fields": ["metadata", "customer"]},
    {"file_format": "csv", "include_fields": ["id", "metadata"]},
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_swap_at_equal_counts_is_named_in_every_layout(polar: LocalPolar, tmp_path: Path, layout: Any) -> None:
    ids = polar.add_events(every(10, hours=3))
    for number in range(3):
        export(tmp_path, number, number + 1, **layout)
    assert reconcile(tmp_path, 0, 3, deep=True)["equal"] == 3
    polar.remove_events(ids[8:9])
    (new,) = polar.add_events([usage(8, START + HOUR * 1.5)])
    assert reconcile(tmp_path, 0, 3)["equal"] == 3
    result = reconcile(tmp_path, 0, 3, deep=True)
    assert (result["windows"], result["equal"], result["deep"]) == (3, 2, 3)
    assert result["changed"] == [{"start": "2026-01-01T01:00:00Z", "end": "2026-01-01T02:00:00Z"}]
    (difference,) = result["differences"]
    assert difference["ids"] == {"gone": [ids[8]], "new": [new]}
    assert (difference["gone"], difference["new"], difference["different"], difference["counted"]) == (1, 1, 0, None)
    polar.remove_events([new])
    polar.restore_events(ids[8:9])
    assert reconcile(tmp_path, 0, 3, deep=True)["equal"] == 3


@pytest.mark.parametrize("layout", [{}, {"file_format": "csv"}, {"file_format": "parquet"}], ids=str)
def test_other_content_is_named_by_field_and_never_told(
    polar: LocalPolar, tmp_path: Path, layout: Any, caplog: Any
) -> None:
    ids = polar.add_events(every(10, hours=1))
    export(tmp_path, 0, 1, **layout)
    polar.remove_events(ids[2:3])
    changed = usage(2, START + timedelta(minutes=20, microseconds=2), id=ids[2])
    polar.add_events([{**changed, "metadata": {**changed["metadata"], "trial": 1, "secret": "s3cr3t"}}])
    assert reconcile(tmp_path, 0, 1, deep=True, compare_content=False)["equal"] == 1
    (difference,) = reconcile(tmp_path, 0, 1, deep=True)["differences"]
    assert difference["ids"] == {"different": [ids[2]]}
    assert difference["fields"] == {"metadata": 1}
    assert "s3cr3t" not in caplog.text + json.dumps(difference)


def test_what_may_change_at_any_time_is_no_difference(polar: LocalPolar, tmp_path: Path) -> None:
    polar.add_events(every(10, hours=1))
    export(tmp_path, 0, 1)
    customer = polar.add_customer(external_id="c1", email="c1@example.com", name="Of a new name")
    assert customer
    assert reconcile(tmp_path, 0, 1, deep=True)["equal"] == 1


def test_equal_digests_spare_the_files(polar: LocalPolar, tmp_path: Path) -> None:
    polar.add_events(every(10, hours=1))
    export(tmp_path, 0, 1)
    for file in tmp_path.glob("*.part-*"):
        file.write_bytes(b"damaged")
    assert reconcile(tmp_path, 0, 1, deep=True, compare_content=False)["equal"] == 1
    (difference,) = reconcile(tmp_path, 0, 1, deep=True)["differences"]
    assert "SHA-256" in difference["damaged"]
    assert reconcile(tmp_path, 0, 1, deep=True, on_difference="export")["exported"][0]["rows"] == 6
    assert reconcile(tmp_path, 0, 1, deep=True)["equal"] == 1


def test_an_export_without_ids_is_compared_by_its_digest(polar: LocalPolar, tmp_path: Path) -> None:
    ids = polar.add_events(every(10, hours=1))
    export(tmp_path, 0, 1, exclude_fields=["id"])
    assert reconcile(tmp_path, 0, 1, deep=True)["equal"] == 1
    polar.remove_events(ids[:1])
    polar.add_events(every(10, hours=1)[:1])
    result = reconcile(tmp_path, 0, 1, deep=True)
    assert (result["equal"], result["differences"][0]["ids"]) == (0, {})


def test_an_export_of_schema_1_is_compared_by_its_files(polar: LocalPolar, tmp_path: Path) -> None:
    shutil.copytree(DATA / "exports" / "schema-1", tmp_path, dirs_exist_ok=True)
    events = [{key: event[key] for key in ("id", "timestamp", "name", "metadata")} for event in minutes(60)]
    numbered = [{**event, "external_customer_id": f"cust_{n % 7}"} for n, event in enumerate(events)]
    polar.add_events(numbered[1:])
    (new,) = polar.add_events([usage(1, START + timedelta(minutes=5))])
    assert reconcile(tmp_path, 0, 1, compare_by="name")["equal"] == 1
    (difference,) = reconcile(tmp_path, 0, 1, deep=True, compare_content=False)["differences"]
    assert difference["ids"] == {"gone": [events[0]["id"]], "new": [new]}


def test_an_event_that_is_counted_and_not_given_now_is_told(polar: LocalPolar, tmp_path: Path) -> None:
    ids = polar.add_events(every(10, hours=2))
    export(tmp_path, 0, 1)
    export(tmp_path, 1, 2)
    polar.remove_events(ids[:1], index=False)
    result = reconcile(tmp_path, 0, 2, deep=True)
    (difference,) = result["differences"]
    assert (difference["not_given"], difference["counted"], difference["ids"]) == (1, None, {"gone": [ids[0]]})
    # The export that holds it stays, for nothing better can be had.
    with pytest.raises(PolarIncompleteError, match="1 counted, 0 given"):
        reconcile(tmp_path, 0, 2, deep=True, on_difference="export")
    assert reconcile(tmp_path, 0, 2)["equal"] == 2


def test_exports_again_in_the_layouts_that_a_window_has(polar: LocalPolar, tmp_path: Path) -> None:
    ids = polar.add_events(every(10, hours=3))
    for layout in ({"compression": "gzip"}, {"file_format": "csv", "exclude_fields": ["customer"]}):
        for number in range(3):
            export(tmp_path, number, number + 1, **layout)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    polar.remove_events(ids[8:9])
    polar.add_events([usage(8, START + HOUR * 1.5)])
    result = reconcile(tmp_path, 0, 3, deep=True, on_difference="export")
    assert [(one["start"], one["rows"]) for one in result["exported"]] == [("2026-01-01T01:00:00Z", 6)] * 2
    assert all(Path(one["manifest"].removeprefix("file://")).exists() for one in result["exported"])
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(after) == len(before)
    assert len(before.items() - after.items()) == 4
    assert reconcile(tmp_path, 0, 3, deep=True, on_difference="export") == {
        "windows": 3,
        "equal": 3,
        "changed": [],
        "incomplete": [],
        "missing": [],
        "deep": 3,
        "differences": [],
        "report": None,
        "exported": [],
    }


def test_what_cannot_be_exported_again_still_fails(polar: LocalPolar, tmp_path: Path) -> None:
    polar.add_events(every(10, hours=3))
    export(tmp_path, 0, 1)
    export(tmp_path, 2, 3)
    next(tmp_path.glob("*T020000Z_*.manifest.json")).write_bytes(b"{")
    polar.add_events([usage(1, START)])
    with pytest.raises(PolarIncompleteError, match=r"1 window not complete: \[.*T02:00.*no manifest covers \[.*T01:00"):
        reconcile(tmp_path, 0, 3, on_difference="export")
    assert reconcile(tmp_path, 0, 1)["equal"] == 1


def test_every_difference_is_in_the_report(polar: LocalPolar, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("airflow_provider_polar.engine.exporting.deep._KEPT_IDS", 100)
    ids = polar.add_events(every(1, hours=5))
    export(tmp_path / "lake", 0, 5)
    polar.remove_events(ids[:150])
    path = tmp_path / "reports" / "differences.jsonl"
    result = reconcile(tmp_path / "lake", 0, 5, deep=True, report_path=f"file://{path}")
    assert result["report"] == f"file://{path}"
    assert (result["differences"][0]["gone"], len(result["differences"][0]["ids"]["gone"])) == (150, 100)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {line["id"] for line in lines} == set(ids[:150])
    assert lines[0].keys() == {"start", "end", "manifest", "id", "difference", "fields"}
    reconcile(tmp_path / "lake", 0, 5, deep=True, on_difference="export")
    reconcile(tmp_path / "lake", 0, 5, deep=True, report_path=f"file://{path}")
    assert path.read_bytes() == b""


def test_the_result_tells_of_a_bounded_number_of_exports(polar: LocalPolar, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("airflow_provider_polar.operators.reconcile._KEPT_DIFFERENCES", 2)
    ids = polar.add_events(every(30, hours=4))
    for number in range(4):
        export(tmp_path / "lake", number, number + 1)
    polar.remove_events(ids)
    result = reconcile(tmp_path / "lake", 0, 4, deep=True, report_path=f"{tmp_path}/report.jsonl")
    assert (len(result["changed"]), len(result["differences"])) == (4, 2)
    assert len((tmp_path / "report.jsonl").read_text().splitlines()) == len(ids)


def test_a_deep_comparison_takes_as_many_requests_as_full_pages(polar: LocalPolar, tmp_path: Path) -> None:
    chance = random.Random(7)
    moments = (START + HOUR * 24 * chance.random() for _ in range(6_000))
    polar.add_events(usage(number, moment) for number, moment in enumerate(moments))
    export(tmp_path, 0, 24)
    polar.clear_requests()
    assert reconcile(tmp_path, 0, 24, deep=True)["equal"] == 1
    assert len(polar.requests) <= 1.05 * 60


def test_swaps_at_equal_counts(polar: LocalPolar, tmp_path: Path) -> None:
    """Which comparison finds how many of them; with RECONCILE_SWAPS=500 the whole of it."""
    chance = random.Random(11)
    windows = [(6 * number, 6 * number + 6) for number in range(SWAPS)]
    at: dict[str, tuple[str, int]] = {}
    by_window: list[list[str]] = []
    for first, _ in windows:
        events = [usage(n, START + HOUR * (first + 6 * chance.random())) for n in range(24)]
        by_window.append(polar.add_events(events))
        at |= {i: (e["name"], (e["timestamp"] - START) // HOUR) for i, e in zip(by_window[-1], events, strict=True)}
    for first, last in windows:
        export(tmp_path, first, last)
    gone, new = set(), set()
    other_name = other_hour = 0
    for (first, _), ids in zip(windows, by_window, strict=True):
        victim = chance.choice(ids)
        event = usage(chance.randrange(24), START + HOUR * (first + 6 * chance.random()))
        polar.remove_events([victim])
        new |= set(polar.add_events([event]))
        gone.add(victim)
        other_name += event["name"] != at[victim][0]
        other_hour += (event["timestamp"] - START) // HOUR != at[victim][1]
    compare: Callable[..., dict[str, Any]] = lambda **options: reconcile(tmp_path, 0, 6 * SWAPS, **options)  # noqa: E731
    found = [len(compare(**options)["changed"]) for options in ({}, {"compare_by": "name"}, {"compare_by": "hour"})]
    assert found == [0, other_name, other_hour]
    assert 0 < other_name < SWAPS
    deep = compare(deep=True)
    assert len(deep["changed"]) == SWAPS
    assert {i for one in deep["differences"] for i in one["ids"]["gone"]} == gone
    assert {i for one in deep["differences"] for i in one["ids"]["new"]} == new
    print(f"{SWAPS} swaps: count {found[0]}, by name {found[1]}, by hour {found[2]}, deep {len(deep['changed'])}")


def test_impossible_parameters_are_refused_at_parse_time() -> None:
    def make(**options: Any) -> None:
        PolarReconcileEventsOperator(task_id="r", destination="/x", **options)

    for share in (-0.1, 1.5, "often", None):
        with pytest.raises(PolarConfigurationError, match=r"task 'r': deep is .*share of the windows"):
            make(deep=share)
    with pytest.raises(PolarConfigurationError, match="compare_by"):
        make(compare_by="customer")
    with pytest.raises(PolarConfigurationError, match="report_path"):
        make(report_path="/reports/x.jsonl")
    for path in ("/x/report.manifest.json", "/x/"):
        with pytest.raises(PolarConfigurationError, match=r"report_path is .*the path of a file"):
            make(deep=True, report_path=path)
    make(deep="{{ params.deep }}", report_path="/reports/x.jsonl")
    make(deep="0.05")


def test_a_full_disk_is_said(polar: LocalPolar, tmp_path: Path, monkeypatch: Any) -> None:
    polar.add_events(every(1, hours=5))
    export(tmp_path, 0, 5)

    def small() -> sqlite3.Connection:
        database = temporary_database()
        database.execute("PRAGMA max_page_count = 4")
        return database

    monkeypatch.setattr("airflow_provider_polar.engine.exporting.deep.temporary_database", small)
    with pytest.raises(PolarLocalDiskError, match=r"full\. Make room there, or set TMPDIR"):
        reconcile(tmp_path, 0, 5, deep=True)


def test_a_share_of_the_windows_gives_each_its_turn(polar: LocalPolar, tmp_path: Path) -> None:
    ids = polar.add_events(every(60, hours=12))
    for number in range(12):
        export(tmp_path, number, number + 1)
    polar.remove_events(ids)
    polar.add_events(every(60, hours=12))
    dag = DAG("nightly", schedule="0 3 * * *", start_date=START)
    nights = [SimpleNamespace(run_type="scheduled", run_after=START + timedelta(days=n, hours=3)) for n in range(5)]
    task = PolarReconcileEventsOperator(
        task_id="reconcile",
        destination=str(tmp_path),
        requests_per_minute=600_000,
        on_difference="warn",
        deep="0.25",
        **span(0, 12),
    )
    found = [task.execute({"dag": dag, "dag_run": night}) for night in nights]
    assert [(one["deep"], one["equal"]) for one in found] == [(3, 9)] * 5
    assert {window["start"] for one in found[1:] for window in one["changed"]} == {
        f"2026-01-01T{hour:02}:00:00Z" for hour in range(12)
    }
    assert task.execute({"dag": dag, "dag_run": nights[0]}) == found[0]


def test_a_look_back_by_name_exports_what_an_equal_count_hides(polar: LocalPolar, tmp_path: Path) -> None:
    ids = polar.add_events(every(10, hours=3))
    for number in range(2):
        export(tmp_path, number, number + 1)
    polar.remove_events(ids[8:9])
    polar.add_events([usage(9, START + HOUR * 1.5)])
    assert export(tmp_path, 2, 3, lookback=2)["changed"] == []
    polar.clear_requests()
    result = export(tmp_path, 2, 3, lookback=2, compare_by="name")
    assert [window["start"] for window in result["changed"]] == ["2026-01-01T01:00:00Z"]
    # Of each window the whole and four names (of the second one as many until one counts too few), and two exports.
    assert len(polar.requests) <= 2 * (1 + len(NAMES)) + 2
    assert export(tmp_path, 2, 3, lookback=2, compare_by="hour")["changed"] == []
