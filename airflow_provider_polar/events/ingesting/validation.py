"""Polar's rules for an event, told in words before anything is sent.

What Polar would refuse (422), stumble over (500) or silently drop is refused here. Rows may hold Python values
(aware datetimes, ``Decimal``, ``UUID``, scalars of NumPy, moments of pandas); they come out as JSON values, timestamps
as UTC text. A value comes out exactly or is refused: none is rounded, and none takes long, whatever it is.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from airflow_provider_polar.events.ingesting.values import plain
from airflow_provider_polar.exceptions import EventProblem, PolarSourceError

MAX_NAME = 128
MAX_KEY, MAX_KEYS, MAX_TEXT = 40, 50, 500
CLOCK_SKEW = timedelta(seconds=5)
"""How far ahead of this clock a timestamp may be: clocks differ, and Polar's own decides when the event is sent."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OFFSET = len("+00:00")
_COST_INTEGER_DIGITS, _COST_DECIMALS = 5, 12
_COST_FIELDS = ("amount", "currency")
_COST_BELOW = 10**_COST_INTEGER_DIGITS
_COST_TOO_LONG = f"has more than {_COST_INTEGER_DIGITS} digits before or {_COST_DECIMALS} after the decimal point"
_COST_DIGITS = Context(prec=_COST_INTEGER_DIGITS + _COST_DECIMALS, traps=[])
_FLOAT_MAGNITUDE = 308
_FLOAT_DIGITS = Context(prec=17, traps=[])
_COMMON_INTEGER = 2**63
_COMMON_FIELDS = frozenset({"name", "external_customer_id", "timestamp", "metadata", "external_id"})
_COMMON_TYPES = frozenset({str, dict})
_KEYS_REMEMBERED = 1000
_TOLD_KEY, _TOLD_COLUMNS = 60, 50
_FIELDS = (
    *("name", "external_customer_id", "customer_id", "timestamp", "metadata", "external_id", "parent_id"),
    *("external_member_id", "member_id"),
)
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
    """Turns rows into events as they are sent, or says what is wrong with them. Not thread-safe.

    :param clock: the present moment (aware), for tests.
    """

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._latest = clock() + CLOCK_SKEW
        self._keys: dict[str, str] = {}
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
            "metadata": self._metadata,
        }

    def __call__(self, row: Any) -> tuple[dict[str, Any], list[FieldProblem]]:
        """The event of a row and every problem of the row; the event may be sent only if there is none.

        A field that is None (or pandas' ``NA`` or ``NaT``) counts as absent; only a timestamp must not be None, because
        Polar would stamp the event with the time of its receipt instead.
        """
        if not _is_object(row):
            return {}, [("", f"is {_kind(row)}; an event is an object with a name and a customer")]
        event: dict[str, Any] = {}
        problems: list[FieldProblem] = []
        for field, given in row.items():
            rule = self._rules.get(field)
            if rule is None:
                problems.append((_key_text(field), _unknown(field, self._rules)))
            elif (value := given if type(given) in _COMMON_TYPES else plain(given)) is None:
                if field == "timestamp":
                    problems.append((field, "is null; leave it out to have Polar take the time of receipt"))
            elif (normal := rule(value, problems)) is not None:
                event[field] = normal
        if problems or not (event.keys() <= _COMMON_FIELDS and "name" in event and "external_customer_id" in event):
            self._across_fields({field: plain(row.get(field)) for field in self._rules}, event, problems)
        return event, problems

    @staticmethod
    def _across_fields(row: Mapping[str, Any], event: dict[str, Any], problems: list[FieldProblem]) -> None:
        if row["name"] is None:
            problems.append(("name", "is missing"))
        internal, external = row["customer_id"] is not None, row["external_customer_id"] is not None
        if internal and external:
            problems.append(
                ("", "has both customer_id and external_customer_id; Polar would silently drop the first: give one")
            )
        elif not internal and not external:
            problems.append(("", "has no customer: give customer_id or external_customer_id"))
        if external and not internal and row["member_id"] is not None:
            problems.append(("member_id", "goes with customer_id; with external_customer_id give external_member_id"))
        if internal and not external and row["external_member_id"] is not None:
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
        try:
            utc = in_utc(moment)
        except OverflowError:
            problems.append(("timestamp", "is outside the years 1 to 9999"))
            return None
        if utc is None:
            problems.append(("timestamp", "has no time zone; write one, for example a Z at the end for UTC"))
            return None
        if utc < _EPOCH:
            problems.append(("timestamp", "is before 1970; Polar's filters by time fail for good once it has such one"))
            return None
        if utc > self._latest:
            self._latest = self._clock() + CLOCK_SKEW
            if utc > self._latest:
                problems.append(("timestamp", "is in the future, which Polar refuses"))
                return None
        return utc.isoformat()[:-_OFFSET] + "Z"

    def _metadata(self, value: Any, problems: list[FieldProblem]) -> dict[str, Any] | None:
        if not _is_object(value):
            problems.append(("metadata", f"is {_kind(value)}; it is a flat object"))
            return None
        if len(value) > MAX_KEYS:
            problems.append(("metadata", f"has {len(value)} keys; it has at most {MAX_KEYS}"))
        metadata: dict[str, Any] = {}
        for given, content in value.items():
            key = self._keys.get(given)
            if key is None and (key := self._checked_key(given, problems)) is None:
                continue
            kind = type(content)
            if (
                (kind is str and 0 < len(content) <= MAX_TEXT and content.isascii() and "\0" not in content)
                or (kind is int and -_COMMON_INTEGER <= content <= _COMMON_INTEGER)
                or (kind is float and math.isfinite(content))
                or kind is bool
            ) and key not in _STRUCTURED:
                metadata[key] = content
            else:
                metadata[key] = _STRUCTURED.get(key, _value)(f"metadata.{key}", plain(content), problems)
        return metadata or None

    def _checked_key(self, key: Any, problems: list[FieldProblem]) -> str | None:
        if not isinstance(key, str) or not 1 <= len(key) <= MAX_KEY:
            told = f"{len(key)} characters" if isinstance(key, str) else _kind(key)
            field = f"metadata.{_key_text(key)}"[:_TOLD_KEY]
            problems.append((field, f"the key is {told}; keys are text of 1 to {MAX_KEY} characters"))
            return None
        if (unsendable := _unsendable(key)) is not None:
            problems.append(("metadata", f"a key {unsendable}"))
            return None
        exact = str.__str__(key)
        if len(self._keys) < _KEYS_REMEMBERED:
            self._keys[exact] = exact
        return exact


def check_event_columns(file: str, columns: Collection[str], every_row: bool) -> None:
    """Tells at once, and not row by row, that the columns of a file are no events.

    :param every_row: every row has all the columns; False where the rows are objects with keys of their own.
    :raises PolarSourceError: a column is no field of an event, or there is no name or no customer.
    """
    for column in columns if every_row else ():
        if column not in _FIELDS and not column.startswith("metadata."):
            raise PolarSourceError(
                f"{file} has the column {_key_text(column)!r}, which is no field of an event"
                f"{near_miss(_key_text(column), _FIELDS)}; an event has {', '.join(_FIELDS)}, "
                "and metadata.KEY for each key of its metadata: rename the column, or give a mapping"
            )
    for needed in (("name",), ("external_customer_id", "customer_id")):
        if not set(needed) & set(columns):
            raise PolarSourceError(f"{file} has no column {' or '.join(needed)}; {columns_text(columns)}")


def columns_text(columns: Collection[str]) -> str:
    """The columns of a file in words."""
    told = ", ".join(_key_text(column) for column in list(columns)[:_TOLD_COLUMNS])
    return f"it has {told}" + (f" and {len(columns) - _TOLD_COLUMNS} more" if len(columns) > _TOLD_COLUMNS else "")


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
        return str.__str__(value)
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


def _value(field: str, value: Any, problems: list[FieldProblem]) -> Any:
    if isinstance(value, str):
        if 1 <= len(value) <= MAX_TEXT:
            unsendable = _unsendable(value)
            if unsendable is None:
                return str.__str__(value)
            problems.append((field, unsendable))
        elif value:
            problems.append((field, f"has {len(value)} characters; text has 1 to {MAX_TEXT}"))
        else:
            problems.append((field, f"is empty; text has 1 to {MAX_TEXT} characters"))
        return None
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float, Decimal)):
        number, told = _number(value)
        if told:
            problems.append((field, told))
        return number
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        try:
            utc = in_utc(value)
        except OverflowError:
            problems.append((field, "is a datetime outside the years 1 to 9999"))
            return None
        if utc is None:
            problems.append((field, "is a datetime without a time zone"))
            return None
        if getattr(value, "nanosecond", 0):  # of pandas
            problems.append((field, "is a moment finer than a microsecond; round it, or give it as text"))
            return None
        return utc.isoformat()[:-_OFFSET] + "Z"
    if isinstance(value, date):
        return value.isoformat()
    problems.append((field, f"is {_kind(value)}; {_VALUES}"))
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


def _cost(field: str, value: Any, problems: list[FieldProblem]) -> dict[str, Any] | None:
    if not _is_object(value):
        problems.append((field, f'is {_kind(value)}; it is {{"amount": cents, "currency": "usd"}}'))
        return None
    for key in value:
        if key not in _COST_FIELDS:
            problems.append((f"{field}.{_key_text(key)}", "is unknown; a cost has amount and currency"))
    currency = value.get("currency")
    if not isinstance(currency, str) or currency != "usd":
        problems.append((f"{field}.currency", 'is not "usd", the only currency that Polar takes'))
    amount, told = _amount(plain(value.get("amount")))
    if told:
        problems.append((f"{field}.amount", told))
    return {"amount": amount, "currency": "usd"}


def _amount(amount: Any) -> tuple[int | float | str | None, str | None]:
    """A number of cents as it is sent, or what is wrong with it."""
    if isinstance(amount, bool) or not isinstance(amount, (int, float, str, Decimal)):
        return None, f"is {_kind(amount)}; it is a number of cents"
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


def _llm(field: str, value: Any, problems: list[FieldProblem]) -> dict[str, Any] | None:
    if not _is_object(value):
        problems.append((field, f"is {_kind(value)}; it is an object with vendor, model and token counts"))
        return None
    llm: dict[str, Any] = {}
    given_keys = set()
    for key, raw in value.items():
        if key not in _LLM_FIELDS:
            problems.append((f"{field}.{_key_text(key)}", _unknown(key, _LLM_FIELDS)))
            continue
        given = plain(raw)
        if given is None:
            continue
        given_keys.add(key)
        if key in _LLM_COUNTS:
            llm[key], told = _count(given)
        elif isinstance(given, str):
            llm[key], told = str.__str__(given), _unsendable(given)
        else:
            told = f"is {_kind(given)}; it is text"
        if told:
            problems.append((f"{field}.{key}", told))
    if not given_keys.issuperset(_LLM_REQUIRED):
        problems += [(f"{field}.{key}", "is missing") for key in _LLM_REQUIRED if key not in given_keys]
    return llm


_STRUCTURED: dict[str, Callable[[str, Any, list[FieldProblem]], Any]] = {"_cost": _cost, "_llm": _llm}


def _count(value: Any) -> tuple[int | None, str | None]:
    if type(value) is int and -_COMMON_INTEGER <= value <= _COMMON_INTEGER:
        return value, None
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)) or _is_nan(value):
        return None, f"is {_kind(value)}; it is a whole number"
    number, _ = _number(value)
    if number is not None and number == (whole := int(number)):
        return whole, None
    return None, "is not a whole number"


def _unknown(field: Any, known: Mapping[str, Any]) -> str:
    return f"is not a field that Polar knows, it would be ignored{near_miss(_key_text(field), known)}"


def near_miss(name: str, known: Iterable[str]) -> str:
    """``; is ... meant?`` where one of the known names is close, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; is {close[0]} meant?" if close else ""


def _key_text(key: Any) -> str:
    """A key for a message: short, and whatever it is."""
    if isinstance(key, str):
        return str.__str__(key)[:_TOLD_KEY]
    try:
        return str(key)[:_TOLD_KEY]
    except ValueError:  # a number of thousands of digits
        return type(key).__name__


def _is_object(value: Any) -> bool:
    return type(value) is dict or isinstance(value, Mapping)


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
    if type(value).__name__ == "ndarray":
        return "an array"
    return f"a {type(value).__name__}"
