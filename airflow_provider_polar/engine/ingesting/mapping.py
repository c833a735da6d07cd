"""From the rows of a table to events, told as data: which column is the customer, which the time, which the metadata.

A mapping is a dict of event fields; ``metadata`` is a dict of its own. What stands for a value:

- ``"carrier"`` - the column of that name (``"a.b"`` looks into a nested object),
- ``{"const": "flight.departed"}`` - always this value,
- ``{"template": "{carrier}-{flight}"}`` - text made of columns,
- ``{"column": "dep", "type": ..., ...}`` - a column, converted:

  - ``type``: ``str``, ``int``, ``float``, ``bool`` or ``timestamp`` (the last is the default for the ``timestamp``
    field); without it the value stays what it is. Text becomes a number only where the type says so.
  - ``optional: true``: an empty or missing value leaves the field out; otherwise it is a problem of the row. None, an
    empty text and pandas' ``NA`` and ``NaT`` are empty; NaN is a number that is none, and a problem.
  - ``default``: the value to take in place of an empty or missing one.
  - for timestamps ``format`` (as in ``strptime``, or ``unix``, ``unix_ms``; without it ISO 8601) and ``timezone``, the
    zone of times that carry none. A local time that daylight saving skips is a problem of the row, and so is one
    that it repeats, unless ``fold`` says which is meant: 0 the earlier, 1 the later moment.
"""

from __future__ import annotations

import logging
import re
import string
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from airflow_provider_polar.api.limits import CUSTOMER_FIELDS, INGEST_FIELDS
from airflow_provider_polar.engine.ingesting.values import (
    STRUCTURED,
    Problems,
    Rule,
    ValueProblem,
    columns_text,
    in_utc,
    plain,
)
from airflow_provider_polar.exceptions import PolarConfigurationError, PolarSourceError
from airflow_provider_polar.wording import did_you_mean

_TIME_OPTIONS = {"format", "timezone", "fold"}
_OPTIONS = {
    "const": {"const"},
    "template": {"template"},
    "column": {"column", "type", "optional", "default", *_TIME_OPTIONS},
}
"""The options that go together, by the one that says where the value comes from."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_DIGITS = 400
_MAX_SECONDS_DIGITS = 15
_BOOLEANS: dict[str | int, bool] = {"true": True, "1": True, 1: True, "false": False, "0": False, 0: False}

_log = logging.getLogger(__name__)

Extract = Callable[[Mapping[str, Any]], Any]
_ABSENT = object()


class EventMapping:
    """A mapping, checked and ready.

    :param spec: the mapping as a dict.
    :raises PolarConfigurationError: an unknown field, option or type, a bad zone, no name, no customer.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        if not isinstance(spec, Mapping):
            raise PolarConfigurationError(f"mapping is a {type(spec).__name__}; it is a dict of event fields")
        if unknown := [field for field in spec if field not in INGEST_FIELDS]:
            raise PolarConfigurationError(
                f"mapping: unknown field {unknown[0]!r}; events have {', '.join(INGEST_FIELDS)}"
            )
        if "name" not in spec:
            raise PolarConfigurationError('mapping: no name; for one fixed name write {"const": "the.name"}')
        if sum(field in spec for field in CUSTOMER_FIELDS) != 1:
            raise PolarConfigurationError(f"mapping: give exactly one of {' and '.join(CUSTOMER_FIELDS)}")
        metadata = spec.get("metadata", {})
        if not isinstance(metadata, Mapping):
            raise PolarConfigurationError("mapping: metadata is a dict of key to column")
        self._fields = {
            field: _value(field, spec[field]) for field in INGEST_FIELDS if field in spec.keys() - {"metadata"}
        }
        self._metadata = {key: _structured(f"metadata.{key}", value) for key, value in metadata.items()}
        self._columns = list(_columns("", spec))

    def check_columns(self, file: str, columns: Collection[str], every_row: bool) -> None:
        """Tells at once, and not row by row, that a file has not the columns that the mapping takes.

        :param every_row: every row has all the columns; False where the rows are objects with keys of their own.
        :raises PolarSourceError: a column is missing that is neither optional nor has a default. One that is missing
            and optional is warned about in the log.
        """
        for field, column, required in self._columns:
            if column in columns or column.partition(".")[0] in columns:
                continue
            told = f"has no column {column!r}, which the mapping takes for {field}"
            hint = did_you_mean(column, columns)
            if required:
                raise PolarSourceError(f"{file} {told}; {columns_text(columns)}{hint}")
            if every_row:
                _log.warning("%s %s; it may be missing, so every row counts as empty there%s", file, told, hint)

    def __call__(self, row: Any) -> tuple[dict[str, Any], Problems]:
        """The event of a row, not validated yet, and the problems of its values."""
        problems = Problems()
        if not isinstance(row, Mapping):
            problems.add("", "is no object with columns")
            return {}, problems
        event = _extracted(self._fields, row, "", problems)
        if self._metadata and (metadata := _extracted(self._metadata, row, "metadata.", problems)):
            event["metadata"] = metadata
        return event, problems


def _columns(prefix: str, specs: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Of a checked mapping: (field, column, whether the column must be there)."""
    for key, spec in specs.items():
        field = f"{prefix}{key}"
        if isinstance(spec, str):
            yield field, spec, True
        elif "column" in spec:
            yield field, spec["column"], not spec.get("optional") and spec.get("default") is None
        elif "template" in spec:
            yield from (
                (field, column, True) for _, column, _, _ in string.Formatter().parse(spec["template"]) if column
            )
        elif "const" not in spec:
            yield from _columns(f"{field}.", spec)


def _extracted(
    fields: Mapping[str, Extract], row: Mapping[str, Any], prefix: str, problems: Problems
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field, extract in fields.items():
        try:
            value = extract(row)
        except ValueProblem as refused:
            problems += refused.below(prefix + field)
        else:
            if value is not _ABSENT:
                values[field] = value
    return values


def _structured(field: str, spec: Any) -> Extract:
    """``_cost`` and ``_llm`` are objects with values of their own."""
    if field.removeprefix("metadata.") not in STRUCTURED or not isinstance(spec, Mapping) or spec.keys() & _OPTIONS:
        return _value(field, spec)
    parts = {key: _value(f"{field}.{key}", value) for key, value in spec.items()}

    def extract(row: Mapping[str, Any]) -> Any:
        problems = Problems()
        values = _extracted(parts, row, ".", problems)
        problems.refuse_any()
        return values or _ABSENT

    return extract


def _value(field: str, spec: Any) -> Extract:
    if isinstance(spec, str) and spec:
        spec = {"column": spec}
    sources = spec.keys() & _OPTIONS if isinstance(spec, Mapping) else ()
    if len(sources) != 1:
        raise PolarConfigurationError(
            f'mapping: {field} is a column\'s name, {{"column": ...}}, {{"const": ...}} or {{"template": ...}}'
        )
    (source,) = sources
    if unknown := [option for option in spec if option not in _OPTIONS[source]]:
        raise PolarConfigurationError(
            f"mapping: {field} has the unknown option {unknown[0]!r}; known here: {', '.join(sorted(_OPTIONS[source]))}"
        )
    if source == "template":
        return _template(field, spec["template"])
    if source == "column":
        return _column(field, spec)
    if (const := spec["const"]) is None:
        raise PolarConfigurationError(f"mapping: {field} has no constant value; leave the field out")
    return lambda _row: const


def _template(field: str, text: Any) -> Extract:
    try:
        pieces = list(string.Formatter().parse(text))
    except (ValueError, TypeError) as error:
        raise PolarConfigurationError(f"mapping: {field} has the unreadable template {text!r}: {error}") from None
    if any(spec or conversion or name == "" for _, name, spec, conversion in pieces):
        raise PolarConfigurationError(f"mapping: {field}: a template holds text and {{column}}, nothing else")

    def extract(row: Mapping[str, Any]) -> str:
        parts: list[str] = []
        for literal, column, _, _ in pieces:
            parts.append(literal)
            if column is not None:
                value = _look_up(row, column)
                if _empty(value):
                    raise ValueProblem(f"column {column!r} is empty or missing")
                if isinstance(value, (float, Decimal)) and not Decimal(value).is_finite():
                    raise ValueProblem(f"column {column!r} is not a finite number")
                parts.append(_as_text(value))
        return "".join(parts)

    return extract


def _column(field: str, spec: Mapping[str, Any]) -> Extract:
    column, optional = spec["column"], spec.get("optional", False)
    kind = spec.get("type", "timestamp" if field == "timestamp" else None)
    if not isinstance(column, str) or not column:
        raise PolarConfigurationError(f"mapping: {field}: column is {column!r}; it is a column's name")
    if not isinstance(optional, bool):
        raise PolarConfigurationError(f"mapping: {field}: optional is true or false")
    if kind is not None and kind not in (*_CONVERSIONS, "timestamp"):
        raise PolarConfigurationError(
            f"mapping: {field} has the unknown type {kind!r}; known: {', '.join(_CONVERSIONS)}, timestamp"
        )
    if kind != "timestamp" and (wrong := _TIME_OPTIONS & set(spec)):
        raise PolarConfigurationError(f"mapping: {field}: {min(wrong)} goes with type timestamp")
    convert: Rule
    if kind == "timestamp":
        convert = _timestamp(field, spec)
    elif kind is None:
        convert = _whole_number_as_text if field in INGEST_FIELDS else _unchanged
    else:
        convert = _CONVERSIONS[kind]
    default = spec.get("default", _ABSENT if optional else None)

    def extract(row: Mapping[str, Any]) -> Any:
        value = _look_up(row, column)
        if _empty(value):
            if default is None:
                hint = "" if column in row else did_you_mean(column, [name for name in row if isinstance(name, str)])
                raise ValueProblem(f"column {column!r} is empty or missing{hint}")
            return default
        return convert(value)

    return extract


def _look_up(row: Mapping[str, Any], column: str) -> Any:
    if column in row:
        return plain(row[column])
    value: Any = row
    for part in column.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return plain(value)


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value)


def _unchanged(value: Any) -> Any:
    return value


def _whole_number_as_text(value: Any) -> Any:
    """Ids are text for Polar and often numbers in tables."""
    return _as_text(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (str, int, float, Decimal, date)) or type(value).__name__ == "UUID":
        try:
            return str(value)
        except ValueError:
            raise ValueProblem("has too many digits") from None
    raise ValueProblem(f"a {type(value).__name__} has no text form here")


def _as_int(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,4000}\s*", value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    # The magnitude comes first: of 1E+9999999 an int must never be made.
    if isinstance(value, Decimal) and value.is_finite() and value.adjusted() < _MAX_DIGITS and value == int(value):
        return int(value)
    raise ValueProblem("is not a whole number")


def _as_float(value: Any) -> float:
    # Python takes 1_000 for a number; who writes tables does not.
    if isinstance(value, str) and "_" in value:
        raise ValueProblem("is not a number")
    if not isinstance(value, bool) and isinstance(value, (int, float, Decimal, str)):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise ValueProblem("is not a number")


def _as_bool(value: Any) -> bool:
    told = str(value).strip().lower() if isinstance(value, (str, Decimal)) else value
    if isinstance(told, (str, int)) and (meant := _BOOLEANS.get(told)) is not None:
        return meant
    raise ValueProblem("is none of true, false, 1, 0")


_CONVERSIONS: dict[str, Rule] = {
    "str": _as_text,
    "int": _as_int,
    "float": _as_float,
    "bool": _as_bool,
}


def _timestamp(field: str, spec: Mapping[str, Any]) -> Callable[[Any], datetime]:
    layout, fold = spec.get("format"), spec.get("fold")
    if fold not in (None, 0, 1):
        raise PolarConfigurationError(f"mapping: {field}: fold is 0 (the earlier) or 1 (the later moment)")
    if layout is not None and not isinstance(layout, str):
        raise PolarConfigurationError(f"mapping: {field}: format is text as in strptime, unix or unix_ms")
    zone: tzinfo | None = None
    if (name := spec.get("timezone")) is not None:
        try:
            zone = ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
            raise PolarConfigurationError(f"mapping: {field}: {name!r} is not a time zone") from None

    def convert(value: Any) -> datetime:
        moment = _moment(value, layout)
        try:
            if (utc := in_utc(moment)) is not None:
                return utc
            if zone is None:
                raise ValueProblem("has no time zone; say which with timezone in the mapping")
            return _in_zone(moment, zone, fold)
        except OverflowError:
            raise ValueProblem("is outside the years 1 to 9999") from None

    return convert


def _moment(value: Any, layout: str | None) -> datetime:
    if layout in ("unix", "unix_ms"):
        unit = "seconds" if layout == "unix" else "milliseconds"
        try:
            number = Decimal(_as_text(value).strip())
            # The magnitude comes first: of 1E+9999999 an int must never be made.
            if number.is_finite() and number.adjusted() < _MAX_SECONDS_DIGITS:
                return _EPOCH + timedelta(microseconds=int(number * (1_000_000 if layout == "unix" else 1000)))
        except (ArithmeticError, ValueError):
            pass
        raise ValueProblem(f"is not a number of {unit}")
    if isinstance(value, datetime):
        return value
    try:
        text = value.strip() if isinstance(value, str) else _as_text(value)
        return datetime.fromisoformat(text) if layout is None else datetime.strptime(text, layout)  # noqa: DTZ007
    except ValueError:
        wanted = "an ISO 8601 moment" if layout is None else f"a moment in the format {layout!r}"
        raise ValueProblem(f"is not {wanted}") from None


def _in_zone(local: datetime, zone: tzinfo, fold: int | None) -> datetime:
    # Not replace(): pandas' moments refuse what does not exist in the zone.
    clock = (local.year, local.month, local.day, local.hour, local.minute, local.second, local.microsecond)
    earlier, later = (datetime(*clock, tzinfo=zone, fold=f).astimezone(UTC) for f in (0, 1))
    if earlier == later:
        return earlier
    if earlier > later:
        raise ValueProblem(f"does not exist in {zone}: the clock is put forward then")
    if fold is None:
        raise ValueProblem(f"is twice in {zone}, the clock is put back then; say which is meant with fold")
    return later if fold else earlier
