"""Rows of a query, one at a time: the database's own cursor streams them, and memory does not grow with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from itertools import count
from typing import Any

from airflow_provider_polar.engine.files.streams import gathered
from airflow_provider_polar.engine.ingesting.sources import ColumnCheck, Row
from airflow_provider_polar.engine.ingesting.values import utc_text
from airflow_provider_polar.engine.loading.failures import PASSING, is_a, reason
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import (
    PolarConfigurationError,
    PolarError,
    PolarSourceError,
    PolarSourceUnavailableError,
)

ROWS_AT_ONCE = 2000
"""Rows that are fetched together: what a query holds in memory."""
WINDOW_PARAMETERS = ("start", "end")
_ON_SERVER = "polar_ingest"


@dataclass(frozen=True, slots=True)
class Query:
    """A query and its parameters.

    :param parameters: as the database's driver takes them, by name or by position.
    :param window: gives the parameters ``start`` and ``end``, of which those that the query names are handed over.
    """

    sql: str
    parameters: Mapping[str, Any] | Sequence[Any] | None = None
    window: EventWindow | None = None

    def values(self, moment: Callable[[datetime], Any]) -> Any:
        """The parameters of the statement; None where it has none, for then a driver takes ``%`` as it is.

        :param moment: a bound of the window, which is in UTC, as the driver takes it.
        """
        if self.window is None:
            return self.parameters or None
        bounds = {name: getattr(self.window, name) for name in WINDOW_PARAMETERS if names_parameter(self.sql, name)}
        given = self.parameters or {}
        if not isinstance(given, Mapping):
            raise PolarConfigurationError(
                "parameters are a list, and sql names start or end, the bounds of the window: give them as a dict"
            )
        return {**given, **{name: moment(bound) for name, bound in bounds.items()}}


def names_parameter(sql: str, name: str) -> bool:
    """Whether a statement has a parameter of this name, in whichever style (``%(start)s``, ``:start``, ``$start``)."""
    return re.search(rf"%\({name}\)s|(?<![:\w])[:$@]{name}\b", sql) is not None


def names_window(sql: str) -> bool:
    """Whether a statement has a bound of the window as a parameter."""
    return any(names_parameter(sql, name) for name in WINDOW_PARAMETERS)


def rows_of_query(connect: Callable[[], Any], query: Query, where: str, check: ColumnCheck) -> Iterator[Row]:
    """The rows of a query, numbered from 1 in the order in which the database gives them.

    :param connect: makes the DB-API connection, which is closed in the end.
    :param where: the database in words, for messages.
    :param check: is told the columns before the first row.
    :raises PolarSourceError: the database refuses the query, or what ``check`` raises. A retry does not help.
    :raises PolarSourceUnavailableError: the database failed; a retry may help.
    """
    with _telling(where, query.sql), closing(connect()) as connection:
        cursor = _executed(connection, query)
        # Only then has a cursor on the server a description.
        rows = cursor.fetchmany(ROWS_AT_ONCE)
        columns = [column[0] for column in cursor.description or ()]
        if not columns:
            raise PolarSourceError(f"the query in {where} gives no rows: it is no SELECT")
        if len(set(columns)) != len(columns):
            raise PolarSourceError(f"the query in {where} has two columns of one name: {', '.join(columns)}")
        check(f"the query in {where}", columns, True)
        numbers = count(1)
        while rows:
            for values in rows:
                yield Row(0, next(numbers), *gathered(dict(zip(columns, values, strict=True))))
            rows = cursor.fetchmany(ROWS_AT_ONCE)


def _executed(connection: Any, query: Query) -> Any:
    driver = type(connection).__module__.partition(".")[0]
    make_cursor, moment = _DRIVERS.get(driver, (_own_cursor, _aware))
    cursor = make_cursor(connection)
    parameters = query.values(moment)
    cursor.execute(*((query.sql,) if parameters is None else (query.sql, parameters)))
    return cursor


def _own_cursor(connection: Any) -> Any:
    return connection.cursor()


def _psycopg_cursor(connection: Any) -> Any:
    return connection.cursor(name=_ON_SERVER, row_factory=import_module("psycopg.rows").tuple_row)


def _psycopg2_cursor(connection: Any) -> Any:
    return connection.cursor(name=_ON_SERVER, cursor_factory=import_module("psycopg2.extensions").cursor)


def _mysqlclient_cursor(connection: Any) -> Any:
    return connection.cursor(import_module("MySQLdb.cursors").SSCursor)


def _aware(moment: datetime) -> datetime:
    return moment


def _naive(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None)


_DRIVERS: dict[str, tuple[Callable[[Any], Any], Callable[[datetime], Any]]] = {
    "psycopg": (_psycopg_cursor, _aware),
    "psycopg2": (_psycopg2_cursor, _aware),
    "MySQLdb": (_mysqlclient_cursor, _naive),
    "pymysql": (_own_cursor, _naive),  # no hook of Airflow's uses it; its streaming cursor cannot be left half read
    "mysql": (_own_cursor, _naive),
    "sqlite3": (_own_cursor, utc_text),
}
"""By a driver's module: the cursor that streams, where it is not the driver's own one, and how a moment is bound."""


class _Names(frozenset[str]):
    """What a query itself names, which a message may quote, also after a database's or schema's name."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).rpartition(".")[2])


@contextmanager
def _telling(where: str, sql: str) -> Iterator[None]:
    try:
        yield
    except PolarError:
        raise
    except Exception as error:
        told = reason(error, _Names(re.findall(r"\w+", sql)))
        message = f"the query in {where} cannot be read: {type(error).__name__}: {told}"
        if not is_a("Error", error):
            raise PolarSourceUnavailableError(message) from error
        # Not chained: a driver's error may quote the row that it is about.
        if any(is_a(name, error) for name in PASSING):
            raise PolarSourceUnavailableError(f"{message} (a retry helps if the database was away)") from None
        raise PolarSourceError(message) from None
