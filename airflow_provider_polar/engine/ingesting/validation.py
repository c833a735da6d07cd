"""Polar's rules for an event, told in words before anything is sent.

What Polar would refuse (422), stumble over (500) or silently drop is refused here. Rows may hold Python values
(aware datetimes, ``Decimal``, ``UUID``, scalars of NumPy, moments of pandas); they come out as JSON values, timestamps
as UTC text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from airflow_provider_polar.api.limits import CUSTOMER_FIELDS, INGEST_FIELDS, MAX_KEY, MAX_KEYS, MAX_NAME, MAX_TEXT
from airflow_provider_polar.engine.ingesting.values import (
    COMMON_INTEGER,
    STRUCTURED,
    Problems,
    Rule,
    ValueProblem,
    columns_text,
    id_text,
    in_utc,
    is_object,
    key_text,
    kind_of,
    metadata_value,
    plain,
    text,
    unicode_text,
    unknown_field,
    utc_text,
    uuid_text,
)
from airflow_provider_polar.exceptions import PolarSourceError
from airflow_provider_polar.wording import did_you_mean

CLOCK_SKEW = timedelta(seconds=5)
"""How far ahead of this clock a timestamp may be: clocks differ, and Polar's own decides when the event is sent."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COMMON_FIELDS = frozenset({"name", "external_customer_id", "timestamp", "metadata", "external_id"})
_COMMON_TYPES = frozenset({str, dict})
_KEYS_REMEMBERED = 1000


class EventValidator:
    """Turns rows into events as they are sent, or says what is wrong with them. Not thread-safe.

    :param clock: the present moment (aware), for tests.
    """

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._latest = clock() + CLOCK_SKEW
        self._keys: dict[str, str] = {}
        special: dict[str, Rule] = {
            "name": partial(text, most=MAX_NAME),
            "timestamp": self._timestamp,
            "customer_id": uuid_text,
            "member_id": uuid_text,
            "metadata": self._metadata,
            "organization_id": _organization,
        }
        self._rules = dict.fromkeys(INGEST_FIELDS, id_text) | special

    def __call__(self, row: Any) -> tuple[dict[str, Any], Problems]:
        """The event of a row and every problem of the row; the event may be sent only if there is none.

        A field that is None (or pandas' ``NA`` or ``NaT``) counts as absent; only a timestamp must not be None, because
        Polar would stamp the event with the time of its receipt instead.
        """
        event: dict[str, Any] = {}
        problems = Problems()
        if not is_object(row):
            problems.add("", f"is {kind_of(row)}; an event is an object with a name and a customer")
            return event, problems
        for field, given in row.items():
            rule = self._rules.get(field)
            if rule is None:
                problems.add(key_text(field), unknown_field(field, self._rules))
            elif (value := given if type(given) in _COMMON_TYPES else plain(given)) is None:
                if field == "timestamp":
                    problems.add(field, "is null; leave it out to have Polar take the time of receipt")
            else:
                try:
                    if normal := rule(value):
                        event[field] = normal
                except ValueProblem as refused:
                    problems += refused.below(field)
        if problems or not (event.keys() <= _COMMON_FIELDS and "name" in event and "external_customer_id" in event):
            self._across_fields({field: plain(row.get(field)) for field in self._rules}, event, problems)
        return event, problems

    @staticmethod
    def _across_fields(row: Mapping[str, Any], event: dict[str, Any], problems: Problems) -> None:
        if row["name"] is None:
            problems.add("name", "is missing")
        internal, external = (row[field] is not None for field in CUSTOMER_FIELDS)
        if internal and external:
            problems.add(
                "", "has both customer_id and external_customer_id; Polar would silently drop the first: give one"
            )
        elif not internal and not external:
            problems.add("", "has no customer: give customer_id or external_customer_id")
        if external and not internal and row["member_id"] is not None:
            problems.add("member_id", "goes with customer_id; with external_customer_id give external_member_id")
        if internal and not external and row["external_member_id"] is not None:
            problems.add("external_member_id", "goes with external_customer_id; with customer_id give member_id")
        if "parent_id" in event and event["parent_id"] == event.get("external_id"):
            problems.add("parent_id", "is the event's own external_id; an event is not its own parent")

    def _timestamp(self, value: Any) -> str:
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value.strip())
            except ValueError:
                raise ValueProblem("is not an ISO 8601 moment such as 2026-01-31T12:00:00Z") from None
        if not isinstance(value, datetime):
            raise ValueProblem(f"is {kind_of(value)}; a moment is an aware datetime or ISO 8601 text")
        utc = in_utc(value)
        if utc is None:
            raise ValueProblem("has no time zone; write one, for example a Z at the end for UTC")
        if utc < _EPOCH:
            raise ValueProblem("is before 1970; Polar's filters by time fail for good once it has such one")
        if utc > self._latest:
            self._latest = self._clock() + CLOCK_SKEW
            if utc > self._latest:
                raise ValueProblem("is in the future, which Polar refuses")
        return utc_text(utc)

    def _metadata(self, value: Any) -> dict[str, Any]:
        if not is_object(value):
            raise ValueProblem(f"is {kind_of(value)}; it is a flat object")
        metadata: dict[str, Any] = {}
        problems = Problems()
        if len(value) > MAX_KEYS:
            problems.add("", f"has {len(value)} keys; it has at most {MAX_KEYS}")
        for given, content in value.items():
            try:
                key = self._keys.get(given) or self._checked_key(given)
                kind = type(content)
                if (
                    (kind is str and 0 < len(content) <= MAX_TEXT and content.isascii() and "\0" not in content)
                    or (kind is int and -COMMON_INTEGER <= content <= COMMON_INTEGER)
                    or (kind is float and math.isfinite(content))
                    or kind is bool
                ) and key not in STRUCTURED:
                    metadata[key] = content
                else:
                    rule: Rule = STRUCTURED.get(key, metadata_value)
                    metadata[key] = rule(plain(content))
            except ValueProblem as refused:
                problems += refused.below(f".{key_text(given)}")
        problems.refuse_any()
        return metadata

    def _checked_key(self, key: Any) -> str:
        if not isinstance(key, str) or not 1 <= len(key) <= MAX_KEY:
            told = f"{len(key)} characters" if isinstance(key, str) else kind_of(key)
            raise ValueProblem(f"the key is {told}; keys are text of 1 to {MAX_KEY} characters")
        try:
            exact = unicode_text(key)
        except ValueProblem as refused:
            raise ValueProblem(f"the key {refused}") from None
        if len(self._keys) < _KEYS_REMEMBERED:
            self._keys[exact] = exact
        return exact


def _organization(_value: Any) -> str:
    raise ValueProblem("is refused with an organization token; the token itself says which it is")


def check_event_columns(file: str, columns: Collection[str], every_row: bool) -> None:
    """Tells at once, and not row by row, that the columns of a file are no events.

    :param every_row: every row has all the columns; False where the rows are objects with keys of their own.
    :raises PolarSourceError: a column is no field of an event, or there is no name or no customer.
    """
    for column in columns if every_row else ():
        if column not in INGEST_FIELDS and not column.startswith("metadata."):
            raise PolarSourceError(
                f"{file} has the column {key_text(column)!r}, which is no field of an event"
                f"{did_you_mean(key_text(column), INGEST_FIELDS)}; an event has {', '.join(INGEST_FIELDS)}, "
                "and metadata.KEY for each key of its metadata: rename the column, or give a mapping"
            )
    for needed in (("name",), CUSTOMER_FIELDS[::-1]):
        if not set(needed) & set(columns):
            raise PolarSourceError(f"{file} has no column {' or '.join(needed)}; {columns_text(columns)}")
