"""The events of a customer's hour as a meter takes them, and which of them explain what Polar makes of them."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_polar.engine.metering.aggregation import Aggregation, LeftOut, Tally
from airflow_provider_polar.engine.metering.filters import Event
from airflow_provider_polar.engine.metering.quantities import Meter
from airflow_provider_polar.parameters import is_nothing

_TRIED = 500
"""Events of which each is left out, or doubled, in turn; of more the work grows with the square."""
_PLAIN = re.compile(r"[\w .:/-]+")
"""Keys that a request can name: it would not be narrowed by one with a bracket, which ends the parameter's name."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One event that a meter takes.

    :param value: what it contributes.
    :param texts: by metadata key, its value as Polar compares it: whole numbers and texts.
    """

    id: str
    value: Any
    texts: Mapping[str, str] = field(repr=False)


def entries_of(meter: Meter, events: Iterable[Event]) -> list[Entry]:
    """The events that a meter takes."""
    taken = ((event, meter.aggregation.value(event)) for event in events if meter.takes(event))
    return [Entry(event["id"], value, _texts(event)) for event, value in taken if not isinstance(value, LeftOut)]


def _texts(event: Event) -> dict[str, str]:
    found = (event.get("metadata") or {}).items()
    return {
        key: str(value)
        for key, value in found
        if type(value) in (str, int) and not is_nothing(str(value)) and _PLAIN.fullmatch(key) and not is_nothing(key)
    }


def telling_key(entries: Sequence[Entry]) -> str | None:
    """The metadata key whose values tell the most events apart; None where no key tells any two.

    Of several that with the longest values, which hardly another customer's events have.
    """
    values: dict[str, set[str]] = {}
    for entry in entries:
        for key, text in entry.texts.items():
            values.setdefault(key, set()).add(text)
    best = max(values, key=lambda key: (len(values[key]), sum(map(len, values[key])), key), default=None)
    return best if best is not None and (len(entries) == 1 or len(values[best]) > 1) else None


def tally_of(aggregation: Aggregation, entries: Iterable[Entry]) -> Tally:
    """What the function makes of some events."""
    tally = aggregation.tally()
    for entry in entries:
        tally.add(entry.value)
    return tally


@dataclass(slots=True)
class Culprits:
    """Which events explain a difference.

    :ivar absent: are not metered.
    :ivar twice: are metered twice.
    :ivar perhaps: one or several of these are not metered.
    """

    absent: list[Entry] = field(default_factory=list)
    twice: list[Entry] = field(default_factory=list)
    perhaps: list[Entry] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.absent or self.twice or self.perhaps)

    def include(self, other: Culprits) -> None:
        """Adds those of other events."""
        self.absent += other.absent
        self.twice += other.twice
        self.perhaps += other.perhaps

    @property
    def shift(self) -> float:
        """By how much those that are certain change a sum."""
        return float(sum(one.value for one in self.twice) - sum(one.value for one in self.absent))


def deduce(aggregation: Aggregation, entries: Sequence[Entry], polar: float) -> Culprits:
    """Which events it may be, going by the quantities alone."""
    ours = tally_of(aggregation, entries)
    if not entries or ours.agrees_with(polar):
        return Culprits()
    if tally_of(aggregation, ()).agrees_with(polar):
        return Culprits(absent=list(entries))
    if aggregation.function in ("max", "min"):
        beyond = operator.gt if aggregation.function == "max" else operator.lt
        return Culprits(absent=[entry for entry in entries if beyond(entry.value, polar)])
    if aggregation.additive:
        left = polar - ours.quantity
        without = [entry for entry in entries if abs(entry.value + left) <= ours.slack]
        doubled = [entry for entry in entries if abs(entry.value - left) <= ours.slack]
    elif len(entries) <= _TRIED:
        others = [(entry, [*entries[:at], *entries[at + 1 :]]) for at, entry in enumerate(entries)]
        without = [entry for entry, rest in others if tally_of(aggregation, rest).agrees_with(polar)]
        doubled = [one for one in entries if tally_of(aggregation, [*entries, one]).agrees_with(polar)]
    else:
        return Culprits()
    if len(without) + len(doubled) == 1:
        return Culprits(absent=without, twice=doubled)
    less = without or (list(entries) if aggregation.function != "avg" and polar < ours.quantity else [])
    return Culprits(perhaps=less)
