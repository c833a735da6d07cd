"""Exports of windows, made from memory: for the tests of what happens to them afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.engine.exporting.export import WindowExport
from airflow_provider_polar.engine.files.layout import FileLayout
from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.loading.manifests import ExportedWindow
from airflow_provider_polar.engine.window import EventWindow
from tests.unit.engine.rows import HOUR, START, MemoryReader, event

AN_HOUR = timedelta(hours=1)


def hour(number: int) -> EventWindow:
    """The n-th hour from :data:`START` on."""
    return EventWindow(START + AN_HOUR * number, START + AN_HOUR * (number + 1))


def events_of(window: EventWindow, number: int = 20, **values: Any) -> list[dict[str, Any]]:
    """Events of a window, the first on its first microsecond and the last on its last."""
    length = window.duration - timedelta(microseconds=1)
    return [event(window.start + length * i / (number - 1), i, **values) for i in range(number)]


def exported(
    folder: Path,
    events: Sequence[dict[str, Any]],
    window: EventWindow = HOUR,
    filters: EventFilters = EventFilters(),  # noqa: B008
    **layout: Any,
) -> ExportedWindow:
    """The export of a window into a folder."""
    directory = Directory(ObjectStoragePath(f"file://{folder}"))
    export = WindowExport(MemoryReader(list(events)), directory, window, filters, FileLayout.choose(**layout))
    export.run()
    return ExportedWindow.read(directory, export.manifest_name)
