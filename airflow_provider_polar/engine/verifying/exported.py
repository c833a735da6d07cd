"""What the files of exports hold: the witness in the lake."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple, Self

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.engine.exporting.manifest import ExportName, exports_in, read_manifest
from airflow_provider_polar.engine.files.packages import StoragePath
from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.loading.manifests import ExportedWindow
from airflow_provider_polar.engine.metering.filters import Event, time_of
from airflow_provider_polar.engine.window import EventWindow, moment_text
from airflow_provider_polar.exceptions import PolarConfigurationError, PolarSourceError

_NEEDED = ("id", "timestamp", "name", "source", "metadata")
_OF_CUSTOMERS = ("customer", "customer_id", "external_customer_id")


class _Part(NamedTuple):
    """What is read of an export."""

    window: EventWindow
    export: ExportedWindow


class ExportedEvents:
    """The events of a window as exports hold them, each once.

    :param parts: adjacent parts of the window, each with the export that holds it.
    """

    def __init__(self, parts: list[_Part]) -> None:
        self._parts = parts

    @classmethod
    def find(cls, path: StoragePath, filters: EventFilters, window: EventWindow) -> Self:
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
            exported = ExportedWindow(manifest, "", directory, export.manifest)
            parts.append(_Part(EventWindow(cursor, end), exported))
            cursor = end
        return cls(parts)

    @property
    def tells_customers(self) -> bool:
        """Whether the files say whose an event is, whichever of the customer's ids it was ingested under."""
        return all(field in part.export.manifest.fields for part in self._parts for field in _OF_CUSTOMERS)

    @property
    def incomplete(self) -> dict[str, int]:
        """By manifest, the events that it says are missing."""
        lost: Counter[str] = Counter()
        for part in self._parts:
            for place in part.export.manifest.missing:
                lost[part.export.url] += place.lost
        return dict(lost)

    def read(self, window: EventWindow) -> Iterator[Event]:
        """The events of a window within the exports', as the API gives them.

        :raises PolarSourceError: a file is not there, or not what its manifest says; a retry helps once the window is
            exported again.
        """
        for part in self._parts:
            start, end = max(part.window.start, window.start), min(part.window.end, window.end)
            if start < end:
                events = map(_as_listed, part.export.events(EventWindow(start, end)))
                yield from (event for event in events if start <= time_of(event) < end)


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
