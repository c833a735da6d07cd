"""The values that an event may have. A rule makes of a value what is sent for it, or says in words what is wrong.

A value comes out exactly or is refused: none is rounded, and none takes long, whatever it is. NumPy and pandas are not
imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Context, Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from airflow_provider_polar.api.limits import MAX_TEXT
from airflow_provider_polar.exceptions import EventProblem
from airflow_provider_polar.wording import did_you_mean

COMMON_INTEGER = 2**63
_TOLD_KEY, _TOLD_COLUMNS = 60, 50
_UTC_OFFSET = len("+00:00")

_PLAIN = frozenset({str, int, float, bool, type(None), dict, list})
_TEXT_BOOLEANS_NUMBERS = "Ubiuf"
_MISSING = ("NAType", "NaTType")

_COST_INTEGER_DIGITS, _COST_DECIMALS = 5, 12
_COST_BELOW = 10**_COST_INTEGER_DIGITS
_COST_TOO_LONG = f"has more than {_COST_INTEGER_DIGITS} digits before or {_COST_DECIMALS} after the decimal point"
_COST_DIGITS = Context(prec=_COST_INTEGER_DIGITS + _COST_DECIMALS, traps=[])
_FLOAT_MAGNITUDE = 308
_FLOAT_DIGITS = Context(prec=17, traps=[])

Rule = Callable[[Any], Any]


class Problems(list[EventProblem]):
    """The problems of one row, or of one object in it: there a field begins with a dot."""

    def add(self, field: str, message: str) -> None:
        """Adds one.

        :param field: a dotted field, "" for the whole.
        """
        self.append(EventProblem(field, message))

    def refuse_any(self) -> None:
        """Refuses the object that they are the problems of.

        :raises ValueProblem: there are some.
        """
        if self:
            raise ValueProblem(self)


class ValueProblem(ValueError):
    """What is wrong with a value, in words.

    :param told: a message, or of an object its problems.
    """

    def __init__(self, told: str | Problems) -> None:
        super().__init__(told)
        self._problems = [EventProblem("", told)] if isinstance(told, str) else told

    def below(self, field: str) -> list[EventProblem]:
        """The same as problems of the field that the value is in."""
        return [EventProblem(field + one.field, one.message) for one in self._problems]


def plain(value: Any) -> Any:
    """A NumPy scalar that is text, a boolean or a number as Python's own; pandas' ``NA`` and ``NaT`` as None.

    Everything else is returned as it is: an array, a moment or a span of NumPy has no JSON value that is surely meant.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    library = kind.__module__.partition(".")[0]
    if library == "pandas" and kind.__name__ in _MISSING:
        return None
    if library == "numpy" and any(base.__name__ == "generic" for base in kind.__mro__):  # no array, but one element
        if value.dtype.kind in _TEXT_BOOLEANS_NUMBERS:
            # What is wider than Python's float stays what it is.
            return value.item()
        if value.dtype.kind in "mM" and value != value:
            return None
    return value


def in_utc(moment: datetime) -> datetime | None:
    """The moment as a plain datetime in UTC, to the microsecond; None where it is naive.

    :raises ValueProblem: it is outside the years 1 to 9999.
    """
    if type(moment) is datetime and moment.tzinfo is UTC:
        return moment
    try:
        if moment.tzinfo is None or moment.utcoffset() is None:
            return None
        exact = datetime(
            *(moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second, moment.microsecond),
            tzinfo=moment.tzinfo,
            fold=moment.fold,
        )
        return exact.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueProblem("is outside the years 1 to 9999") from None


def utc_text(utc: datetime) -> str:
    """A moment in UTC as it is sent."""
    return utc.isoformat()[:-_UTC_OFFSET] + "Z"


def text(value: Any, most: int | None = None) -> str:
    """Text that is not empty.

    :param most: characters at most.
    """
    if not isinstance(value, str):
        raise ValueProblem(f"is {kind_of(value)}; it is text")
    if not value:
        raise ValueProblem("is empty" if most is None else f"is empty; it has 1 to {most} characters")
    if most is not None and len(value) > most:
        raise ValueProblem(f"has {len(value)} characters; it has 1 to {most}")
    return unicode_text(value)


def unicode_text(value: str) -> str:
    """Any text that Polar can store."""
    if "\0" in value:
        raise ValueProblem("holds a NUL character, which Polar cannot store")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueProblem("holds half a surrogate pair, which is not Unicode text") from None
    return str.__str__(value)


def id_text(value: Any) -> str:
    """An id of the user's own."""
    return str(value) if isinstance(value, UUID) else text(value)


def uuid_text(value: Any) -> str:
    """An id of Polar's."""
    try:
        uuid = value if isinstance(value, UUID) else UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise ValueProblem("is not a UUID; for an id of your own give the external_ field") from None
    if uuid.version != 4:
        raise ValueProblem("is not a version 4 UUID, as Polar's ids are")
    return str(uuid)


def metadata_value(value: Any) -> str | bool | int | float:
    """The value of one key of an event's metadata."""
    if isinstance(value, str):
        return text(value, MAX_TEXT)
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float, Decimal)):
        return _number(value)
    if isinstance(value, datetime):
        return _moment(value)
    if isinstance(value, (date, UUID)):
        return str(value)
    raise ValueProblem(f"is {kind_of(value)}; values are text, numbers or booleans")


def _moment(value: datetime) -> str:
    if (utc := in_utc(value)) is None:
        raise ValueProblem("is a datetime without a time zone")
    if getattr(value, "nanosecond", 0):  # of pandas
        raise ValueProblem("is a moment finer than a microsecond; round it, or give it as text")
    return utc_text(utc)


def _number(value: int | float | Decimal) -> int | float:
    """The number that JSON has for it."""
    if _is_nan(value):
        raise ValueProblem("is NaN; a number is finite")
    if isinstance(value, Decimal):
        # The magnitude comes first: of 1E+9999999 neither an int nor its digits must ever be made.
        if value.is_finite() and value.adjusted() <= _FLOAT_MAGNITUDE:
            return _of_decimal(value)
    elif _is_finite(value):
        return float(value) if isinstance(value, float) else int(value)
    raise ValueProblem("is infinite or too large; a number is finite")


def _of_decimal(value: Decimal) -> int | float:
    if not value:
        return 0
    if value == value.to_integral_value():
        return int(value)
    # Seventeen digits tell any float from any other: what has more would be sent as another number.
    short = _FLOAT_DIGITS.plus(value)
    if short == value and value.adjusted() >= -_FLOAT_MAGNITUDE and Decimal(repr(number := float(short))) == value:
        return number
    raise ValueProblem("has more digits than a number of Polar keeps; round it, or give it as text")


def _is_finite(value: int | float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _is_nan(value: int | float | Decimal) -> bool:
    # A signalling NaN must not even be compared.
    return value.is_nan() if isinstance(value, Decimal) else value != value


def _amount(amount: Any) -> int | float | str:
    """A number of cents as it is sent."""
    if isinstance(amount, bool) or not isinstance(amount, (int, float, str, Decimal)):
        raise ValueProblem(f"is {kind_of(amount)}; it is a number of cents")
    if isinstance(amount, int):
        if abs(amount) < _COST_BELOW:
            return int(amount)
        raise ValueProblem(_COST_TOO_LONG)
    if isinstance(amount, str) and len(amount) > MAX_TEXT:
        raise ValueProblem(_COST_TOO_LONG)
    try:
        exact = Decimal(repr(float(amount)) if isinstance(amount, float) else amount)
    except InvalidOperation:
        exact = Decimal("NaN")
    if not exact.is_finite():
        raise ValueProblem("is not a finite number of cents")
    # The magnitude comes first, and then no more digits are looked at than a cost may have.
    if exact and not -_COST_DECIMALS <= exact.adjusted() < _COST_INTEGER_DIGITS:
        raise ValueProblem(_COST_TOO_LONG)
    short = _COST_DIGITS.plus(exact).normalize(_COST_DIGITS)
    written = format(short, "f")
    if short != exact or len(written.partition(".")[2]) > _COST_DECIMALS:
        raise ValueProblem(_COST_TOO_LONG)
    return float(amount) if isinstance(amount, float) else written


def _currency(value: Any) -> str:
    if not isinstance(value, str) or value != "usd":
        raise ValueProblem('is not "usd", the only currency that Polar takes')
    return "usd"


def _llm_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueProblem(f"is {kind_of(value)}; it is text")
    return unicode_text(value)


def _count(value: Any) -> int:
    if type(value) is int and -COMMON_INTEGER <= value <= COMMON_INTEGER:
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)) or _is_nan(value):
        raise ValueProblem(f"is {kind_of(value)}; it is a whole number")
    try:
        if (number := _number(value)) == (whole := int(number)):
            return whole
    except ValueProblem:
        pass
    raise ValueProblem("is not a whole number")


def _structure(what: str, rules: Mapping[str, Rule], optional: Collection[str] = ()) -> Rule:
    """An object with known fields; one that is None is absent.

    :param what: the object in words.
    """
    required = [key for key in rules if key not in optional]

    def rule(value: Any) -> dict[str, Any]:
        if not is_object(value):
            raise ValueProblem(f"is {kind_of(value)}; it is {what}")
        problems = Problems()
        taken: dict[str, Any] = {}
        for key, raw in value.items():
            if key not in rules:
                problems.add(f".{key_text(key)}", unknown_field(key, rules))
            elif (given := plain(raw)) is not None:
                taken[key] = None
                try:
                    taken[key] = rules[key](given)
                except ValueProblem as refused:
                    problems += refused.below(f".{key}")
        for key in required:
            if key not in taken:
                problems.add(f".{key}", "is missing")
        problems.refuse_any()
        return taken

    return rule


_LLM_RULES: dict[str, Rule] = {
    **dict.fromkeys(("vendor", "model"), _llm_text),
    **dict.fromkeys(("input_tokens", "output_tokens", "total_tokens", "cached_input_tokens"), _count),
    **dict.fromkeys(("prompt", "response"), _llm_text),
}
STRUCTURED: dict[str, Rule] = {
    "_cost": _structure('{"amount": cents, "currency": "usd"}', {"amount": _amount, "currency": _currency}),
    "_llm": _structure(
        "an object with vendor, model and token counts", _LLM_RULES, ("cached_input_tokens", "prompt", "response")
    ),
}
"""The keys of metadata whose values are objects."""


def is_object(value: Any) -> bool:
    """Whether the value would be an object in JSON."""
    return type(value) is dict or isinstance(value, Mapping)


def kind_of(value: Any) -> str:
    """What kind of value it is, in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float, Decimal)):
        return "NaN" if _is_nan(value) else "a number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, Mapping):
        return "nested"
    if isinstance(value, (list, tuple, set, frozenset)):
        return "a list"
    if type(value).__name__ == "ndarray":
        return "an array"
    return f"a {type(value).__name__}"


def key_text(key: Any) -> str:
    """A key for a message: short, and whatever it is."""
    try:
        told = str.__str__(key) if isinstance(key, str) else str(key)
    except ValueError:  # a number of thousands of digits
        return type(key).__name__
    # A character that would break a line of the log, or cannot be written at all, is told by its code.
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in told[:_TOLD_KEY])


def columns_text(columns: Collection[str]) -> str:
    """The columns of a file in words."""
    told = ", ".join(key_text(column) for column in list(columns)[:_TOLD_COLUMNS])
    return f"it has {told}" + (f" and {len(columns) - _TOLD_COLUMNS} more" if len(columns) > _TOLD_COLUMNS else "")


def unknown_field(field: str, known: Iterable[str]) -> str:
    """What to tell of a field that Polar would ignore."""
    return f"is not a field that Polar knows, it would be ignored{did_you_mean(key_text(field), known)}"
