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
    """What a run of a task without a window of its own has read.

    :param window: the window read.
    :param run_id: the run that read it; the same run, cleared or retried, gets it again.
    """

    window: EventWindow
    run_id: str


@dataclass(frozen=True)
class RunFacts:
    """What a run says about time.

    :param interval: the data interval, where it is not empty.
    :param moment: the moment that the run stands for: of an empty data interval, else the logical date.
    :param run_after: when the run was due or triggered; unlike the clock, the same at every attempt.
    :param asset_events: ``(asset, extra)`` of the triggering asset events.
    :param inlets: those of the assets of ``asset_events`` that are inlets of the task.
    :param watermarks: reads what the last runs have read, the last one last; None where there is no asset's state
        store (before Airflow 3.3, or a task without asset inlets and outlets).
    """

    dag_id: str
    run_id: str
    run_type: str
    schedule: Schedule
    interval: EventWindow | None = None
    moment: datetime | None = None
    partition_key: str | None = None
    partition_date: datetime | None = None
    run_after: datetime | None = None
    beginning: datetime | None = None
    asset_events: Sequence[tuple[str, Any]] = ()
    inlets: frozenset[str] = frozenset()
    watermarks: Callable[[], Sequence[Watermark]] | None = None

    @property
    def scheduled(self) -> bool:
        """Whether the scheduler made the run for a tick of its schedule, now or in a backfill."""
        return self.run_type in ("scheduled", "backfill")
