"""Loads into an Iceberg table: each window one snapshot, and the table the manifest's events exactly."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

pytest.importorskip("pyiceberg", reason="PyIceberg is not installed: loads into its tables are not tested")

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table, Transaction
from pyiceberg.transforms import DayTransform
from pyiceberg.types import LongType, NestedField, StringType, TimestampType, TimestamptzType

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.engine.loading import iceberg, iceberg_change
from airflow_provider_polar.engine.loading.iceberg import IcebergLoad
from airflow_provider_polar.engine.loading.load import Loaded
from airflow_provider_polar.engine.loading.manifests import ExportedWindow
from airflow_provider_polar.engine.loading.tables import TableName
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import (
    PolarDatabaseError,
    PolarError,
    PolarLocalDiskError,
    PolarSourceError,
    PolarTableError,
)
from tests.unit.engine.loading.exports import events_of, exported, hour
from tests.unit.engine.rows import HOUR, START, event

NAME = TableName(("usage", "events"))
WINDOWS = int(os.environ.get("LOAD_WINDOWS", "12"))
SECRET = "a secret of a customer"


class Target:
    """A catalogue in SQLite with its warehouse on the disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.catalog = self.another()

    def another(self) -> Catalog:
        """The same catalogue, as another process sees it."""
        properties = {"type": "sql", "uri": f"sqlite:///{self.folder}/catalog.db", "warehouse": f"file://{self.folder}"}
        return load_catalog("test", **properties)

    def load(self, *windows: ExportedWindow, catalog: Catalog | None = None, **options: Any) -> list[Loaded]:
        load = IcebergLoad(catalog or self.catalog, NAME, where="the test's", **options)
        return [load.load(window) for window in windows]

    @property
    def table(self) -> Table:
        return self.catalog.load_table(NAME.parts)

    def ids(self) -> list[str]:
        return sorted(self.table.scan(selected_fields=("id",)).to_arrow()["id"].to_pylist())

    def data_files(self) -> set[str]:
        """The data files on the disk."""
        return {path.name for path in self.folder.rglob("data/**/*.parquet")}

    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.table.scan().to_arrow().sort_by("timestamp").to_pylist()
        return rows


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target(tmp_path / "lake")


def ids_of(*events: list[dict[str, Any]]) -> list[str]:
    return sorted(one["id"] for some in events for one in some)


def test_a_window_is_one_snapshot_with_typed_columns(target: Target, tmp_path: Path) -> None:
    due = events_of(HOUR, metadata={"distance": 1.5, "n": 3, "ok": True, "who": "x"})
    columns = {"distance": "double", "n": "bigint", "ok": "boolean", "who": "text"}
    window = exported(tmp_path, due)
    assert target.load(window, metadata_columns=columns, run="dag.task run") == [Loaded(20, inserted=20)]
    (snapshot,) = target.table.snapshots()
    said = dict(snapshot.summary.additional_properties)  # type: ignore[union-attr]
    assert {name: value for name, value in said.items() if name.startswith("polar.")} == {
        "polar.window-start": "2026-01-01T00:00:00Z",
        "polar.window-end": "2026-01-01T01:00:00Z",
        "polar.filters": "{}",
        "polar.manifest": window.url,
        "polar.manifest-sha256": window.sha256,
        "polar.rows": "20",
        "polar.run": "dag.task run",
    }
    rows = target.rows()
    assert ids_of(rows) == ids_of(due)
    assert (rows[0]["timestamp"], rows[-1]["timestamp"]) == (HOUR.start, HOUR.end - timedelta(microseconds=1))
    assert {name: rows[0][name] for name in columns} == {"distance": 1.5, "n": 3, "ok": True, "who": "x"}
    assert rows[0]["metadata"] == '{"distance":1.5,"n":3,"ok":true,"who":"x"}'
    assert rows[0]["child_count"] == 0
    assert str(target.table.schema().find_type("timestamp")) == "timestamptz"
    assert target.table.schema().find_field("id").required


@pytest.mark.parametrize("layout", [{}, {"file_format": "csv", "compression": "gzip"}, {"file_format": "parquet"}])
def test_the_same_manifest_again_is_nothing_to_do(target: Target, tmp_path: Path, layout: dict[str, Any]) -> None:
    window = exported(tmp_path, events_of(HOUR), **layout)
    target.load(window)
    before = target.table.metadata
    assert target.load(window, mode="replace_window") == [Loaded(20, skipped=True)]
    assert target.table.metadata == before


def test_a_replaced_window_is_one_snapshot_and_time_travel_shows_the_one_before(target: Target, tmp_path: Path) -> None:
    first, other = events_of(hour(0)), events_of(hour(1))
    target.load(exported(tmp_path, other, hour(1)), exported(tmp_path / "1", first, hour(0)))
    changed = [*first[3:], event(hour(0).start, 99)]
    again = exported(tmp_path / "2", changed, hour(0))
    assert target.load(again, mode="replace_window") == [Loaded(18, inserted=1, removed=3)]
    assert target.ids() == ids_of(changed, other)
    snapshots = target.table.snapshots()
    assert [one.summary.operation.value for one in snapshots] == ["append", "append", "overwrite"]  # type: ignore[union-attr]
    before = target.table.scan(snapshot_id=snapshots[1].snapshot_id).to_arrow()["id"].to_pylist()
    assert sorted(before) == ids_of(first, other)


def test_windows_that_share_a_data_file_keep_each_other(target: Target, tmp_path: Path) -> None:
    events = [*events_of(hour(0)), *events_of(hour(1))]
    both = exported(tmp_path, events, EventWindow(hour(0).start, hour(1).end))
    target.load(both, metadata_columns={"tokens": "bigint"})
    changed = events[5:20]
    again = exported(tmp_path / "again", changed, hour(0))
    options: dict[str, Any] = {"mode": "replace_window", "metadata_columns": {"tokens": "bigint"}}
    assert target.load(again, **options) == [Loaded(15, removed=5)]
    assert target.ids() == ids_of(changed, events[20:])
    assert [row["tokens"] for row in target.rows()][15:] == list(range(20))
    # What was said of both hours is no longer what the table holds.
    assert target.load(both, **options) == [Loaded(40, inserted=5)]
    assert target.load(both, again, **options) == [Loaded(40, skipped=True), Loaded(15, removed=5)]


def test_insert_adds_what_is_not_there_and_refuses_what_the_manifest_does_not_have(
    target: Target, tmp_path: Path
) -> None:
    due = events_of(HOUR)
    target.load(exported(tmp_path, due))
    more = [*due, event(HOUR.start, 99)]
    assert target.load(exported(tmp_path / "more", more)) == [Loaded(21, inserted=1)]
    files, before = target.data_files(), target.table.metadata
    with pytest.raises(PolarTableError) as caught:
        target.load(exported(tmp_path / "less", due[2:]))
    assert "3 events that the manifest does not have (" in str(caught.value)
    assert "which mode='replace_window' removes" in str(caught.value)
    assert due[0]["id"] in str(caught.value)
    assert not caught.value.retryable
    assert target.table.metadata == before
    assert target.data_files() == files  # what was written for it is gone


def test_what_was_deleted_or_dropped_since_is_loaded_again(target: Target, tmp_path: Path) -> None:
    window = exported(tmp_path, events_of(HOUR))
    target.load(window)
    target.table.delete(f"id == '{target.ids()[0]}'")
    assert target.load(window) == [Loaded(20, inserted=1)]
    target.catalog.drop_table(NAME.parts)
    assert target.load(window) == [Loaded(20, inserted=20)]
    assert len(set(target.ids())) == 20


def test_a_table_that_was_rolled_back_is_loaded_again(target: Target, tmp_path: Path) -> None:
    windows = [exported(tmp_path, events_of(hour(n)), hour(n)) for n in range(2)]
    target.load(*windows)
    with target.table.manage_snapshots() as manage:
        manage.rollback_to_snapshot(target.table.snapshots()[0].snapshot_id)
    assert target.load(*windows) == [Loaded(20, skipped=True), Loaded(20, inserted=20)]
    assert len(target.ids()) == 40


def test_of_many_windows_only_the_changed_one_is_touched(target: Target, tmp_path: Path) -> None:
    length = timedelta(minutes=1)
    windows = [EventWindow(START + length * n, START + length * (n + 1)) for n in range(WINDOWS)]
    exports = [exported(tmp_path, events_of(window, 3), window) for window in windows]
    assert sum(loaded.inserted for loaded in target.load(*exports)) == 3 * WINDOWS
    files = target.data_files()
    exports[5] = exported(tmp_path, events_of(windows[5], 3)[:2], windows[5])
    loaded = target.load(*exports, mode="replace_window")
    assert loaded[5] == Loaded(2, removed=1)
    assert all(one == Loaded(3, skipped=True) for one in loaded[:5] + loaded[6:])
    assert len(target.data_files() - files) == 1
    assert len(target.table.snapshots()) == WINDOWS + 1
    assert len(target.ids()) == 3 * WINDOWS - 1


def test_an_empty_window_takes_all_away(target: Target, tmp_path: Path) -> None:
    empty = exported(tmp_path, [])
    assert target.load(empty, empty) == [Loaded(0), Loaded(0, skipped=True)]
    target.load(exported(tmp_path / "full", events_of(HOUR)))
    assert target.load(exported(tmp_path, []), mode="replace_window") == [Loaded(0, removed=20)]
    assert target.ids() == []


def test_exports_with_other_filters_want_a_table_of_their_own(target: Target, tmp_path: Path) -> None:
    target.load(exported(tmp_path, events_of(HOUR)))
    with pytest.raises(PolarTableError, match=r'holds exports with the filters \{\}, .* has \{"name": \["call"\]\}'):
        target.load(exported(tmp_path, events_of(HOUR)[:5], filters=EventFilters(name="call")))
    assert len(target.ids()) == 20


def test_many_data_files_and_batches(target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iceberg_change, "_ROWS_AT_ONCE", 7)
    monkeypatch.setattr(iceberg_change, "_FILE_BYTES", 2500)
    due = events_of(HOUR, 100)
    assert target.load(exported(tmp_path, due)) == [Loaded(100, inserted=100)]
    assert 5 < len(target.data_files()) < 15
    (less,) = target.load(exported(tmp_path / "less", due[:90]), mode="replace_window")
    assert less == Loaded(90, removed=10)
    assert target.ids() == ids_of(due[:90])


# Tables that are there already


def created(target: Target, *fields: NestedField, **options: Any) -> None:
    target.catalog.create_namespace("usage")
    target.catalog.create_table(NAME.parts, Schema(*fields), **options)


ID = NestedField(1, "id", StringType(), required=True)
TIMESTAMP = NestedField(2, "timestamp", TimestamptzType())


def test_a_partitioned_table_of_the_users_own(target: Target, tmp_path: Path) -> None:
    spec = PartitionSpec(PartitionField(2, 1000, DayTransform(), "day"))
    created(target, ID, TIMESTAMP, NestedField(3, "note", StringType()), partition_spec=spec)
    days = EventWindow(START, START + timedelta(days=3))
    due = events_of(days, 60)
    target.load(exported(tmp_path, due, days))
    assert len(target.data_files()) == 3
    window = EventWindow(START + timedelta(hours=20), START + timedelta(hours=30))
    kept = [one for one in due if datetime.fromisoformat(one["timestamp"]) not in window]
    (loaded,) = target.load(exported(tmp_path / "cut", [], window), mode="replace_window")
    assert loaded == Loaded(0, removed=60 - len(kept))
    assert target.ids() == ids_of(kept)
    assert {row["note"] for row in target.rows()} == {None}


def test_columns_that_are_missing_are_added_and_told(target: Target, tmp_path: Path, caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    target.load(exported(tmp_path / "less", events_of(hour(0)), hour(0), exclude_fields=["label"]))
    target.load(exported(tmp_path, events_of(hour(1)), hour(1)), metadata_columns={"tokens": "bigint"})
    assert "adding columns to usage.events: label, tokens" in caplog.text
    rows = target.rows()
    assert [row["label"] for row in rows] == [None] * 20 + ["call"] * 20
    assert [row["tokens"] for row in rows] == [None] * 20 + list(range(20))


def test_new_fields_of_the_api_are_told(target: Target, tmp_path: Path, caplog: Any) -> None:
    due = events_of(HOUR, a_new_field={"x": 1})
    target.load(exported(tmp_path, due))
    assert "have fields that this version does not know: a_new_field; they are in the column extra" in caplog.text
    assert target.rows()[0]["extra"] == '{"a_new_field":{"x":1}}'


def test_columns_of_another_type_are_told(target: Target, tmp_path: Path) -> None:
    wrong = NestedField(1, "id", LongType()), NestedField(2, "timestamp", TimestampType())
    created(target, *wrong, NestedField(3, "mine", StringType(), required=True))
    with pytest.raises(PolarTableError) as caught:
        target.load(exported(tmp_path, events_of(HOUR)))
    for told in (
        "its column 'id' is long, which does not hold every text: it has to be string",
        "its column 'timestamp' is timestamp, which does not hold every timestamp: it has to be timestamptz",
        "its column 'mine' must have a value",
    ):
        assert told in str(caught.value)


# Others at the same time


def beaten_by(monkeypatch: pytest.MonkeyPatch, *others: Callable[[], Any]) -> None:
    """Before the next commits, others commit."""
    waiting, original = list(others), Transaction.commit_transaction

    def commit(self: Transaction) -> Table:
        if waiting:
            waiting.pop(0)()
        return original(self)

    monkeypatch.setattr(Transaction, "commit_transaction", commit)


def test_another_load_of_the_same_window_that_was_faster_leaves_nothing_to_do(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = exported(tmp_path, events_of(HOUR))
    target.load(exported(tmp_path, events_of(hour(1)), hour(1)))
    beaten_by(monkeypatch, lambda: target.load(window, catalog=target.another()))
    assert target.load(window) == [Loaded(20, skipped=True)]
    assert len(target.ids()) == len(set(target.ids())) == 40
    assert len(target.table.snapshots()) == len(target.data_files()) == 2


@pytest.mark.parametrize("mode", ["insert", "replace_window"])
def test_a_commit_that_was_beaten_is_tried_again_without_writing_anything_twice(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, caplog: Any
) -> None:
    caplog.set_level(logging.INFO)
    first, second = (exported(tmp_path, events_of(hour(n)), hour(n)) for n in (0, 1))
    target.load(exported(tmp_path / "old", events_of(hour(0))[:5], hour(0)))
    beaten_by(monkeypatch, lambda: target.load(second, catalog=target.another()))
    assert target.load(first, mode=mode) == [Loaded(20, inserted=15)]
    assert "another commit to usage.events came first" in caplog.text
    assert len(target.ids()) == len(set(target.ids())) == 40
    assert len(target.data_files()) == len(target.table.snapshots()) == 3


def test_another_change_of_the_same_window_is_seen(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    due = events_of(HOUR)
    target.load(exported(tmp_path, due))
    other, own = exported(tmp_path / "1", due[5:]), exported(tmp_path / "2", due[:15])
    beaten_by(monkeypatch, lambda: target.load(other, catalog=target.another(), mode="replace_window"))
    assert target.load(own, mode="replace_window") == [Loaded(15, inserted=5, removed=5)]
    assert target.ids() == ids_of(due[:15])


def test_a_table_that_others_change_all_the_time_is_given_up(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iceberg, "_ATTEMPTS", 3)
    monkeypatch.setattr(iceberg, "_LONGEST_WAIT", 0)

    def refuse(self: Any, *args: Any, **options: Any) -> None:
        raise CommitFailedException("another")

    monkeypatch.setattr(type(target.catalog), "commit_table", refuse)
    with pytest.raises(PolarDatabaseError, match="3 times another commit to usage") as caught:
        target.load(exported(tmp_path, events_of(HOUR)))
    assert caught.value.retryable
    assert target.ids() == []
    assert target.data_files() == set()


@pytest.mark.parametrize("landed", [True, False])
def test_a_commit_of_unknown_outcome_is_found_out_by_the_retry(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, landed: bool
) -> None:
    window, original = exported(tmp_path, events_of(HOUR)), type(target.catalog).commit_table

    def lose(self: Any, *args: Any, **options: Any) -> None:
        if landed:
            original(self, *args, **options)
        raise CommitStateUnknownException("gateway time-out")

    with monkeypatch.context() as patch:
        patch.setattr(type(target.catalog), "commit_table", lose)
        with pytest.raises(PolarDatabaseError, match="finds what was committed") as caught:
            target.load(window)
    assert caught.value.retryable
    assert len(target.ids()) == (20 if landed else 0)
    assert target.load(window) == [Loaded(20, skipped=True) if landed else Loaded(20, inserted=20)]
    assert len(target.ids()) == len(set(target.ids())) == 20


def test_many_loads_at_once(target: Target, tmp_path: Path) -> None:
    windows = [exported(tmp_path, events_of(hour(n)), hour(n)) for n in range(4)]
    start, outcomes = threading.Barrier(3), []

    def load() -> None:
        catalog = target.another()
        start.wait(timeout=60)
        for window in windows:
            try:
                outcomes.append(target.load(window, catalog=catalog)[0])
            except PolarError as error:
                outcomes.append(error)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert len(outcomes) == 12
    assert all(one.retryable for one in outcomes if isinstance(one, PolarError)), outcomes
    inserted = sum(one.inserted for one in outcomes if isinstance(one, Loaded))
    assert inserted + sum(one.inserted for one in target.load(*windows)) == 80
    assert len(target.ids()) == len(set(target.ids())) == 80
    assert len(target.table.snapshots()) == len(target.data_files()) == 4


# What goes wrong


def test_a_file_that_is_not_the_manifests_leaves_the_table(target: Target, tmp_path: Path) -> None:
    target.load(exported(tmp_path, events_of(hour(0)), hour(0)))
    before, files = target.table.metadata, target.data_files()
    window = exported(tmp_path, events_of(hour(1)), hour(1), max_file_rows=4)
    last = tmp_path / window.manifest.files[-1].path
    last.write_bytes(last.read_bytes()[:-5])
    with pytest.raises(PolarSourceError, match="its SHA-256 is not the manifest's"):
        target.load(window)
    assert target.table.metadata == before
    assert target.data_files() == files


def test_a_value_of_another_kind_is_not_told(target: Target, tmp_path: Path) -> None:
    window = exported(tmp_path, events_of(HOUR, metadata={"tokens": SECRET}))
    with pytest.raises(PolarSourceError) as caught:
        target.load(window, metadata_columns={"tokens": "double"})
    assert "secret" not in str(caught.value)
    assert target.data_files() == set()


FAILURES = [
    (OSError(28, "No space left on device"), PolarDatabaseError, "OSError: [Errno 28] No space left on device"),
    (PermissionError(13, "Permission denied"), PolarTableError, "Permission denied"),
    (pa.ArrowInvalid(f"Could not convert '{SECRET}'"), PolarTableError, ": ArrowInvalid. The table is as it was"),
]


@pytest.mark.parametrize(("failure", "expected", "told"), FAILURES)
def test_a_store_that_fails_leaves_the_table(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception, expected: Any, told: str
) -> None:
    target.load(exported(tmp_path, events_of(hour(0)), hour(0)))
    before, original, written = target.table.metadata, iceberg_change._dataframe_to_data_files, []

    def fail(*args: Any) -> Any:
        written.append(1)
        yield from original(*args)
        if len(written) == 3:
            raise failure

    monkeypatch.setattr(iceberg_change, "_ROWS_AT_ONCE", 5)
    monkeypatch.setattr(iceberg_change, "_FILE_BYTES", 1)
    monkeypatch.setattr(iceberg_change, "_dataframe_to_data_files", fail)
    with pytest.raises(expected) as caught:
        target.load(exported(tmp_path, events_of(hour(1)), hour(1)))
    assert "cannot load [2026-01-01T01:00:00Z, " in str(caught.value)
    assert "into the table usage.events in the test's: " in str(caught.value)
    assert told in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert target.table.metadata == before
    assert len(target.data_files()) == 1


def test_a_full_disk_of_this_machine_is_told(target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_provider_polar.engine.loading import id_sets

    original = id_sets.temporary_database

    def small() -> Any:
        database = original()
        database.execute("PRAGMA max_page_count = 20")
        return database

    monkeypatch.setattr(id_sets, "temporary_database", small)
    with pytest.raises(PolarLocalDiskError, match="SQLITE_TMPDIR"):
        target.load(exported(tmp_path, events_of(HOUR, 3000)))
    assert target.data_files() == set()
