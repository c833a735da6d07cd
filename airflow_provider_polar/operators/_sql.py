"""Databases as operators take them: by an Airflow connection, whose provider is needed only then."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_polar.exceptions import PolarConfigurationError, PolarConnectionNotFoundError
from airflow_provider_polar.parameters import is_nothing

_EXTRAS = {"postgres": "postgres", "mysql": "mysql", "duckdb": "duckdb", "sqlite": "sqlite"}
"""The extra of this distribution that brings what a connection's type needs."""


def check_conn_id(value: Any, name: str) -> None:
    """Refuses what is no connection's id.

    :raises PolarConfigurationError: it is empty, or no text.
    """
    if not isinstance(value, str) or is_nothing(value):
        raise PolarConfigurationError(f"{name} is {value!r}; it is the id of a connection to a database")


def sql_hook(conn_id: str, name: str = "sql_conn_id") -> tuple[Any, str]:
    """The hook of a database's connection, and the database in words: host and connection, never a password.

    :param name: the parameter that names the connection, for the error.
    :raises PolarConnectionNotFoundError: Airflow does not give it; a retry may help.
    :raises PolarConfigurationError: it is no database's, or the provider that serves it is not installed.
    """
    check_conn_id(conn_id, name)
    try:
        connection: Any = BaseHook.get_connection(conn_id)
    except Exception as error:
        # Not chained: the error of a back-end may quote what it could not read.
        raise PolarConnectionNotFoundError(
            f"Airflow gives no connection {conn_id!r} ({type(error).__name__}): it is not defined, or the secrets "
            "back-end that has it is away. Define it, or try again when the back-end is there"
        ) from None
    kind = connection.conn_type
    try:
        hook = connection.get_hook()
    except Exception as error:
        extra = _EXTRAS.get(kind)
        install = f"pip install 'airflow-provider-polar[{extra}]'" if extra else "install the provider that serves it"
        raise PolarConfigurationError(
            f"{name} {conn_id!r} is a connection of type {kind!r}, which no installed Airflow provider serves "
            f"({type(error).__name__}): {install}"
        ) from error
    if not hasattr(hook, "get_conn") or not hasattr(hook, "get_records"):
        raise PolarConfigurationError(f"{name} {conn_id!r} is a connection of type {kind!r}, which is no database's")
    place = "/".join(str(part) for part in (connection.host, connection.schema) if part)
    return hook, f"{kind} connection {conn_id!r}" + (f" ({place})" if place else "")
