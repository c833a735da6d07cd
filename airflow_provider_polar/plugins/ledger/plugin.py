"""The plugin that adds the ledger to Airflow: its application at ``/polar`` and its views.

Every process of Airflow imports it, so it imports nothing but what plugins are made of.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import AirflowPlugin, conf
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_4_PLUS

PREFIX = "/polar"
OPERATORS = (
    "PolarExportEventsOperator",
    "PolarAssembleExportOperator",
    "PolarReconcileEventsOperator",
    "PolarIngestEventsOperator",
)
"""The operators that keep records for the ledger."""


async def _app(scope: Any, receive: Any, send: Any) -> None:
    """Loads the application at its first request, so that only web servers ever do."""
    from airflow_provider_polar.plugins.ledger.app import app

    await app(scope, receive, send)


def _views() -> list[dict[str, Any]]:
    # Behind whatever path Airflow itself is served at.
    page = urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/") + f"{PREFIX}/"
    view = {
        "name": "Polar",
        "icon": f"{page}static/icon.svg",
        "icon_dark_mode": f"{page}static/icon-dark.svg",
    }
    views: list[dict[str, Any]] = [
        {**view, "href": page, "destination": "nav", "url_route": "polar", "nav_top_level": True}
    ]
    if AIRFLOW_V_3_4_PLUS:  # Older ones know no applies_to, and would show these everywhere.
        of_dag = f"{page}?dag_id={{DAG_ID}}"
        tag, operators = {"tags.name": ["polar"]}, {"task.operator_name": list(OPERATORS)}
        views += [
            {**view, "href": of_dag, "destination": "dag", "url_route": "polar-dag", "applies_to": tag},
            {**view, "href": of_dag, "destination": "task", "url_route": "polar-task", "applies_to": operators},
        ]
    return views


class PolarLedgerPlugin(AirflowPlugin):
    """The ledger page; Airflow 3.0 has its application, and 3.1 shows it in the navigation, too.

    From Airflow 3.4 on it is also a tab of tasks with this provider's operators, and of DAGs with the tag ``polar``.
    """

    name = "polar_ledger"
    fastapi_apps = [{"name": "Polar ledger", "app": _app, "url_prefix": PREFIX}]
    external_views = _views()
