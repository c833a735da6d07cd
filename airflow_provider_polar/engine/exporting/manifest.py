"""What an export says of a window: the manifest, and the names that belong to a window."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any, Self

import msgspec

from airflow_provider_polar import __version__
from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.engine.exporting.contents import Contents
from airflow_provider_polar.engine.files.fields import FieldChoice
from airflow_provider_polar.engine.files.layout import FileLayout
from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.reading.reports import Discrepancy
from airflow_provider_polar.engine.window import MICROSECOND, EventWindow, aware
from airflow_provider_polar.exceptions import PolarDestinationError, PolarSourceError

SCHEMA_VERSION = 2
"""What is written. Schema 1, which is read too, lacks the ``contents``."""
_MOMENT = r"\d{8}T\d{6}(?:\.\d{6})?Z"
_NAME = re.compile(rf"events_({_MOMENT})_({_MOMENT})((?:_[0-9a-f]{{8}})?)((?:-[0-9a-f]{{8}})?)(?=\.)")

log = logging.getLogger(__name__)


class TornManifestError(PolarSourceError):
    """A manifest's bytes are not those of a manifest. Exporting its window again replaces it."""


def compact(moment: datetime) -> str:
    """A moment as it stands in names: ``20260101T000000Z``, a fraction only where there is one."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat().replace("-", "").replace(":", "") + "Z"


def _filters_tag(filters: EventFilters) -> str:
    given = filters.to_dict()
    return f"_{digest(given)[:8]}" if given else ""


def _layout_tag(layout: FileLayout) -> str:
    return "" if layout == FileLayout() else f"-{digest(layout.to_dict())[:8]}"


@dataclass(frozen=True, slots=True)
class ExportName:
    """What the names of all objects of an exported window begin with.

    It depends on the window and, wherever they are not the default, on the filters and the layout: exports that
    differ in any of them lie side by side in one directory and are never mixed up.

    :param filters_tag: ``_`` and eight hexadecimal digits; empty without filters.
    :param layout_tag: ``-`` and eight hexadecimal digits; empty for the default layout.
    """

    window: EventWindow
    filters_tag: str = ""
    layout_tag: str = ""

    @classmethod
    def of(cls, window: EventWindow, filters: EventFilters, layout: FileLayout) -> Self:
        """The name of an export."""
        return cls(window, _filters_tag(filters), _layout_tag(layout))

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """The export that an object belongs to by its name; None for an object of no export."""
        match = _NAME.match(name)
        return match and cls(EventWindow(match[1], match[2]), match[3], match[4])  # type: ignore[arg-type]

    def __str__(self) -> str:
        start, end = compact(self.window.start), compact(self.window.end)
        return f"events_{start}_{end}{self.filters_tag}{self.layout_tag}"

    @property
    def manifest(self) -> str:
        """The name of the window's manifest."""
        return f"{self}.manifest.json"

    @property
    def staging_record(self) -> str:
        """Where the record of the export lies while it is staged."""
        return f"_incomplete/{self}/staging.json"

    def is_like(self, other: ExportName) -> bool:
        """Whether another window is exported with the same filters in the same layout."""
        return (self.filters_tag, self.layout_tag) == (other.filters_tag, other.layout_tag)

    def overlaps(self, other: ExportName) -> bool:
        """Whether the windows have a moment in common."""
        return self.window.start < other.window.end and other.window.start < self.window.end

    def holds(self, other: ExportName) -> bool:
        """Whether the other window lies within this one."""
        return self.window.start <= other.window.start and other.window.end <= self.window.end


def exports_in(directory: Directory, filters: EventFilters, layout: FileLayout | None = None) -> list[ExportName]:
    """The exports that have a manifest in a directory, for the same filters, in order of time.

    :param layout: only those laid out so; None for every layout.
    """
    tag = None if layout is None else _layout_tag(layout)
    found = [
        name
        for name in manifests_in(directory)
        if name.filters_tag == _filters_tag(filters) and tag in (None, name.layout_tag)
    ]
    return sorted(found, key=lambda name: (name.window, name.layout_tag))


def manifests_in(directory: Directory) -> list[ExportName]:
    """The exports that have a manifest in a directory, whatever their filters and layout, in no order."""
    parsed = ((text, ExportName.parse(text)) for text in directory.sizes("events_"))
    return [name for text, name in parsed if name is not None and text == name.manifest]


def remove_unnamed(directory: Directory, own: ExportName, *, is_mine: Callable[[], bool] = lambda: True) -> list[str]:
    """Removes the objects of a window, and of windows within it, that no manifest names; gives their names.

    Objects of a window that is being exported stay: its staging record says so before they come.

    :param is_mine: whether ``own`` has no other export under way just now.
    """
    common = _common(compact(own.window.start), compact(own.window.end - MICROSECOND))
    listed = {name: ExportName.parse(name) for name in directory.sizes(f"events_{common}")}
    inside = {name: of for name, of in listed.items() if of and own.is_like(of) and own.holds(of)}
    # The order counts: an export that is not under way any more has written its manifest before it is read here.
    exporting = {of for of in {*inside.values()} - {own} if directory.size(of.staging_record) is not None}
    loose = {name for name, of in inside.items() if name != of.manifest and of not in exporting}
    current = read_manifest_or_none(directory, own.manifest)
    loose -= {file.path for file in current.files} if current else set()
    try:
        for other in manifests_in(directory) if loose else ():
            if other != own and own.is_like(other) and own.overlaps(other):
                manifest = read_manifest(directory, other.manifest)
                loose -= {file.path for file in manifest.files} if manifest else set()
    except TornManifestError:
        # What it named cannot be told, so nothing may go before its window is exported again.
        return []
    if not is_mine():
        return []
    for name in sorted(loose):
        directory.remove(name)
    return sorted(loose)


def _common(one: str, other: str) -> str:
    """What two texts begin with alike."""
    return "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a window.

    :param path: relative to the manifest; of a file that is not uploaded yet, its path on this machine.
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

    def reaches_into(self, window: EventWindow) -> bool:
        """Whether it may have events of a window."""
        first, last = (aware(moment, "timestamp") for moment in (self.first_timestamp, self.last_timestamp))
        return first < window.end and window.start <= last


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """An exported window. It holds nothing of when or by which run it was written: the same export, the same bytes.

    The file has its fields, in this order; those of the layout are what :meth:`FileLayout.to_dict` says.

    :param window: what was exported.
    :param filters: the filters in force.
    :param rows: events in the files, each once.
    :param counted: what the API counts in the whole milliseconds that hold the window, with what it counts twice or
        does not give. That it counts as many later is a good sign, and no proof: events can go and come.
    :param repeated: how many times an event was counted again.
    :param contents: which events are in the files; not known of an export of schema 1.
    :param complete: whether every event that the API counts is in the files; follows from ``missing``.
    :param missing: where the API counts events that it does not give; empty if the export is complete.
    :param files: the files, in order of time.
    :param pieces: of a window that was assembled of several shards, what their manifests said.
    """

    schema_version: int = SCHEMA_VERSION
    provider_version: str = __version__
    window: EventWindow
    filters: dict[str, Any]
    file_format: str
    compression: str | None
    fields: Sequence[str]
    max_file_rows: int | None
    max_file_bytes: int | None
    rows: int
    counted: int
    repeated: int
    contents: Contents | msgspec.UnsetType = msgspec.UNSET
    complete: bool = True
    missing: Sequence[Discrepancy] = ()
    files: Sequence[FileEntry]
    pieces: Sequence[Manifest] | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        object.__setattr__(self, "complete", not self.missing)

    @property
    def layout(self) -> FileLayout:
        """How the files are laid out."""
        fields = FieldChoice.of_columns(self.fields)
        return FileLayout(self.file_format, self.compression, fields, self.max_file_rows, self.max_file_bytes)

    def to_bytes(self) -> bytes:
        """The manifest's file."""
        return json.dumps(msgspec.to_builtins(self), indent=1, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def from_bytes(cls, content: bytes, where: str) -> Self:
        """The manifest that a file holds.

        :param where: its path, for the error.
        :raises TornManifestError: it is no manifest.
        :raises PolarSourceError: it is one of a newer schema.
        """
        try:
            value = json.loads(content)
            if value["schema_version"] not in range(1, SCHEMA_VERSION + 1):
                raise PolarSourceError(
                    f"{where} has schema version {value['schema_version']}, this provider reads up to "
                    f"{SCHEMA_VERSION}: upgrade it, or export the window again"
                )
            return msgspec.convert(value, cls)
        except (ValueError, KeyError, TypeError) as error:
            raise TornManifestError(
                f"{where} is not a manifest of an export ({type(error).__name__}); a new export replaces it"
            ) from error


def read_manifest(directory: Directory, name: str) -> Manifest | None:
    """A manifest by name, None where there is none.

    :raises TornManifestError: the object is no manifest.
    :raises PolarSourceError: it has a newer schema.
    :raises PolarDestinationError: the store does not respond.
    """
    content = directory.read(name)
    return None if content is None else Manifest.from_bytes(content, directory.url_of(name))


def read_manifest_or_none(directory: Directory, name: str) -> Manifest | None:
    """A manifest by name; None, and a warning, also where it is torn."""
    try:
        return read_manifest(directory, name)
    except TornManifestError as error:
        log.warning("%s", error)
        return None


def write_manifest(directory: Directory, name: str, manifest: Manifest) -> None:
    """Puts a manifest in one step, and looks whether the files that it names are there.

    :raises PolarDestinationError: they are not, because another run exports the same window; a retry helps.
    """
    directory.write(name, manifest.to_bytes())
    prefixes = {file.path.partition(".part-")[0] + "." for file in manifest.files}
    there = {path: size for prefix in sorted(prefixes) for path, size in directory.sizes(prefix).items()}
    for file in manifest.files:
        if there.get(file.path) != file.bytes:
            raise PolarDestinationError(
                f"{directory.url_of(file.path)} is gone or cut short just after it was written: another run exports "
                "the same window. A retry exports it again"
            )
