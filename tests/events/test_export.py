"""What an export publishes, and what a failure at each place leaves."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.events.exporting.export import WindowExport
from airflow_provider_polar.events.exporting.manifest import Manifest, manifest_name
from airflow_provider_polar.events.exporting.storage import Directory
from airflow_provider_polar.events.exporting.writers import FileLayout
from airflow_provider_polar.events.window import EventWindow
from airflow_provider_polar.exceptions import PolarDestinationError, PolarIncompleteError
from tests.events.rows import HOUR, START, MemoryReader, event, minutes

NAME = "events_20260101T000000Z_20260101T010000Z"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out"


def directory(target: Path) -> Directory:
    return Directory(ObjectStoragePath(f"file://{target}"))


def export(target: Path, reader: MemoryReader, window: EventWindow = HOUR, **options: Any) -> Manifest:
    filters = options.pop("filters", EventFilters())
    layout = options.pop("layout", FileLayout())
    return WindowExport(reader, directory(target), window, filters, layout, **options).run()


def objects(target: Path) -> dict[str, bytes]:
    return {str(p.relative_to(target)): p.read_bytes() for p in sorted(target.rglob("*")) if p.is_file()}


def named(target: Path) -> set[str]:
    """Every manifest and what it names."""
    found = set()
    for path in target.rglob("*manifest.json"):
        found.add(str(path.relative_to(target)))
        content = json.loads(path.read_text())
        found |= {str((path.parent / file["path"]).relative_to(target)) for file in content["files"]}
        # What is about to be published is named by the name it gets, too.
        found |= set(content.get("published_as", {}).values())
    return found


def exported(target: Path, name: str = NAME) -> list[dict[str, Any]]:
    manifest = json.loads((target / f"{name}.manifest.json").read_text())
    lines = []
    for file in manifest["files"]:
        content = (target / file["path"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file["sha256"]
        assert len(content) == file["bytes"]
        assert content.count(b"\n") == file["rows"]
        lines += [json.loads(line) for line in content.splitlines()]
    assert len(lines) == manifest["rows"]
    return lines


def test_publishes_every_event_in_order_and_a_manifest(target: Path) -> None:
    events = minutes(90)
    manifest = export(target, MemoryReader(events))
    assert exported(target) == events[:60]
    assert manifest.complete
    assert set(objects(target)) == {f"{NAME}.manifest.json"} | {f"{NAME}.part-000{n}.jsonl" for n in (1, 2, 3)}
    content = json.loads((target / f"{NAME}.manifest.json").read_text())
    assert content["schema_version"] == 1
    assert content["window"] == {"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T01:00:00Z"}
    assert (content["rows"], content["counted"], content["complete"], content["missing"]) == (60, 60, True, [])
    assert content["files"][0]["first_timestamp"] == "2026-01-01T00:00:00Z"
    assert content["files"][0]["last_timestamp"] == "2026-01-01T00:19:00Z"


def test_the_same_window_again_gives_the_same_bytes(target: Path, tmp_path: Path) -> None:
    export(target, MemoryReader(minutes(60)))
    first = objects(target)
    export(target, MemoryReader(minutes(60)))
    assert objects(target) == first
    export(tmp_path / "elsewhere", MemoryReader(minutes(60)), max_concurrency=1)
    assert objects(tmp_path / "elsewhere") == first


def test_an_empty_window_has_a_manifest_and_no_file(target: Path) -> None:
    manifest = export(target, MemoryReader([]))
    assert (manifest.rows, manifest.files, manifest.complete) == (0, [], True)
    assert set(objects(target)) == {f"{NAME}.manifest.json"}


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_another_layout_of_the_same_window_supersedes(target: Path, pieces: int) -> None:
    export(target, MemoryReader(minutes(60), pieces=3))
    export(target, MemoryReader(minutes(60), pieces=pieces), layout=FileLayout("csv", "gzip"))
    assert set(objects(target)) == {f"{NAME}.manifest.json"} | {
        f"{NAME}.part-000{n}.csv.gz" for n in range(1, pieces + 1)
    }


def test_neighbours_and_other_filters_are_never_touched(target: Path) -> None:
    events = minutes(180)
    other = EventWindow(HOUR.end, HOUR.end + timedelta(hours=1))
    export(target, MemoryReader(events), other)
    export(target, MemoryReader(events), filters=EventFilters(name=["call"]))
    (target / "mine.txt").write_text("mine")
    before = objects(target)
    export(target, MemoryReader(events, pieces=2))
    after = objects(target)
    assert before.items() <= after.items()
    assert len(after) == len(before) + 3


def test_a_manifest_put_together_from_pieces_is_superseded_with_their_files(target: Path) -> None:
    events = minutes(60)
    halves = HOUR.split(2)
    manifests = [export(target, MemoryReader(events, pieces=1), half) for half in halves]
    whole = replace(manifests[0], window=HOUR, files=[file for m in manifests for file in m.files])
    (target / f"{NAME}.manifest.json").write_bytes(whole.to_bytes())
    (target / manifest_name(halves[0], EventFilters())).unlink()
    kept = {manifest_name(halves[1], EventFilters()), manifests[1].files[0].path}
    export(target, MemoryReader(events, pieces=1))
    assert exported(target) == events
    assert set(objects(target)) == kept | {f"{NAME}.manifest.json", f"{NAME}.part-0001.jsonl"}


def test_a_manifest_never_stands_beside_files_that_are_not_its_own(target: Path, monkeypatch: Any) -> None:
    export(target, MemoryReader(minutes(60)))
    late = [*minutes(60), event(START + timedelta(seconds=30), 1000)]
    move = Directory.move

    def move_one(self: Directory, *args: Any) -> None:
        monkeypatch.setattr(Directory, "move", fail)
        move(self, *args)

    def fail(self: Directory, *args: Any) -> None:
        raise PolarDestinationError("the store is gone")

    monkeypatch.setattr(Directory, "move", move_one)
    with pytest.raises(PolarDestinationError, match="the store is gone"):
        export(target, MemoryReader(late))
    assert not (target / f"{NAME}.manifest.json").exists()
    monkeypatch.setattr(Directory, "move", move)
    reader = MemoryReader(late)
    export(target, reader)
    assert reader.reads == []
    assert len(exported(target)) == 61


@pytest.mark.parametrize("moves", [0, 1, 2, 3])
def test_killed_while_publishing_and_numbered_otherwise_by_the_retry(
    target: Path, monkeypatch: Any, moves: int
) -> None:
    layout = FileLayout(max_file_rows=20)
    move = Directory.move
    done: list[Any] = []

    def move_some(self: Directory, *args: Any) -> None:
        if len(done) == moves:
            raise PolarDestinationError("killed")
        done.append(args)
        move(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Directory, "move", move_some)
        patch.setattr(Directory, "write", fail_at_manifest(Directory.write))
        with pytest.raises(PolarDestinationError, match="killed"):
            export(target, MemoryReader(minutes(60)), layout=layout)
    assert set(objects(target)) <= named(target)
    # One more in the first slice, and so one more file before the others.
    late = sorted([*minutes(60), event(START + timedelta(seconds=1), 99)], key=lambda e: e["timestamp"])
    reader = MemoryReader(late)
    export(target, reader, layout=layout)
    assert reader.reads == [HOUR.split(3)[0]]
    assert exported(target) == late
    assert len(objects(target)) == 5


def fail_at_manifest(write: Any) -> Any:
    def failing(self: Directory, name: str, content: bytes) -> None:
        if name == f"{NAME}.manifest.json":
            raise PolarDestinationError("killed")
        write(self, name, content)

    return failing


def test_a_failure_leaves_only_what_a_manifest_names_and_a_retry_goes_on(target: Path) -> None:
    events = minutes(60)
    slices = HOUR.split(3)

    def fail_at_last(window: EventWindow) -> None:
        if window == slices[-1]:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        export(target, MemoryReader(events, before_read=fail_at_last), max_concurrency=1)
    left = set(objects(target))
    assert left <= named(target)
    assert len(left) == 3
    assert not (target / f"{NAME}.manifest.json").exists()
    retry = MemoryReader(events)
    export(target, retry)
    assert retry.reads == [slices[-1]]
    assert exported(target) == events
    assert len(objects(target)) == 4


@pytest.mark.parametrize("after", [True, False])
def test_killed_around_an_upload(target: Path, monkeypatch: Any, after: bool) -> None:
    upload = Directory.upload

    def killed(self: Directory, *args: Any) -> None:
        if after:
            upload(self, *args)
        raise PolarDestinationError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(Directory, "upload", killed)
        with pytest.raises(PolarDestinationError, match="killed"):
            export(target, MemoryReader(minutes(60)), max_concurrency=1)
    left = set(objects(target))
    assert left <= named(target)
    assert len(left) > after
    export(target, MemoryReader(minutes(60)))
    assert exported(target) == minutes(60)
    assert len(objects(target)) == 4


def test_progress_with_other_parameters_is_not_taken_up(target: Path) -> None:
    slices = HOUR.split(3)

    def fail_at_last(window: EventWindow) -> None:
        if window == slices[-1]:
            raise RuntimeError("killed")

    for server in ("production", "sandbox"):
        reader = MemoryReader(minutes(60), before_read=fail_at_last)
        with pytest.raises(RuntimeError):
            export(target, reader, max_concurrency=1, server=server)
        assert len(reader.reads) == 2
        assert set(objects(target)) <= named(target)


def test_a_staged_file_that_is_gone_or_cut_is_read_again(target: Path) -> None:
    slices = HOUR.split(3)

    def fail_at_last(window: EventWindow) -> None:
        if window == slices[-1]:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        export(target, MemoryReader(minutes(60), before_read=fail_at_last), max_concurrency=1)
    first, second = sorted((target / "_incomplete" / NAME).glob("*.jsonl"))
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    retry = MemoryReader(minutes(60))
    export(target, retry, max_concurrency=1)
    assert retry.reads == slices
    assert exported(target) == minutes(60)


def test_events_that_arrive_while_reading_are_read_again(target: Path) -> None:
    events = minutes(60)
    slices = HOUR.split(3)
    reader = MemoryReader(events)

    def arrive(window: EventWindow) -> None:
        if window == slices[-1] and len(events) == 60:
            events.append(event(START + timedelta(seconds=1), 1000))

    reader.before_read = arrive
    manifest = export(target, reader, max_concurrency=1)
    assert reader.reads == [*slices, slices[0]]
    assert manifest.rows == manifest.counted == 61
    assert [e["id"] for e in exported(target)][1] == events[-1]["id"]
    assert len(objects(target)) == 4


def test_events_that_never_stop_arriving_end_in_a_clear_error(target: Path) -> None:
    events = minutes(60)
    reader = MemoryReader(events)
    reader.before_read = lambda window: events.append(event(START + timedelta(seconds=len(events)), len(events)))
    verify = reader.verify

    def verify_and_grow(reports: Any) -> list[EventWindow]:
        events.append(event(START + timedelta(seconds=len(events)), len(events)))
        return verify(reports)

    reader.verify = verify_and_grow  # type: ignore[method-assign]
    with pytest.raises(PolarIncompleteError, match="kept coming in"):
        export(target, reader)
    assert len(reader.reads) < 20


def test_missing_rows_fail_and_only_their_slice_is_read_again(target: Path) -> None:
    events = minutes(60)
    with pytest.raises(PolarIncompleteError, match=r"60 events and gave 59.*00:20:00Z.*20 counted, 19 given") as error:
        export(target, MemoryReader(events, hidden={events[30]["id"]}))
    assert error.value.missing[0]["reason"].startswith("not given")
    assert set(objects(target)) <= named(target)
    retry = MemoryReader(events)
    assert export(target, retry).complete
    assert retry.reads == [HOUR.split(3)[1]]


def test_missing_rows_are_named_by_the_manifest_if_the_user_wants_the_rest(target: Path) -> None:
    events = minutes(60)
    manifest = export(target, MemoryReader(events, hidden={events[30]["id"]}), on_incomplete="warn")
    assert (manifest.rows, manifest.counted, manifest.complete) == (59, 60, False)
    content = json.loads((target / f"{NAME}.manifest.json").read_text())
    assert content["complete"] is False
    assert content["missing"][0]["given"] == 19
    assert len(exported(target)) == 59


def test_an_unwritable_destination_is_refused_before_any_request(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where a directory should be")
    reader = MemoryReader(minutes(60))
    reader.plan = None  # type: ignore[assignment]
    with pytest.raises(PolarDestinationError, match="out"):
        export(tmp_path / "out", reader)
