"""What the operators share: parameters, the hook, the run's window, publishing exports, and how errors end a task."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf

from airflow_provider_polar.exceptions import PolarError, PolarIncompleteError
from airflow_provider_polar.hooks.polar import PolarHook
from airflow_provider_polar.links.polar import PolarEventsLink, PolarManifestLink, show_events, show_manifest
from airflow_provider_polar.operators._checked import CheckedOperator, failing_clearly
from airflow_provider_polar.operators._storage import check_path, storage_path
from airflow_provider_polar.parameters import Parser, is_templated, optional, positive_number

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context, ObjectStoragePath

    from airflow_provider_polar.api.filters import EventFilters
    from airflow_provider_polar.engine.exporting.export import WindowExport
    from airflow_provider_polar.engine.exporting.manifest import Manifest
    from airflow_provider_polar.engine.files.layout import FileLayout
    from airflow_provider_polar.engine.files.storage import Directory
    from airflow_provider_polar.engine.reading.reader import CompleteReader
    from airflow_provider_polar.engine.window import EventWindow
    from airflow_provider_polar.windows import CalendarWindow

_MAX_LINEAGE = 100


class PolarOperator(CheckedOperator):
    """An operator that works through a connection of type ``polar``.

    :param polar_conn_id: the connection (templated).
    :param requests_per_minute: request budget of this task, in place of the connection's (templated). Polar's limit is
        shared by the whole organization, its shop included.
    """

    template_fields: Sequence[str] = ("polar_conn_id", "requests_per_minute")

    def __init__(
        self,
        *,
        polar_conn_id: str = PolarHook.default_conn_name,
        requests_per_minute: float | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.polar_conn_id = polar_conn_id
        self.requests_per_minute = requests_per_minute

    @cached_property
    def hook(self) -> PolarHook:
        """The hook of the connection, with the task's own request budget if it has one."""
        return PolarHook(self.polar_conn_id, requests_per_minute=self._parsed("requests_per_minute"))

    def _parsers(self) -> dict[str, Parser]:
        return super()._parsers() | {"requests_per_minute": optional(positive_number)}

    @contextmanager
    def _connected(self, *retried: type[PolarError]) -> Iterator[PolarHook]:
        """The hook, which is closed in the end; errors end the task as :func:`failing_clearly` says."""
        with failing_clearly(*retried), closing(self.hook) as hook:
            self._prepare()
            yield hook

    def _reader(self, filters: EventFilters) -> CompleteReader:
        from airflow_provider_polar.engine.reading.reader import CompleteReader

        return CompleteReader(self.hook.get_conn(), filters)


class PolarWindowOperator(PolarOperator):
    """An operator that works on the events of a window of time.

    :param start: first moment of the window, aware datetime or ISO 8601 text with a zone (templated).
    :param end: first moment after it (templated). Without both, the window follows the run; see
        :func:`airflow_provider_polar.windows.resolve_window`.
    :param window: length of the window, where the run gives only its one end (templated).
    :param filters: :class:`~airflow_provider_polar.api.filters.EventFilters` or the same as a dict (templated).
    :param settle: how long the window must have been over before it is read, for events on their way: a timedelta,
        seconds, or text such as ``"2 minutes"`` (templated). The task waits for the rest of it.
    :param deferrable: wait for ``settle`` in the triggerer, without a worker slot. Default: Airflow's own setting
        ``[operators] default_deferrable``.
    """

    template_fields: Sequence[str] = (*PolarOperator.template_fields, "start", "end", "window", "filters", "settle")
    operator_extra_links: Sequence[BaseOperatorLink] = (PolarEventsLink(),)

    def __init__(
        self,
        *,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        window: timedelta | float | str | CalendarWindow | None = None,
        filters: EventFilters | Mapping[str, Any] | None = None,
        settle: timedelta | float | str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.start = start
        self.end = end
        self.window = window
        self.filters = filters
        self.settle = settle
        self.deferrable = deferrable

    def prepare_template(self) -> None:
        """Refuses a schedule that gives this task no window; Airflow calls it when it has read a DAG file."""
        dag = self.get_dag()
        if dag is not None and all(given is None for given in (self.start, self.end, self.window)):
            from airflow_provider_polar.windows import check_schedule

            with self._named():
                check_schedule(dag)

    def _parsers(self) -> dict[str, Parser]:
        from airflow_provider_polar.windows.lengths import parse_duration

        own: dict[str, Parser] = {"filters": parse_filters, "settle": optional(parse_duration)}
        return super()._parsers() | window_parsers() | own

    def _check_together(self) -> None:
        super()._check_together()
        check_bounds(self.start, self.end, self.window)

    def execute(self, context: Context) -> Any:
        """Works on the run's window.

        :raises AirflowFailException: a parameter, the token or a scope is wrong; a retry cannot help.
        :raises PolarApiError: Polar failed; a retry may help.
        """
        from airflow_provider_polar.windows import resolve_window

        with self._connected() as hook:
            settle, length = self._parsed("settle"), self._parsed("window")
            window = resolve_window(context, start=self.start, end=self.end, window=length, settle=settle)
            filters = hook.filters(self.filters)
            show_events(context, hook.settings.environment, window=window, filters=filters)
            self._settle(window, settle)
            return self._work(context, window, filters)

    def execute_settled(self, context: Context, event: Any = None, window: dict[str, str] | None = None) -> Any:  # noqa: ARG002
        """Goes on after a deferral, with the window that has settled meanwhile; see :meth:`execute`."""
        from airflow_provider_polar.engine.window import EventWindow

        if window is None:  # dag.test() of Airflow hands nothing on but the event
            return self.execute(context)
        with self._connected() as hook:
            return self._work(context, EventWindow.from_dict(window), hook.filters(self.filters))

    @abstractmethod
    def _work(self, context: Context, window: EventWindow, filters: EventFilters) -> Any:
        """Does the operator's own work, on a window that has settled; what it returns is the task's result."""

    def _settle(self, window: EventWindow, settle: timedelta | None) -> None:
        """Waits until the window has been over for as long as ``settle`` says."""
        moment = window.end + (settle or timedelta(0))
        seconds = (moment - datetime.now(UTC)).total_seconds()
        if seconds <= 0:
            return
        if settle is None:
            self.log.warning("%s is not over yet: events may still come; settle= waits for them", window)
            return
        self.log.info("%s has to settle: waiting %.0f s%s", window, seconds, ", deferred" if self.deferrable else "")
        if self.deferrable:
            from airflow.providers.standard.triggers.temporal import DateTimeTrigger

            # What a template says of the window may be another one by then, so the window itself is handed on.
            kept = {"window": window.to_dict()}
            self.defer(trigger=DateTimeTrigger(moment=moment), method_name="execute_settled", kwargs=kept)
        time.sleep(seconds)


class PolarDirectoryOperator(PolarOperator):
    """An operator that works on the exports in a directory.

    :param destination: directory in object storage, as text or ``ObjectStoragePath`` (templated): the files of all
        windows, filters and layouts may share it, the events of two organizations may not.
    :param destination_conn_id: Airflow connection of the store; None for the path's own, or none (templated).
    """

    def __init__(
        self, *, destination: str | ObjectStoragePath, destination_conn_id: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.destination = destination
        self.destination_conn_id = destination_conn_id

    def _parsers(self) -> dict[str, Parser]:
        return super()._parsers() | {"destination": check_path}

    def _prepare(self) -> None:
        super()._prepare()
        self._directory()

    def _directory(self) -> Directory:
        from airflow_provider_polar.engine.files.storage import Directory

        return Directory(storage_path(self.destination, self.destination_conn_id))

    def _window_export(
        self,
        reader: CompleteReader,
        directory: Directory,
        window: EventWindow,
        filters: EventFilters,
        layout: FileLayout,
        **options: Any,
    ) -> WindowExport:
        from airflow_provider_polar.engine.exporting.export import WindowExport

        server = f"{self.hook.get_conn().server.base_url} {self.polar_conn_id}"
        return WindowExport(reader, directory, window, filters, layout, server=server, logger=self.log, **options)

    def _export_again(
        self, exports: Iterable[WindowExport]
    ) -> tuple[list[dict[str, Any]], PolarIncompleteError | None]:
        """Exports windows again; what was exported, and the first failure.

        One that cannot be proved must not keep the others from being exported.
        """
        again, failure = [], None
        for export in exports:
            self.log.info("%s has changed since its export, or is not complete: exporting it again", export.window)
            try:
                manifest = export.run()
            except PolarIncompleteError as error:
                self.log.error("%s", error)
                failure = failure or error
                continue
            self._report_lineage(export.directory, export.manifest_name, manifest)
            path = export.directory.url_of(export.manifest_name)
            again.append({**export.window.to_dict(), "manifest": path, "rows": manifest.rows})
        return again, failure

    def _report_lineage(self, directory: Directory, name: str, manifest: Manifest) -> None:
        """Tells Airflow's lineage what was written, of very many files the first hundred, and the ledger's index."""
        # Imported late: on Airflow 3.0 it brings half of Airflow's core with it.
        from airflow.providers.common.compat.sdk import get_hook_lineage_collector

        from airflow_provider_polar.plugins.ledger.destinations import index_export

        index_export(directory, name, manifest)
        collector: Any = get_hook_lineage_collector()
        for path in [name, *(file.path for file in manifest.files)][:_MAX_LINEAGE]:
            collector.add_output_asset(context=self, uri=directory.url_of(path))


class PolarPublishingOperator(PolarDirectoryOperator):
    """An operator that publishes an export.

    Returns plain JSON: ``manifest`` (its full path), ``rows``, ``files`` (their number), ``start`` and ``end`` (ISO
    8601, UTC), ``requests`` (sent by this attempt), ``complete``. The events of the task's asset ``outlets`` say
    ``window``, ``rows``, ``files``, ``manifest`` and ``complete``.

    :param partition_key: partition key for the asset events of a run that is not itself partitioned (templated),
        ``strftime`` fields being the window's start, e.g. ``%Y-%m-%d``. Airflow 3.3 and newer; such events start
        partitioned DAGs only.
    """

    operator_extra_links: Sequence[BaseOperatorLink] = (PolarEventsLink(), PolarManifestLink())

    def __init__(self, *, partition_key: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.partition_key = partition_key

    def _published(self, context: Any, manifest: Manifest, path: str, directory: Directory) -> dict[str, Any]:
        """The task's result, once its link, its assets and the watermark have been told of the export."""
        from airflow_provider_polar.assets.emission import emit_export
        from airflow_provider_polar.windows import advance_watermark

        result = {
            "manifest": path,
            "rows": manifest.rows,
            "files": len(manifest.files),
            **manifest.window.to_dict(),
            "requests": self.hook.get_conn().requests_sent,
            "complete": manifest.complete,
        }
        show_manifest(context, path)
        emit_export(context, result, destination=directory.url, partition_key=self.partition_key)
        advance_watermark(context, manifest.window)
        return result


def window_parsers() -> dict[str, Parser]:
    """What the parameters of a run's window are read by."""
    from airflow_provider_polar.engine.window import aware
    from airflow_provider_polar.windows.lengths import parse_length

    return {"start": optional(aware), "end": optional(aware), "window": optional(parse_length)}


def check_bounds(start: Any, end: Any, window: Any) -> None:
    """Refuses parameters of a run's window that are not templated and give none."""
    if (start is None and end is None) or is_templated([start, end, window]):
        return
    from airflow_provider_polar.windows.choice import choose_window
    from airflow_provider_polar.windows.facts import RunFacts
    from airflow_provider_polar.windows.schedules import Schedule

    # Whether start, end and window= agree is seen at a run: it may depend on the schedule's time zone.
    length = window if None in (start, end) else None
    choose_window(RunFacts("", "", "", Schedule.of(None)), start=start, end=end, window=length)


def parse_filters(value: Any, name: str) -> EventFilters:  # noqa: ARG001
    """The filters of events that a parameter means."""
    from airflow_provider_polar.api.filters import EventFilters

    return EventFilters.parse(value)


def in_words(filters: EventFilters) -> str:
    """Filters as a log tells them."""
    given = filters.to_dict()
    return f"the filters {given}" if given else "no filters"


def some(windows: Sequence[EventWindow]) -> str:
    """The first ten of windows, and how many more there are."""
    more = f" and {len(windows) - 10} more" if len(windows) > 10 else ""
    return ", ".join(map(str, windows[:10])) + more
