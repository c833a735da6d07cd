"""Loads exported events into an Iceberg table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_polar.exceptions import PolarConfigurationError, PolarSourceError
from airflow_provider_polar.links.polar import PolarManifestLink, show_manifest
from airflow_provider_polar.operators._checked import failing_clearly
from airflow_provider_polar.operators._iceberg import check_catalog, load_catalog
from airflow_provider_polar.operators._sql import check_conn_id
from airflow_provider_polar.parameters import Parser, optional
from airflow_provider_polar.transfers._base import PolarLoadingOperator, run_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context

    from airflow_provider_polar.engine.loading.iceberg import IcebergLoad
    from airflow_provider_polar.engine.loading.tables import TableName


class PolarEventsToIcebergOperator(PolarLoadingOperator):
    """Loads exported windows into an Iceberg table, each as one snapshot: a reader never sees a part of one.

    The table is created if it is missing: one column a field of the API, and those of ``metadata_columns``; columns
    that it lacks are added. A snapshot has the window and the manifest's SHA-256 among its properties, so that the same
    manifest again is nothing to do, and time travel shows what a window was before. A window is committed only if the
    table then holds exactly its events. Needs the extra ``iceberg``. Takes the parameters of a
    :class:`~airflow_provider_polar.transfers._base.PolarLoadingOperator`.

    Returns plain JSON: ``table``, ``windows`` (how many were given), ``rows`` (their events), ``inserted``,
    ``removed``, and ``skipped`` (windows that were there already, by the same manifest). The events of the task's asset
    ``outlets`` say the same.

    :param table: where the events go, ``namespace.table`` (templated). It takes exports of one set of filters only.
    :param catalog: the catalogue: its name in PyIceberg's own configuration (a file ``.pyiceberg.yaml``, or variables
        ``PYICEBERG_CATALOG__...``), or a dict of its properties, such as ``{"type": "glue"}`` (templated). A secret in
        it is refused.
    :param iceberg_conn_id: Airflow connection with the catalogue's properties: its host is ``uri``, login and password
        are ``credential``, its extra has the others; what ``catalog`` says goes before it (templated). One of the two
        has to be given.
    """

    template_fields: Sequence[str] = (*PolarLoadingOperator.template_fields, "table", "catalog", "iceberg_conn_id")
    operator_extra_links: Sequence[BaseOperatorLink] = (PolarManifestLink(),)

    def __init__(
        self,
        *,
        table: str,
        catalog: str | Mapping[str, Any] | None = None,
        iceberg_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.table = table
        self.catalog = catalog
        self.iceberg_conn_id = iceberg_conn_id
        self._check()

    def _parsers(self) -> dict[str, Parser]:
        return super()._parsers() | {
            "table": _table,
            "catalog": check_catalog,
            "iceberg_conn_id": optional(check_conn_id),
        }

    def _check_together(self) -> None:
        if self.catalog is None and self.iceberg_conn_id is None:
            raise PolarConfigurationError(
                "neither catalog nor iceberg_conn_id is given: name a catalogue of PyIceberg's configuration, give its "
                "properties, or an Airflow connection that has them"
            )

    def execute(self, context: Context) -> dict[str, Any]:
        """Loads the windows one after the other; a retry goes on with the first that is not there.

        :raises AirflowFailException: a parameter is wrong, the table is not what is needed, or it holds other events
            than the manifest; a retry cannot help.
        :raises PolarDatabaseError: the catalogue or the table's store failed; a retry may help.
        :raises PolarSourceError: a file is not what its manifest says; a retry helps once it is exported again.
        :raises PolarDestinationError: the store of the files does not respond; a retry may help.
        """
        from airflow_provider_polar.assets.emission import emit_load

        with failing_clearly(PolarSourceError):
            self._prepare()
            load = self._load(context)
            loaded, urls = [], []
            for window in self._windows():
                loaded.append(load.load(window))
                urls.append(window.url)
                show_manifest(context, window.url)
            result = self._result(loaded)
            if load.location:
                self._loaded = (urls, load.location, result)
                self._report_output(load.location)
            emit_load(context, result)
            return result

    def _load(self, context: Context) -> IcebergLoad:
        catalog, where = load_catalog(self.catalog, self.iceberg_conn_id)
        # Imported late: it needs the packages whose lack was just told clearly.
        from airflow_provider_polar.engine.loading.iceberg import IcebergLoad

        self.log.info("loading into %s in %s", self.table, where)
        return IcebergLoad(
            catalog,
            self._parsed("table"),
            where=where,
            mode=self._parsed("mode"),
            run=run_of(context),
            exclude_fields=self.exclude_fields,
            metadata_columns=self._parsed("metadata_columns"),
            logger=self.log,
        )

    def _report_output(self, location: str) -> None:
        """Tells Airflow's lineage where the table is."""
        # Imported late: on Airflow 3.0 it brings half of Airflow's core with it.
        from airflow.providers.common.compat.sdk import get_hook_lineage_collector

        collector: Any = get_hook_lineage_collector()
        with suppress(ValueError):  # Airflow's rules for an address differ from store to store
            collector.add_output_asset(context=self, uri=location)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002
        """What OpenLineage's provider takes when the task has ended."""
        from airflow_provider_polar.assets.lineage import load_lineage, storage_dataset

        if (loaded := getattr(self, "_loaded", None)) is None:
            return None
        urls, location, result = loaded
        return load_lineage(urls, storage_dataset(location), result)


def _table(value: Any, name: str) -> TableName:
    from airflow_provider_polar.engine.loading.tables import TableName

    table = TableName.parse(value, name)
    if len(table.parts) < 2:
        raise PolarConfigurationError(f"{name} is {value!r}; an Iceberg table has a namespace, as in usage.events")
    return table
