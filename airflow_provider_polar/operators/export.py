"""Exports a window of events to files in object storage."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_polar.exceptions import PolarIncompleteError
from airflow_provider_polar.operators._base import PolarPublishingOperator, PolarWindowOperator, in_words, some
from airflow_provider_polar.parameters import Parser, is_templated, number, one_of, optional, positive_count
from airflow_provider_polar.wording import number_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_polar.api.filters import EventFilters
    from airflow_provider_polar.engine.exporting.comparison import CompareBy
    from airflow_provider_polar.engine.exporting.export import WindowExport
    from airflow_provider_polar.engine.exporting.manifest import Manifest
    from airflow_provider_polar.engine.files.layout import FileLayout
    from airflow_provider_polar.engine.window import EventWindow

_LAYOUT = ("file_format", "compression", "include_fields", "exclude_fields", "max_file_rows", "max_file_bytes")
"""The parameters that make the layout of the files."""


class PolarExportEventsOperator(PolarPublishingOperator, PolarWindowOperator):
    """Exports every event with ``start <= timestamp < end``, each once, to files and a manifest.

    Where that cannot be done, the task fails and says what is missing.

    Files and manifest are published when the window is complete, the manifest last; the same window exported again
    gives the same bytes. A retry, on any worker, goes on from what an earlier attempt finished.

    Until then, what is read lies in ``_incomplete/<window>/`` of the destination, named by a ``staging.json`` there.
    Only what a window's own manifest names counts as exported. Files are named by the window, what differs from the
    default in filters and layout (format, compression, fields, file limits), a number and their content, so nothing
    that was exported is ever replaced before what takes its place is there. (On S3, a worker killed within an upload of
    more than 100 MB leaves its parts to the bucket's lifecycle rule for unfinished uploads.)

    Takes the parameters of a :class:`~airflow_provider_polar.operators._base.PolarWindowOperator` and of a
    :class:`~airflow_provider_polar.operators._base.PolarPublishingOperator`, and returns what the latter says; with
    ``lookback`` also ``changed`` (earlier windows that were exported again: ``start``, ``end``, ``manifest``, ``rows``)
    and ``unexported`` (spans without a manifest).

    :param file_format: ``jsonl`` (the API's own objects), ``csv`` or ``parquet`` (templated).
    :param compression: None, ``gzip`` or ``zstd``; of parquet the codec inside (None: snappy) (templated).
    :param include_fields: the only top-level fields to keep; ``extra`` stands for those that Polar adds in future
        (templated).
    :param exclude_fields: fields to leave out, e.g. ``["customer"]`` for the personal data in it (templated).
    :param max_file_rows: events of a file at most.
    :param max_file_bytes: a file is closed once its events reach this many bytes, before compression.
    :param max_concurrency: slices of the window read at once.
    :param lookback: how far back earlier windows in the destination are compared with Polar, as a timedelta, text such
        as ``"2 days"``, or a number of windows (templated): one request each, and those that changed since, or were
        exported incompletely, are exported again. Windows in another layout are not looked at.
    :param compare_by: what a look-back counts besides each window as a whole, by one more request each: ``name``, the
        events of each name, or ``hour``, those of each hour, that the window's manifest has.
    :param on_incomplete: ``fail``, or ``warn`` and publish with a manifest that names what is missing (templated).
    :raises PolarIncompleteError: Polar counts events that it does not give.
    :raises PolarDestinationError: the store refuses something; a retry goes on from what is staged.
    :raises PolarLocalDiskError: the worker's disk is full; a retry goes on from what is staged.
    """

    template_fields: Sequence[str] = (
        *PolarWindowOperator.template_fields,
        "destination",
        "destination_conn_id",
        "partition_key",
        "lookback",
        "on_incomplete",
        "file_format",
        "compression",
        "include_fields",
        "exclude_fields",
    )

    def __init__(
        self,
        *,
        file_format: str = "jsonl",
        compression: str | None = None,
        include_fields: Sequence[str] | None = None,
        exclude_fields: Sequence[str] | None = None,
        max_file_rows: int | None = None,
        max_file_bytes: int | None = None,
        max_concurrency: int = 4,
        lookback: timedelta | int | str | None = None,
        compare_by: CompareBy | None = None,
        on_incomplete: Literal["fail", "warn"] = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.file_format = file_format
        self.compression = compression
        self.include_fields = include_fields
        self.exclude_fields = exclude_fields
        self.max_file_rows = max_file_rows
        self.max_file_bytes = max_file_bytes
        self.max_concurrency = max_concurrency
        self.lookback = lookback
        self.compare_by = compare_by
        self.on_incomplete = on_incomplete
        self._check()

    def _parsers(self) -> dict[str, Parser]:
        return super()._parsers() | {
            "max_concurrency": positive_count,
            "lookback": optional(_lookback),
            "compare_by": optional(one_of("name", "hour")),
            "on_incomplete": one_of("fail", "warn"),
        }

    def _check_together(self) -> None:
        super()._check_together()
        if not is_templated([getattr(self, name) for name in _LAYOUT]):
            self._layout()

    def _layout(self) -> FileLayout:
        from airflow_provider_polar.engine.files.layout import FileLayout

        return FileLayout.choose(**{name: getattr(self, name) for name in _LAYOUT})

    def _prepare(self) -> None:
        super()._prepare()
        self._layout().check_installed()

    def _work(self, context: Context, window: EventWindow, filters: EventFilters) -> dict[str, Any]:
        from airflow_provider_polar.plugins.ledger.records import keep_export

        started = time.monotonic()
        reader, directory, layout = self._reader(filters), self._directory(), self._layout()
        keep_export(context, directory.url, window, filters)
        self.log.info("exporting %s with %s to %s", window, in_words(filters), directory.url)

        def export_of(span: EventWindow) -> WindowExport:
            return self._window_export(
                reader,
                directory,
                span,
                filters,
                layout,
                on_incomplete=self.on_incomplete,
                max_concurrency=self._parsed("max_concurrency"),
            )

        looked_back: dict[str, Any] = {}
        failure: PolarIncompleteError | None = None
        if (lookback := self._parsed("lookback")) is not None:
            from airflow_provider_polar.engine.exporting.lookback import look_back

            found = look_back(reader, directory, filters, layout, window, lookback, self.compare_by)
            if found.unexported:
                self.log.warning("the look-back finds no manifest for %s in %s", some(found.unexported), directory.url)
            changed, failure = self._export_again(map(export_of, sorted((*found.changed, *found.incomplete))))
            looked_back = {"changed": changed, "unexported": [span.to_dict() for span in found.unexported]}
        export = export_of(window)
        manifest, path = export.run(), directory.url_of(export.manifest_name)
        self._report_lineage(directory, export.manifest_name, manifest)
        if failure is not None:
            raise failure
        self._log_exported(manifest, path, time.monotonic() - started)
        result = self._published(context, manifest, path, directory) | looked_back
        keep_export(context, directory.url, window, filters, result)
        self._exported = (filters.name or (), directory.url, result)
        return result

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002
        """What OpenLineage's provider takes when the task has ended."""
        from airflow_provider_polar.assets.lineage import export_lineage

        exported = getattr(self, "_exported", None)
        return exported and export_lineage(self.polar_conn_id, *exported)

    def _log_exported(self, manifest: Manifest, path: str, seconds: float) -> None:
        client = self.hook.get_conn()
        self.log.info(
            "exported %s of %s in %s: %s, %s, %.0f s waited, %.1f s in all, %s: %s",
            number_of(manifest.rows, "event"),
            manifest.window,
            number_of(len(manifest.files), "file"),
            number_of(client.requests_sent, "request"),
            number_of(client.retries_made, "repeated request"),
            client.seconds_waited,
            seconds,
            "complete" if manifest.complete else "NOT complete",
            path,
        )


def _lookback(value: Any, name: str) -> timedelta | int:
    """A length of time, or a number of windows."""
    from airflow_provider_polar.engine.exporting.lookback import check_lookback
    from airflow_provider_polar.windows.lengths import parse_duration

    lookback = parse_duration(value, name) if number(value) is None else positive_count(value, name)
    check_lookback(lookback)
    return lookback
