"""What a meter makes of the events that it takes: the six functions, each as a tally that grows event by event."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from sys import float_info
from typing import Any, Self

from airflow_provider_polar.engine.metering.filters import ABSENT, Event, read_metadata, read_property, strip_metadata

_EXACT = 2.0**53
"""Sums of whole numbers are exact below this, in every order."""


class LeftOut(StrEnum):
    """Why the function leaves out an event that the filter takes: what the event carries as the property."""

    ABSENT = "no"
    BOOLEAN = "a boolean"
    TEXT = "a text"
    NULL = "null as"
    OBJECT = "an object or a list as"


class Tally:
    """``count``: how many events; what the other functions' tallies build on.

    :ivar events: the events in it.
    """

    __slots__ = ("events",)
    slack = 0.0
    """How far a quantity of the same events may be from this one, for sums of floats depend on their order."""

    def __init__(self) -> None:
        self.events = 0

    def add(self, _value: Any) -> None:
        """Takes one more event with what it contributes."""
        self.events += 1

    def merge(self, other: Self) -> None:
        """Takes everything that another tally of the same function holds."""
        self.events += other.events

    @property
    def quantity(self) -> float:
        """The quantity as Polar gives it; 0 without events."""
        return float(self.events)

    def agrees_with(self, quantity: float) -> bool:
        """Whether a quantity differs from this one by no more than the order of adding floats can explain."""
        return abs(self.quantity - quantity) <= self.slack


class Sum(Tally):
    """``sum``.

    The sums of n numbers in two orders differ by at most n * 2^-52 * (the sum of their magnitudes); where all are
    whole and stay below 2^53, by nothing.
    """

    __slots__ = ("magnitude", "total", "whole")

    def __init__(self) -> None:
        super().__init__()
        self.total = self.magnitude = 0.0
        self.whole = True

    def add(self, value: float) -> None:
        self.events += 1
        self.total += value
        self.magnitude += abs(value)
        self.whole = self.whole and value.is_integer()

    def merge(self, other: Self) -> None:
        super().merge(other)
        self.total += other.total
        self.magnitude += other.magnitude
        self.whole = self.whole and other.whole

    @property
    def quantity(self) -> float:
        return self.total

    @property
    def slack(self) -> float:  # type: ignore[override]
        exact = self.whole and self.magnitude < _EXACT
        return 0.0 if exact else self.events * float_info.epsilon * self.magnitude


class Mean(Sum):
    """``avg``: a sum's slack, spread over the events."""

    __slots__ = ()

    @property
    def quantity(self) -> float:
        return self.total / max(self.events, 1)

    @property
    def slack(self) -> float:  # type: ignore[override]
        return super().slack / max(self.events, 1)


class Largest(Tally):
    """``max``."""

    __slots__ = ("found",)
    choose: Callable[[float, float], float] = staticmethod(max)

    def __init__(self) -> None:
        super().__init__()
        self.found = 0.0

    def add(self, value: float) -> None:
        self.found = self.choose(self.found, value) if self.events else value
        self.events += 1

    def merge(self, other: Self) -> None:
        if other.events:
            self.add(other.found)
            self.events += other.events - 1

    @property
    def quantity(self) -> float:
        return self.found


class Smallest(Largest):
    """``min``."""

    __slots__ = ()
    choose = staticmethod(min)


class Distinct(Tally):
    """``unique``: keeps 16 bytes of digest, about 100 bytes of memory, for each distinct value."""

    __slots__ = ("digests",)

    def __init__(self) -> None:
        super().__init__()
        self.digests: set[bytes] = set()

    def add(self, value: bytes) -> None:
        self.events += 1
        self.digests.add(value)

    def merge(self, other: Self) -> None:
        super().merge(other)
        self.digests |= other.digests

    @property
    def quantity(self) -> float:
        return float(len(self.digests))


_FUNCTIONS: dict[str, type[Tally]] = {
    "count": Tally,
    "sum": Sum,
    "max": Largest,
    "min": Smallest,
    "avg": Mean,
    "unique": Distinct,
}
_LEFT_OUT = {
    object: LeftOut.ABSENT,
    bool: LeftOut.BOOLEAN,
    str: LeftOut.TEXT,
    type(None): LeftOut.NULL,
}


@dataclass(frozen=True, slots=True)
class Aggregation:
    """A meter's function.

    :param function: its name: count, sum, max, min, avg or unique.
    :param path: the property that it looks at; "" for ``count``.
    :param tally: makes an empty tally.
    :param value: what an event contributes, or why it is left out.
    """

    function: str
    path: str
    tally: type[Tally]
    value: Callable[[Event], float | bytes | LeftOut]

    @classmethod
    def parse(cls, spec: Any) -> Self:
        """The function, as the API gives it.

        :raises ValueError: it is not known here, or has no property.
        """
        match spec:
            case {"func": "count"}:
                return cls("count", "", Tally, lambda _: 1.0)
            case {"func": str(function), "property": str(path)} if function in _FUNCTIONS:
                path = strip_metadata(path)
                value = _distinct_value(path) if function == "unique" else _number(path)
                return cls(function, path, _FUNCTIONS[function], value)
            case {"func": function} if function not in _FUNCTIONS:
                raise ValueError(f"aggregation has the unknown function {function}; known are {', '.join(_FUNCTIONS)}")
        raise ValueError("aggregation lacks a function (func), or its property")

    @property
    def additive(self) -> bool:
        """Whether the quantities of hours, or of customers, add up to that of all of them."""
        return self.function in ("count", "sum")


def _number(path: str) -> Callable[[Event], float | LeftOut]:
    read = read_property(path)

    def number(event: Event) -> float | LeftOut:
        found = read(event)
        kind = type(found)
        return float(found) if kind is int or kind is float else _LEFT_OUT.get(kind, LeftOut.OBJECT)

    return number


def _distinct_value(path: str) -> Callable[[Event], bytes | LeftOut]:
    # Over "name", "source" and "timestamp", too, Polar looks into the metadata.
    read = read_metadata(path)

    def digest(event: Event) -> bytes | LeftOut:
        found = read(event)
        if found is ABSENT:
            return LeftOut.ABSENT
        return blake2b(json.dumps(_one_number(found), sort_keys=True).encode(), digest_size=16).digest()

    return digest


def _one_number(found: Any) -> Any:
    """The same value with 1 for 1.0, which are one number in PostgreSQL."""
    if isinstance(found, Mapping):
        return {key: _one_number(inner) for key, inner in found.items()}
    return int(found) if isinstance(found, float) and found.is_integer() else found
