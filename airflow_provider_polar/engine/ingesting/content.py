"""The values that an event's fields and metadata may have, and the same in words. See :mod:`.validation`."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Context, Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from airflow_provider_polar.engine.ingesting.values import plain
from airflow_provider_polar.exceptions import EventProblem

MAX_TEXT = 500
COMMON_INTEGER = 2**63
TOLD_KEY = 60
UTC_OFFSET = len("+00:00")
_COST_INTEGER_DIGITS, _COST_DECIMALS = 5, 12
_COST_FIELDS = ("amount", "currency")
_COST_BELOW = 10**_COST_INTEGER_DIGITS
_COST_TOO_LONG = f"has more than {_COST_INTEGER_DIGITS} digits before or {_COST_DECIMALS} after the decimal point"
_COST_DIGITS = Context(prec=_COST_INTEGER_DIGITS + _COST_DECIMALS, traps=[])
_FLOAT_MAGNITUDE = 308
_FLOAT_DIGITS = Context(prec=17, traps=[])
_VALUES = "values are text, numbers or booleans"


class Problems(list[EventProblem]):
    """The problems of one event."""

    def add(self, field: str, message: str) -> None:
        """Adds one.

        :param field: a dotted field, "" for the event as a whole.
        """
        self.append(EventProblem(field, message))


def in_utc(moment: datetime) -> datetime | None:
    """The moment as a plain datetime in UTC, to the microsecond; None where it is naive.

    :raises OverflowError: it is outside the years 1 to 9999.
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
    except ValueError as error:
        raise OverflowError(str(error)) from None


def unsendable_text(text: str) -> str | None:
    if "\0" in text:
        return "holds a NUL character, which Polar cannot store"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "holds half a surrogate pair, which is not Unicode text"
    return None


def metadata_value(field: str, value: Any, problems: Problems) -> Any:
    if isinstance(value, str):
        if 1 <= len(value) <= MAX_TEXT:
            unsendable = unsendable_text(value)
            if unsendable is None:
                return str.__str__(value)
            problems.add(field, unsendable)
        elif value:
            problems.add(field, f"has {len(value)} characters; text has 1 to {MAX_TEXT}")
        else:
            problems.add(field, f"is empty; text has 1 to {MAX_TEXT} characters")
        return None
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float, Decimal)):
        number, told = _number(value)
        if told:
            problems.add(field, told)
        return number
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        try:
            utc = in_utc(value)
        except OverflowError:
            problems.add(field, "is a datetime outside the years 1 to 9999")
            return None
        if utc is None:
            problems.add(field, "is a datetime without a time zone")
            return None
        if getattr(value, "nanosecond", 0):  # of pandas
            problems.add(field, "is a moment finer than a microsecond; round it, or give it as text")
            return None
        return utc.isoformat()[:-UTC_OFFSET] + "Z"
    if isinstance(value, date):
        return value.isoformat()
    problems.add(field, f"is {kind_of(value)}; {_VALUES}")
    return None


def _number(value: int | float | Decimal) -> tuple[int | float | None, str | None]:
    """The number that JSON has for it, or what is wrong with it."""
    if _is_nan(value):
        return None, "is NaN; a number is finite"
    if isinstance(value, Decimal):
        # The magnitude comes first: of 1E+9999999 neither an int nor its digits must ever be made.
        if value.is_finite() and value.adjusted() <= _FLOAT_MAGNITUDE:
            return _decimal(value)
    elif _is_finite(value):
        return (float(value) if isinstance(value, float) else int(value)), None
    return None, "is infinite or too large; a number is finite"


def _decimal(value: Decimal) -> tuple[int | float | None, str | None]:
    if not value:
        return 0, None
    if value == value.to_integral_value():
        return int(value), None
    # Seventeen digits tell any float from any other: what has more would be sent as another number.
    short = _FLOAT_DIGITS.plus(value)
    if short == value and value.adjusted() >= -_FLOAT_MAGNITUDE and Decimal(repr(number := float(short))) == value:
        return number, None
    return None, "has more digits than a number of Polar keeps; round it, or give it as text"


def _is_finite(value: int | float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _cost(field: str, value: Any, problems: Problems) -> dict[str, Any] | None:
    if not is_object(value):
        problems.add(field, f'is {kind_of(value)}; it is {{"amount": cents, "currency": "usd"}}')
        return None
    for key in value:
        if key not in _COST_FIELDS:
            problems.add(f"{field}.{key_text(key)}", "is unknown; a cost has amount and currency")
    currency = value.get("currency")
    if not isinstance(currency, str) or currency != "usd":
        problems.add(f"{field}.currency", 'is not "usd", the only currency that Polar takes')
    amount, told = _amount(plain(value.get("amount")))
    if told:
        problems.add(f"{field}.amount", told)
    return {"amount": amount, "currency": "usd"}


def _amount(amount: Any) -> tuple[int | float | str | None, str | None]:
    """A number of cents as it is sent, or what is wrong with it."""
    if isinstance(amount, bool) or not isinstance(amount, (int, float, str, Decimal)):
        return None, f"is {kind_of(amount)}; it is a number of cents"
    if isinstance(amount, int):
        return (int(amount), None) if abs(amount) < _COST_BELOW else (None, _COST_TOO_LONG)
    if isinstance(amount, str) and len(amount) > MAX_TEXT:
        return None, _COST_TOO_LONG
    try:
        exact = Decimal(repr(float(amount)) if isinstance(amount, float) else amount)
    except InvalidOperation:
        exact = Decimal("NaN")
    if not exact.is_finite():
        return None, "is not a finite number of cents"
    # The magnitude comes first, and then no more digits are looked at than a cost may have.
    if exact and not -_COST_DECIMALS <= exact.adjusted() < _COST_INTEGER_DIGITS:
        return None, _COST_TOO_LONG
    short = _COST_DIGITS.plus(exact).normalize(_COST_DIGITS)
    written = format(short, "f")
    if short != exact or len(written.partition(".")[2]) > _COST_DECIMALS:
        return None, _COST_TOO_LONG
    return (float(amount) if isinstance(amount, float) else written), None


_LLM_COUNTS = frozenset({"input_tokens", "output_tokens", "total_tokens", "cached_input_tokens"})
_LLM_REQUIRED = dict.fromkeys(("vendor", "model", "input_tokens", "output_tokens", "total_tokens"))
_LLM_FIELDS = dict.fromkeys((*_LLM_REQUIRED, "cached_input_tokens", "prompt", "response"))


def _llm(field: str, value: Any, problems: Problems) -> dict[str, Any] | None:
    if not is_object(value):
        problems.add(field, f"is {kind_of(value)}; it is an object with vendor, model and token counts")
        return None
    llm: dict[str, Any] = {}
    given_keys = set()
    for key, raw in value.items():
        if key not in _LLM_FIELDS:
            problems.add(f"{field}.{key_text(key)}", unknown_field(key, _LLM_FIELDS))
            continue
        given = plain(raw)
        if given is None:
            continue
        given_keys.add(key)
        if key in _LLM_COUNTS:
            llm[key], told = _count(given)
        elif isinstance(given, str):
            llm[key], told = str.__str__(given), unsendable_text(given)
        else:
            told = f"is {kind_of(given)}; it is text"
        if told:
            problems.add(f"{field}.{key}", told)
    for key in _LLM_REQUIRED:
        if key not in given_keys:
            problems.add(f"{field}.{key}", "is missing")
    return llm


STRUCTURED: dict[str, Callable[[str, Any, Problems], Any]] = {"_cost": _cost, "_llm": _llm}


def _count(value: Any) -> tuple[int | None, str | None]:
    if type(value) is int and -COMMON_INTEGER <= value <= COMMON_INTEGER:
        return value, None
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)) or _is_nan(value):
        return None, f"is {kind_of(value)}; it is a whole number"
    number, _ = _number(value)
    if number is not None and number == (whole := int(number)):
        return whole, None
    return None, "is not a whole number"


def key_text(key: Any) -> str:
    """A key for a message: short, and whatever it is."""
    if isinstance(key, str):
        return str.__str__(key)[:TOLD_KEY]
    try:
        return str(key)[:TOLD_KEY]
    except ValueError:  # a number of thousands of digits
        return type(key).__name__


def is_object(value: Any) -> bool:
    return type(value) is dict or isinstance(value, Mapping)


def _is_nan(value: int | float | Decimal) -> bool:
    # A signalling NaN must not even be compared.
    return value.is_nan() if isinstance(value, Decimal) else value != value


def kind_of(value: Any) -> str:
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


def unknown_field(field: Any, known: Iterable[str]) -> str:
    """What to tell of a field that Polar would ignore."""
    return f"is not a field that Polar knows, it would be ignored{near_miss(key_text(field), known)}"


def near_miss(name: str, known: Iterable[str]) -> str:
    """``; is ... meant?`` where one of the known names is close, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; is {close[0]} meant?" if close else ""
