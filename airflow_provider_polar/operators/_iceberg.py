"""Iceberg catalogues as operators take them: by name or properties, with an Airflow connection for what is secret."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_polar.exceptions import PolarConfigurationError, PolarConnectionNotFoundError
from airflow_provider_polar.parameters import is_nothing

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

_SECRET = re.compile(r"secret|token|credential|password|authorization|account-key|sas|connection-string", re.IGNORECASE)
_NOT_SECRET = {"oauth2-server-uri", "token-refresh-enabled"}


def check_catalog(value: Any, name: str) -> None:
    """Refuses what names no catalogue, or has a secret in it.

    :raises PolarConfigurationError: it is neither a name nor a dict of properties, or one of these is a secret.
    """
    if value is None:
        return
    if isinstance(value, str) and not is_nothing(value):
        return
    if not isinstance(value, Mapping) or not value:
        raise PolarConfigurationError(
            f"{name} is {type(value).__name__}; it is the name of a catalogue in PyIceberg's configuration, or a dict "
            "of its properties, such as {'type': 'glue'}"
        )
    for key in _secrets(value):
        raise PolarConfigurationError(
            f"{name} has a secret, {key!r}, which would be seen in Airflow's pages: put it into the connection that "
            "iceberg_conn_id names, as its password or in its extra"
        )


def _secrets(properties: Mapping[str, Any]) -> Iterator[str]:
    for key, value in properties.items():
        if isinstance(value, Mapping):
            yield from _secrets(value)
        elif (_SECRET.search(key) and key not in _NOT_SECRET) or (
            isinstance(value, str) and "://" in value and urlsplit(value).password
        ):
            yield key


def load_catalog(catalog: str | Mapping[str, Any] | None, conn_id: str | None) -> tuple[Catalog, str]:
    """The catalogue, and the same in words: its name and where it is, never a secret.

    :param catalog: a name, or properties (``name`` among them names it).
    :param conn_id: the connection: its host is the property ``uri``, login and password are ``credential``, and its
        extra is further properties, as for the hook of Airflow's Iceberg provider. ``catalog`` goes before it.
    :raises PolarConnectionNotFoundError: Airflow does not give the connection; a retry may help.
    :raises PolarConfigurationError: PyIceberg makes no catalogue of it, or is not installed.
    """
    from airflow_provider_polar.engine.files.packages import installed

    pyiceberg = installed("pyiceberg.catalog", "iceberg", "an Iceberg table")
    own = {"name": catalog} if isinstance(catalog, str) else dict(catalog or {})
    properties = ({"name": conn_id} | _properties_of(conn_id) if conn_id else {}) | own
    name = properties.pop("name", None)
    where = f"the Iceberg catalogue {name or 'default'!r}"
    if uri := str(properties.get("uri", "")):
        where += f" ({uri.rpartition('@')[2] if '@' in uri else uri})"
    try:
        return pyiceberg.load_catalog(name, **properties), where
    except Exception as error:
        # Not chained, and without its text: it may have all properties in it.
        raise PolarConfigurationError(
            f"PyIceberg makes no catalogue of {where} ({type(error).__name__}): check type, uri and warehouse in "
            "catalog, in the connection, or in PyIceberg's configuration, and that the package that the type needs is "
            "installed"
        ) from None


def _properties_of(conn_id: str) -> dict[str, Any]:
    try:
        connection: Any = BaseHook.get_connection(conn_id)
    except Exception as error:
        # Not chained: the error of a back-end may quote what it could not read.
        raise PolarConnectionNotFoundError(
            f"Airflow gives no connection {conn_id!r} ({type(error).__name__}): it is not defined, or the secrets "
            "back-end that has it is away. Define it, or try again when the back-end is there"
        ) from None
    properties: dict[str, Any] = {"uri": connection.host} if connection.host else {}
    if connection.password:
        properties["credential"] = ":".join(part for part in (connection.login, connection.password) if part)
    return {**properties, **connection.extra_dejson}
