"""How far an export of a window has come, kept beside the data, so that any worker can go on.

While a window is exported, its finished files lie in ``_incomplete/<window>/``, named by a ``manifest.json`` there
that says ``"complete": false``. A file is entered in it before it is uploaded: whenever a task is killed, no object
is left that this manifest does not name. Publication moves the files to their names in the directory itself, and
the window's own manifest after them; then the record goes. (Names that begin with ``_`` are skipped by most
tools that read whole directories.)
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from airflow_provider_polar.events.exporting.manifest import SCHEMA_VERSION, FileEntry, compact
from airflow_provider_polar.events.exporting.parts import Part
from airflow_provider_polar.events.exporting.storage import Directory
from airflow_provider_polar.events.reading.proof import SliceReport
from airflow_provider_polar.events.window import EventWindow
from airflow_provider_polar.exceptions import PolarDestinationError

_REPORT = ("rows", "counted", "repeated", "before", "after", "arrived", "requests")


@dataclass(slots=True)
class Slice:
    """A slice of a window, the unit of resumption.

    :param window: its time.
    :param expected: events that the API counted when the slice was planned.
    :param report: how it was read; None until it has been.
    :param files: its files in order, by their names in the record's directory.
    """

    window: EventWindow
    expected: int
    report: SliceReport | None = None
    files: list[FileEntry] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        """Whether it has been read, and proved: what could not be proved is read again by the next attempt."""
        return self.report is not None and self.report.proved

    @property
    def rows(self) -> int:
        """Events in its files."""
        return 0 if self.report is None else self.report.rows

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        report = self.report if self.finished else None
        return {
            **self.window.to_dict(),
            "expected": self.expected,
            "report": None if report is None else {name: getattr(report, name) for name in _REPORT},
            "files": [file.to_dict() for file in self.files],
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Self:
        """The reverse of :meth:`to_dict`; a slice that was not proved comes back as one that was not read."""
        window = EventWindow.from_dict(value)
        report = None if value["report"] is None else SliceReport(window, **value["report"])
        return cls(window, value["expected"], report, [FileEntry(**file) for file in value["files"]])


class Progress:
    """The record of one window's export. Thread-safe.

    :param directory: the destination.
    :param base: what the window's names begin with.
    :param key: digest of everything that decides what the files hold; a record with another one is put aside.
    """

    def __init__(self, directory: Directory, base: str, key: str) -> None:
        self.slices: list[Slice] | None = None
        self.resumed = False
        self._directory = directory
        self._folder = f"_incomplete/{base}"
        self._base = base
        self._key = key
        self._placed: dict[str, str] = {}
        self._going: list[FileEntry] = []
        self._lock = threading.Lock()

    @property
    def _record(self) -> str:
        return f"{self._folder}/manifest.json"

    def open(self) -> None:
        """Takes up what an earlier attempt left, or starts; either way the record is written, which shows that
        the destination can be.

        :raises PolarDestinationError: it cannot.
        """
        self.slices, self._placed = self._left_behind()
        if self.slices is None:
            self._remove_staged()
        for part in self.slices or ():
            if not (part.finished and all(self._is_there(file) for file in part.files)):
                self._going += part.files
                part.files, part.report = [], None
        self._save()
        self._remove_going()
        self.resumed = any(part.finished for part in self.slices or ())

    def _left_behind(self) -> tuple[list[Slice] | None, dict[str, str]]:
        content = self._directory.read(self._record)
        try:
            value = json.loads(content or b"{}")
            if value.get("key") != self._key or value.get("slices") is None:
                return None, {}
            return [Slice.from_dict(part) for part in value["slices"]], dict(value["published_as"])
        except (ValueError, KeyError, TypeError, AttributeError):
            # A disk can keep half a record of a machine that lost its power.
            return None, {}

    def _is_there(self, file: FileEntry) -> bool:
        if self._directory.size(f"{self._folder}/{file.path}") == file.bytes:
            return True
        published = self._placed.get(file.path)
        content = self._directory.read(published) if published else None
        return content is not None and hashlib.sha256(content).hexdigest() == file.sha256

    def plan(self, slices: Sequence[tuple[EventWindow, int]]) -> None:
        """Enters the slices that the window is read in."""
        self.slices = [Slice(window, expected) for window, expected in slices]
        self._save()

    def finish(self, part: Slice, report: SliceReport, files: Sequence[Part], extension: str) -> None:
        """Enters a slice's files, then uploads them."""
        entries = [
            FileEntry(
                f"{compact(part.window.start)}-{number:04d}-{file.sha256[:16]}{extension}",
                file.rows,
                file.bytes,
                file.sha256,
                file.first_timestamp,
                file.last_timestamp,
            )
            for number, file in enumerate(files, 1)
        ]
        with self._lock:
            self._going += [old for old in part.files if old.path not in {entry.path for entry in entries}]
            part.files, part.report = entries, report
            self._save()
        for entry, file in zip(entries, files, strict=True):
            self._directory.upload(file.local, f"{self._folder}/{entry.path}")
        with self._lock:
            self._remove_going()

    def files(self) -> list[FileEntry]:
        """All files in order of time, by their names in the record's directory."""
        return [file for part in self.slices or () for file in part.files]

    def publish(self, targets: Sequence[tuple[FileEntry, str]]) -> None:
        """Gives each file its name in the destination.

        :raises PolarDestinationError: a file is gone, as when another run exports the same window.
        """
        staged = {file.path: self._directory.size(f"{self._folder}/{file.path}") is not None for file, _ in targets}
        for file, name in targets:
            published = self._placed.get(file.path)
            if staged[file.path] or published == name:
                continue
            if published is None:
                gone = self._directory.url_of(f"{self._folder}/{file.path}")
                raise PolarDestinationError(f"{gone} is gone: does another run export the same window?")
            # An earlier attempt was killed while it published, and the files are numbered otherwise now: what has
            # the wrong name goes back before any other file takes that name.
            self._directory.move(published, f"{self._folder}/{file.path}", file.bytes)
            staged[file.path] = True
        with self._lock:
            self._placed = {file.path: name for file, name in targets}
            self._save()
        for file, name in targets:
            if staged[file.path]:
                self._directory.move(f"{self._folder}/{file.path}", name, file.bytes)

    def remove(self) -> None:
        """Removes the record and whatever else is in its directory."""
        self._remove_staged()
        self._directory.remove(self._record)
        self._directory.remove_empty(self._folder)
        self._directory.remove_empty("_incomplete")

    def _remove_going(self) -> None:
        for file in self._going:
            self._directory.remove(f"{self._folder}/{file.path}")
        self._going.clear()

    def _remove_staged(self) -> None:
        for name in self._directory.names(f"{self._folder}/"):
            if name != self._record:
                self._directory.remove(name)

    def _save(self) -> None:
        slices = self.slices
        record = {
            "schema_version": SCHEMA_VERSION,
            "complete": False,
            "of": self._base,
            "key": self._key,
            "files": [file.to_dict() for file in (*self.files(), *self._going)],
            "published_as": self._placed,
            "slices": None if slices is None else [part.to_dict() for part in slices],
        }
        self._directory.write(self._record, json.dumps(record, indent=1).encode())
