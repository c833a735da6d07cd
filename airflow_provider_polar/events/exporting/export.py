"""Exports one window: slices read side by side, files uploaded whole, the count proved, the manifest last."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, Literal, Protocol

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.api.rows import EventRow, RowPage
from airflow_provider_polar.events.exporting.manifest import (
    FileEntry,
    Manifest,
    base_name,
    digest,
    manifest_name,
    read_manifest,
)
from airflow_provider_polar.events.exporting.meter import Log, Meter
from airflow_provider_polar.events.exporting.parts import PartWriter
from airflow_provider_polar.events.exporting.progress import Progress, Slice
from airflow_provider_polar.events.exporting.storage import Directory
from airflow_provider_polar.events.exporting.writers import FileLayout
from airflow_provider_polar.events.reading.proof import ARRIVING, Discrepancy, SliceReport
from airflow_provider_polar.events.reading.slices import Plan
from airflow_provider_polar.events.window import EventWindow
from airflow_provider_polar.exceptions import PolarIncompleteError, PolarSourceError

OnIncomplete = Literal["fail", "warn"]
TARGET_ROWS = 10_000
"""Events of a slice, about: what is read again at most, per slice in flight, after a kill."""
_LEAST_ROWS = 10_000
_SIDE_BY_SIDE = 4
_ROUNDS = 3

log = logging.getLogger(__name__)


class Reader(Protocol):
    """What an export needs of :class:`~airflow_provider_polar.events.reading.driver.CompleteReader`."""

    def plan(self, window: EventWindow, *, target_rows: int) -> Plan: ...
    def read(
        self, window: EventWindow, sink: Callable[[list[EventRow], SliceReport], None], *, page: RowPage | None = None
    ) -> SliceReport: ...
    def verify(self, reports: Sequence[SliceReport]) -> list[EventWindow]: ...


class _Stopped(Exception):
    """Another slice has failed."""


class WindowExport:
    """The export of one window to a directory.

    :param reader: reads with ``filters``.
    :param directory: the destination.
    :param filters: what is recorded, and named by.
    :param server: whose events these are, e.g. its base URL; progress is never taken up for another one.
    :param on_incomplete: ``fail`` raises, ``warn`` publishes with a manifest that says what is missing.
    :param max_concurrency: slices read at once.
    """

    def __init__(
        self,
        reader: Reader,
        directory: Directory,
        window: EventWindow,
        filters: EventFilters,
        layout: FileLayout,
        *,
        server: str = "",
        on_incomplete: OnIncomplete = "fail",
        max_concurrency: int = 4,
        target_rows: int = TARGET_ROWS,
        logger: Log = log,
    ) -> None:
        self.reader = reader
        self.directory = directory
        self.window = window
        self.filters = filters
        self.layout = layout
        self.on_incomplete = on_incomplete
        self.max_concurrency = max_concurrency
        self.target_rows = target_rows
        self.manifest_name = manifest_name(window, filters)
        self._log = logger
        self._base = base_name(window, filters)
        key = digest([server, window.to_dict(), filters.to_dict(), layout.to_dict(), target_rows])
        self._progress = Progress(directory, self._base, key)
        self._stop = threading.Event()

    def run(self) -> Manifest:
        """Exports the window, or goes on where an earlier attempt ended.

        :raises PolarDestinationError: the store refuses something; a retry goes on from the finished slices.
        :raises PolarIncompleteError: the API counts events that it does not give, or they keep arriving.
        :raises PolarApiError: Polar's error, after the client's retries.
        """
        self._progress.open()
        if self._progress.slices is None:
            self._progress.plan(self._plan())
        slices = self._progress.slices or []
        done = sum(part.rows for part in slices if part.finished)
        if self._progress.resumed:
            finished = sum(part.finished for part in slices)
            self._log.info(
                "%s: going on after %s of %s slices, %s events", self.window, finished, len(slices), f"{done:,}"
            )
        total = done + sum(part.expected for part in slices if not part.finished)
        self._meter = Meter(self._log, f"export of {self.window}", total=total, done=done)
        self._read([part for part in slices if not part.finished])
        arriving = self._prove(slices)
        manifest = self._manifest(slices, arriving)
        if manifest.missing:
            self._report_missing(manifest)
        self._publish(manifest)
        return manifest

    def _plan(self) -> list[tuple[EventWindow, int]]:
        """Slices of about the target's size; of smaller windows as many as can be read side by side, as long as
        that costs few requests. They depend on the events alone, and so do the files."""
        slices = self.reader.plan(self.window, target_rows=self.target_rows).slices
        total = sum(expected for _, expected in slices)
        side_by_side = min(_SIDE_BY_SIDE, total // _LEAST_ROWS)
        if len(slices) >= side_by_side:
            return slices
        return self.reader.plan(self.window, target_rows=-(-total // side_by_side)).slices

    def _read(self, slices: Sequence[Slice]) -> None:
        self._stop.clear()
        with ThreadPoolExecutor(self.max_concurrency, thread_name_prefix="polar-export") as pool:
            futures = [pool.submit(self._read_slice, part) for part in slices]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                self._stop.set()
                pool.shutdown(cancel_futures=True)
                raise

    def _read_slice(self, part: Slice) -> None:
        with tempfile.TemporaryDirectory(prefix="polar-export-") as folder, PartWriter(folder, self.layout) as writer:

            def sink(rows: list[EventRow], _: SliceReport) -> None:
                if self._stop.is_set():
                    raise _Stopped
                writer.write(rows)
                self._meter.add(len(rows))

            report = self.reader.read(part.window, sink)
            self._progress.finish(part, report, writer.finish(), self.layout.extension)

    def _prove(self, slices: Sequence[Slice]) -> list[Discrepancy]:
        """Counts the window again; the slices that changed meanwhile are read again, a few times."""
        if self._is_one_answer(slices):
            return []
        for attempt in range(_ROUNDS + 1):
            changed = self.reader.verify([part.report for part in slices if part.report is not None])
            if not changed:
                return []
            if attempt < _ROUNDS:
                self._log.info("%s: events arrived meanwhile; reading %s slices again", self.window, len(changed))
                self._read([part for part in slices if part.window in changed])
        return [Discrepancy(span.start, span.end, 0, 0, ARRIVING) for span in changed]

    def _is_one_answer(self, slices: Sequence[Slice]) -> bool:
        """Whether all of the window came in one response of just now, whose count is then its proof."""
        report = slices[0].report
        return len(slices) == 1 and not self._progress.resumed and report is not None and report.self_proved

    def _manifest(self, slices: Sequence[Slice], arriving: Sequence[Discrepancy]) -> Manifest:
        files = [
            FileEntry(
                f"{self._base}.part-{number:04d}{self.layout.extension}",
                file.rows,
                file.bytes,
                file.sha256,
                file.first_timestamp,
                file.last_timestamp,
            )
            for number, file in enumerate(self._progress.files(), 1)
        ]
        reports = [part.report for part in slices if part.report is not None]
        missing = [spot for report in reports for spot in report.missing] + [*arriving]
        return Manifest(
            window=self.window,
            filters=self.filters.to_dict(),
            layout=self.layout.to_dict(),
            rows=sum(report.rows for report in reports),
            counted=reports[0].before + sum(report.inside for report in reports) + reports[-1].after,
            repeated=sum(report.repeated for report in reports),
            missing=[spot.to_dict() for spot in missing],
            files=files,
        )

    def _report_missing(self, manifest: Manifest) -> None:
        spots = "; ".join(
            f"[{spot['start']}, {spot['end']}): {spot['counted']} counted, {spot['given']} given ({spot['reason']})"
            if spot["counted"]
            else f"[{spot['start']}, {spot['end']}): {spot['reason']}"
            for spot in manifest.missing[:10]
        )
        more = f"; and {len(manifest.missing) - 10} more" if len(manifest.missing) > 10 else ""
        message = (
            f"the window {self.window} could not be proved complete: Polar counts {manifest.counted} events and gave "
            f"{manifest.rows} of them: {spots}{more}"
        )
        if self.on_incomplete == "fail":
            raise PolarIncompleteError(
                f"{message}. Nothing is published; a retry reads only these slices again. Rows that stay missing are "
                "for Polar's support, and on_incomplete='warn' publishes without them",
                missing=manifest.missing,
            )
        self._log.warning("%s", message)

    def _publish(self, manifest: Manifest) -> None:
        """The files, then the manifest, then away with what it does not name.

        A manifest never names files that are not what it says: where others are about to be replaced, it goes first.
        """
        content = manifest.to_bytes()
        earlier = self._earlier_files()
        if earlier not in (None, [file.to_dict() for file in manifest.files]):
            self.directory.remove(self.manifest_name)
        staged = self._progress.files()
        self._progress.publish([(file, target.path) for file, target in zip(staged, manifest.files, strict=True)])
        self.directory.write(self.manifest_name, content)
        named = {file.path for file in manifest.files} | {self.manifest_name}
        # An earlier manifest may also name files of other windows: the pieces that it was put together from.
        for name in sorted({*self.directory.names(f"{self._base}."), *(file["path"] for file in earlier or ())}):
            if name not in named and not self._is_of_another_export(name):
                self._log.info("removing %s, left by an earlier export of the window", self.directory.url_of(name))
                self.directory.remove(name)
        self._progress.remove()

    def _is_of_another_export(self, name: str) -> bool:
        owner = name.partition(".part-")[0]
        return owner != self._base and self.directory.size(f"{owner}.manifest.json") is not None

    def _earlier_files(self) -> list[dict[str, Any]] | None:
        try:
            earlier = read_manifest(self.directory, self.manifest_name)
        except PolarSourceError:
            return []
        return None if earlier is None else [file.to_dict() for file in earlier.files]
