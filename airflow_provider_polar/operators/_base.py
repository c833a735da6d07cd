"""What the operators share: the hook, waiting, building an export and telling of it, and how errors end a task."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator

from airflow_provider_polar.exceptions import PolarDestinationError, PolarError
from airflow_provider_polar.hooks.polar import PolarHook
from airflow_provider_polar.links.polar import show_manifest
from airflow_provider_polar.operators._storage import storage_path

if TYPE_CHECKING:
    from airflow_provider_polar.api.filters import EventFilters
    from airflow_provider_polar.engine.exporting.export import WindowExport
    from airflow_provider_polar.engine.exporting.manifest import Manifest
    from airflow_provider_polar.engine.files.layout import FileLayout
    from airflow_provider_polar.engine.files.storage import Directory
    from airflow_provider_polar.engine.reading.reader import CompleteReader
    from airflow_provider_polar.engine.window import EventWindow

_MAX_LINEAGE = 100


@contextmanager
def failing_clearly(*retried: type[PolarError]) -> Iterator[None]:
    """Fails the task at once where a retry cannot help, with the error's own message; lets Airflow retry the rest.

    A store's refusal is left to Airflow's retries: whether it lasts cannot be told here.

    :param retried: further errors that Airflow's retries may fix.
    """
    try:
        yield
    except PolarError as error:
        if error.retryable or isinstance(error, (PolarDestinationError, *retried)):
            raise
        raise AirflowFailException(str(error)) from error


class PolarOperator(BaseOperator):
    """An operator that works through a connection of type ``polar``."""

    ui_color = "#e8eefc"
    polar_conn_id: str
    requests_per_minute: float | None = None

    @cached_property
    def hook(self) -> PolarHook:
        """The hook of the connection, with the task's own request budget if it has one."""
        return PolarHook(self.polar_conn_id, requests_per_minute=self.requests_per_minute)

    @contextmanager
    def _connected(self, *retried: type[PolarError]) -> Iterator[PolarHook]:
        """The hook, which is closed in the end; errors end the task as :func:`failing_clearly` says."""
        with failing_clearly(*retried), closing(self.hook) as hook:
            yield hook

    def _reader(self, filters: EventFilters) -> CompleteReader:
        from airflow_provider_polar.engine.reading.reader import CompleteReader

        return CompleteReader(self.hook.get_conn(), filters)

    def _settle(self, window: EventWindow, settle: timedelta | None) -> None:
        """Waits until the window has been over for as long as ``settle`` says."""
        if settle is None:
            return
        seconds = (window.end + settle - datetime.now(UTC)).total_seconds()
        if seconds > 0:
            self.log.info("%s has to settle: waiting %.0f s", window, seconds)
            time.sleep(seconds)


class PolarExportingOperator(PolarOperator):
    """An operator that works on the exports in a directory."""

    destination: Any
    destination_conn_id: str | None
    partition_key: str | None = None

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

    def _report_lineage(self, directory: Directory, name: str, manifest: Manifest) -> None:
        """Tells Airflow's lineage what was written; of very many files, the first hundred."""
        # Imported late: on Airflow 3.0 it brings half of Airflow's core with it.
        from airflow.providers.common.compat.sdk import get_hook_lineage_collector

        collector: Any = get_hook_lineage_collector()
        for path in [name, *(file.path for file in manifest.files)][:_MAX_LINEAGE]:
            collector.add_output_asset(context=self, uri=directory.url_of(path))

    def _result(self, manifest: Manifest, path: str) -> dict[str, Any]:
        """What an export returns."""
        return {
            "manifest": path,
            "rows": manifest.rows,
            "files": len(manifest.files),
            **manifest.window.to_dict(),
            "requests": self.hook.get_conn().requests_sent,
            "complete": manifest.complete,
        }

    def _announce(self, context: Any, window: EventWindow, directory: Directory, result: Mapping[str, Any]) -> None:
        """Tells the link, the assets and the watermark of an export that is published."""
        from airflow_provider_polar.assets.emission import emit_export
        from airflow_provider_polar.windows import advance_watermark

        show_manifest(context, result["manifest"])
        emit_export(context, result, destination=directory.url, partition_key=self.partition_key)
        advance_watermark(context, window)
