"""Whose turn it is in a run, of work that is spread over consecutive runs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.windows.context import run_facts
from airflow_provider_polar.windows.facts import RunFacts

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = datetime(2025, 1, 1, tzinfo=UTC)


def turn_of(context: Mapping[str, Any]) -> int:
    """A number that is the same at every attempt of a run, and one more in the next run of its schedule.

    It counts the schedule's ticks up to the run, so runs that are triggered by hand or cleared have the number of the
    last scheduled one. Without a schedule in time it is the number of the day, in UTC.
    """
    return _turn(run_facts(context))


def _turn(facts: RunFacts) -> int:
    moment = facts.run_after or facts.moment or datetime.now(UTC)
    turn, tick = 0, facts.schedule.ticks.next(_FIRST)
    if tick is None:
        return (moment - _EPOCH).days
    while tick is not None and tick <= moment:
        turn, tick = turn + 1, facts.schedule.ticks.next(tick)
    return turn


def is_due(window: EventWindow, turn: int, share: float) -> bool:
    """Whether it is a window's turn: once in any ``1/share`` (rounded down) consecutive turns.

    It depends on no other window. Of adjacent windows of one length each turn has as many, or one more or less.

    :param share: above 0, at most 1.
    """
    turns = int(1 / share)
    return ((window.start - _EPOCH) // window.duration - turn) % turns == 0
