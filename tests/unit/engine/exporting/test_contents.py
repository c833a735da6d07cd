"""What a manifest says of the events in its files: a digest of the set of their ids, and counts."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.engine.exporting.contents import Contents, Tally
from airflow_provider_polar.engine.exporting.export import WindowExport
from airflow_provider_polar.engine.exporting.manifest import Manifest
from airflow_provider_polar.engine.exporting.shards import Assembly
from airflow_provider_polar.engine.files.fields import FieldChoice
from airflow_provider_polar.engine.files.layout import FileLayout
from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.window import EventWindow
from tests.paths import DATA
from tests.unit.engine.exporting.deaths import Killed, die_at
from tests.unit.engine.rows import HOUR, MemoryReader, minutes, row

EVENTS = [
    {**event, "name": f"call {number % 3}", "source": "system" if number % 5 == 0 else "user"}
    for number, event in enumerate(minutes(60))
]
SCHEMA_1 = DATA / "exports" / "schema-1"
NONE = EventFilters()


def tally(events: Sequence[dict[str, Any]]) -> Contents:
    noted = Tally()
    for event in events:
        noted.add(row(event))
    return noted.contents


def export(target: Path, *, pieces: int = 3, layout: FileLayout | None = None, **options: Any) -> Manifest:
    reader, directory = MemoryReader(EVENTS, pieces=pieces), Directory(ObjectStoragePath(f"file://{target}"))
    return WindowExport(reader, directory, HOUR, NONE, layout or FileLayout(), **options).run()


def test_the_digest_is_of_the_set_and_adds_up() -> None:
    whole = tally(EVENTS)
    sums = sum(int(hashlib.sha256(event["id"].encode()).hexdigest(), 16) for event in EVENTS)
    assert whole.ids_digest == f"{sums % 2**256:064x}"
    chance = random.Random(1)
    for _ in range(20):
        shuffled = chance.sample(EVENTS, len(EVENTS))
        edges = [0, *sorted(chance.sample(range(1, 60), 3)), 60]
        parts = [tally(shuffled[a:b]) for a, b in pairwise(edges)]
        assert Contents.joined(parts) == whole
    assert tally(EVENTS[1:]).ids_digest != whole.ids_digest
    assert tally([*EVENTS[1:], EVENTS[1]]).ids_digest != whole.ids_digest
    assert Contents.joined([]) == tally([]) == Contents("0" * 64, {}, {})


def test_it_counts_by_source_and_name_and_by_hour() -> None:
    contents = tally(minutes(90))
    assert contents.names == {"user": {"call": 90}}
    assert contents.hours == {"2026-01-01T00:00:00Z": 60, "2026-01-01T01:00:00Z": 30}
    assert tally(EVENTS).names == {
        "system": {"call 0": 4, "call 1": 4, "call 2": 4},
        "user": {"call 0": 16, "call 1": 16, "call 2": 16},
    }


@pytest.mark.parametrize("pieces", [1, 3, 7])
@pytest.mark.parametrize("excluded", [[], ["id", "name", "source"]])
def test_a_manifest_tells_it_whatever_the_slices_and_the_fields(
    tmp_path: Path, pieces: int, excluded: list[str]
) -> None:
    manifest = export(tmp_path, pieces=pieces, layout=FileLayout(fields=FieldChoice.choose(exclude=excluded)))
    assert manifest.contents == tally(EVENTS)
    said = json.loads(next(tmp_path.glob("*.manifest.json")).read_bytes())["contents"]
    assert list(said) == ["ids_digest", "names", "hours"]


def test_a_resumed_export_tells_of_what_an_earlier_attempt_staged(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("airflow_provider_polar.engine.exporting.export.SEGMENT_ROWS", 7)
    layout = FileLayout(fields=FieldChoice.choose(exclude=["name", "source"]))
    for number in range(100):
        with monkeypatch.context() as patch:
            done = die_at(number, patch, lambda: None)
            with suppress(Killed):
                export(tmp_path / str(number), layout=layout, max_concurrency=1)
        manifest = export(tmp_path / str(number), layout=layout, max_concurrency=1)
        assert manifest.contents == tally(EVENTS), number
        if len(done) < number:
            return
    pytest.fail("the export never came to its end")


def test_shards_tell_it_together(tmp_path: Path) -> None:
    reader, directory = MemoryReader(EVENTS), Directory(ObjectStoragePath(f"file://{tmp_path}"))
    shards = HOUR.split(4)
    for shard in shards:
        WindowExport(reader, directory, shard, NONE, FileLayout()).run()
    whole = Assembly(reader, directory, shards, NONE, lambda _, before: before).run()
    assert whole.contents == tally(EVENTS)


def test_an_export_of_schema_1_is_read_and_stays_what_it_is(tmp_path: Path) -> None:
    path = next(SCHEMA_1.glob("*.manifest.json"))
    manifest = Manifest.from_bytes(path.read_bytes(), path.name)
    assert (manifest.schema_version, manifest.rows, bool(manifest.contents)) == (1, 60, False)
    assert manifest.to_bytes() == path.read_bytes()


def test_a_shard_of_schema_1_makes_the_whole_one(tmp_path: Path) -> None:
    shutil.copytree(SCHEMA_1, tmp_path, dirs_exist_ok=True)
    events = minutes(120)
    reader, directory = MemoryReader(events), Directory(ObjectStoragePath(f"file://{tmp_path}"))
    second = EventWindow(HOUR.end, HOUR.end + HOUR.duration)
    WindowExport(reader, directory, second, NONE, FileLayout()).run()
    whole = Assembly(reader, directory, [HOUR, second], NONE, lambda _, before: before).run()
    assert (whole.schema_version, whole.rows, bool(whole.contents)) == (1, 120, False)
    assert [piece.schema_version for piece in whole.pieces or ()] == [1, 2]
