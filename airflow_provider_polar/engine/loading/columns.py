"""The columns of a table of events, and what an event is in them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Self, get_args

import msgspec

from airflow_provider_polar.engine.files.fields import EVENT_FIELDS, EXTRA, FieldChoice
from airflow_provider_polar.engine.files.streams import KNOWN
from airflow_provider_polar.exceptions import PolarConfigurationError, PolarSourceError

Kind = Literal["text", "timestamp", "bigint", "double", "boolean", "json"]
"""What a column holds: text, a moment (UTC, microseconds), a 64-bit integer, a number, true or false, JSON text."""

KINDS: tuple[Kind, ...] = get_args(Kind)
REQUIRED = ("id", "timestamp")
_KIND_OF_FIELD: dict[str, Kind] = {
    "timestamp": "timestamp",
    "child_count": "bigint",
    "customer": "json",
    "metadata": "json",
    EXTRA: "json",
}
_TWO_TO_63 = 1 << 63


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    :param name: of the field, or of the metadata's key, that it holds.
    :param kind: of its values.
    :param of_metadata: whether it holds a key of the metadata.
    """

    name: str
    kind: Kind
    of_metadata: bool = False

    @property
    def required(self) -> bool:
        """Whether each event has a value for it."""
        return self.name in REQUIRED and not self.of_metadata


def check_metadata_columns(given: Any, name: str = "metadata_columns") -> dict[str, Kind]:
    """Typed columns out of the metadata: of each key the kind.

    :raises PolarConfigurationError: it is no such dict, a kind is unknown, or a key is the name of a field.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise PolarConfigurationError(f"{name} is {given!r}; it is a dict such as {{'distance': 'double'}}")
    for key, kind in given.items():
        if kind not in KINDS:
            raise PolarConfigurationError(f"{name} has {key!r} as {kind!r}; there are {', '.join(KINDS)}")
        if not isinstance(key, str) or not key or "\0" in key:
            raise PolarConfigurationError(f"{name} has the key {key!r}; a key of the metadata is text")
    taken = {field.casefold(): field for field in (*EVENT_FIELDS, EXTRA)}
    for key in given:
        if (other := taken.setdefault(key.casefold(), key)) is not key:
            raise PolarConfigurationError(
                f"{name} has {key!r}, and a table has {other!r} already: take it from the column metadata instead"
            )
    return dict(given)


@dataclass(frozen=True, slots=True)
class EventColumns:
    """The columns that events are loaded into, in one order: the fields, then those out of the metadata.

    :param columns: each of them.
    """

    columns: tuple[Column, ...]

    @classmethod
    def choose(
        cls,
        fields: Collection[str],
        *,
        exclude_fields: Sequence[str] | None = None,
        metadata_columns: Mapping[str, Kind] | None = None,
    ) -> Self:
        """The columns of an export's fields.

        :param fields: of the export, as its manifest says.
        :param exclude_fields: fields that are not loaded.
        :param metadata_columns: see :func:`check_metadata_columns`.
        :raises PolarConfigurationError: ``id``, ``timestamp`` or an unknown field is excluded, or the export has no
            metadata to take columns from.
        """
        if needed := [field for field in REQUIRED if field in (exclude_fields or ())]:
            raise PolarConfigurationError(f"exclude_fields names {needed[0]!r}, without which no event can be loaded")
        kept = FieldChoice.choose(exclude=exclude_fields).columns
        taken = check_metadata_columns(metadata_columns)
        if taken and "metadata" not in fields:
            raise PolarConfigurationError(
                f"metadata_columns takes {next(iter(taken))!r} out of the metadata, which the export does not have: "
                "export the window with metadata"
            )
        own = [Column(name, _KIND_OF_FIELD.get(name, "text")) for name in kept if name in fields]
        return cls((*own, *(Column(key, kind, of_metadata=True) for key, kind in taken.items())))

    @property
    def names(self) -> list[str]:
        """The columns' names."""
        return [column.name for column in self.columns]

    def rows(self, events: Iterable[Mapping[str, Any]], new_fields: set[str] | None = None) -> Iterator[list[Any]]:
        """Each event as the values of its columns.

        They are ``str``, aware ``datetime`` in UTC, ``int``, ``float``, ``bool`` or None; JSON is text.

        :param events: as :meth:`~airflow_provider_polar.engine.loading.manifests.ExportedWindow.events` gives them.
        :param new_fields: is told the fields that events have beyond those that are known here.
        :raises PolarSourceError: a value is not of its column's kind; the message has the event's id and not the value.
        """
        getters = [_getter(column) for column in self.columns]
        for event in events:
            extra = _extra_of(event)
            if new_fields is not None and extra:
                new_fields.update(extra)
            whole = {**event, EXTRA: extra, "metadata": event.get("metadata") or {}}
            yield [get(whole) for get in getters]


def _extra_of(event: Mapping[str, Any]) -> dict[str, Any] | None:
    """The fields of an event beyond the known ones, sorted by name."""
    unknown = event.keys() - KNOWN
    return {name: event[name] for name in sorted(unknown)} if unknown else None


def _getter(column: Column) -> Callable[[Mapping[str, Any]], Any]:
    """What makes of an event the value of a column."""
    name, convert = column.name, (_OF_METADATA if column.of_metadata else _OF_FIELDS)[column.kind]

    def get(event: Mapping[str, Any]) -> Any:
        value = (event["metadata"] if column.of_metadata else event).get(name)
        if value is None:
            return None
        try:
            return convert(value)
        except (ValueError, TypeError, OverflowError):
            raise _unfit(event, column) from None

    return get


def _unfit(event: Mapping[str, Any], column: Column) -> PolarSourceError:
    what = f"the metadata {column.name!r}" if column.of_metadata else f"the {column.name}"
    advice = (
        f"metadata_columns={{{column.name!r}: 'text'}} takes every value"
        if column.of_metadata
        else f"exclude_fields=[{column.name!r}] leaves the field out"
    )
    return PolarSourceError(f"{what} of event {event.get('id')} does not fit a column of {column.kind}: {advice}")


def _json_text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _json_text(value)


def _moment(value: Any) -> datetime:
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    # Polar gives an event of year 1 without a zone.
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or int(value) != value:
        raise TypeError
    return _whole(value)


def _whole(value: Any) -> int:
    whole = int(value)
    if not -_TWO_TO_63 <= whole < _TWO_TO_63:
        raise ValueError
    return whole


def _double(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError
    return float(value)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _json_field(value: Any) -> str:
    return value if isinstance(value, str) else _json_text(value)


_OF_METADATA: dict[Kind, Callable[[Any], Any]] = {
    "text": _text,
    "timestamp": _moment,
    "bigint": _integer,
    "double": _double,
    "boolean": _boolean,
    "json": _json_text,
}
# In some formats a number is text, and an object is JSON text.
_OF_FIELDS = _OF_METADATA | {"bigint": _whole, "json": _json_field}
