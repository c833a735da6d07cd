"""Polar's environments and what a client takes unless it is told otherwise: each fact once, nothing imported."""

from __future__ import annotations

from typing import NamedTuple


class Environment(NamedTuple):
    """One of Polar's environments.

    :param base_url: of the API.
    :param dashboard_url: of the web pages.
    :param granted: requests a minute that Polar gives an ordinary organization.
    :param budget: requests a minute unless the connection says otherwise: 60 % of what is granted, for the
        organization's own shop draws on the same budget.
    """

    base_url: str
    dashboard_url: str
    granted: int
    budget: float


ENVIRONMENTS = {
    "production": Environment("https://api.polar.sh", "https://polar.sh", granted=500, budget=300.0),
    "sandbox": Environment("https://sandbox-api.polar.sh", "https://sandbox.polar.sh", granted=100, budget=60.0),
}
DEFAULT_ENVIRONMENT = "production"
DEFAULT_BASE_URL = ENVIRONMENTS[DEFAULT_ENVIRONMENT].base_url
DEFAULT_API_VERSION = "2026-04"
DEFAULT_TIMEOUT = 30.0
