"""Polar's rules for an event, told in words before anything is sent.

What Polar would refuse (422), stumble over (500) or silently drop is refused here. Rows may hold Python values
(aware datetimes, ``Decimal``, ``UUID``, NumPy scalars); they come out as JSON values, timestamps as UTC text.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from airflow_provider_polar.exceptions import EventProblem

MAX_NAME = 128
MAX_KEY, MAX_KEYS, MAX_TEXT = 40, 50, 500
CLOCK_SKEW = timedelta(seconds=5)
"""How far ahead of this clock a timestamp may be: clocks differ, and Polar's own decides when the event is sent."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COST_INTEGER_DIGITS, _COST_DECIMALS = 5, 12
_VALUES = "values are text, numbers or booleans"

FieldProblem = tuple[str, str]
"""A dotted field ("" for the event as a whole) and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class RowProblem(EventProblem):
    """A problem of a row that has not been sent.

    :param index: position in the source, 0-based.
    :param source: the file's path; "" for rows handed over in memory.
    """

    source: str = ""

    def __str__(self) -> str:
        where = ", ".join(part for part in (place_text(self.source, (self.index or 0) + 1), self.field) if part)
        return f"{where}: {self.message}"


def place_text(source: str, number: int) -> str:
    """Where a row comes from, for messages; rows (and lines of a file) count from 1."""
    return f"{source}, row {number}" if source else f"row {number}"


class EventValidator:
    """Turns rows into events as they are sent, or says what is wrong with them.

    :param clock: the present moment (aware), for tests.
    """

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._now = clock()
        self._rules: dict[str, Callable[[Any, list[FieldProblem]], Any]] = {
            "name": self._name,
            "timestamp": self._timestamp,
            "external_id": _text_rule("external_id"),
            "parent_id": _text_rule("parent_id"),
            "customer_id": _uuid_rule("customer_id"),
            "external_customer_id": _text_rule("external_customer_id"),
            "member_id": _uuid_rule("member_id"),
            "external_member_id": _text_rule("external_member_id"),
            "organization_id": _organization,
            "metadata": _metadata,
        }

    def __call__(self, row: Any) -> tuple[dict[str, Any], list[FieldProblem]]:
        """The event of a row and every problem of the row; the event may be sent only if there is none.

        A field that is None counts as absent; only a timestamp must not be None, because Polar would stamp the
        event with the time of its receipt instead.
        """
        if not isinstance(row, Mapping):
            return {}, [("", f"is {_kind(row)}; an event is an object with a name and a customer")]
        event: dict[str, Any] = {}
        problems: list[FieldProblem] = []
        for field, value in row.items():
            rule = self._rules.get(field)
            if rule is None:
                problems.append((str(field), _unknown(field, self._rules)))
            elif value is None:
                if field == "timestamp":
                    problems.append((field, "is null; leave it out to have Polar take the time of receipt"))
            elif (normal := rule(value, problems)) is not None:
                event[field] = normal
        self._across_fields(row, event, problems)
        return event, problems

    @staticmethod
    def _across_fields(row: Mapping[str, Any], event: dict[str, Any], problems: list[FieldProblem]) -> None:
        if row.get("name") is None:
            problems.append(("name", "is missing"))
        internal, external = row.get("customer_id") is not None, row.get("external_customer_id") is not None
        if internal and external:
            problems.append(
                ("", "has both customer_id and external_customer_id; Polar would silently drop the first: give one")
            )
        elif not internal and not external:
            problems.append(("", "has no customer: give customer_id or external_customer_id"))
        if external and not internal and row.get("member_id") is not None:
            problems.append(("member_id", "goes with customer_id; with external_customer_id give external_member_id"))
        if internal and not external and row.get("external_member_id") is not None:
            problems.append(("external_member_id", "goes with external_customer_id; with customer_id give member_id"))
        if "parent_id" in event and event["parent_id"] == event.get("external_id"):
            problems.append(("parent_id", "is the event's own external_id; an event is not its own parent"))

    @staticmethod
    def _name(value: Any, problems: list[FieldProblem]) -> str | None:
        return _text("name", value, problems, MAX_NAME)

    def _timestamp(self, value: Any, problems: list[FieldProblem]) -> str | None:
        if isinstance(value, str):
            try:
                moment = datetime.fromisoformat(value.strip())
            except ValueError:
                problems.append(("timestamp", "is not an ISO 8601 moment such as 2026-01-31T12:00:00Z"))
                return None
        elif isinstance(value, datetime):
            moment = value
        else:
            problems.append(("timestamp", f"is {_kind(value)}; a moment is an aware datetime or ISO 8601 text"))
            return None
        if moment.tzinfo is None or moment.utcoffset() is None:
            problems.append(("timestamp", "has no time zone; write one, for example a Z at the end for UTC"))
            return None
        try:
            utc = moment.astimezone(UTC)
        except OverflowError:
            problems.append(("timestamp", "is outside the years 1 to 9999"))
            return None
        if utc < _EPOCH:
            problems.append(("timestamp", "is before 1970; Polar's filters by time fail for good once it has such one"))
            return None
        if utc > self._now + CLOCK_SKEW:
            self._now = self._clock()
            if utc > self._now + CLOCK_SKEW:
                problems.append(("timestamp", "is in the future, which Polar refuses"))
                return None
        if type(utc) is not datetime:
            utc = datetime(utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second, utc.microsecond)  # noqa: DTZ001
        return utc.replace(tzinfo=None).isoformat() + "Z"


def _text_rule(field: str) -> Callable[[Any, list[FieldProblem]], str | None]:
    def rule(value: Any, problems: list[FieldProblem]) -> str | None:
        if isinstance(value, UUID):
            return str(value)
        return _text(field, value, problems)

    return rule


def _uuid_rule(field: str) -> Callable[[Any, list[FieldProblem]], str | None]:
    def rule(value: Any, problems: list[FieldProblem]) -> str | None:
        try:
            uuid = value if isinstance(value, UUID) else UUID(value)
        except (ValueError, AttributeError, TypeError):
            problems.append((field, "is not a UUID; for an id of your own give the external_ field"))
            return None
        if uuid.version != 4:
            problems.append((field, "is not a version 4 UUID, as Polar's ids are"))
            return None
        return str(uuid)

    return rule


def _organization(_value: Any, problems: list[FieldProblem]) -> None:
    problems.append(("organization_id", "is refused with an organization token; the token itself says which it is"))


def _text(field: str, value: Any, problems: list[FieldProblem], most: int | None = None) -> str | None:
    if not isinstance(value, str):
        problems.append((field, f"is {_kind(value)}; it is text"))
    elif not value:
        problems.append((field, "is empty" if most is None else f"is empty; it has 1 to {most} characters"))
    elif most is not None and len(value) > most:
        problems.append((field, f"has {len(value)} characters; it has 1 to {most}"))
    elif (unsendable := _unsendable(value)) is not None:
        problems.append((field, unsendable))
    else:
        return value
    return None


def _unsendable(text: str) -> str | None:
    if "\0" in text:
        return "holds a NUL character, which Polar cannot store"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "holds half a surrogate pair, which is not Unicode text"
    return None


def _metadata(value: Any, problems: list[FieldProblem]) -> dict[str, Any] | None:
    if not isinstance(value, Mapping):
        problems.append(("metadata", f"is {_kind(value)}; it is a flat object"))
        return None
    if len(value) > MAX_KEYS:
        problems.append(("metadata", f"has {len(value)} keys; it has at most {MAX_KEYS}"))
    metadata: dict[str, Any] = {}
    for key, given in value.items():
        field = f"metadata.{key}"
        if not isinstance(key, str) or not 1 <= len(key) <= MAX_KEY:
            told = f"{len(key)} characters" if isinstance(key, str) else _kind(key)
            problems.append((field[:60], f"the key is {told}; keys are text of 1 to {MAX_KEY} characters"))
        elif (unsendable := _unsendable(key)) is not None:
            problems.append(("metadata", f"a key {unsendable}"))
        elif key == "_cost":
            metadata[key] = _cost(given, problems)
        elif key == "_llm":
            metadata[key] = _llm(given, problems)
        else:
            metadata[key] = _value(field, given, problems)
    return metadata or None


def _value(field: str, value: Any, problems: list[FieldProblem]) -> Any:
    if isinstance(value, str):
        if 1 <= len(value) <= MAX_TEXT:
            unsendable = _unsendable(value)
            if unsendable is None:
                return value
            problems.append((field, unsendable))
        elif value:
            problems.append((field, f"has {len(value)} characters; text has 1 to {MAX_TEXT}"))
        else:
            problems.append((field, f"is empty; text has 1 to {MAX_TEXT} characters"))
        return None
    if isinstance(value, bool):
        return value
    if type(value).__module__ == "numpy" and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, Decimal) and value.is_finite():
        value = int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, (int, float, Decimal)):
        return _number(field, value, problems)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        if value.tzinfo is None or value.utcoffset() is None:
            problems.append((field, "is a datetime without a time zone"))
            return None
        return value.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
    if isinstance(value, date):
        return value.isoformat()
    problems.append((field, f"is {_kind(value)}; {_VALUES}"))
    return None


def _number(field: str, value: int | float | Decimal, problems: list[FieldProblem]) -> Any:
    try:
        finite = math.isfinite(value)
    except OverflowError:
        finite = False
    except ValueError:  # a signalling NaN of decimal
        finite = False
    if finite:
        return float(value) if isinstance(value, (float, Decimal)) else value
    told = "NaN" if _is_nan(value) else "infinite or too large"
    problems.append((field, f"is {told}; a number is finite"))
    return None


def _cost(value: Any, problems: list[FieldProblem]) -> dict[str, Any] | None:
    if not isinstance(value, Mapping):
        problems.append(("metadata._cost", f'is {_kind(value)}; it is {{"amount": cents, "currency": "usd"}}'))
        return None
    for key in value:
        if key not in ("amount", "currency"):
            problems.append((f"metadata._cost.{key}", "is unknown; a cost has amount and currency"))
    if value.get("currency") != "usd":
        problems.append(("metadata._cost.currency", 'is not "usd", the only currency that Polar takes'))
    amount = value.get("amount")
    field = "metadata._cost.amount"
    if isinstance(amount, bool) or not isinstance(amount, (int, float, str, Decimal)):
        problems.append((field, f"is {_kind(amount)}; it is a number of cents"))
        return None
    try:
        exact = Decimal(str(amount))
    except InvalidOperation:
        exact = Decimal("NaN")
    if not exact.is_finite():
        problems.append((field, "is not a finite number of cents"))
        return None
    whole, decimals = abs(int(exact)), -int(exact.normalize().as_tuple().exponent)
    if whole >= 10**_COST_INTEGER_DIGITS or decimals > _COST_DECIMALS:
        problems.append(
            (field, f"has more than {_COST_INTEGER_DIGITS} digits before or {_COST_DECIMALS} after the decimal point")
        )
        return None
    sent = amount if isinstance(amount, (int, float)) else format(exact.normalize(), "f")
    return {"amount": sent, "currency": value.get("currency")}


_LLM_TEXT = {"vendor": True, "model": True, "prompt": False, "response": False}
_LLM_COUNTS = {"input_tokens": True, "output_tokens": True, "total_tokens": True, "cached_input_tokens": False}


def _llm(value: Any, problems: list[FieldProblem]) -> dict[str, Any] | None:
    if not isinstance(value, Mapping):
        problems.append(("metadata._llm", f"is {_kind(value)}; it is an object with vendor, model and token counts"))
        return None
    llm: dict[str, Any] = {}
    known = _LLM_TEXT | _LLM_COUNTS
    for key, given in value.items():
        field = f"metadata._llm.{key}"
        if key not in known:
            problems.append((field, _unknown(key, known)))
        elif given is None:
            continue
        elif key in _LLM_TEXT:
            if not isinstance(given, str):
                problems.append((field, f"is {_kind(given)}; it is text"))
            elif (unsendable := _unsendable(given)) is not None:
                problems.append((field, unsendable))
            llm[key] = given
        else:
            count = given.item() if type(given).__module__ == "numpy" else given
            if isinstance(count, bool) or not isinstance(count, (int, float, Decimal)) or _is_nan(count):
                problems.append((field, f"is {_kind(given)}; it is a whole number"))
            elif math.isinf(count) or count != int(count):
                problems.append((field, "is not a whole number"))
            else:
                llm[key] = int(count)
    for key, required in known.items():
        if required and value.get(key) is None:
            problems.append((f"metadata._llm.{key}", "is missing"))
    return llm


def _unknown(field: Any, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(str(field), list(known), n=1)
    hint = f"; is {close[0]} meant?" if close else ""
    return f"is not a field that Polar knows, it would be ignored{hint}"


def _is_nan(value: int | float | Decimal) -> bool:
    # A signalling NaN must not even be compared.
    return value.is_nan() if isinstance(value, Decimal) else value != value


def _kind(value: Any) -> str:
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
    return f"a {type(value).__name__}"
