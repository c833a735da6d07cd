"""What an export has read so far, kept beside the data, so that any worker can go on.

While a window is exported, its finished files lie in ``_incomplete/<window>/``, and of the slices that are being read
the rows that are proved so far, in segments. A ``staging.json`` there names them all: an object is entered in it
before it is uploaded, so whenever a task is killed, no object is left that this record or a manifest does not name.
Publication gives the files their names in the directory itself, then writes the window's manifest; then all of
this goes. (Names that begin with ``_`` are skipped by most tools that read whole directories.)
"""

from __future__ import annotations

import hashlib
import logging
import threading
import uuid
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from typing import Any, TypeVar

import msgspec

from airflow_provider_polar.api.rows import EventRow
from airflow_provider_polar.engine.exporting.contents import Contents
from airflow_provider_polar.engine.exporting.manifest import ExportName, FileEntry, compact, remove_unnamed
from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.reading.reports import SliceReport
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import PolarDestinationError

RECORD_VERSION = 4
T = TypeVar("T")
_ROWS = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows of a slice that is being read, up to a moment before which all is proved.

    :param path: its name in the staging directory.
    :param sha256: of its bytes, hexadecimal.
    :param report: of the stretch that is being read, up to the segment's end.
    """

    path: str
    sha256: str
    report: SliceReport


@dataclass(slots=True)
class Slice:
    """A slice of a window, the unit of resumption.

    :param window: its time.
    :param expected: events that the API counted when the slice was planned.
    :param reports: how it was read; several where a reading was interrupted, of adjacent stretches of the slice.
        Empty until it has been read.
    :param contents: the events in its files.
    :param files: its files in order, by their names in the staging directory.
    :param segments: what is staged of it while it is being read.
    """

    window: EventWindow
    expected: int
    reports: list[SliceReport] = field(default_factory=list)
    contents: Contents | None = None
    files: list[FileEntry] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Refuses what contradicts itself.

        :raises ValueError: the reports or segments do not meet, or the files do not hold the rows.
        """
        if self.finished:
            _check_adjacent([report.window for report in self.reports], self.window)
            if sum(file.rows for file in self.files) != self.rows:
                raise ValueError(f"the files of {self.window} do not hold its rows")
        if self.segments:
            _check_adjacent([report.window for report in self.stretches], EventWindow(self.window.start, self.up_to))

    @property
    def finished(self) -> bool:
        """Whether it has been read, and proved: what could not be proved is read again by the next attempt."""
        return bool(self.reports) and all(report.proved for report in self.reports)

    @property
    def rows(self) -> int:
        """Events staged of it."""
        return sum(report.rows for report in (self.reports if self.finished else self.stretches))

    @property
    def stretches(self) -> list[SliceReport]:
        """The reports of the stretches that the segments hold, adjacent from the slice's start."""
        # The last report of a stretch tells of all of it.
        return list({segment.report.window.start: segment.report for segment in self.segments}.values())

    @property
    def up_to(self) -> datetime:
        """The moment before which everything is staged."""
        return self.segments[-1].report.window.end if self.segments else self.window.start


def _check_adjacent(windows: Sequence[EventWindow], whole: EventWindow) -> None:
    """Checks that windows make up the whole.

    :raises ValueError: they do not.
    """
    if not windows or (windows[0].start, windows[-1].end) != (whole.start, whole.end):
        raise ValueError(f"{whole} is not covered")
    for before, after in pairwise(windows):
        if before.end != after.start:
            raise ValueError(f"{before} and {after} do not meet")


def remove_staging(directory: Directory, name: ExportName) -> None:
    """Removes all that is staged of an export, the record last."""
    record = name.staging_record
    _remove_staged(directory, record)
    directory.remove(record)
    directory.remove_empty(record.rpartition("/")[0])
    directory.remove_empty(record.partition("/")[0])


def _remove_staged(directory: Directory, record: str) -> None:
    for name in directory.sizes(record.rpartition("/")[0] + "/"):
        if name != record:
            directory.remove(name)


class Staging:
    """What is staged of one window's export. Thread-safe.

    :param directory: the destination.
    :param key: digest of everything that decides what the files hold; a record with another one is put aside.
    """

    def __init__(self, directory: Directory, name: ExportName, key: str) -> None:
        self.slices: list[Slice] | None = None
        self.resumed = False
        self._directory = directory
        self._name = name
        self._record = name.staging_record
        self._folder = self._record.rpartition("/")[0]
        self._key = key
        self._owner = uuid.uuid4().hex
        self._published: list[str] = []
        self._going: list[str] = []
        self._lock = threading.Lock()

    def open(self) -> None:
        """Takes up what an earlier attempt left, or starts.

        Either way the record is written, which shows that the destination can be.

        :raises PolarDestinationError: it cannot.
        """
        try:
            self.slices = self._left_behind()
        except PolarDestinationError as error:
            log.warning("%s: what an earlier attempt staged is not taken up", error)
        if self.slices is None:
            # What the record of other parameters names goes before that record does.
            _remove_staged(self._directory, self._record)
        self.resumed = any(slice_.finished or slice_.segments for slice_ in self.slices or ())
        self._save()

    def _left_behind(self) -> list[Slice] | None:
        record = self._read_record()
        self._published = record.get("published", [])
        if record.get("key") != self._key or record.get("slices") is None:
            return None
        try:
            slices = msgspec.convert(record["slices"], list[Slice])
            _check_adjacent([slice_.window for slice_ in slices], self._name.window)
        except ValueError:
            return None
        return slices

    def _read_record(self) -> dict[str, Any]:
        """What the record says; nothing where a machine that lost its power has left half of it."""
        try:
            record = msgspec.json.decode(self._directory.read(self._record) or b"")
        except ValueError:
            return {}
        return record if isinstance(record, dict) else {}

    def plan(self, slices: Sequence[tuple[EventWindow, int]]) -> None:
        """Enters the slices that the window is read in."""
        self.slices = [Slice(window, expected) for window, expected in slices]
        self._save()

    def is_intact(self, slice_: Slice) -> bool:
        """Whether a slice is finished and its staged files are, byte for byte, what the record says."""
        if not slice_.finished:
            return False
        for file in slice_.files:
            if self._given(self._directory.sha256, file.path) != file.sha256:
                log.warning("%s is gone or damaged: %s is read again", self._url(file.path), slice_.window)
                return False
        return True

    def _given(self, read: Callable[[str], T | None], path: str) -> T | None:
        """What the store gives of a staged object; None, and a warning, where it fails."""
        try:
            return read(f"{self._folder}/{path}")
        except PolarDestinationError as error:
            log.warning("%s", error)
            return None

    def _url(self, path: str) -> str:
        return self._directory.url_of(f"{self._folder}/{path}")

    def replay(self, slice_: Slice) -> list[list[EventRow]]:
        """The rows of a slice's segments, as far as they are undamaged; what follows them is dropped."""
        whole: list[list[EventRow]] = []
        for segment in slice_.segments:
            content = self._given(self._directory.read, segment.path) or b""
            if hashlib.sha256(content).hexdigest() != segment.sha256:
                log.warning("%s is gone or damaged: its events are read again", self._url(segment.path))
                break
            whole.append([EventRow(values) for values in _ROWS.decode(zlib.decompress(content))])
        with self._lock:
            self._going += [segment.path for segment in slice_.segments[len(whole) :]]
            slice_.segments = slice_.segments[: len(whole)]
        return whole

    def reset(self, slice_: Slice, *, keep_segments: bool = False) -> None:
        """Forgets what is staged of a slice that is to be read again: from its start, or from its last segment on."""
        with self._lock:
            self._going += [file.path for file in slice_.files]
            slice_.reports, slice_.contents, slice_.files = [], None, []
            if not keep_segments:
                self._going += [segment.path for segment in slice_.segments]
                slice_.segments = []

    def add_segment(self, slice_: Slice, values: list[dict[str, msgspec.Raw]], report: SliceReport) -> None:
        """Enters a segment and uploads it.

        :param values: the fields kept of its events, in order.
        :param report: of the stretch so far; proved.
        """
        content = zlib.compress(msgspec.json.encode(values), 1)
        sha256 = hashlib.sha256(content).hexdigest()
        path = f"{compact(slice_.window.start)}-segment-{len(slice_.segments) + 1:04d}-{sha256[:16]}.z"
        with self._lock:
            self._going = [old for old in self._going if old != path]
            slice_.segments = [*slice_.segments, Segment(path, sha256, report)]
            self._save()
        self._directory.write(f"{self._folder}/{path}", content)

    def finish(
        self,
        slice_: Slice,
        reports: list[SliceReport],
        contents: Contents,
        files: Sequence[FileEntry],
        extension: str,
    ) -> None:
        """Enters a slice's files, then uploads them; its segments go."""
        entries = [
            replace(file, path=f"{compact(slice_.window.start)}-{number:04d}-{file.sha256[:16]}{extension}")
            for number, file in enumerate(files, 1)
        ]
        paths = {entry.path for entry in entries}
        with self._lock:
            self._going = [old for old in (*self._going, *(file.path for file in slice_.files)) if old not in paths]
            slice_.files, slice_.contents, slice_.reports = entries, contents, reports
            self._save()
        for entry, file in zip(entries, files, strict=True):
            self._directory.upload(file.path, f"{self._folder}/{entry.path}")
        with self._lock:
            self._going += [segment.path for segment in slice_.segments]
            slice_.segments = []
            for path in self._going:
                self._directory.remove(f"{self._folder}/{path}")
            self._going.clear()

    def files(self) -> list[FileEntry]:
        """All files in order of time, by their names in the staging directory."""
        return [file for slice_ in self.slices or () for file in slice_.files]

    def publish(self, names: Sequence[str]) -> None:
        """Gives each file its name in the destination; the staged one stays until :meth:`close`.

        :raises PolarDestinationError: a file is gone, as when another run exports the same window.
        """
        with self._lock:
            self._published = sorted({*self._published, *names})
            self._save()
        for file, name in zip(self.files(), names, strict=True):
            self._directory.copy(f"{self._folder}/{file.path}", name, file.bytes)

    def require_own(self) -> None:
        """Checks that the staging is still this run's.

        :raises PolarDestinationError: another run exports the same window; a retry helps.
        """
        if not self._is_own():
            raise PolarDestinationError(
                f"another run exports {self._name.window} to {self._directory.url} at this moment. A retry takes up "
                "what is staged"
            )

    def _is_own(self) -> bool:
        return self._read_record().get("owner") == self._owner

    def close(self) -> None:
        """Removes what is staged, the record last, and of the window's objects those that no manifest names."""
        if not self._is_own():
            return
        for name in remove_unnamed(self._directory, self._name, is_mine=self._is_own):
            log.info("%s of an earlier export was removed", self._directory.url_of(name))
        remove_staging(self._directory, self._name)

    def _save(self) -> None:
        record = {
            "of": str(self._name),
            "key": self._key,
            "owner": self._owner,
            "published": self._published,
            "going": self._going,
            "slices": self.slices,
        }
        self._directory.write(self._record, msgspec.json.encode(record))
