"""What the files of exports hold: the witness in the lake."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple, Protocol, Self

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.engine.exporting.manifest import ExportName, FileEntry, Manifest, exports_in, read_manifest
from airflow_provider_polar.engine.files.packages import StoragePath
from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.ingesting.sources import rows_of_files
from airflow_provider_polar.engine.metering.filters import Event, time_of
from airflow_provider_polar.engine.window import EventWindow, aware, moment_text
from airflow_provider_polar.exceptions import PolarConfigurationError, PolarSourceError
from airflow_provider_polar.wording import number_of

_NEEDED = ("id", "timestamp", "name", "source", "metadata")
_OF_CUSTOMERS = ("customer", "customer_id", "external_customer_id")


class FolderPath(StoragePath, Protocol):
    """What is needed of the path of a directory (``ObjectStoragePath`` or any ``UPath``)."""

    def __truediv__(self, name: str) -> Any: ...


class _Part(NamedTuple):
    """What is read of an export."""

    window: EventWindow
    manifest: Manifest
    where: str


class ExportedEvents:
    """The events of a window as exports hold them, each once.

    :param path: the directory.
    :param parts: adjacent parts of the window, each with the export that holds it.
    """

    def __init__(self, path: FolderPath, parts: list[_Part]) -> None:
        self._path = path
        self._parts = parts

    @classmethod
    def find(cls, path: FolderPath, filters: EventFilters, window: EventWindow) -> Self:
        """The exports of a window; where several hold a moment, the one that reaches furthest.

        :param filters: that they were exported with.
        :raises PolarSourceError: no export holds a part of the window; a retry helps once it is exported.
        :raises PolarConfigurationError: fields are left out that meters are about. A retry does not help.
        """
        directory = Directory(path)
        exports = exports_in(directory, filters)
        parts: list[_Part] = []
        cursor = window.start
        while cursor < window.end:
            holding = [one for one in exports if one.window.start <= cursor < one.window.end]
            export = max(holding, key=lambda one: one.window.end, default=None)
            manifest = None if export is None else read_manifest(directory, export.manifest)
            if export is None or manifest is None:
                raise PolarSourceError(_gap(exports, cursor, window, directory))
            if lacking := [field for field in _NEEDED if field not in manifest.fields]:
                raise PolarConfigurationError(
                    f"{directory.url_of(export.manifest)} leaves out the field {lacking[0]}, without which no meter "
                    "can be evaluated: export with it, or leave destination out to compare with Polar's own list"
                )
            end = min(export.window.end, window.end)
            parts.append(_Part(EventWindow(cursor, end), manifest, directory.url_of(export.manifest)))
            cursor = end
        return cls(path, parts)

    @property
    def tells_customers(self) -> bool:
        """Whether the files say whose an event is, whichever of the customer's ids it was ingested under."""
        return all(field in part.manifest.fields for part in self._parts for field in _OF_CUSTOMERS)

    @property
    def incomplete(self) -> dict[str, int]:
        """By manifest, the events that it says are missing."""
        lost: Counter[str] = Counter()
        for part in self._parts:
            for place in part.manifest.missing:
                lost[part.where] += place.lost
        return dict(lost)

    def read(self, window: EventWindow) -> Iterator[Event]:
        """The events of a window within the exports', as the API gives them.

        :raises PolarSourceError: a file is not there, or not what its manifest says.
        """
        for part in self._parts:
            start, end = max(part.window.start, window.start), min(part.window.end, window.end)
            if start >= end:
                continue
            for file in part.manifest.files:
                if aware(file.first_timestamp, "first") < end and start <= aware(file.last_timestamp, "last"):
                    yield from (event for event in self._file(file) if start <= time_of(event) < end)

    def _file(self, file: FileEntry) -> Iterator[Event]:
        path, rows = self._path / file.path, 0
        for row in rows_of_files([path]):
            if row.error is not None:
                raise PolarSourceError(f"{path}, row {row.number}: {row.error}")
            rows += 1
            yield _as_listed(row.value)
        if rows != file.rows:
            raise PolarSourceError(f"{path} holds {number_of(rows, 'event')}; its manifest says {file.rows:,}")


def _as_listed(row: Mapping[str, Any]) -> Event:
    """An event as the API gives it; tables have its time as a moment and its customer as text."""
    event = dict(row)
    if isinstance(event["timestamp"], datetime):
        event["timestamp"] = moment_text(event["timestamp"])
    if isinstance(customer := event.get("customer"), str):
        event["customer"] = json.loads(customer)
    return event


def _gap(exports: list[ExportName], cursor: datetime, window: EventWindow, directory: Directory) -> str:
    later = [one.window.start for one in exports if cursor < one.window.start < window.end]
    gap = EventWindow(cursor, min(later, default=window.end))
    return f"no export in {directory.url} holds the events of {gap}: export that window first"
