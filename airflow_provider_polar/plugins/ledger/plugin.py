"""The plugin that adds the ledger to Airflow: its application at ``/polar`` and its views.

Every process of Airflow imports it, so it imports nothing but what plugins are made of.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import AirflowPlugin, conf

PREFIX = "/polar"


async def _app(scope: Any, receive: Any, send: Any) -> None:
    """Loads the application at its first request, so that only web servers ever do."""
    from airflow_provider_polar.plugins.ledger.app import app

    await app(scope, receive, send)


def _page() -> str:
    """The page's address, behind whatever path Airflow itself is served at."""
    return urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/") + f"{PREFIX}/"


class PolarLedgerPlugin(AirflowPlugin):
    """The ledger page; Airflow 3.0 has its application, and 3.1 shows it in the navigation, too."""

    name = "polar_ledger"
    fastapi_apps = [{"name": "Polar ledger", "app": _app, "url_prefix": PREFIX}]
    external_views = [
        {"name": "Polar", "href": _page(), "destination": "nav", "category": "browse", "url_route": "polar"}
    ]
