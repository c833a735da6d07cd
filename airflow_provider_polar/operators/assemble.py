"""Makes one export of the mapped exports of a window's shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_polar.links.polar import show_events
from airflow_provider_polar.operators._base import PolarPublishingOperator, parse_filters
from airflow_provider_polar.parameters import Parser
from airflow_provider_polar.wording import number_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_polar.api.filters import EventFilters
    from airflow_provider_polar.engine.exporting.manifest import Manifest
    from airflow_provider_polar.engine.exporting.shards import Assembly
    from airflow_provider_polar.engine.files.storage import Directory
    from airflow_provider_polar.engine.window import EventWindow


class PolarAssembleExportOperator(PolarPublishingOperator):
    """Checks the exports of a window's shards against Polar's count and publishes one manifest for them all.

    It takes the place of the shards' own manifests; see
    :class:`~airflow_provider_polar.operators.plan.PolarPlanExportOperator`. Shards that changed since they were
    exported are exported again here. Takes the parameters of a
    :class:`~airflow_provider_polar.operators._base.PolarPublishingOperator` and returns what that says.

    :param plan: the planning task's output (templated).
    :param filters: the exports' filters (templated).
    """

    template_fields: Sequence[str] = (
        *PolarPublishingOperator.template_fields,
        "destination",
        "destination_conn_id",
        "partition_key",
        "plan",
        "filters",
    )

    def __init__(self, *, plan: Any, filters: EventFilters | Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self.filters = filters
        self._check()

    def _parsers(self) -> dict[str, Parser]:
        return super()._parsers() | {"filters": parse_filters}

    def execute(self, context: Context) -> dict[str, Any]:
        """One request where nothing changed since the exports.

        :raises AirflowFailException: a shard is missing or of another layout; a retry cannot help.
        :raises PolarIncompleteError: events keep arriving in the window; a retry goes on.
        :raises PolarDestinationError: the store refuses something.
        :raises PolarApiError: Polar failed; a retry may help.
        """
        from airflow_provider_polar.plugins.ledger.records import keep_export

        with self._connected() as hook:
            filters = hook.filters(self.filters)
            directory = self._directory()
            assembly = self._assembly(directory, filters)
            show_events(context, hook.settings.environment, window=assembly.window, filters=filters)
            keep_export(context, directory.url, assembly.window, filters)
            manifest = assembly.run()
            self._report_lineage(directory, assembly.name.manifest, manifest)
            path = directory.url_of(assembly.name.manifest)
            rows, files = number_of(manifest.rows, "event"), number_of(len(manifest.files), "file")
            self.log.info("%s of %s in %s: %s", rows, manifest.window, files, path)
            result = self._published(context, manifest, path, directory)
            keep_export(context, directory.url, assembly.window, filters, result)
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
