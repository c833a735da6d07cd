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
_COUNTED = 5_000
"""Ticks that are counted at most, or as many as there are turns: a tenth of a second."""


def turn_of(context: Mapping[str, Any], share: float) -> int:
    """A number that is the same at every attempt of a run, and of the next turn in the next run of its schedule.

    It counts the schedule's ticks up to the run, so runs that are triggered by hand or cleared have the number of the
    last scheduled one. Without a schedule in time it is the number of the day, in UTC.

    Ticks are counted anew after thousands, as long as so many take at the schedule's first distance. Where all have one
    distance, that is after whole rounds of turns, and the turns go on; else one turn may come late by a round.

    :param share: as :func:`is_due` takes it.
    """
    return _turn(run_facts(context), _turns(share))


def _turn(facts: RunFacts, turns: int) -> int:
    moment = facts.run_after or facts.moment or datetime.now(UTC)
    ticks = facts.schedule.ticks
    first = ticks.next(_FIRST)
    second = first and ticks.next(first)
    if first is None or second is None:
        return (moment - _EPOCH).days
    span = (second - first) * turns * max(1, _COUNTED // turns)
    turn, tick = 0, ticks.next(_FIRST + (moment - _FIRST) // span * span)
    while tick is not None and tick <= moment:
        turn, tick = turn + 1, ticks.next(tick)
    return turn


def is_due(window: EventWindow, turn: int, share: float) -> bool:
    """Whether it is a window's turn: once in any ``1/share`` (rounded down) consecutive turns.

    It depends on no other window. Of adjacent windows of one length each turn has as many, or one more or less.

    :param share: above 0, at most 1.
    """
    return ((window.start - _EPOCH) // window.duration - turn) % _turns(share) == 0


def _turns(share: float) -> int:
    return int(1 / share)
