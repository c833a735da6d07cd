"""What parameters may be: static ones are judged when the DAG file is parsed, templated ones in the task.

A number may be its text, since that is what a template renders.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from airflow_provider_polar.exceptions import PolarConfigurationError

Parser = Callable[[Any, str], Any]
"""Makes of a parameter's value and name what it means; raises a :class:`PolarConfigurationError` that has the name."""


def is_templated(value: Any) -> bool:
    """Whether a value may still change before the task runs: Jinja text or an ``XComArg`` in it, or a callable."""
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    if isinstance(value, Mapping):
        return any(map(is_templated, value.values()))
    if isinstance(value, Collection):
        return any(map(is_templated, value))
    if hasattr(value, "joinpath"):
        return is_templated(str(value))
    # Airflow calls a templated field that can be called, and takes what it returns.
    return hasattr(value, "iter_references") or callable(value)


def is_mapped(task: Any) -> bool:
    """Whether a worker makes the task of a mapped one: what is wrong with it is then for its run to say.

    Airflow has no public name for it. An error in the constructor would be retried, however wrong the parameters are.
    """
    return bool(getattr(task, "_BaseOperator__from_mapped", False))


def is_nothing(value: Any) -> bool:
    """Whether a text is what a template makes of a missing value."""
    return isinstance(value, str) and value.strip() in ("", "None")


def number(value: Any) -> float | None:
    """The finite number that a value is, or is the text of; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def positive_number(value: Any, name: str) -> float:
    """A number above 0."""
    found = number(value)
    if found is None or found <= 0:
        raise PolarConfigurationError(f"{name} is {value!r}; it is a positive number")
    return found


def positive_count(value: Any, name: str) -> int:
    """A whole number from 1 on."""
    found = number(value)
    if found is None or found < 1 or found != int(found):
        raise PolarConfigurationError(f"{name} is {value!r}; it is a whole number from 1 on")
    return int(found)


def one_of(*known: str) -> Parser:
    """One of some words."""

    def parse(value: Any, name: str) -> Any:
        if value not in known:
            raise PolarConfigurationError(f"{name} is {value!r}; it is {' or '.join(map(repr, known))}")
        return value

    return parse


def optional(parse: Parser) -> Parser:
    """None, or what ``parse`` takes."""
    return lambda value, name: None if value is None else parse(value, name)
