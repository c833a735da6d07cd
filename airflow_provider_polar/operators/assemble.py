"""Makes one export of the mapped exports of a window's shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_polar.hooks.polar import PolarHook
from airflow_provider_polar.links.polar import PolarEventsLink, PolarManifestLink, show_events
from airflow_provider_polar.operators._base import PolarExportingOperator
from airflow_provider_polar.wording import number_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from airflow_provider_polar.api.filters import EventFilters
    from airflow_provider_polar.engine.exporting.manifest import Manifest
    from airflow_provider_polar.engine.exporting.shards import Assembly
    from airflow_provider_polar.engine.files.storage import Directory
    from airflow_provider_polar.engine.window import EventWindow


class PolarAssembleExportOperator(PolarExportingOperator):
    """Checks the exports of a window's shards against Polar's count and publishes one manifest for them all.

    It takes the place of the shards' own manifests; see
    :class:`~airflow_provider_polar.operators.plan.PolarPlanExportOperator`. Shards that changed since they were
    exported are exported again here. Returns what an export returns.

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
        with self._connected() as hook:
            filters = hook.filters(self.filters)
            directory = self._directory()
            assembly = self._assembly(directory, filters)
            show_events(context, hook.settings.environment, window=assembly.window, filters=filters)
            manifest = assembly.run()
            self._report_lineage(directory, assembly.name.manifest, manifest)
            result = self._result(manifest, directory.url_of(assembly.name.manifest))
            rows, files = number_of(manifest.rows, "event"), number_of(len(manifest.files), "file")
            self.log.info("%s of %s in %s: %s", rows, manifest.window, files, result["manifest"])
            self._announce(context, assembly.window, directory, result)
            return result

    def _assembly(self, directory: Directory, filters: EventFilters) -> Assembly:
        from airflow_provider_polar.engine.exporting.shards import Assembly, window_of

        reader = self._reader(filters)

        def export_again(shard: EventWindow, before: Manifest) -> Manifest:
            on_incomplete = "fail" if before.complete else "warn"
            return self._window_export(
                reader, directory, shard, filters, before.layout, on_incomplete=on_incomplete
            ).run()

        return Assembly(reader, directory, [window_of(shard) for shard in self.plan], filters, export_again)
