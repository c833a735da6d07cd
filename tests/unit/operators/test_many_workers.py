"""An export in pieces: planned by count, exported by mapped tasks, put together with a proof."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from airflow.exceptions import AirflowFailException
from airflow.sdk import DAG
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_polar.engine.exporting.shards import balance
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import PolarIncompleteError
from airflow_provider_polar.operators.assemble import PolarAssembleExportOperator
from airflow_provider_polar.operators.export import PolarExportEventsOperator
from airflow_provider_polar.operators.plan import PolarPlanExportOperator

START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
BOUNDS = {"start": START.isoformat(), "end": END.isoformat()}


def add(polar_server: Any, moments: list[datetime], **more: Any) -> list[str]:
    added: list[str] = polar_server.add_events(
        {"name": "call", "timestamp": moment, "external_customer_id": "a"} | more for moment in moments
    )
    return added


@pytest.fixture
def month(polar_server: Any, polar_connection: Any) -> list[str]:
    """Bursts: half of the month's events in one hour, the rest thinly spread, and one on each edge."""
    burst = [START + timedelta(days=20, milliseconds=1800 * n) for n in range(2000)]
    thin = [START + (END - START) * n / 2000 for n in range(2000)]
    add(polar_server, [START - timedelta(microseconds=1), END])
    return add(polar_server, [*burst, *thin, END - timedelta(microseconds=1)])


def plan(**options: Any) -> list[dict[str, Any]]:
    return PolarPlanExportOperator(task_id="plan", **{**BOUNDS, "pieces": 8, "workers": 4} | options).execute({})


def export(folder: Path, pieces: list[dict[str, Any]], **options: Any) -> None:
    for piece in pieces:
        given = {**piece, "requests_per_minute": 60_000} | options
        PolarExportEventsOperator(task_id="export", destination=f"file://{folder}", max_concurrency=1, **given).execute(
            {}
        )


def assemble(folder: Path, pieces: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    operator = PolarAssembleExportOperator(
        task_id="assemble", plan=pieces, destination=f"file://{folder}", requests_per_minute=60_000, **options
    )
    return operator.execute({})


def exported(folder: Path) -> list[str]:
    """The ids that the directory's manifests name; no file is there that they do not name."""
    ids, named = [], set()
    for path in folder.glob("*.manifest.json"):
        named.add(path.name)
        for file in json.loads(path.read_text())["files"]:
            named.add(file["path"])
            ids += [json.loads(line)["id"] for line in (folder / file["path"]).read_text().splitlines()]
    assert {path.name for path in folder.iterdir()} == named
    return ids


def test_pieces_are_balanced_although_time_is_not(month: list[str], polar_server: Any) -> None:
    pieces = plan()
    windows = [EventWindow.from_dict(piece) for piece in pieces]
    assert (windows[0].start, windows[-1].end) == (START, END)
    assert all(before.end == after.start for before, after in pairwise(windows))
    assert len(windows) == 8
    counts = [
        sum(e["timestamp"] != "" for e in polar_server.events() if datetime.fromisoformat(e["timestamp"]) in w)
        for w in windows
    ]
    assert sum(counts) == len(month)
    assert max(counts) < 1.5 * len(month) / 8


def test_the_budget_is_divided_among_the_workers(month: list[str]) -> None:
    assert {piece["requests_per_minute"] for piece in plan(requests_per_minute=200, workers=4)} == {50}
    assert {piece["requests_per_minute"] for piece in plan(requests_per_minute=200, workers=4, pieces=2)} == {100}


def test_the_whole(month: list[str], tmp_path: Path) -> None:
    pieces = plan()
    export(tmp_path, pieces)
    result = assemble(tmp_path, pieces)
    assert (result["rows"], result["requests"], result["complete"]) == (len(month), 1, True)
    (manifest,) = tmp_path.glob("*.manifest.json")
    assert result["manifest"].endswith(manifest.name)
    ids = exported(tmp_path)
    assert len(ids) == len(month)
    assert set(ids) == set(month)


def test_assembling_again_and_after_one_piece_was_exported_again(month: list[str], tmp_path: Path) -> None:
    pieces = plan()
    export(tmp_path, pieces)
    first = assemble(tmp_path, pieces)
    content = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert assemble(tmp_path, pieces) == first
    export(tmp_path, pieces[2:3])
    assert assemble(tmp_path, pieces) == first
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == content


@pytest.mark.parametrize("assembled_before", [False, True])
def test_events_that_came_late_are_exported_in_their_piece(
    month: list[str], tmp_path: Path, polar_server: Any, assembled_before: bool
) -> None:
    pieces = plan()
    export(tmp_path, pieces)
    if assembled_before:
        assemble(tmp_path, pieces)
    late = add(polar_server, [START + timedelta(days=3), END - timedelta(seconds=1)])
    assert assemble(tmp_path, pieces)["rows"] == len(month) + 2
    assert sorted(exported(tmp_path)) == sorted([*month, *late])


def test_another_plan_leaves_nothing_of_the_one_before(month: list[str], tmp_path: Path) -> None:
    for count in (8, 3, 1):
        pieces = plan(pieces=count)
        export(tmp_path, pieces)
        assemble(tmp_path, pieces)
        assert sorted(exported(tmp_path)) == sorted(month)


def test_a_missing_piece_is_named(month: list[str], tmp_path: Path) -> None:
    pieces = plan()
    export(tmp_path, pieces[:3] + pieces[4:])
    with pytest.raises(AirflowFailException, match=pieces[3]["start"]):
        assemble(tmp_path, pieces)
    with pytest.raises(AirflowFailException, match="do not meet"):
        assemble(tmp_path, pieces[:3] + pieces[4:])
    with pytest.raises(AirflowFailException, match="no shard"):
        assemble(tmp_path, [])


def test_pieces_of_different_kinds_are_refused(month: list[str], tmp_path: Path) -> None:
    pieces = plan(pieces=2)
    export(tmp_path, pieces[:1])
    export(tmp_path, pieces[1:], file_format="csv")
    with pytest.raises(AirflowFailException, match="laid out differently"):
        assemble(tmp_path, pieces)


def test_events_that_keep_arriving_end_in_a_retry(month: list[str], tmp_path: Path, polar_server: Any) -> None:
    pieces = plan(pieces=2)
    export(tmp_path, pieces)
    polar_server.on_request(lambda record: add(polar_server, [START + timedelta(days=1)]))
    with pytest.raises(PolarIncompleteError):
        assemble(tmp_path, pieces)


def test_filters(month: list[str], tmp_path: Path, polar_server: Any) -> None:
    other = add(polar_server, [START + timedelta(hours=n) for n in range(10)], name="other")
    pieces = plan(filters={"name": "other"}, pieces=3)
    export(tmp_path, pieces, filters={"name": "other"})
    assert assemble(tmp_path, pieces, filters={"name": "other"})["rows"] == 10
    assert sorted(exported(tmp_path)) == sorted(other)


def test_an_empty_window_is_one_piece(polar_server: Any, polar_connection: Any, tmp_path: Path) -> None:
    pieces = plan()
    assert len(pieces) == 1
    export(tmp_path, pieces)
    assert assemble(tmp_path, pieces)["rows"] == 0


def test_as_a_dag(month: list[str], tmp_path: Path, run_dag: Any) -> None:
    with DAG("many_workers", schedule=None, start_date=START) as dag:
        planned = PolarPlanExportOperator(task_id="plan", **BOUNDS, pieces=4, requests_per_minute=60_000)
        mapped = PolarExportEventsOperator.partial(
            task_id="export", destination=f"file://{tmp_path}", max_active_tis_per_dagrun=4
        ).expand_kwargs(planned.output)
        whole = PolarAssembleExportOperator(
            task_id="assemble", destination=f"file://{tmp_path}", plan=planned.output, requests_per_minute=60_000
        )
        mapped >> whole
    run = run_dag(dag, logical_date=datetime(2026, 3, 1, tzinfo=UTC))
    assert run.state == "success"
    assert sum(task_id.startswith("export[") for task_id in run.states()) == 4
    assert run.xcom("assemble")["rows"] == len(month)
    assert sorted(exported(tmp_path)) == sorted(month)
    assert run.xcom("assemble", key="_link_PolarEventsLink").startswith(
        "https://sandbox.polar.sh/to/dashboard/analytics/events?"
    )
    assert run.xcom("assemble", key="_link_PolarManifestLink") == run.xcom("assemble")["manifest"]


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=60), st.integers(1, 20))
def test_balance_loses_nothing(counts: list[int], pieces: int) -> None:
    slices = [
        (EventWindow(START + timedelta(hours=n), START + timedelta(hours=n + 1)), c) for n, c in enumerate(counts)
    ]
    made = balance(slices, pieces)
    assert len(made) <= pieces
    assert (made[0][0].start, made[-1][0].end) == (slices[0][0].start, slices[-1][0].end)
    assert all(before[0].end == after[0].start for before, after in pairwise(made))
    assert sum(count for _, count in made) == sum(counts)
    assert max(count for _, count in made) <= sum(counts) / pieces + max(counts)
