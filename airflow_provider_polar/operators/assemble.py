"""Makes one export of the mapped exports of a window's shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_polar.hooks.polar import PolarHook
from airflow_provider_polar.links.polar import PolarEventsLink, PolarManifestLink, show_events, show_manifest
from airflow_provider_polar.operators._errors import failing_clearly
from airflow_provider_polar.operators._storage import report_lineage, storage_path
from airflow_provider_polar.wording import number_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from airflow_provider_polar.api.client import PolarClient
    from airflow_provider_polar.api.filters import EventFilters
    from airflow_provider_polar.engine.exporting.manifest import Manifest
    from airflow_provider_polar.engine.exporting.shards import Assembly
    from airflow_provider_polar.engine.files.storage import Directory
    from airflow_provider_polar.engine.window import EventWindow


class PolarAssembleExportOperator(BaseOperator):
    """Checks a window's shards against Polar's count and publishes one manifest for the whole window.

    It stands in place of the manifests of the shards; see
    :class:`~airflow_provider_polar.operators.plan.PolarPlanExportOperator`.

    Shards that changed since they were exported are exported again here. Returns what an export returns.

    :param plan: the planning task's output (templated).
    :param destination: the directory that the exports wrote to (templated).
    :param destination_conn_id: Airflow connection of the store (templated).
    :param filters: the exports' filters (templated).
    :param partition_key: as of :class:`~airflow_provider_polar.operators.export.PolarExportEventsOperator` (templated).
    :param requests_per_minute: request budget, in place of the connection's.
    :param polar_conn_id: connection of type ``polar`` (templated).

    The events of the task's asset ``outlets`` say ``window``, ``rows``, ``files``, ``manifest`` and ``complete``.
    """

    template_fields: Sequence[str] = (
        "polar_conn_id",
        "plan",
        "destination",
        "destination_conn_id",
        "filters",
        "partition_key",
    )
    operator_extra_links = (PolarEventsLink(), PolarManifestLink())
    ui_color = "#e8eefc"

    def __init__(
        self,
        *,
        plan: Any,
        destination: str | ObjectStoragePath,
        destination_conn_id: str | None = None,
        filters: EventFilters | Mapping[str, Any] | None = None,
        partition_key: str | None = None,
        requests_per_minute: float | None = None,
        polar_conn_id: str = PolarHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self.destination = destination
        self.destination_conn_id = destination_conn_id
        self.filters = filters
        self.partition_key = partition_key
        self.requests_per_minute = requests_per_minute
        self.polar_conn_id = polar_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """One request where nothing changed since the exports.

        :raises AirflowFailException: a shard is missing or of another layout; a retry cannot help.
        :raises PolarIncompleteError: events keep arriving in the window; a retry goes on.
        :raises PolarDestinationError: the store refuses something.
        :raises PolarApiError: Polar failed; a retry may help.
        """
        with failing_clearly():
            from airflow_provider_polar.assets.emission import emit_export
            from airflow_provider_polar.engine.files.storage import Directory
            from airflow_provider_polar.windows import advance_watermark

            hook = PolarHook(self.polar_conn_id, requests_per_minute=self.requests_per_minute)
            filters = hook.filters(self.filters)
            directory = Directory(storage_path(self.destination, self.destination_conn_id))
            try:
                assembly = self._assembly(hook.get_conn(), directory, filters)
                show_events(self, hook.settings.environment, window=assembly.window, filters=filters)
                manifest = assembly.run()
                result = self._result(manifest, directory.url_of(assembly.name.manifest), hook.get_conn().requests_sent)
            finally:
                hook.close()
            report_lineage(self, directory, [assembly.name.manifest, *(file.path for file in manifest.files)])
            show_manifest(self, result["manifest"])
            emit_export(context, result, destination=directory.url, partition_key=self.partition_key)
            advance_watermark(context, assembly.window)
            return result

    def _assembly(self, client: PolarClient, directory: Directory, filters: EventFilters) -> Assembly:
        from airflow_provider_polar.engine.exporting.export import WindowExport
        from airflow_provider_polar.engine.exporting.shards import Assembly, window_of
        from airflow_provider_polar.engine.files.layout import FileLayout
        from airflow_provider_polar.engine.reading.reader import CompleteReader

        reader = CompleteReader(client, filters)

        def export_again(shard: EventWindow, before: Manifest) -> Manifest:
            said = dict(before.layout)
            layout = FileLayout.choose(include_fields=said.pop("fields"), **said)
            server = f"{client.wire.base_url} {self.polar_conn_id}"
            on_incomplete: Literal["fail", "warn"] = "fail" if before.complete else "warn"
            return WindowExport(
                reader, directory, shard, filters, layout, server=server, on_incomplete=on_incomplete, logger=self.log
            ).run()

        return Assembly(reader, directory, [window_of(piece) for piece in self.plan], filters, export_again)

    def _result(self, manifest: Manifest, path: str, requests: int) -> dict[str, Any]:
        rows, files = number_of(manifest.rows, "event"), number_of(len(manifest.files), "file")
        self.log.info("%s of %s in %s: %s", rows, manifest.window, files, path)
        return {
            "manifest": path,
            "rows": manifest.rows,
            "files": len(manifest.files),
            **manifest.window.to_dict(),
            "requests": requests,
            "complete": manifest.complete,
        }
