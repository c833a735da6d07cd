"""What an Airflow connection of type ``polar`` says, read and checked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit
from uuid import UUID

from airflow_provider_polar.api.server import Server, is_local
from airflow_provider_polar.environments import DEFAULT_ENVIRONMENT, ENVIRONMENTS
from airflow_provider_polar.exceptions import PolarConfigurationError
from airflow_provider_polar.hooks.connection_form import CONN_FIELDS, CONN_TYPE
from airflow_provider_polar.wording import did_you_mean

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

_SHORTER_THAN_A_TOKEN = 12


@dataclass(frozen=True, slots=True)
class ConnectionSettings(Server):
    """A connection's settings.

    :param environment: ``production`` or ``sandbox``; decides the base URL where the connection has no host.
    :param organization_id: the organization meant where the token may see several.
    """

    requests_per_minute: float = ENVIRONMENTS[DEFAULT_ENVIRONMENT].budget
    environment: str = DEFAULT_ENVIRONMENT
    organization_id: str | None = None

    @classmethod
    def read(cls, connection: Connection) -> ConnectionSettings:
        """What the connection says.

        Its type comes first: of any other type nothing else is read, for its password is no access token of Polar's.

        :raises PolarConfigurationError: naming the connection and the field, never the token. A retry does not help.
        """
        where = f"connection {connection.conn_id!r}"
        if connection.conn_type != CONN_TYPE:
            found = f"is of type {connection.conn_type!r}" if connection.conn_type else "has no type"
            raise PolarConfigurationError(
                f"{where} {found}: only the password of a connection of type {CONN_TYPE!r} is sent to Polar, so "
                "nothing was sent. Name such a connection, or set this one's type if its password is an access token"
            )
        token = (connection.password or "").strip()
        if not token:
            raise PolarConfigurationError(
                f"{where} has no password: it holds the organization access token (polar_oat_...)"
            )
        values = _extra(connection.extra, where)
        environment = ENVIRONMENTS[values.setdefault("environment", DEFAULT_ENVIRONMENT)]
        values.setdefault("requests_per_minute", environment.budget)
        base_url = _base_url(connection, where) or environment.base_url
        return cls(token=token, connection=connection.conn_id, base_url=base_url, **values)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no log may show: the token, and the token as a URI holds it."""
        return (self.token, quote(self.token, safe=""))

    def with_budget(self, requests_per_minute: float | None) -> ConnectionSettings:
        """The same with a budget of a task's own; None changes nothing.

        It is spent evenly from the first request: many short tasks, each in a process of its own, that divide one
        budget among them would together exceed it if each began with a burst.
        """
        return (
            self if requests_per_minute is None else replace(self, requests_per_minute=requests_per_minute, at_once=0)
        )

    def client_options(self) -> dict[str, Any]:
        """Arguments of either client."""
        return {one.name: getattr(self, one.name) for one in fields(Server)}


def _environment(value: Any) -> str:
    return {name: name for name in ENVIRONMENTS}[str(value)]


def _positive(value: Any) -> float:
    if 0 < (number := float(value)) < float("inf"):
        return number
    raise ValueError


def _true_or_false(value: Any) -> bool:
    # A connection that is kept as a URI has its extras as text.
    return {"true": True, "false": False}[str(value).lower()]


_READERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "environment": (_environment, " or ".join(ENVIRONMENTS)),
    "organization_id": (lambda value: str(UUID(str(value))), "a UUID"),
    "api_version": (str, "text"),
    "requests_per_minute": (_positive, "a positive number"),
    "timeout": (_positive, "a positive number"),
    "allow_http": (_true_or_false, "true or false"),
}
"""What a field's value becomes, and what it is when it is right."""


def _extra(text: str | None, where: str) -> dict[str, Any]:
    """The fields that are set. A connection goes to production unless told otherwise, so nothing is passed over."""
    try:
        extra = json.loads(text) if text and text.strip() else {}
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        raise PolarConfigurationError(f"{where}: its extra is not a JSON object")
    if unknown := [name for name in extra if name not in CONN_FIELDS]:
        said = ", ".join(f"{name} is an unknown extra{did_you_mean(name, CONN_FIELDS)}" for name in unknown)
        raise PolarConfigurationError(f"{where}: {said}; a connection to Polar has {', '.join(CONN_FIELDS)}")
    values = {name: value for name, value in extra.items() if value not in (None, "")}
    for name, value in values.items():
        read, right = _READERS[name]
        try:
            values[name] = read(value)
        except (TypeError, ValueError, KeyError):
            # Of what may be an access token in the wrong field only its length is told.
            length = len(str(value))
            told = repr(value) if length <= _SHORTER_THAN_A_TOKEN else f"a text of {length} characters"
            raise PolarConfigurationError(f"{where}: {name} is {told}, not {right}") from None
    return values


def _base_url(connection: Connection, where: str) -> str | None:
    host = (connection.host or "").strip()
    if not host:
        return None
    try:
        url = urlsplit(host if "://" in host else f"//{f'[{host}]' if _is_ipv6(host) else host}")
        port = url.port or connection.port
    except ValueError:
        raise PolarConfigurationError(f"{where}: its host (Base URL) has no valid host name or port") from None
    if "@" in url.netloc:
        raise PolarConfigurationError(
            f"{where}: its host (Base URL) names a user; the access token is the connection's password"
        )
    if re.search("polar_[a-z]+_", host):
        raise PolarConfigurationError(
            f"{where}: its host (Base URL) looks like an access token, which is the connection's password"
        )
    name = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname or ""
    scheme = url.scheme or connection.schema or ("http" if is_local(url.hostname or "") else "https")
    return urlunsplit((scheme, f"{name}:{port}" if port else name, url.path.rstrip("/"), url.query, url.fragment))


def _is_ipv6(host: str) -> bool:
    try:
        return ip_address(host).version == 6
    except ValueError:
        return False
