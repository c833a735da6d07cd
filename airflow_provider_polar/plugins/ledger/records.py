"""What a task keeps for the ledger: one small XCom, written when its window is known and again when it has ended.

It holds no event, no customer and no token: of the filters it names the event names and says which others there are.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_polar.windows.schedules import Schedule

if TYPE_CHECKING:
    from airflow_provider_polar.api.filters import EventFilters
    from airflow_provider_polar.engine.window import EventWindow

Kind = Literal["export", "check", "ingest", "wait"]

log = logging.getLogger(__name__)


def key_of(kind: Kind) -> str:
    """The XCom key of the records of a kind."""
    return f"polar_ledger_{kind}"


def keep_export(
    context: Mapping[str, Any],
    destination: str,
    window: EventWindow,
    filters: EventFilters,
    result: Mapping[str, Any] | None = None,
) -> None:
    """Keeps which window a task exports to where and, once it is published, its result.

    :param result: of the export: ``rows``, ``files``, ``complete``, ``manifest`` and, of a look-back, ``changed``.
    """
    published: dict[str, Any] = {}
    if result is not None:
        published = {key: result[key] for key in ("rows", "files", "complete")}
        published |= {"manifest": result["manifest"].rpartition("/")[2], "again": result.get("changed", [])}
    _keep(context, "export", {**_place(context, destination, window, filters), **published})


def keep_check(
    context: Mapping[str, Any],
    destination: str,
    window: EventWindow,
    filters: EventFilters,
    found: Mapping[str, Any],
) -> None:
    """Keeps what a comparison of a destination with Polar has found.

    :param found: ``changed``, ``incomplete`` and ``missing``: windows as ``{"start", "end"}``. The others are equal.
        ``exported`` are those that it has exported again, each with its ``manifest`` and ``rows``.
    """
    differences = {key: found[key] for key in ("changed", "incomplete", "missing")} | {
        "again": found.get("exported", [])
    }
    _keep(context, "check", {**_place(context, destination, window, filters), **differences})


def keep_ingest(context: Mapping[str, Any], target: str, summary: Mapping[str, Any] | None = None) -> None:
    """Keeps what an ingest sends to which connection and, once it has ended, its counts."""
    counts = {key: summary[key] for key in ("events", "inserted", "duplicates", "rejected")} if summary else {}
    _keep(context, "ingest", {"target": target, **counts})


def keep_wait(context: Mapping[str, Any], names: list[str], start: str) -> None:
    """Keeps what a wait is for, and since when."""
    _keep(context, "wait", {"names": names, "start": start})


def _place(context: Mapping[str, Any], destination: str, window: EventWindow, filters: EventFilters) -> dict[str, Any]:
    from airflow_provider_polar.engine.exporting.manifest import ExportName
    from airflow_provider_polar.engine.files.layout import FileLayout
    from airflow_provider_polar.engine.files.uris import same_for_all_connections

    logical_date = context.get("logical_date")
    return {
        "destination": same_for_all_connections(destination),
        "filters": ExportName.of(window, filters, FileLayout()).filters_tag,
        "names": list(filters.name or ()),
        "filtered_by": sorted(filters.to_dict().keys() - {"name"}),
        **window.to_dict(),
        "zone": str(Schedule.of(context.get("dag")).timezone),
        "logical_date": logical_date.isoformat() if logical_date else None,
    }


def _keep(context: Mapping[str, Any], kind: Kind, value: dict[str, Any]) -> None:
    try:
        context["ti"].xcom_push(key=key_of(kind), value=value)
    except Exception as error:
        # The page is not worth failing a task.
        log.warning("The ledger will not show this task: its record could not be kept (%s)", type(error).__name__)
