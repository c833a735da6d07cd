"""What an export publishes, and what a failure at each place leaves."""

from __future__ import annotations

import errno
import hashlib
import json
import threading
import zlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.engine.exporting.export import WindowExport
from airflow_provider_polar.engine.exporting.manifest import ExportName, Manifest
from airflow_provider_polar.engine.files.fields import FieldChoice
from airflow_provider_polar.engine.files.layout import FileLayout
from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import PolarDestinationError, PolarIncompleteError, PolarLocalDiskError
from tests.unit.engine.exporting.deaths import Killed, die_at
from tests.unit.engine.rows import HOUR, START, MemoryReader, event, minutes, named_by

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
    for path in target.rglob("*.json"):
        found.add(str(path.relative_to(target)))
        content = json.loads(path.read_text())
        if path.name == "staging.json":
            found |= set(content["published"])
        found |= {str((path.parent / name).relative_to(target)) for name in named_by(content)}
    return found


def files(target: Path, name: str = NAME) -> list[str]:
    """The file names of a window's manifest, without the digest of their content."""
    return [file["path"].replace(f"-{file['sha256'][:8]}", "") for file in manifest_of(target, name)["files"]]


def manifest_of(target: Path, name: str = NAME) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((target / f"{name}.manifest.json").read_text())
    return content


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
    assert files(target) == [f"{NAME}.part-000{n}.jsonl" for n in (1, 2, 3)]
    assert set(objects(target)) == {f"{NAME}.manifest.json", *(file.path for file in manifest.files)}
    content = json.loads((target / f"{NAME}.manifest.json").read_text())
    assert content["schema_version"] == 2
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


def test_layouts_of_one_window_lie_side_by_side(target: Path) -> None:
    """The second one deleted the first, and at once a manifest named a file that was not there."""
    export(target, MemoryReader(minutes(60)))
    first = objects(target)
    others = [FileLayout("csv"), FileLayout("csv", "gzip"), FileLayout(max_file_rows=7)]
    for layout in others:
        export(target, MemoryReader(minutes(60)), layout=layout)
    assert first.items() <= objects(target).items()
    assert len(list(target.glob("*.manifest.json"))) == 4
    assert set(objects(target)) == named(target)


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
    (target / ExportName.of(halves[0], EventFilters(), FileLayout()).manifest).unlink()
    kept = {ExportName.of(halves[1], EventFilters(), FileLayout()).manifest, manifests[1].files[0].path}
    again = export(target, MemoryReader(events, pieces=1))
    assert exported(target) == events
    assert set(objects(target)) == kept | {f"{NAME}.manifest.json", again.files[0].path}


LAYOUT = FileLayout(max_file_rows=20)
LIMITED = str(ExportName.of(HOUR, EventFilters(), LAYOUT))


def test_at_no_death_an_exported_window_is_without_its_manifest(target: Path, monkeypatch: Any) -> None:
    """The old manifest went before the new one came: killed in between, the window was taken for unexported."""
    early = [event(START + timedelta(seconds=1), 99)]
    late = sorted([*minutes(60), *early], key=lambda e: e["timestamp"])
    for number in range(100):
        folder = target / str(number)
        export(folder, MemoryReader(minutes(60)), layout=LAYOUT)

        def check(folder: Path = folder) -> None:
            assert exported(folder, LIMITED) in (minutes(60), late)

        with monkeypatch.context() as patch:
            done = die_at(number, patch, check)
            try:
                export(folder, MemoryReader(late), layout=LAYOUT, max_concurrency=1)
            except Killed:
                assert set(objects(folder)) <= named(folder) | loose_of_manifests(folder), number
                check()
        export(folder, MemoryReader(late), layout=LAYOUT)
        assert exported(folder, LIMITED) == late
        assert set(objects(folder)) == named(folder), number
        if len(done) < number:
            break
    else:
        pytest.fail("the export never came to its end")


def loose_of_manifests(target: Path) -> set[str]:
    """The files of the earlier manifest may lie there until a later export has taken them away."""
    return {str(p.relative_to(target)) for p in target.glob(f"{LIMITED}.part-*")}


def test_two_exports_at_once_never_leave_a_manifest_that_names_what_is_not_there(target: Path) -> None:
    late = sorted([*minutes(60), event(START + timedelta(seconds=1), 99)], key=lambda e: e["timestamp"])
    export(target, MemoryReader(minutes(60)))
    met = threading.Barrier(2)
    failed = []

    def run(events: list[dict[str, Any]]) -> None:
        for attempt in range(5):
            waiting = iter([lambda: met.wait(5)] if not attempt else [])
            reader = MemoryReader(events, before_read=lambda _, waiting=waiting: next(waiting, lambda: None)())
            try:
                export(target, reader, max_concurrency=1)
                return
            except PolarDestinationError as error:
                failed.append(str(error))
            exported(target)

    threads = [threading.Thread(target=run, args=(events,)) for events in (minutes(60), late)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert exported(target) in (minutes(60), late)
    export(target, MemoryReader(late))
    assert exported(target) == late
    assert set(objects(target)) == named(target)


def test_a_shard_exported_again_leaves_the_manifest_of_the_whole_right(target: Path) -> None:
    """It named files whose content had changed."""
    events = minutes(60)
    halves = HOUR.split(2)
    manifests = [export(target, MemoryReader(events, pieces=1), half) for half in halves]
    whole = replace(manifests[0], window=HOUR, rows=60, files=[file for m in manifests for file in m.files])
    (target / f"{NAME}.manifest.json").write_bytes(whole.to_bytes())
    late = [event(START + timedelta(seconds=1), 99)]
    export(target, MemoryReader([*late, *events], pieces=1), halves[0])
    assert exported(target) == events


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


def test_a_staged_file_that_is_gone_or_damaged_is_read_again(target: Path) -> None:
    slices = HOUR.split(3)

    def fail_at_last(window: EventWindow) -> None:
        if window == slices[-1]:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        export(target, MemoryReader(minutes(60), before_read=fail_at_last), max_concurrency=1)
    first, second = sorted((target / "_incomplete" / NAME).glob("*.jsonl"))
    first.unlink()
    # Of the same size: the size says nothing.
    second.write_bytes(bytes(len(second.read_bytes())))
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


def left_after_the_first_slice(target: Path) -> Path:
    def fail_at_last(window: EventWindow) -> None:
        if window.end == HOUR.end:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        export(target, MemoryReader(minutes(60), before_read=fail_at_last), max_concurrency=1)
    return target / "_incomplete" / NAME / "staging.json"


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_record_without_one_of_its_slices_is_not_taken_up(target: Path, number: int) -> None:
    """It was published as complete."""
    record = left_after_the_first_slice(target)
    content = json.loads(record.read_text())
    del content["slices"][number]
    record.write_text(json.dumps(content))
    export(target, MemoryReader(minutes(60)))
    assert exported(target) == minutes(60)
    assert set(objects(target)) == named(target)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"key"', b'{"slices": [1]}'])
def test_a_torn_record_is_no_obstacle(target: Path, content: bytes) -> None:
    left_after_the_first_slice(target).write_bytes(content)
    export(target, MemoryReader(minutes(60)))
    assert exported(target) == minutes(60)
    assert set(objects(target)) == named(target)


SECONDS = [event(START + timedelta(seconds=0.5) * i, i, news="x" * (i % 5)) for i in range(7000)]
LAYOUTS = [
    FileLayout(),
    FileLayout("csv", "gzip", max_file_rows=900),
    FileLayout("jsonl", "zstd", max_file_bytes=100_000),
    FileLayout("parquet", max_file_bytes=300_000),
    FileLayout("parquet", fields=FieldChoice.choose(exclude=["customer"]), max_file_bytes=300_000),
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: f"{layout.file_format}-{layout.compression}")
def test_a_slice_goes_on_inside_and_gives_the_same_bytes(target: Path, tmp_path: Path, layout: FileLayout) -> None:
    """A kill near the end of the slices lost all of them."""
    export(tmp_path / "whole", MemoryReader(SECONDS, pieces=1), layout=layout)
    given = 0
    for dies_at in (4500, 5500, None):
        reader = MemoryReader(SECONDS, pieces=1)
        read = reader.read

        def reading(
            window: EventWindow, sink: Any, *, read: Any = read, dies_at: Any = dies_at, page: Any = None
        ) -> Any:
            def counting(rows: Any, so_far: Any) -> None:
                nonlocal given
                given += len(rows)
                if dies_at and (rows[0].timestamp - START) / timedelta(seconds=0.5) > dies_at:
                    raise Killed
                sink(rows, so_far)

            return read(window, counting)

        reader.read = reading  # type: ignore[method-assign]
        try:
            export(target, reader, layout=layout)
        except Killed:
            assert set(objects(target)) <= named(target)
            assert b"@example.com" not in b"".join(read_segments(target)) or "customer" in layout.fields.known
    assert objects(target) == objects(tmp_path / "whole")
    assert given <= len(SECONDS) + 2 * 2100


def read_segments(target: Path) -> list[bytes]:
    return [zlib.decompress(path.read_bytes()) for path in target.rglob("*-segment-*")]


def test_a_damaged_segment_costs_its_rows_again_and_nothing_else(target: Path, tmp_path: Path) -> None:
    export(tmp_path / "whole", MemoryReader(SECONDS, pieces=1))
    killed = MemoryReader(SECONDS, pieces=1)
    killed.read = killed_after(killed.read, 6500)  # type: ignore[method-assign]
    with pytest.raises(Killed):
        export(target, killed)
    _, second, _ = sorted(target.rglob("*-segment-*"))
    second.write_bytes(bytes(second.stat().st_size))
    retry = MemoryReader(SECONDS, pieces=1)
    export(target, retry)
    assert START + timedelta(seconds=1000) <= retry.reads[0].start < START + timedelta(seconds=1100)
    assert objects(target) == objects(tmp_path / "whole")


def killed_after(read: Any, number: int) -> Any:
    def reading(window: EventWindow, sink: Any, *, page: Any = None) -> Any:
        given = 0

        def counting(rows: Any, so_far: Any) -> None:
            nonlocal given
            given += len(rows)
            if given > number:
                raise Killed
            sink(rows, so_far)

        return read(window, counting)

    return reading


def test_events_that_came_into_a_staged_stretch_are_found(target: Path) -> None:
    killed = MemoryReader(SECONDS, pieces=1)
    killed.read = killed_after(killed.read, 6500)  # type: ignore[method-assign]
    with pytest.raises(Killed):
        export(target, killed)
    late = [*SECONDS[:3], event(START + timedelta(seconds=1.1), 99), *SECONDS[3:]]
    export(target, MemoryReader(late, pieces=1))
    assert exported(target) == late


def test_a_full_disk_of_the_worker_is_said_clearly(target: Path, monkeypatch: Any) -> None:
    def full(layout: Any, raw: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(FileLayout, "open", full)
        with pytest.raises(PolarLocalDiskError, match=r"polar-export-.*No space left.*bytes are free.*a retry goes on"):
            export(target, MemoryReader(minutes(60)))
    export(target, MemoryReader(minutes(60)))
    assert exported(target) == minutes(60)


def test_a_refusing_store_says_that_a_retry_goes_on(target: Path, monkeypatch: Any) -> None:
    def refuse(self: Any, *args: Any) -> None:
        raise PolarDestinationError("cannot write x")

    monkeypatch.setattr(Directory, "upload", refuse)
    with pytest.raises(PolarDestinationError, match="A retry goes on from what is staged"):
        export(target, MemoryReader(minutes(60)))
