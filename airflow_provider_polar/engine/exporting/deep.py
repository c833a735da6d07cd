"""Whether an export's files hold what Polar lists: the window is read again, and compared event by event."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec

from airflow_provider_polar.api.rows import EventRow
from airflow_provider_polar.engine.exporting.comparison import Manifests
from airflow_provider_polar.engine.exporting.contents import Tally
from airflow_provider_polar.engine.exporting.manifest import Manifest
from airflow_provider_polar.engine.files.fields import EVENT_FIELDS
from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.ingesting.journal import temporary_database
from airflow_provider_polar.engine.loading.manifests import ExportedWindow
from airflow_provider_polar.engine.progress_log import ProgressLog
from airflow_provider_polar.engine.window import EventWindow, moment_text
from airflow_provider_polar.exceptions import PolarLocalDiskError, PolarSourceError

if TYPE_CHECKING:
    from airflow_provider_polar.engine.reading.reader import CompleteReader
    from airflow_provider_polar.engine.reading.reports import SliceReport

CHANGING = ("customer", "label", "child_count")
"""Fields that may have another value at any time although the event is the same: they are not compared."""
_COMPARED = tuple(name for name in EVENT_FIELDS if name not in ("id", *CHANGING))
_DIGEST = 8
_LISTED, _EXPORTED = 0, 1
_KEPT_IDS = 1000
"""Ids that are kept of all differences: they are to fit into a task's result."""
_TOLD_IDS = 10
"""Ids of a kind that the log tells of a window."""

Kind = Literal["gone", "new", "different"]
"""Of an event: the export has it and Polar lists it no more; the reverse; a field has another value."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Difference:
    """How the files of an export differ from what Polar lists now. Ids and names of fields, no content.

    :param window: what was exported.
    :param manifest: the name of its manifest.
    :param counted: what Polar counts now, where that is not what the manifest says; it may count events twice.
    :param not_given: events that Polar counts now and does not give.
    :param events: how many events differ, by kind; empty where the files have no ids and only their digest tells.
    :param ids: those that are kept, by kind.
    :param fields: in how many events each field has another value.
    :param damaged: what is wrong with the files, if they are not what the manifest says.
    """

    window: EventWindow
    manifest: str
    counted: int | None = None
    not_given: int = 0
    events: Counter[Kind] = field(default_factory=Counter)
    ids: dict[Kind, list[str]] = field(default_factory=dict)
    fields: Counter[str] = field(default_factory=Counter)
    damaged: str | None = None

    def add(self, kind: Kind, event_id: str, *, keep: bool) -> None:
        """Counts one event that differs, and keeps its id or not."""
        self.events[kind] += 1
        if keep:
            self.ids.setdefault(kind, []).append(event_id)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        kinds = {kind: self.events[kind] for kind in get_args(Kind)}
        return {
            **self.window.to_dict(),
            "manifest": self.manifest,
            "counted": self.counted,
            "not_given": self.not_given,
            "damaged": self.damaged,
            **kinds,
            "fields": dict(self.fields),
            "ids": self.ids,
        }

    def __str__(self) -> str:
        told = [f"{number:,} {kind}" for kind in get_args(Kind) if (number := self.events[kind])]
        if self.fields:
            told.append(f"other values of {', '.join(sorted(self.fields))}")
        if self.counted is not None:
            told.append(f"{self.counted:,} counted now")
        if self.not_given:
            told.append(f"{self.not_given:,} counted and not given now")
        if self.damaged:
            told.append(self.damaged)
        return f"{self.window}: {', '.join(told) or 'other events, as the digest of their ids says'}"


class DeepComparison:
    """Reads windows again and compares the events with those of their exports.

    A window is read in one pass, like a slice of an export: at the request budgets that Polar gives, reading several
    slices at once would be no faster. Its ids and a digest of each field pass through a temporary database on the
    worker's disk (about 250 bytes an event), so memory stays flat.

    :param content: compare the fields of events, too, and not only the ids; where the ids have the manifest's digest,
        files are not even read otherwise.
    :param report: is told of each event that differs: ``start``, ``end``, ``manifest``, ``id``, ``difference`` and
        ``fields``.
    :ivar differences: what was found, a window and layout each.
    :ivar windows: how many were compared.
    """

    def __init__(
        self,
        reader: CompleteReader,
        directory: Directory,
        *,
        content: bool = True,
        report: Callable[[Mapping[str, Any]], None] = lambda _: None,
    ) -> None:
        self.reader, self.directory, self.content = reader, directory, content
        self.differences: list[Difference] = []
        self.windows = self._ids = 0
        self._report = report

    def is_equal(self, window: EventWindow, manifests: Manifests) -> bool:
        """Compares one window with each of its exports.

        :raises PolarDestinationError: the store does not respond; a retry may help.
        :raises PolarLocalDiskError: the worker's disk is full; a retry helps once there is room.
        :raises PolarApiError: Polar's error, after the client's retries.
        """
        self.windows += 1
        try:
            with closing(temporary_database()) as database:
                differing = list(self._differences(database, window, manifests))
        except sqlite3.OperationalError as error:
            raise PolarLocalDiskError(
                f"the worker's own disk refuses the temporary database of a deep comparison of {window}: {error}. Make "
                "room there, or set TMPDIR to another disk; a retry compares the windows again"
            ) from error
        for difference in differing:
            log.warning("%s", difference)
            for kind, ids in difference.ids.items():
                log.warning("%s of these: %s", kind, ", ".join(ids[:_TOLD_IDS]))
        self.differences += differing
        return not differing

    def _differences(
        self, database: sqlite3.Connection, window: EventWindow, manifests: Manifests
    ) -> Iterator[Difference]:
        database.execute("CREATE TABLE events (id TEXT, side INTEGER, fields BLOB)")
        tally = Tally()
        total = max(manifest.rows for manifest in manifests.values())
        progress = ProgressLog(log, f"reading {window} again", total=total)

        def sink(rows: list[EventRow], _: SliceReport) -> None:
            for row in rows:
                tally.add(row)
            self._enter(database, _LISTED, ((row.id, row.get) for row in rows))
            progress.add(len(rows))

        report = self.reader.read(window, sink)
        for name, manifest in manifests.items():
            found = self._compare(database, ExportedWindow(manifest, "", self.directory, name), tally, report)
            if found is not None:
                yield found

    def _enter(
        self, database: sqlite3.Connection, side: int, events: Iterator[tuple[str, Callable[[str], Any]]]
    ) -> None:
        fields = _digests if self.content else lambda _: b""
        database.executemany("INSERT INTO events VALUES (?, ?, ?)", ((one, side, fields(get)) for one, get in events))

    def _compare(
        self, database: sqlite3.Connection, export: ExportedWindow, tally: Tally, report: SliceReport
    ) -> Difference | None:
        manifest = export.manifest
        found = Difference(report.window, export.name, not_given=report.lost)
        if report.counted != manifest.counted:
            found.counted = report.counted
        has_ids = "id" in manifest.fields
        differs = tally.contents != manifest.contents
        if has_ids and (self.content or differs):
            try:
                self._enter(database, _EXPORTED, ((event["id"], event.get) for event in export.events()))
            except PolarSourceError as error:
                found.damaged = str(error)
            else:
                self._name(database, found, manifest)
            database.execute("DELETE FROM events WHERE side = ?", (_EXPORTED,))
            differs = bool(found.damaged or found.events)
        elif not has_ids and not manifest.contents:
            log.warning("%s has neither ids nor a digest of them: only its count is compared", export.url)
            differs = False
        return found if differs or found.counted is not None or found.not_given else None

    def _name(self, database: sqlite3.Connection, found: Difference, manifest: Manifest) -> None:
        """Names the events that differ."""
        cursor = database.execute(
            "SELECT id, min(side), max(side), min(fields), max(fields) FROM events GROUP BY id "
            "HAVING min(side) = max(side) OR min(fields) <> max(fields) ORDER BY id"
        )
        for event_id, first, last, one, other in cursor:
            fields = [name for name in _differing(one, other) if name in manifest.fields]
            kind: Kind = "new" if last == _LISTED else "gone" if first == _EXPORTED else "different"
            if kind == "different" and not fields:
                continue
            found.add(kind, event_id, keep=self._ids < _KEPT_IDS)
            self._ids += 1
            found.fields.update(fields)
            where = {**found.window.to_dict(), "manifest": found.manifest}
            self._report({**where, "id": event_id, "difference": kind, "fields": fields})


def _digests(get: Callable[[str], Any]) -> bytes:
    """A digest of each compared field, one after the other."""
    return b"".join(hashlib.blake2b(_canonical(name, get(name)), digest_size=_DIGEST).digest() for name in _COMPARED)


def _differing(one: bytes, other: bytes) -> Iterator[str]:
    for number, name in enumerate(_COMPARED if one else ()):
        place = slice(number * _DIGEST, (number + 1) * _DIGEST)
        if one[place] != other[place]:
            yield name


def _canonical(name: str, value: Any) -> bytes:
    """A field's value in one form, whichever format it comes from."""
    if name == "timestamp" and value:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        value = moment_text(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment)
    # No table tells an empty text, or an empty object, from no value.
    return msgspec.json.encode(value or None, order="deterministic")
