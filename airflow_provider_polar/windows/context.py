"""A run's window from its task context."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, tzinfo
from typing import Any

from airflow.providers.common.compat.sdk import AssetAlias

from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import PolarWindowError
from airflow_provider_polar.windows.choice import choose_window
from airflow_provider_polar.windows.facts import RunFacts, Watermark
from airflow_provider_polar.windows.lengths import CalendarWindow
from airflow_provider_polar.windows.schedules import Schedule, asset_name

log = logging.getLogger(__name__)
_KEPT = 50  # A run among these, cleared, gets its own window again; in the store they are about 6 kB.


def resolve_window(
    context: Mapping[str, Any],
    *,
    start: datetime | str | None = None,
    end: datetime | str | None = None,
    window: timedelta | str | CalendarWindow | None = None,
    settle: timedelta | None = None,
    timezone: str | tzinfo | None = None,
) -> EventWindow:
    """The window that this run is about. It is logged, with where it comes from and what should be known of it.

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
    choice = choose_window(run_facts(context, timezone), start=start, end=end, window=window, settle=settle)
    log.info("Window %s (%s), from the run's %s", choice.window, choice.window.duration, choice.origin)
    for note in choice.notes:
        log.warning("%s", note)
    return choice.window


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
        interval=EventWindow(first, last) if first is not None and last is not None and first != last else None,
        moment=last or context.get("logical_date") or getattr(run, "logical_date", None),
        partition_key=context.get("partition_key") or getattr(run, "partition_key", None),
        partition_date=context.get("partition_date") or getattr(run, "partition_date", None),
        run_after=getattr(run, "run_after", None),
        beginning=getattr(dag, "start_date", None),
        asset_events=_asset_events(context),
        inlets=_triggering_inlets(context),
        watermarks=_watermark_reader(context),
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
    if facts.interval or facts.partition_date or facts.partition_key or facts.scheduled:
        return
    marks = facts.watermarks() if facts.watermarks else ()
    if not marks or marks[-1].window.end == window.start:
        kept = [*marks, Watermark(window, facts.run_id)][-_KEPT:]
        store.set(_key(context), [{**mark.window.to_dict(), "run_id": mark.run_id} for mark in kept])
        log.info("Watermark: read up to %s", window.to_dict()["end"])


def _asset_events(context: Mapping[str, Any]) -> list[tuple[str, Any]]:
    # The events of an alias are among those of its assets.
    return [
        (asset_name(asset), getattr(event, "extra", None))
        for asset, events in (context.get("triggering_asset_events") or {}).items()
        if not isinstance(asset, AssetAlias)
        for event in events
    ]


def _triggering_inlets(context: Mapping[str, Any]) -> frozenset[str]:
    """The assets that triggered the run and that an inlet of the task is, refers to or stands for as an alias."""
    inlets = getattr(context.get("task"), "inlets", None) or ()
    said = {getattr(inlet, key, None) for inlet in inlets for key in ("uri", "name")} - {None}
    found = set()
    for asset, events in (context.get("triggering_asset_events") or {}).items():
        aliases = {alias.name for event in events for alias in getattr(event, "source_aliases", ())}
        if not said.isdisjoint({getattr(asset, "uri", None), getattr(asset, "name", None), *aliases}):
            found.add(asset_name(asset))
    return frozenset(found)


def _watermark_reader(context: Mapping[str, Any]) -> Callable[[], list[Watermark]] | None:
    store = _asset_store(context)
    if store is None:
        return None

    def read() -> list[Watermark]:
        kept = store.get(_key(context))
        try:
            # Before, the last one alone was kept.
            marks = [kept] if isinstance(kept, dict) else kept or []
            return [Watermark(EventWindow.from_dict(mark), mark["run_id"]) for mark in marks]
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
