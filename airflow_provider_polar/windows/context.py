"""A run's window from its task context."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, tzinfo
from typing import Any

from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import PolarWindowError
from airflow_provider_polar.windows.choice import WindowChoice, choose_window
from airflow_provider_polar.windows.facts import RunFacts, Watermark
from airflow_provider_polar.windows.lengths import CalendarWindow
from airflow_provider_polar.windows.schedules import Schedule

log = logging.getLogger(__name__)


def resolve_window(
    context: Mapping[str, Any],
    *,
    start: datetime | str | None = None,
    end: datetime | str | None = None,
    window: timedelta | str | CalendarWindow | None = None,
    settle: timedelta | None = None,
    timezone: str | tzinfo | None = None,
) -> EventWindow:
    """The window that this run is about.

    It comes from the first of these that gives one:

    1. ``start`` and ``end``, or one of them with ``window``;
    2. a data interval that is not empty;
    3. the partition, ``window`` long, else as long as the schedule's or the key's own period;
    4. ``window`` before the data interval's end or the logical date;
    5. what the triggering asset events say (``extra["window"]``), all of them together;
    6. the watermark of this task in its asset's state store (Airflow 3.3), up to the run's time less ``settle``.

    :param context: the task's context.
    :param start: aware datetime or ISO 8601 text with a zone.
    :param end: likewise, excluded.
    :param window: a timedelta, a :class:`CalendarWindow` or text such as ``"1 day"`` or ``"1 month Europe/Berlin"``.
    :param settle: how long events may take to arrive, for windows that end now.
    :param timezone: whose days ``window`` means; by default that of the schedule, else of the DAG.
    :raises PolarWindowError: naming the schedule and what to write, if nothing says a window. A retry does not help.
    """
    return resolve(context, start=start, end=end, window=window, settle=settle, timezone=timezone).window


def resolve(
    context: Mapping[str, Any],
    *,
    start: datetime | str | None = None,
    end: datetime | str | None = None,
    window: timedelta | str | CalendarWindow | None = None,
    settle: timedelta | None = None,
    timezone: str | tzinfo | None = None,
) -> WindowChoice:
    """Like :func:`resolve_window`, and says where the window comes from. Logs both."""
    choice = choose_window(run_facts(context, timezone), start=start, end=end, window=window, settle=settle)
    log.info("Window %s (%s), from the run's %s", choice.window, choice.window.duration, choice.origin)
    for note in choice.notes:
        log.warning("%s", note)
    return choice


def run_facts(context: Mapping[str, Any], timezone: str | tzinfo | None = None) -> RunFacts:
    """What the context says about time."""
    run = context.get("dag_run")
    dag = context.get("dag") or getattr(context.get("task"), "dag", None)
    first, last = (context.get(key) or getattr(run, key, None) for key in ("data_interval_start", "data_interval_end"))
    run_type = getattr(run, "run_type", "")
    return RunFacts(
        dag_id=getattr(dag, "dag_id", "") or getattr(run, "dag_id", ""),
        run_id=str(context.get("run_id") or getattr(run, "run_id", "")),
        run_type=str(getattr(run_type, "value", run_type)),
        schedule=Schedule.of(dag, timezone),
        data_interval=(first, last) if first is not None and last is not None else None,
        logical_date=context.get("logical_date") or getattr(run, "logical_date", None),
        partition_key=context.get("partition_key") or getattr(run, "partition_key", None),
        partition_date=context.get("partition_date") or getattr(run, "partition_date", None),
        run_after=getattr(run, "run_after", None),
        beginning=getattr(dag, "start_date", None),
        asset_events=_asset_events(context),
        watermark=_watermark_reader(context),
    )


def advance_watermark(context: Mapping[str, Any], window: EventWindow) -> None:
    """Remembers that this run's window was read, for later runs without a window of their own.

    Call it after success, whatever the window came from. Does nothing where it would be wrong or is impossible: for a
    run with a data interval, partition or schedule of its own, for a window that does not go on where the watermark is,
    and where there is no asset's state store.
    """
    store = _asset_store(context)
    if store is None:
        return
    facts = run_facts(context)
    interval = facts.data_interval is not None and facts.data_interval[0] != facts.data_interval[1]
    if interval or facts.partition_date or facts.partition_key or facts.run_type in ("scheduled", "backfill"):
        return
    mark = facts.watermark() if facts.watermark else None
    if mark is None or mark.window.end == window.start:
        store.set(_key(context), {**window.to_dict(), "run_id": facts.run_id})
        log.info("Watermark: read up to %s", window.to_dict()["end"])


def _asset_events(context: Mapping[str, Any]) -> list[tuple[str, Any]]:
    triggering = context.get("triggering_asset_events")
    if not triggering:
        return []
    return [
        (getattr(asset, "uri", None) or getattr(asset, "name", None) or str(asset), getattr(event, "extra", None))
        for asset, events in triggering.items()
        for event in events
    ]


def _watermark_reader(context: Mapping[str, Any]) -> Callable[[], Watermark | None] | None:
    store = _asset_store(context)
    if store is None:
        return None

    def read() -> Watermark | None:
        kept = store.get(_key(context))
        if kept is None:
            return None
        try:
            return Watermark(EventWindow.from_dict(kept), kept["run_id"])
        except (KeyError, TypeError, PolarWindowError) as error:
            raise PolarWindowError(
                f"the watermark {_key(context)!r} in the asset's state store is no watermark but {kept!r}: {error}"
            ) from error

    return read


def _asset_store(context: Mapping[str, Any]) -> Any:
    """The state store of the task's first asset outlet, else inlet; None before Airflow 3.3 and without assets."""
    stores = context.get("asset_state_store")
    if stores is None:
        return None
    task = context.get("task")
    for asset in [*(getattr(task, "outlets", None) or ()), *(getattr(task, "inlets", None) or ())]:
        try:
            return stores[asset]
        except (KeyError, TypeError):
            continue
    return None


def _key(context: Mapping[str, Any]) -> str:
    """One watermark a task and map index: two tasks with different filters may share an asset."""
    ti = context["ti"]
    index = getattr(ti, "map_index", None)
    mapped = f".{index}" if index is not None and index >= 0 else ""
    return f"polar_window.{ti.dag_id}.{ti.task_id}{mapped}"
