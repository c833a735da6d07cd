"""What an export, or a load, tells the assets that it updates."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from airflow.providers.common.compat.sdk import Asset, AssetAlias

from airflow_provider_polar.engine.files.uris import StorageUri
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.windows.schedules import Schedule

log = logging.getLogger(__name__)


def emit_export(
    context: Mapping[str, Any],
    result: Mapping[str, Any],
    *,
    destination: str | None = None,
    partition_key: str | None = None,
) -> None:
    """Writes rows, window and manifest into the events of the task's asset outlets.

    A run of a partitioned DAG hands its partition key on by itself (Airflow 3.2 and newer).

    :param context: the task's context.
    :param result: of an export: ``rows``, ``start``, ``end``, ``manifest``, ``files``, ``complete``.
    :param destination: directory of the export, the asset that an outlet alias stands for.
    :param partition_key: key for the events of a run that is not partitioned, ``strftime`` fields being the
        window's start in the schedule's time zone, e.g. ``%Y-%m-%d``. Airflow 3.3 and newer; such an event starts
        partitioned DAGs only.
    """
    window = EventWindow(result["start"], result["end"])
    extra = {"window": window.to_dict(), **{key: result.get(key) for key in ("rows", "files", "manifest", "complete")}}
    for outlet in context.get("outlets") or ():
        if isinstance(outlet, AssetAlias):
            if destination:
                context["outlet_events"][outlet].add(Asset(str(StorageUri.parse(destination))), extra=extra)
        elif isinstance(outlet, Asset):
            event = context["outlet_events"][outlet]
            event.extra = extra
            if partition_key:
                _add_partition(event, _key(context, window, partition_key))


def emit_load(context: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Writes what was loaded into the events of the task's asset outlets.

    :param context: the task's context.
    :param result: of a load: its table and its numbers.
    """
    for outlet in context.get("outlets") or ():
        if isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra = dict(result)


def _key(context: Mapping[str, Any], window: EventWindow, pattern: str) -> str:
    return window.start.astimezone(Schedule.of(context.get("dag")).timezone).strftime(pattern)


def _add_partition(event: Any, key: str) -> None:
    if not hasattr(event, "add_partitions"):
        log.warning("this Airflow has no partition keys of asset events (3.3 has): %r is left out", key)
        return
    event.add_partitions(key)
