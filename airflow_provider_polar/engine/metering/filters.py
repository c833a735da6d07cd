"""Which events a meter takes: the rules that Polar's PostgreSQL compares an event's properties by."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

Event = Mapping[str, Any]
Read = Callable[[Event], Any]
Takes = Callable[[Event], bool]

ABSENT = object()
"""Stands for a property that an event lacks; JSON's null is a value."""

_EPOCH, _HALF, _SECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=500), timedelta(seconds=1)
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "like": operator.contains,
    "not_like": lambda text, part: part not in text,
}
_AS_TEXT = ("like", "not_like")


def strip_metadata(path: str) -> str:
    """A property as Polar keeps it in a meter."""
    return path.removeprefix("metadata.")


def time_of(event: Event) -> datetime:
    """An event's own time, aware."""
    moment = datetime.fromisoformat(event["timestamp"])
    # Polar gives an event of year 1 without a zone.
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _seconds(event: Event) -> int:
    # PostgreSQL rounds where it makes a whole number of the seconds: half a second is the next one already.
    return (time_of(event) - _EPOCH + _HALF) // _SECOND


def read_metadata(path: str) -> Read:
    """Reads what lies at a path (dots go into objects) of an event's metadata, or :data:`ABSENT`."""
    keys = path.split(".")

    def read(event: Event) -> Any:
        found = event.get("metadata")
        for key in keys:
            if not isinstance(found, dict) or key not in found:
                return ABSENT
            found = found[key]
        return found

    if path != "_cost.amount":
        return read

    def read_amount(event: Event) -> Any:
        # Polar stores a number, and lists it as text.
        found = read(event)
        return float(found) if isinstance(found, str) else found

    return read_amount


def read_property(path: str) -> Read:
    """Reads ``name``, ``source``, ``timestamp`` (unix seconds) or a path into the metadata."""
    if path in ("name", "source"):
        return lambda event: event[path]
    return _seconds if path == "timestamp" else read_metadata(path)


def _json_text(found: Any) -> str:
    """JSON as PostgreSQL writes it: numbers without an exponent, keys by their length."""
    match found:
        case dict():
            keys = sorted(found, key=lambda key: (len(key.encode()), key.encode()))
            return "{" + ", ".join(f"{_json_text(key)}: {_json_text(found[key])}" for key in keys) + "}"
        case float():
            return format(Decimal(repr(found + 0.0)), "f")  # there is no minus zero
        case _:
            return json.dumps(found, ensure_ascii=False)


def _text(found: Any) -> Any:
    """What ``like`` looks into; what is not there, or null, stays what it is."""
    return found if isinstance(found, str) or found is None or found is ABSENT else _json_text(found)


def filter_of(spec: Any, where: str = "filter") -> Takes:
    """Whether an event is taken, for a filter as the API gives it: a clause, or clauses joined by ``and`` or ``or``.

    Texts are ordered by their characters' codes; Polar's database may have another order for ``gt`` and the like.

    :param where: the filter's place, for the error.
    :raises ValueError: the filter has a form or an operator that is not known here.
    """
    match spec:
        case {"conjunction": "and" | "or" as conjunction, "clauses": list(clauses)}:
            inner = [filter_of(clause, f"{where}.clauses.{number}") for number, clause in enumerate(clauses)]
            if len(inner) == 1:
                return inner[0]
            if conjunction == "or" and inner:
                return lambda event: any(takes(event) for takes in inner)
            return lambda event: all(takes(event) for takes in inner)
        case {"property": str(path), "operator": str(name), "value": str() | int() as value}:
            if name not in _OPERATORS:
                raise ValueError(f"{where} has the unknown operator {name}; known are {', '.join(_OPERATORS)}")
            return _clause(strip_metadata(path), name, value)
    raise ValueError(
        f"{where} is neither a clause (property, operator and a value: text, a whole number or a boolean) "
        "nor a group (conjunction: and, or; clauses)"
    )


def _clause(path: str, name: str, value: str | int) -> Takes:
    read, text = read_property(path), ("t" if value else "f") if isinstance(value, bool) else str(value)
    # What to compare with, by the type of the property; one of another type is never taken, not even by "ne".
    expected: dict[type, Any]
    if path in ("name", "source", "timestamp"):
        kind = int if path == "timestamp" else str
        expected = {kind: value} if type(value) is kind else {}
    else:
        expected = {str: text}
        if isinstance(value, int):
            expected |= {int: value, float: value}
        if isinstance(value, bool):
            expected[bool] = value
    if name in _AS_TEXT and expected:
        raw, expected = read, {str: text}
        read = lambda event: _text(raw(event))  # noqa: E731
    compare = _OPERATORS[name]

    def takes(event: Event) -> bool:
        found = read(event)
        kind = type(found)
        return kind in expected and compare(found, expected[kind])

    return takes
