"""Polar's rules for an event, told in words before anything is sent.

What Polar would refuse (422), stumble over (500) or silently drop is refused here. Rows may hold Python values
(aware datetimes, ``Decimal``, ``UUID``, scalars of NumPy, moments of pandas); they come out as JSON values, timestamps
as UTC text. A value comes out exactly or is refused: none is rounded, and none takes long, whatever it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from airflow_provider_polar.engine.ingesting.content import (
    COMMON_INTEGER,
    MAX_TEXT,
    STRUCTURED,
    TOLD_KEY,
    UTC_OFFSET,
    Problems,
    in_utc,
    is_object,
    key_text,
    kind_of,
    metadata_value,
    unknown_field,
    unsendable_text,
)
from airflow_provider_polar.engine.ingesting.values import plain

MAX_NAME = 128
MAX_KEY, MAX_KEYS = 40, 50
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
        self._rules: dict[str, Callable[[Any, Problems], Any]] = {
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
            elif (normal := rule(value, problems)) is not None:
                event[field] = normal
        if problems or not (event.keys() <= _COMMON_FIELDS and "name" in event and "external_customer_id" in event):
            self._across_fields({field: plain(row.get(field)) for field in self._rules}, event, problems)
        return event, problems

    @staticmethod
    def _across_fields(row: Mapping[str, Any], event: dict[str, Any], problems: Problems) -> None:
        if row["name"] is None:
            problems.add("name", "is missing")
        internal, external = row["customer_id"] is not None, row["external_customer_id"] is not None
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

    @staticmethod
    def _name(value: Any, problems: Problems) -> str | None:
        return _text("name", value, problems, MAX_NAME)

    def _timestamp(self, value: Any, problems: Problems) -> str | None:
        if isinstance(value, str):
            try:
                moment = datetime.fromisoformat(value.strip())
            except ValueError:
                problems.add("timestamp", "is not an ISO 8601 moment such as 2026-01-31T12:00:00Z")
                return None
        elif isinstance(value, datetime):
            moment = value
        else:
            problems.add("timestamp", f"is {kind_of(value)}; a moment is an aware datetime or ISO 8601 text")
            return None
        try:
            utc = in_utc(moment)
        except OverflowError:
            problems.add("timestamp", "is outside the years 1 to 9999")
            return None
        if utc is None:
            problems.add("timestamp", "has no time zone; write one, for example a Z at the end for UTC")
            return None
        if utc < _EPOCH:
            problems.add("timestamp", "is before 1970; Polar's filters by time fail for good once it has such one")
            return None
        if utc > self._latest:
            self._latest = self._clock() + CLOCK_SKEW
            if utc > self._latest:
                problems.add("timestamp", "is in the future, which Polar refuses")
                return None
        return utc.isoformat()[:-UTC_OFFSET] + "Z"

    def _metadata(self, value: Any, problems: Problems) -> dict[str, Any] | None:
        if not is_object(value):
            problems.add("metadata", f"is {kind_of(value)}; it is a flat object")
            return None
        if len(value) > MAX_KEYS:
            problems.add("metadata", f"has {len(value)} keys; it has at most {MAX_KEYS}")
        metadata: dict[str, Any] = {}
        for given, content in value.items():
            key = self._keys.get(given)
            if key is None and (key := self._checked_key(given, problems)) is None:
                continue
            kind = type(content)
            if (
                (kind is str and 0 < len(content) <= MAX_TEXT and content.isascii() and "\0" not in content)
                or (kind is int and -COMMON_INTEGER <= content <= COMMON_INTEGER)
                or (kind is float and math.isfinite(content))
                or kind is bool
            ) and key not in STRUCTURED:
                metadata[key] = content
            else:
                metadata[key] = STRUCTURED.get(key, metadata_value)(f"metadata.{key}", plain(content), problems)
        return metadata or None

    def _checked_key(self, key: Any, problems: Problems) -> str | None:
        if not isinstance(key, str) or not 1 <= len(key) <= MAX_KEY:
            told = f"{len(key)} characters" if isinstance(key, str) else kind_of(key)
            field = f"metadata.{key_text(key)}"[:TOLD_KEY]
            problems.add(field, f"the key is {told}; keys are text of 1 to {MAX_KEY} characters")
            return None
        if (unsendable := unsendable_text(key)) is not None:
            problems.add("metadata", f"a key {unsendable}")
            return None
        exact = str.__str__(key)
        if len(self._keys) < _KEYS_REMEMBERED:
            self._keys[exact] = exact
        return exact


def _text_rule(field: str) -> Callable[[Any, Problems], str | None]:
    def rule(value: Any, problems: Problems) -> str | None:
        if isinstance(value, UUID):
            return str(value)
        return _text(field, value, problems)

    return rule


def _uuid_rule(field: str) -> Callable[[Any, Problems], str | None]:
    def rule(value: Any, problems: Problems) -> str | None:
        try:
            uuid = value if isinstance(value, UUID) else UUID(value)
        except (ValueError, AttributeError, TypeError):
            problems.add(field, "is not a UUID; for an id of your own give the external_ field")
            return None
        if uuid.version != 4:
            problems.add(field, "is not a version 4 UUID, as Polar's ids are")
            return None
        return str(uuid)

    return rule


def _organization(_value: Any, problems: Problems) -> None:
    problems.add("organization_id", "is refused with an organization token; the token itself says which it is")


def _text(field: str, value: Any, problems: Problems, most: int | None = None) -> str | None:
    if not isinstance(value, str):
        problems.add(field, f"is {kind_of(value)}; it is text")
    elif not value:
        problems.add(field, "is empty" if most is None else f"is empty; it has 1 to {most} characters")
    elif most is not None and len(value) > most:
        problems.add(field, f"has {len(value)} characters; it has 1 to {most}")
    elif (unsendable := unsendable_text(value)) is not None:
        problems.add(field, unsendable)
    else:
        return str.__str__(value)
    return None
