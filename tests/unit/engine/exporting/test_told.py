"""What a user reads of an export: how far it is, what it takes up, and what is missing."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.engine.exporting.export import WindowExport
from airflow_provider_polar.engine.exporting.shards import plan_shards
from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.progress_log import ProgressLog
from airflow_provider_polar.engine.reading.reports import SliceReport
from airflow_provider_polar.engine.reading.slices import Plan, TargetRows
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import PolarDestinationError, PolarIncompleteError
from tests.unit.engine.exporting.test_export import export
from tests.unit.engine.rows import HOUR, START, MemoryReader, event, minutes

SLICES = HOUR.split(3)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture(autouse=True)
def _info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_progress_is_said_every_five_seconds_with_the_rate_and_what_is_left(caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0
    progress = ProgressLog(logging.getLogger("x"), "export", total=20_000, done=1_000, clock=lambda: now)
    for seconds, events in [(4.9, 500), (0.1, 500), (4.9, 4_000), (0.1, 0), (10, 10_000), (5, 5_000)]:
        now += seconds
        progress.add(events)
    assert caplog.messages == [
        "export: 2,000 of about 20,000 events, 200 a second, about 90 s left",
        "export: 6,000 of about 20,000 events, 500 a second, about 28 s left",
        "export: 16,000 of about 20,000 events, 750 a second, about 5 s left",
        "export: 21,000 of about 20,000 events, 800 a second, about 0 s left",
    ]


@pytest.mark.parametrize(("total", "left"), [(124, "119 s"), (125, "2 min"), (605, "10 min")])
def test_what_is_left_is_said_in_minutes_from_two_on(total: int, left: str, caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    progress = ProgressLog(logging.getLogger("x"), "export", total=total, clock=lambda: now)
    now = 5.0
    progress.add(5)
    assert caplog.messages[0].endswith(f"1 a second, about {left} left")


def test_nothing_new_has_no_rate(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    progress = ProgressLog(logging.getLogger("x"), "export", total=10, clock=lambda: now)
    now = 5.0
    progress.add(0)
    assert caplog.messages == ["export: 0 of about 10 events, 0 a second, about 0 s left"]


def test_a_retry_says_what_it_takes_up_and_what_it_reads_again(target: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail_at_last(window: EventWindow) -> None:
        if window == SLICES[-1]:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        export(target, MemoryReader(minutes(60), before_read=fail_at_last), max_concurrency=1)
    damaged = min((target / "_incomplete").rglob("*.jsonl"))
    damaged.unlink()
    caplog.clear()
    export(target, MemoryReader(minutes(60)), max_concurrency=1)
    assert f"{HOUR}: going on after 2 of 3 slices and 40 events that an earlier attempt staged" in caplog.messages
    (warned,) = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    assert f"{damaged.name} is gone or damaged: {SLICES[0]} is read again" in warned


def test_slices_that_are_read_again_are_counted(target: Path, caplog: pytest.LogCaptureFixture) -> None:
    events = minutes(60)

    def arrive(window: EventWindow) -> None:
        if window == SLICES[-1] and len(events) == 60:
            events.append(event(START + timedelta(seconds=1), 1000))

    export(target, MemoryReader(events, before_read=arrive), max_concurrency=1)
    assert f"{HOUR}: events arrived meanwhile; 1 slice will be read again" in caplog.messages


@pytest.mark.parametrize(("pieces", "more"), [(10, ""), (11, "; and 1 more"), (30, "; and 20 more")])
def test_ten_places_with_missing_events_are_named(
    pieces: int, more: str, target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    events = minutes(60)
    reader = MemoryReader(events, pieces=pieces, hidden={event["id"] for event in events})
    with pytest.raises(PolarIncompleteError) as refused:
        export(target, reader)
    places, _, rest = str(refused.value).partition(". Nothing is published; ")
    assert "Polar counts 60 events and gave 0 of them: [2026-01-01T00:00:00Z, " in places
    assert places.count("0 given (not given") == 10
    assert places.endswith(f"){more}")
    assert "on_incomplete='warn'" in rest
    assert len(refused.value.missing) == pieces
    export(target, reader, on_incomplete="warn")
    assert caplog.records[-1].levelno == logging.WARNING
    assert caplog.messages[-1] == places


def test_a_file_that_another_run_removed_is_named(target: Path, monkeypatch: Any) -> None:
    write = Directory.write

    def write_and_remove(self: Directory, name: str, content: Any) -> Any:
        written = write(self, name, content)
        if name.endswith(".manifest.json"):
            min(target.glob("*.part-0002-*")).unlink()
        return written

    monkeypatch.setattr(Directory, "write", write_and_remove)
    with pytest.raises(PolarDestinationError, match=r"part-0002-\w+\.jsonl is gone or cut short just after") as refused:
        export(target, MemoryReader(minutes(60)))
    assert "another run exports the same window. A retry exports it again" in str(refused.value)


def test_shards_are_planned_from_four_slices_each_and_no_smaller_than_a_page() -> None:
    wanted: list[int] = []

    class Planner(MemoryReader):
        def plan(self, window: EventWindow, *, target_rows: TargetRows) -> Plan:
            assert callable(target_rows)
            wanted.extend(target_rows(total) for total in (0, 3_999, 4_000, 100_000))
            return super().plan(window, target_rows=target_rows)

    planned = plan_shards(Planner(minutes(60), pieces=12), HOUR, 3)
    assert wanted == [100, 333, 333, 8_333]
    assert planned == [(part, 20) for part in SLICES]


class SelfProved(MemoryReader):
    """Gives a window in one response, whose count proves it."""

    verified = 0

    def read(self, *args: Any, **options: Any) -> SliceReport:
        return replace(super().read(*args, **options), self_proved=True)

    def verify(self, reports: Sequence[SliceReport]) -> list[EventWindow]:
        self.verified += 1
        return super().verify(reports)


def test_what_one_response_proved_is_counted_again_only_by_a_retry(target: Path, monkeypatch: Any) -> None:
    events = minutes(60)
    reader = SelfProved(events, pieces=1)
    with monkeypatch.context() as patch:
        patch.setattr(WindowExport, "_publish", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
        with pytest.raises(RuntimeError):
            export(target, reader)
    assert reader.verified == 0
    events.append(event(START + timedelta(seconds=1), 1000))
    assert export(target, reader).rows == 61
    assert reader.verified > 0


def test_nothing_staged_is_left_not_even_a_folder(target: Path) -> None:
    export(target, MemoryReader(minutes(60)))
    assert not [path for path in target.rglob("*") if path.is_dir()]


def test_a_staging_record_that_cannot_be_read_is_no_obstacle(
    target: Path, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    read = Directory.read

    def refuse(self: Directory, name: str, **options: Any) -> Any:
        if name.endswith("staging.json") and not any("not taken up" in message for message in caplog.messages):
            raise PolarDestinationError("the store is away")
        return read(self, name, **options)

    monkeypatch.setattr(Directory, "read", refuse)
    assert export(target, MemoryReader(minutes(60))).rows == 60
    assert "the store is away: what an earlier attempt staged is not taken up" in caplog.messages


def test_a_manifest_says_what_was_selected(target: Path) -> None:
    filters = EventFilters(name=["call"], metadata={"plan": "pro"})
    manifest = export(target, MemoryReader(minutes(60)), filters=filters)
    (path,) = target.glob("*.manifest.json")
    assert json.loads(path.read_text())["filters"] == manifest.filters == filters.to_dict()
