"""Loads exported events into a table of a database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_polar.exceptions import PolarSourceError
from airflow_provider_polar.links.polar import PolarManifestLink, show_manifest
from airflow_provider_polar.operators._checked import failing_clearly
from airflow_provider_polar.operators._sql import check_conn_id, sql_hook
from airflow_provider_polar.parameters import Parser
from airflow_provider_polar.transfers._base import PolarLoadingOperator, run_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context

    from airflow_provider_polar.engine.loading.database import Database
    from airflow_provider_polar.engine.loading.tables import TableName


class PolarEventsToSqlOperator(PolarLoadingOperator):
    """Loads exported windows into a table, one transaction a window: a reader never sees a part of one.

    The table is created if it is missing: one column a field of the API, and those of ``metadata_columns``. The table
    ``polar_loads`` beside it says what was loaded, so that the same manifest again is nothing to do. A window is
    committed only if the table then holds exactly its events.

    For PostgreSQL, MySQL and MariaDB, SQLite and DuckDB; other databases by ANSI SQL, which is not tested. Takes the
    parameters of a :class:`~airflow_provider_polar.transfers._base.PolarLoadingOperator`.

    Returns plain JSON: ``table``, ``windows`` (how many were given), ``rows`` (their events), ``inserted``,
    ``removed``, and ``skipped`` (windows that were there already, by the same manifest). The events of the task's asset
    ``outlets`` say the same.

    :param sql_conn_id: Airflow connection of the database (templated).
    :param table: where the events go: ``events`` or ``schema.events`` (templated). It takes exports of one set of
        filters only.
    """

    template_fields: Sequence[str] = (*PolarLoadingOperator.template_fields, "sql_conn_id", "table")
    operator_extra_links: Sequence[BaseOperatorLink] = (PolarManifestLink(),)

    def __init__(self, *, sql_conn_id: str, table: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sql_conn_id = sql_conn_id
        self.table = table
        self._check()

    def _parsers(self) -> dict[str, Parser]:
        return super()._parsers() | {"sql_conn_id": check_conn_id, "table": _table}

    def execute(self, context: Context) -> dict[str, Any]:
        """Loads the windows one after the other; a retry goes on with the first that is not there.

        :raises AirflowFailException: a parameter is wrong, the table is not what is needed, or it holds other events
            than the manifest; a retry cannot help.
        :raises PolarDatabaseError: the database failed; a retry may help.
        :raises PolarSourceError: a file is not what its manifest says; a retry helps once it is exported again.
        :raises PolarDestinationError: the store of the files does not respond; a retry may help.
        """
        from airflow_provider_polar.assets.emission import emit_load
        from airflow_provider_polar.engine.loading.load import TableLoad

        with failing_clearly(PolarSourceError):
            self._prepare()
            with self._database() as database:
                load = TableLoad(
                    database,
                    self._parsed("table"),
                    mode=self._parsed("mode"),
                    run=run_of(context),
                    exclude_fields=self.exclude_fields,
                    metadata_columns=self._parsed("metadata_columns"),
                    logger=self.log,
                )
                loaded, urls = [], []
                for window in self._windows():
                    loaded.append(load.load(window))
                    urls.append(window.url)
                    show_manifest(context, window.url)
            result = self._result(loaded)
            self._loaded = (urls, self._report_output(load.table), result)
            emit_load(context, result)
            return result

    @contextmanager
    def _database(self) -> Iterator[Database]:
        from airflow_provider_polar.engine.loading.databases import database_of
        from airflow_provider_polar.engine.loading.failures import telling

        self._hook, where = sql_hook(self.sql_conn_id)
        with telling("connect", where):
            connection = self._hook.get_conn()
        try:
            if getattr(self._hook, "supports_autocommit", False):
                self._hook.set_autocommit(connection, False)
            database = database_of(connection, where)
            self.log.info("loading into %s in %s, as %s", self.table, where, database.title)
            yield database
        finally:
            with suppress(Exception):  # one that was lost cannot be closed
                connection.close()

    def _report_output(self, table: TableName) -> tuple[str, str]:
        """Tells Airflow's lineage of the table; its namespace and name."""
        # Imported late: on Airflow 3.0 it brings half of Airflow's core with it.
        from airflow.providers.common.compat.sdk import get_hook_lineage_collector

        from airflow_provider_polar.assets.lineage import table_dataset

        namespace, name = table_dataset(self._hook.get_connection(self.sql_conn_id), table.parts)
        collector: Any = get_hook_lineage_collector()
        with suppress(ValueError):  # Airflow's rules for the address of a table differ from database to database
            collector.add_output_asset(context=self._hook, uri=f"{namespace}/{name.replace('.', '/')}")
        return namespace, name

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002
        """What OpenLineage's provider takes when the task has ended."""
        from airflow_provider_polar.assets.lineage import load_lineage

        loaded = getattr(self, "_loaded", None)
        return loaded and load_lineage(*loaded)


def _table(value: Any, name: str) -> TableName:
    from airflow_provider_polar.engine.loading.tables import TableName

    return TableName.parse(value, name)
