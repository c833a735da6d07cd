"""What a run says about time, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.windows.schedules import Schedule


@dataclass(frozen=True)
class Watermark:
    """How far the runs of a task that have no window of their own have read.

    :param window: the last window read.
    :param run_id: the run that read it; the same run, cleared or retried, gets it again.
    """

    window: EventWindow
    run_id: str


@dataclass(frozen=True)
class RunFacts:
    """What a run says about time.

    :param run_after: when the run was due or triggered; unlike the clock, the same at every attempt.
    :param asset_windows: ``(asset, extra)`` of the triggering asset events.
    :param watermark: reads the watermark; None where there is no asset's state store (before Airflow 3.3, or a
        task without asset inlets and outlets).
    """

    dag_id: str
    run_id: str
    run_type: str
    schedule: Schedule
    data_interval: tuple[datetime, datetime] | None = None
    logical_date: datetime | None = None
    partition_key: str | None = None
    partition_date: datetime | None = None
    run_after: datetime | None = None
    beginning: datetime | None = None
    asset_events: Sequence[tuple[str, Any]] = ()
    watermark: Callable[[], Watermark | None] | None = None
