"""The index of a directory: what it says is what manifests say, and what is lost of it comes back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow.sdk import ObjectStoragePath

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.engine.exporting.index import INDEX, Entry, add_to_index, read_index, rebuild_index
from airflow_provider_polar.engine.exporting.manifest import ExportName, Manifest, exports_in
from airflow_provider_polar.engine.files.layout import FileLayout
from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.window import EventWindow

DAY = datetime(2026, 11, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(ObjectStoragePath(f"file://{tmp_path}"))


def published(directory: Directory, number: int, rows: int = 3, **filters: str) -> tuple[ExportName, Manifest]:
    window, chosen = EventWindow(DAY + number * HOUR, DAY + (number + 1) * HOUR), EventFilters(**filters)
    manifest = Manifest(
        window=window,
        filters=chosen.to_dict(),
        **FileLayout().to_dict(),
        rows=rows,
        counted=rows,
        repeated=0,
        files=[],
    )
    export = ExportName.of(window, chosen, FileLayout())
    directory.write(export.manifest, manifest.to_bytes())
    return export, manifest


def test_each_export_adds_itself(directory: Directory) -> None:
    assert read_index(directory) == {}
    for number, filters in ((0, {}), (1, {"name": "order.paid"})):
        add_to_index(directory, *published(directory, number, **filters), DAY)
    export, manifest = published(directory, 0, rows=9)
    add_to_index(directory, export, manifest, DAY + HOUR)
    found = read_index(directory)
    assert found[export] == Entry(9, 0, True, DAY + HOUR)
    assert [name.filters_tag != "" for name in found] == [False, True]
    assert exports_in(directory, EventFilters()) == [export], "an index is no export"


@pytest.mark.parametrize(
    "content", [None, b"", b"{", b'{"version": 1, "exports": 3}', b'{"version": 2, "exports": {}}']
)
def test_a_lost_index_is_rebuilt(directory: Directory, content: bytes | None) -> None:
    exports = [published(directory, number) for number in range(3)]
    if content is not None:
        directory.write(INDEX, content)
    assert read_index(directory) == {}
    rebuild_index(directory)
    assert read_index(directory) == {export: Entry(3, 0, True) for export, _ in exports}


def test_rebuilding_keeps_what_is_known_and_forgets_what_is_gone(directory: Directory) -> None:
    kept, gone, missed = (published(directory, number) for number in range(3))
    for export, manifest in (kept, gone):
        add_to_index(directory, export, manifest, DAY)
    directory.remove(gone[0].manifest)
    rebuild_index(directory)
    assert read_index(directory) == {kept[0]: Entry(3, 0, True, DAY), missed[0]: Entry(3, 0, True)}


def test_a_torn_manifest_is_no_entry(directory: Directory) -> None:
    export, manifest = published(directory, 0)
    directory.write(replace(export, window=EventWindow(DAY, DAY + 2 * HOUR)).manifest, b"{")
    rebuild_index(directory)
    assert read_index(directory) == {export: Entry.of(manifest)}
