"""Which exported windows are compared again, and what is found."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.engine.exporting.export import WindowExport
from airflow_provider_polar.engine.exporting.lookback import check_lookback, look_back
from airflow_provider_polar.engine.exporting.manifest import ExportName, Manifest, exports_in, read_manifest
from airflow_provider_polar.engine.files.layout import FileLayout
from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import PolarConfigurationError, PolarSourceError
from tests.unit.engine.rows import START, MemoryReader, event, minutes

HOUR = timedelta(hours=1)
NONE = EventFilters()
PLAIN = FileLayout()


def hour(number: int) -> EventWindow:
    return EventWindow(START + HOUR * number, START + HOUR * (number + 1))


class Counting(MemoryReader):
    counted: list[EventWindow]

    def count(self, window: EventWindow, filters: EventFilters | None = None) -> int:
        self.counted = [*getattr(self, "counted", []), window]
        return super().count(window, filters)


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(ObjectStoragePath(f"file://{tmp_path}/out"))


def export(directory: Directory, reader: MemoryReader, *windows: EventWindow, filters: EventFilters = NONE) -> None:
    for window in windows:
        WindowExport(reader, directory, window, filters, FileLayout()).run()


def exported(directory: Directory, filters: EventFilters) -> list[EventWindow]:
    return [export.window for export in exports_in(directory, filters, PLAIN)]


def test_one_count_a_window_and_only_changed_ones_are_named(directory: Directory) -> None:
    events = minutes(600)
    export(directory, MemoryReader(events), *map(hour, range(6)))
    events.append(event(START + HOUR * 3 + timedelta(seconds=1), 999))
    events.append(event(START + timedelta(seconds=1), 999))
    reader = Counting(events)
    found = look_back(reader, directory, NONE, PLAIN, hour(6), timedelta(hours=5))
    assert found.changed == (hour(3),)
    assert found.equal == (hour(1), hour(2), hour(4), hour(5))
    assert found.unexported == ()
    assert reader.counted == [hour(n) for n in range(1, 6)]


def test_a_number_of_windows(directory: Directory) -> None:
    events = minutes(600)
    export(directory, MemoryReader(events), *map(hour, (0, 1, 3, 5)))
    for number, equal, unexported in (
        (1, (hour(5),), ()),
        (2, (hour(5),), (hour(4),)),
        (3, (hour(3), hour(5)), (hour(4),)),
        (5, (hour(1), hour(3), hour(5)), (hour(2), hour(4))),
        (8, tuple(map(hour, (0, 1, 3, 5))), (EventWindow(START - 2 * HOUR, START), hour(2), hour(4))),
    ):
        found = look_back(MemoryReader(events), directory, NONE, PLAIN, hour(6), number)
        assert (found.equal, found.unexported) == (equal, unexported), number


def test_days_of_23_and_25_hours_are_found(directory: Directory) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    for month, day in ((3, 29), (10, 25)):
        edges = [datetime(2026, month, day + n, tzinfo=berlin) for n in (-2, -1, 0, 1, 2)]
        days = [EventWindow(a, b) for a, b in pairwise(edges)]
        assert len({d.duration for d in days}) == 2
        export(directory, MemoryReader([]), *days[:-1])
        for lookback in (3, days[-1].start - days[0].start):
            found = look_back(MemoryReader([]), directory, NONE, PLAIN, days[-1], lookback)
            assert (found.equal, found.unexported) == (tuple(days[:-1]), ())


def test_other_filters_and_files_are_not_looked_at(directory: Directory) -> None:
    filters = EventFilters(name=["call"])
    export(directory, MemoryReader([]), hour(0))
    export(directory, MemoryReader([]), hour(1), filters=filters)
    directory.write("events_mine.manifest.json", b"{}")
    directory.write("mine.json", b"{}")
    assert exported(directory, NONE) == [hour(0)]
    assert exported(directory, filters) == [hour(1)]


def test_microseconds_survive_in_names(directory: Directory) -> None:
    window = EventWindow(START + timedelta(microseconds=1), datetime(2026, 1, 2, tzinfo=UTC))
    export(directory, MemoryReader([]), window)
    assert (
        ExportName.of(window, NONE, PLAIN).manifest == "events_20260101T000000.000001Z_20260102T000000Z.manifest.json"
    )
    assert exported(directory, NONE) == [window]


def test_nothing_exported_yet(directory: Directory) -> None:
    found = look_back(MemoryReader([]), directory, NONE, PLAIN, hour(0), timedelta(hours=2))
    assert found.unexported == (EventWindow(START - 2 * HOUR, START),)


@pytest.mark.parametrize("lookback", [0, -1, timedelta(0), timedelta(-1), True, "3", 1.5])
def test_impossible_lookbacks_are_refused(lookback: Any) -> None:
    with pytest.raises(PolarConfigurationError, match="lookback"):
        check_lookback(lookback)


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "not a manifest"), (b"[]", "not a manifest"), (b'{"schema_version": 3}', "upgrade")]
)
def test_what_is_no_manifest_is_said(content: bytes, message: str) -> None:
    with pytest.raises(PolarSourceError, match=message):
        Manifest.from_bytes(content, "s3://b/events.manifest.json")


def test_a_manifest_comes_back_as_it_was(directory: Directory) -> None:
    export(directory, MemoryReader(minutes(60)), hour(0))
    content = directory.read(ExportName.of(hour(0), NONE, PLAIN).manifest)
    assert content is not None
    assert Manifest.from_bytes(content, "").to_bytes() == content


def test_an_incomplete_export_is_never_equal(directory: Directory) -> None:
    """Its late row came in, and the count stayed what it was."""
    events = minutes(60)
    reader = MemoryReader(events, hidden={events[30]["id"]})
    WindowExport(reader, directory, hour(0), NONE, PLAIN, on_incomplete="warn").run()
    found = look_back(MemoryReader(events), directory, NONE, PLAIN, hour(1), 1)
    assert (found.equal, found.changed, found.incomplete, found.unexported) == ((), (), (hour(0),), ())


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema_version": 2}', b"\xff\xfe"])
def test_a_torn_manifest_is_exported_again_and_never_raises(directory: Directory, content: bytes, caplog: Any) -> None:
    events = minutes(180)
    export(directory, MemoryReader(events), *map(hour, range(2)))
    directory.write(ExportName.of(hour(0), NONE, PLAIN).manifest, content)
    found = look_back(MemoryReader(events), directory, NONE, PLAIN, hour(2), 2)
    assert (found.equal, found.incomplete) == ((hour(1),), (hour(0),))
    assert "is not a manifest" in caplog.text
    export(directory, MemoryReader(events), hour(0))
    manifest = read_manifest(directory, ExportName.of(hour(0), NONE, PLAIN).manifest)
    assert manifest is not None
    assert manifest.rows == 60
    assert len(directory.sizes("events_")) == 8


def test_other_layouts_are_not_looked_at(directory: Directory) -> None:
    export(directory, MemoryReader([]), hour(0))
    WindowExport(MemoryReader([]), directory, hour(1), NONE, FileLayout("csv")).run()
    assert exported(directory, NONE) == [hour(0)]
    assert [export.window for export in exports_in(directory, NONE)] == [hour(0), hour(1)]
    assert look_back(MemoryReader([]), directory, NONE, PLAIN, hour(2), 1).unexported == (hour(1),)
