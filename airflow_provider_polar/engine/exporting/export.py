"""Exports one window: slices read side by side, files uploaded whole, the count proved, the manifest last."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.api.rows import EventRow, RowPage
from airflow_provider_polar.engine.exporting.contents import Contents
from airflow_provider_polar.engine.exporting.local_files import LocalFileWriter, using_local_disk
from airflow_provider_polar.engine.exporting.manifest import ExportName, Manifest, digest, write_manifest
from airflow_provider_polar.engine.exporting.staging import RECORD_VERSION, Slice, Staging
from airflow_provider_polar.engine.files.fields import FieldChoice
from airflow_provider_polar.engine.files.layout import FileLayout
from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.progress_log import ProgressLog
from airflow_provider_polar.engine.reading.reports import ARRIVING, Discrepancy, SliceReport, counted_in
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import PolarDestinationError, PolarIncompleteError
from airflow_provider_polar.wording import number_of

if TYPE_CHECKING:
    from airflow_provider_polar.engine.reading.reader import CompleteReader

OnIncomplete = Literal["fail", "warn"]
TARGET_ROWS = 10_000
"""Events of a slice, about."""
SEGMENT_ROWS = 2_000
"""Events, about, that are read again at most after a kill, for each slice that was being read."""
SIDE_BY_SIDE = 4
"""Slices that are read at once."""
_ROUNDS = 3
_NEEDED = ("id", "timestamp", "name", "source")
"""Fields that the order of events and the manifest need, whatever the files keep."""

log = logging.getLogger(__name__)


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
        reader: CompleteReader,
        directory: Directory,
        window: EventWindow,
        filters: EventFilters,
        layout: FileLayout,
        *,
        server: str = "",
        on_incomplete: OnIncomplete = "fail",
        max_concurrency: int = SIDE_BY_SIDE,
        target_rows: int = TARGET_ROWS,
        logger: Any = log,
    ) -> None:
        self.reader = reader
        self.directory = directory
        self.window = window
        self.filters = filters
        self.layout = layout
        self.on_incomplete = on_incomplete
        self.max_concurrency = max_concurrency
        self.target_rows = target_rows
        self._log = logger
        self._name = ExportName.of(window, filters, layout)
        self.manifest_name = self._name.manifest
        key = [RECORD_VERSION, server, window.to_dict(), filters.to_dict(), layout.to_dict(), target_rows]
        self._staging = Staging(directory, self._name, digest(key))
        self._page: RowPage | None = None
        self._stop = threading.Event()

    def run(self) -> Manifest:
        """Exports the window, or goes on where an earlier attempt ended.

        :raises PolarDestinationError: the store refuses something, or another run exports the same window; a retry
            goes on from what is staged.
        :raises PolarLocalDiskError: the worker's own disk refuses something; a retry goes on likewise.
        :raises PolarIncompleteError: the API counts events that it does not give, or they keep arriving.
        :raises PolarApiError: Polar's error, after the client's retries.
        """
        try:
            return self._run()
        except PolarDestinationError as error:
            raise PolarDestinationError(f"{error}. A retry goes on from what is staged there") from error

    def _run(self) -> Manifest:
        self._staging.open()
        if self._staging.slices is None:
            plan = self.reader.plan(self.window, target_rows=self.target_rows)
            self._page = plan.page
            self._staging.plan(plan.slices)
        slices = self._staging.slices or []
        done = sum(slice_.rows for slice_ in slices)
        if self._staging.resumed:
            self._log.info(
                "%s: going on after %s of %s and %s that an earlier attempt staged",
                self.window,
                sum(slice_.finished for slice_ in slices),
                number_of(len(slices), "slice"),
                number_of(done, "event"),
            )
        total = sum(max(slice_.expected, slice_.rows) for slice_ in slices)
        self._progress = ProgressLog(self._log, f"export of {self.window}", total=total, done=done)
        self._read(slices)
        arriving = self._prove(slices)
        manifest = self._manifest(slices, arriving)
        if manifest.missing:
            self._report_missing(manifest)
        self._publish(manifest)
        return manifest

    def _read(self, slices: Sequence[Slice]) -> None:
        self._stop.clear()
        with ThreadPoolExecutor(self.max_concurrency, thread_name_prefix="polar-export") as pool:
            futures = [pool.submit(self._read_slice, slice_) for slice_ in slices]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                self._stop.set()
                raise

    def _read_slice(self, slice_: Slice) -> None:
        if self._stop.is_set():
            raise _Stopped
        if self._staging.is_intact(slice_):
            return
        self._staging.reset(slice_, keep_segments=True)
        with using_local_disk(tempfile.gettempdir()):
            temporary = tempfile.TemporaryDirectory(prefix="polar-export-")
        with temporary as folder, LocalFileWriter(folder, self.layout) as writer:
            for rows in self._staging.replay(slice_):
                writer.write(rows)
            stretches = slice_.stretches
            report = self._read_on(slice_, writer)
            files = writer.finish()
            self._staging.finish(slice_, [*stretches, report], writer.tally.contents, files, self.layout.extension)

    def _read_on(self, slice_: Slice, writer: LocalFileWriter) -> SliceReport:
        """Reads what the slice's segments do not hold, and stages it in further ones as it goes."""
        waiting: list[EventRow] = []

        def sink(rows: list[EventRow], so_far: SliceReport) -> None:
            if self._stop.is_set():
                raise _Stopped
            writer.write(rows)
            self._progress.add(len(rows))
            waiting.extend(rows)
            if not so_far.proved:
                waiting.clear()
            elif len(waiting) >= SEGMENT_ROWS and so_far.window.end < slice_.window.end:
                self._staging.add_segment(slice_, [self._kept(row) for row in waiting], so_far)
                waiting.clear()

        page, self._page = self._page, None
        return self.reader.read(EventWindow(slice_.up_to, slice_.window.end), sink, page=page)

    def _kept(self, row: EventRow) -> dict[str, msgspec.Raw]:
        # What the user leaves out of the files, such as personal data, is not to lie in the store meanwhile either.
        if self.layout.fields == FieldChoice():
            return row.values
        return {name: raw for name, raw in row.values.items() if name in _NEEDED or self.layout.fields.keeps(name)}

    def _prove(self, slices: Sequence[Slice]) -> list[Discrepancy]:
        """Counts the window again; the slices that changed meanwhile are read again, a few times."""
        reports = [report for slice_ in slices for report in slice_.reports]
        if not self._staging.resumed and len(reports) == 1 and reports[0].self_proved:
            # All of the window came in one response of just now, whose count is then its proof.
            return []
        for attempt in range(_ROUNDS + 1):
            changed = self.reader.verify([report for slice_ in slices for report in slice_.reports])
            if not changed:
                return []
            if attempt < _ROUNDS:
                parts = [slice_ for slice_ in slices if any(report.window in changed for report in slice_.reports)]
                read_again = number_of(len(parts), "slice")
                self._log.info("%s: events arrived meanwhile; %s will be read again", self.window, read_again)
                for slice_ in parts:
                    self._staging.reset(slice_)
                self._read(parts)
        return [Discrepancy(window.start, window.end, 0, 0, ARRIVING) for window in changed]

    def _manifest(self, slices: Sequence[Slice], arriving: Sequence[Discrepancy]) -> Manifest:
        files = [
            replace(file, path=f"{self._name}.part-{number:04d}-{file.sha256[:8]}{self.layout.extension}")
            for number, file in enumerate(self._staging.files(), 1)
        ]
        reports = [report for slice_ in slices for report in slice_.reports]
        return Manifest(
            window=self.window,
            filters=self.filters.to_dict(),
            **self.layout.to_dict(),
            rows=sum(report.rows for report in reports),
            counted=counted_in(reports),
            repeated=sum(report.repeated for report in reports),
            contents=Contents.joined(slice_.contents for slice_ in slices if slice_.contents),
            missing=[*(found for report in reports for found in report.missing), *arriving],
            files=files,
        )

    def _report_missing(self, manifest: Manifest) -> None:
        places = "; ".join(map(_place, manifest.missing[:10]))
        more = f"; and {len(manifest.missing) - 10} more" if len(manifest.missing) > 10 else ""
        message = (
            f"the window {self.window} could not be proved complete: Polar counts "
            f"{number_of(manifest.counted, 'event')} and gave {manifest.rows:,} of them: {places}{more}"
        )
        if self.on_incomplete == "fail":
            raise PolarIncompleteError(
                f"{message}. Nothing is published; a retry reads only these slices again. Rows that stay missing are "
                "for Polar's support, and on_incomplete='warn' publishes without them",
                missing=msgspec.to_builtins(manifest.missing),
            )
        self._log.warning("%s", message)

    def _publish(self, manifest: Manifest) -> None:
        """The files, then the manifest in one step, then away with what no manifest names.

        Names carry the content, so nothing is replaced: an earlier manifest and its files hold until this one is there.

        Two exports of one window at once: no store offers a comparison and a write in one step, so one that pauses
        between the check of its ownership and its manifest can name files that the other has removed by then. It
        sees that just after, and fails; its retry exports the window again.
        """
        self._staging.publish([file.path for file in manifest.files])
        self._staging.require_own()
        write_manifest(self.directory, self.manifest_name, manifest)
        self._staging.close()


def _place(found: Discrepancy) -> str:
    window = str(EventWindow(found.start, found.end))
    if not found.counted:
        return f"{window}: {found.reason}"
    return f"{window}: {found.counted} counted, {found.given} given ({found.reason})"
