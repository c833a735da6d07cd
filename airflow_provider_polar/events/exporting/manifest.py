"""What an export says of a window: the manifest, and the names that belong to a window."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from airflow_provider_polar import __version__
from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.events.exporting.storage import Directory
from airflow_provider_polar.events.window import EventWindow
from airflow_provider_polar.exceptions import PolarSourceError

SCHEMA_VERSION = 1
_NAME = re.compile(r"events_(\d{8}T\d{6}(?:\.\d{6})?Z)_(\d{8}T\d{6}(?:\.\d{6})?Z)(?:_([0-9a-f]{8}))?\.manifest\.json")


def compact(moment: datetime) -> str:
    """A moment as it stands in names: ``20260101T000000Z``, a fraction only where there is one."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat().replace("-", "").replace(":", "") + "Z"


def base_name(window: EventWindow, filters: EventFilters) -> str:
    """What the names of all of a window's objects begin with.

    It depends on the window and, where there are any, on the filters: what differently filtered exports of a
    window leave in one directory cannot be mixed up.
    """
    name = f"events_{compact(window.start)}_{compact(window.end)}"
    given = filters.to_dict()
    return f"{name}_{digest(given)[:8]}" if given else name


def manifest_name(window: EventWindow, filters: EventFilters) -> str:
    """The name of a window's manifest."""
    return f"{base_name(window, filters)}.manifest.json"


def windows_exported(directory: Directory, filters: EventFilters) -> list[EventWindow]:
    """The windows that have a manifest in a directory, for the same filters, in order of time."""
    windows = []
    for name in directory.names("events_"):
        if match := _NAME.fullmatch(name):
            window = EventWindow(match[1], match[2])  # type: ignore[arg-type]
            if name == manifest_name(window, filters):
                windows.append(window)
    return sorted(windows)


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a window.

    :param path: relative to the manifest.
    :param rows: events in it.
    :param bytes: its size.
    :param sha256: of its bytes, hexadecimal.
    :param first_timestamp: of its first event, ISO 8601 in UTC.
    :param last_timestamp: of its last event.
    """

    path: str
    rows: int
    bytes: int
    sha256: str
    first_timestamp: str
    last_timestamp: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Manifest:
    """An exported window. It holds nothing of when or by which run it was written: the same export, the same bytes.

    :param window: what was exported.
    :param filters: the filters in force.
    :param layout: format, compression, fields and file limits.
    :param rows: events in the files, each once.
    :param counted: what the API counts in the whole milliseconds that hold the window, with what it counts twice or
        does not give. Events never change and never go, so as long as it counts as many, the files are complete.
    :param repeated: how many times an event was counted again.
    :param missing: spots where the API counts events that it does not give; empty if the export is complete.
    :param files: the files, in order of time.
    """

    window: EventWindow
    filters: dict[str, Any]
    layout: dict[str, Any]
    rows: int
    counted: int
    repeated: int = 0
    missing: Sequence[dict[str, Any]] = ()
    files: Sequence[FileEntry] = ()
    provider_version: str = field(default=__version__)

    @property
    def complete(self) -> bool:
        """Whether every event that the API counts is in the files."""
        return not self.missing

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "schema_version": SCHEMA_VERSION,
            "provider_version": self.provider_version,
            "window": self.window.to_dict(),
            "filters": self.filters,
            **self.layout,
            "rows": self.rows,
            "counted": self.counted,
            "repeated": self.repeated,
            "complete": self.complete,
            "missing": list(self.missing),
            "files": [file.to_dict() for file in self.files],
        }

    def to_bytes(self) -> bytes:
        """The manifest's file."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def from_bytes(cls, content: bytes, where: str) -> Self:
        """
        :param where: its path, for the error.
        :raises PolarSourceError: it is no manifest, or one of a newer schema.
        """
        try:
            value = json.loads(content)
            if value["schema_version"] != SCHEMA_VERSION:
                raise PolarSourceError(
                    f"{where} has schema version {value['schema_version']}, this provider reads {SCHEMA_VERSION}: "
                    "upgrade it, or export the window again"
                )
            layout = ("file_format", "compression", "fields", "max_file_rows", "max_file_bytes")
            return cls(
                window=EventWindow.from_dict(value["window"]),
                filters=value["filters"],
                layout={name: value[name] for name in layout},
                rows=value["rows"],
                counted=value["counted"],
                repeated=value["repeated"],
                missing=tuple(value["missing"]),
                files=tuple(FileEntry(**file) for file in value["files"]),
                provider_version=value["provider_version"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise PolarSourceError(f"{where} is not a manifest of an export: {error!r}") from error


def read_manifest(directory: Directory, name: str) -> Manifest | None:
    """A manifest by name, None where there is none.

    :raises PolarSourceError: the object is no manifest.
    :raises PolarDestinationError: the store does not answer.
    """
    content = directory.read(name)
    return None if content is None else Manifest.from_bytes(content, directory.url_of(name))
