"""What an Airflow connection of type ``polar`` says, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from airflow_provider_polar.exceptions import PolarConfigurationError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

ENVIRONMENTS = ("production", "sandbox")
DEFAULT_API_VERSION = "2026-04"
DEFAULT_TIMEOUT = 30.0
DEFAULT_BUDGET = {"production": 300.0, "sandbox": 60.0}
"""Requests a minute where the connection says nothing: 60 % of what Polar gives an ordinary organization (500 in
production, 100 in the sandbox), for the organization's own shop draws on the same budget."""
FIELDS = frozenset({"environment", "organization_id", "api_version", "requests_per_minute", "timeout"})


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """A connection's settings.

    :param token: organization access token; never shown.
    :param base_url: of Polar's API.
    :param environment: ``production`` or ``sandbox``; decides the base URL where the connection has no host.
    :param organization_id: the organization meant where the token may see several.
    :param requests_per_minute: the budget.
    :param timeout: seconds.
    """

    token: str = field(repr=False)
    base_url: str
    environment: str = "production"
    organization_id: str | None = None
    api_version: str = DEFAULT_API_VERSION
    requests_per_minute: float = DEFAULT_BUDGET["production"]
    timeout: float = DEFAULT_TIMEOUT

    @classmethod
    def read(cls, connection: Connection, extra: Mapping[str, Any]) -> ConnectionSettings:
        """
        :raises PolarConfigurationError: naming the connection and the field, never the token.
        """
        where = f"connection {connection.conn_id!r}"
        token = (connection.password or "").strip()
        if not token:
            raise PolarConfigurationError(
                f"{where} has no password: it holds the organization access token (polar_oat_...)."
            )
        values = {key: value for key, value in extra.items() if value not in (None, "")}
        environment = str(values.get("environment", "production"))
        if environment not in ENVIRONMENTS:
            raise PolarConfigurationError(f"{where}: environment is {environment!r}, not production or sandbox.")
        return cls(
            token=token,
            base_url=_base_url(connection, environment),
            environment=environment,
            organization_id=_uuid(values.get("organization_id"), where),
            api_version=str(values.get("api_version", DEFAULT_API_VERSION)),
            requests_per_minute=_positive(values, "requests_per_minute", DEFAULT_BUDGET[environment], where),
            timeout=_positive(values, "timeout", DEFAULT_TIMEOUT, where),
        )

    def with_budget(self, requests_per_minute: float | None) -> ConnectionSettings:
        """The same with another budget; None changes nothing."""
        return self if requests_per_minute is None else replace(self, requests_per_minute=requests_per_minute)

    def client_options(self) -> dict[str, Any]:
        """Arguments of either client."""
        return {
            "token": self.token,
            "base_url": self.base_url,
            "api_version": self.api_version,
            "timeout": self.timeout,
            "requests_per_minute": self.requests_per_minute,
        }


def _base_url(connection: Connection, environment: str) -> str:
    from airflow_provider_polar.api.wire import BASE_URLS

    host = (connection.host or "").strip().rstrip("/")
    if not host:
        return BASE_URLS[environment]
    if "://" not in host:
        local = host.split(":")[0] in ("localhost", "127.0.0.1", "[")
        host = f"{connection.schema or ('http' if local else 'https')}://{host}"
    if connection.port and ":" not in host.split("://", 1)[1]:
        host = f"{host}:{connection.port}"
    return host


def _uuid(value: Any, where: str) -> str | None:
    if value is None:
        return None
    try:
        return str(UUID(str(value)))
    except ValueError:
        raise PolarConfigurationError(f"{where}: organization_id is {value!r}, not a UUID.") from None


def _positive(values: Mapping[str, Any], name: str, default: float, where: str) -> float:
    try:
        number = float(values.get(name, default))
    except (TypeError, ValueError):
        number = 0.0
    if not 0 < number < float("inf"):
        raise PolarConfigurationError(f"{where}: {name} is {values.get(name)!r}, not a positive number.")
    return number
