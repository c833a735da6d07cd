"""Rows of a query, for the operator that sends them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, get_args

from airflow_provider_polar.engine.ingesting.options import OnChanged
from airflow_provider_polar.exceptions import PolarConfigurationError
from airflow_provider_polar.operators._base import PolarOperator, check_bounds, window_parsers
from airflow_provider_polar.operators._sql import check_conn_id, sql_hook
from airflow_provider_polar.operators._storage import check_path, storage_path
from airflow_provider_polar.parameters import Parser, is_nothing, one_of, optional

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from airflow_provider_polar.engine.ingesting.keys import KeyedRows
    from airflow_provider_polar.engine.ingesting.mapping import EventMapping
    from airflow_provider_polar.engine.ingesting.query import Query
    from airflow_provider_polar.engine.ingesting.snapshot import Snapshot
    from airflow_provider_polar.engine.ingesting.sources import ColumnCheck
    from airflow_provider_polar.windows import CalendarWindow

_WITH_SQL = (
    *("sql_conn_id", "parameters", "key", "snapshot_path", "snapshot_conn_id", "keep_snapshot"),
    *("start", "end", "window"),
)
_WHY_ONE = (
    "a query can give other rows at the next attempt, and then a retry would bill them beside the first. Give one of "
    "two, best both: key=, the column or columns that say which event a row is, so that one key is billed once "
    "whatever else its row says; snapshot_path=, a directory in object storage where the first attempt freezes the "
    "rows before it sends any, so that each retry sends the same"
)


class PolarQueryOperator(PolarOperator):
    """An operator that can take its rows from a database.

    :param sql: a query, or the path of a ``.sql`` file (templated). The run's window is in the parameters ``start`` and
        ``end``, in the style of the database's driver: ``%(start)s`` for PostgreSQL and MySQL, ``:start`` for SQLite,
        ``$start`` for DuckDB. They are moments in UTC: aware, but for MySQL naive and for SQLite ISO 8601 text with
        ``Z``. Rows are streamed by a cursor of the database.
    :param sql_conn_id: Airflow connection of the database (templated); the provider of its type must be installed.
    :param parameters: further parameters of the query, a dict or a list (templated).
    :param start: first moment of the window, aware datetime or ISO 8601 text with a zone (templated).
    :param end: first moment after it (templated). Without both, the window follows the run; see
        :func:`airflow_provider_polar.windows.resolve_window`. A query that names neither bound needs no window.
    :param window: length of the window, where the run gives only its one end (templated).
    :param key: the column or columns whose values say which event a row is (templated). The identity is the key within
        ``idempotency_scope``, which is by default the task in all its runs: the same key is never billed again, in
        whichever run and with whatever other value it comes. This or ``snapshot_path`` is required.
    :param snapshot_path: a directory in object storage (templated), where the first attempt freezes the events before
        the first request; every attempt, on any worker, sends those and does not read the query again. What is frozen
        goes when the task has succeeded.
    :param snapshot_conn_id: Airflow connection of its store (templated).
    :param keep_snapshot: keep what was frozen, too, when the task has succeeded: later runs compare their rows with it.
    :param on_changed: what to do with rows whose key is in a kept snapshot with other content: ``fail`` sends nothing
        and names the rows, ``skip`` sets them aside and sends the others.
    """

    template_fields: Sequence[str] = (
        *PolarOperator.template_fields,
        "sql",
        *_WITH_SQL[:-4],
        *_WITH_SQL[-3:],
    )
    template_ext: Sequence[str] = (".sql",)

    def __init__(
        self,
        *,
        sql: str | None = None,
        sql_conn_id: str | None = None,
        parameters: Mapping[str, Any] | Sequence[Any] | None = None,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        window: timedelta | float | str | CalendarWindow | None = None,
        key: str | Sequence[str] | None = None,
        snapshot_path: str | ObjectStoragePath | None = None,
        snapshot_conn_id: str | None = None,
        keep_snapshot: bool = False,
        on_changed: OnChanged = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sql = sql
        self.sql_conn_id = sql_conn_id
        self.parameters = parameters
        self.start = start
        self.end = end
        self.window = window
        self.key = key
        self.snapshot_path = snapshot_path
        self.snapshot_conn_id = snapshot_conn_id
        self.keep_snapshot = keep_snapshot
        self.on_changed = on_changed

    def _parsers(self) -> dict[str, Parser]:
        return (
            super()._parsers()
            | window_parsers()
            | {
                "sql": optional(_check_sql),
                "sql_conn_id": optional(check_conn_id),
                "parameters": optional(_check_parameters),
                "key": optional(_columns),
                "snapshot_path": optional(check_path),
                "on_changed": one_of(*get_args(OnChanged)),
            }
        )

    def _check_together(self) -> None:
        super()._check_together()
        if self.sql is None:
            if given := [name for name in _WITH_SQL if getattr(self, name) not in (None, False)]:
                raise PolarConfigurationError(f"{given[0]} goes with sql, and there is none")
            return
        if self.sql_conn_id is None:
            raise PolarConfigurationError("sql needs sql_conn_id, the connection of the database")
        if self.key is None and self.snapshot_path is None:
            raise PolarConfigurationError(f"sql needs key or snapshot_path: {_WHY_ONE}")
        if self.keep_snapshot and self.snapshot_path is None:
            raise PolarConfigurationError("keep_snapshot=True needs snapshot_path, where the snapshot is kept")
        mapping = getattr(self, "mapping", None)
        if self.key is not None and isinstance(mapping, Mapping) and "external_id" in mapping:
            raise PolarConfigurationError("key and the external_id of mapping both say who an event is: give one")
        check_bounds(self.start, self.end, self.window)

    def prepare_template(self) -> None:
        """Refuses a query of the run's window where the schedule gives none; Airflow calls it after parsing."""
        from airflow_provider_polar.engine.ingesting.query import names_window

        dag = self.get_dag()
        is_given = any(value is not None for value in (self.start, self.end, self.window))
        if dag is not None and not is_given and isinstance(self.sql, str) and names_window(self.sql):
            from airflow_provider_polar.windows import check_schedule

            with self._named():
                check_schedule(dag)

    def _query(self, context: Context) -> Query:
        """The query, with the run's window where it names one of its bounds."""
        from airflow_provider_polar.engine.ingesting.query import Query, names_window
        from airflow_provider_polar.windows import resolve_window

        sql: str = self.sql  # type: ignore[assignment]
        if not names_window(sql):
            return Query(sql, self.parameters)
        window = resolve_window(context, start=self.start, end=self.end, window=self._parsed("window"))
        return Query(sql, self.parameters, window)

    def _keyed(self, scope: str, mapping: EventMapping | None) -> KeyedRows | None:
        from airflow_provider_polar.engine.ingesting.keys import KeyedRows

        return None if self.key is None else KeyedRows(self._parsed("key"), scope, mapping)

    def _snapshot(self, scope: str, owner: str) -> Snapshot | None:
        from airflow_provider_polar.engine.files.storage import Directory
        from airflow_provider_polar.engine.ingesting.snapshot import Snapshot

        if self.snapshot_path is None:
            return None
        directory = Directory(storage_path(self.snapshot_path, self.snapshot_conn_id, "snapshot_path"))
        return Snapshot(directory, scope, owner, keep=self.keep_snapshot)

    def _rows_of_query(self, query: Query, check: ColumnCheck) -> tuple[Any, str]:
        """The rows, and the database in words."""
        from airflow_provider_polar.engine.ingesting.query import rows_of_query

        hook, where = sql_hook(self.sql_conn_id)  # type: ignore[arg-type]
        self._report_query(hook, query)
        return rows_of_query(hook.get_conn, query, where, check), where

    def _report_query(self, hook: Any, query: Query) -> None:
        """Tells Airflow's lineage of the query, where common.sql can: it finds the tables in it."""
        try:
            from airflow.providers.common.sql.hooks.lineage import send_sql_hook_lineage
        except ImportError:
            return
        send_sql_hook_lineage(context=hook, sql=query.sql)


def _check_sql(value: Any, name: str) -> None:
    if not isinstance(value, str) or is_nothing(value):
        raise PolarConfigurationError(f"{name} is {value!r}; it is a query as text, or the path of a .sql file")


def _check_parameters(value: Any, name: str) -> None:
    from airflow_provider_polar.engine.ingesting.query import WINDOW_PARAMETERS

    if isinstance(value, str) or not isinstance(value, (Mapping, Sequence)):
        raise PolarConfigurationError(f"{name} is a {type(value).__name__}; it is a dict or a list")
    if isinstance(value, Mapping) and (taken := [one for one in WINDOW_PARAMETERS if one in value]):
        raise PolarConfigurationError(
            f"{name} has {taken[0]!r}, which is the window's: give start and end to the task, or choose another name"
        )


def _columns(value: Any, name: str) -> list[str]:
    columns = [value] if isinstance(value, str) else value
    is_list = isinstance(columns, Sequence) and bool(columns)
    if not is_list or not all(isinstance(column, str) and not is_nothing(column) for column in columns):
        raise PolarConfigurationError(f"{name} is {value!r}; it is the name of a column, or a list of such")
    return list(columns)
