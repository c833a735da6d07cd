"""The requests that are about events, each described once; the clients only send them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import quote
from uuid import UUID

import msgspec

from airflow_provider_polar.api.filters import EventFilters, NameFilters, Params, unknown_filter
from airflow_provider_polar.api.limits import MAX_BODY_BYTES, MAX_EVENTS_PER_REQUEST, MAX_LIMIT
from airflow_provider_polar.exceptions import PolarConfigurationError, PolarFilterError

EventSorting = Literal["timestamp", "-timestamp"]
NameSorting = Literal[
    "name", "-name", "occurrences", "-occurrences", "first_seen", "-first_seen", "last_seen", "-last_seen"
]


@dataclass(frozen=True, slots=True)
class PolarRequest:
    """One request, ready to be sent by either client.

    :param repeatable: sending it twice does no harm, so after a lost response it may be sent again.
    """

    method: Literal["GET", "POST"]
    path: str
    params: tuple[tuple[str, str], ...] = ()
    content: bytes | None = None
    repeatable: bool = True

    @property
    def target(self) -> bytes:
        """The path, and the parameters as a query, percent-encoded."""
        query = "&".join([f"{_quoted(name)}={_quoted(value)}" for name, value in self.params])
        return (f"{self.path}?{query}" if query else self.path).encode("ascii")


@lru_cache(4096)
def _quoted(text: str) -> str:
    # Names and filters come again with every page of an export.
    return quote(text, safe="")


def timestamp_text(moment: datetime) -> str:
    """An aware moment as Polar takes it: UTC, ``Z`` (a raw ``+`` would have to be percent-encoded).

    :raises PolarConfigurationError: for a naive datetime.
    """
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise PolarConfigurationError(f"{moment!r} has no time zone; Polar takes aware timestamps only")
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def path_id(value: str | UUID, of: str) -> UUID:
    """An id for a path.

    :raises PolarConfigurationError: it is not a UUID.
    """
    try:
        return UUID(str(value))
    except ValueError:
        raise PolarConfigurationError(f"{value!r} is not {of} id; Polar's ids are UUIDs") from None


def paging(page: int | None, limit: int | None, sorting: str | Sequence[str] | None, allowed: Any) -> Params:
    """The parameters of a page.

    :raises PolarConfigurationError: a number or a criterion that Polar does not take.
    """
    params: Params = []
    if page is not None:
        if page < 1:
            raise PolarConfigurationError(f"page is {page}; pages count from 1")
        params.append(("page", str(page)))
    if limit is not None:
        if not 1 <= limit <= MAX_LIMIT:
            raise PolarConfigurationError(f"limit is {limit}; Polar gives 1 to {MAX_LIMIT} rows a page")
        params.append(("limit", str(limit)))
    for criterion in [sorting] if isinstance(sorting, str) else sorting or ():
        if criterion not in allowed.__args__:
            raise PolarConfigurationError(f"sorting {criterion!r} is none of {', '.join(allowed.__args__)}")
        params.append(("sorting", criterion))
    return params


def list_events(
    filters: EventFilters,
    *,
    start_timestamp: datetime | None = None,
    end_timestamp: datetime | None = None,
    page: int | None = None,
    limit: int | None = None,
    sorting: EventSorting | Sequence[EventSorting] | None = None,
) -> PolarRequest:
    """``GET /v1/events/``. Both bounds are exclusive and are compared in whole milliseconds."""
    params = filters.to_params()
    if start_timestamp is not None:
        params.append(("start_timestamp", timestamp_text(start_timestamp)))
    if end_timestamp is not None:
        params.append(("end_timestamp", timestamp_text(end_timestamp)))
    params += paging(page, limit, sorting, EventSorting)
    return PolarRequest("GET", "/v1/events/", tuple(params))


def list_event_names(
    filters: NameFilters,
    *,
    page: int | None = None,
    limit: int | None = None,
    sorting: NameSorting | Sequence[NameSorting] | None = None,
) -> PolarRequest:
    """``GET /v1/events/names``."""
    if unknown := [name for name in filters if name not in NameFilters.__annotations__]:
        raise PolarFilterError(unknown_filter(unknown[0], NameFilters.__annotations__, "event names have"))
    # The query is a list's filter in name only: it has neither that one's least length nor its need of an organization.
    params = EventFilters.parse({**filters, "query": None}).to_params()
    if (query := filters.get("query")) is not None:
        params.append(("query", query))
    params += paging(page, limit, sorting, NameSorting)
    return PolarRequest("GET", "/v1/events/names", tuple(params))


def get_event(event_id: str | UUID) -> PolarRequest:
    """``GET /v1/events/{id}``.

    :raises PolarConfigurationError: the id is not a UUID.
    """
    return PolarRequest("GET", f"/v1/events/{path_id(event_id, 'an event')}")


def ingest_events(events: Sequence[Mapping[str, Any]]) -> PolarRequest:
    """``POST /v1/events/ingest`` from plain dicts; datetimes must be aware.

    :raises PolarConfigurationError: an event cannot be written as JSON (NaN, a naive datetime, another type).
    """
    encoded = []
    for index, event in enumerate(events):
        try:
            encoded.append(encode_event(event))
        except (TypeError, ValueError) as error:
            raise PolarConfigurationError(f"event {index} cannot be sent: {error}") from None
    return ingest_encoded(encoded, repeatable=all(event.get("external_id") for event in events))


def encode_event(event: Mapping[str, Any]) -> bytes:
    """One event as compact JSON. Raises TypeError or ValueError where it is not JSON (NaN included)."""
    if _has_one_spelling(event):
        return _FAST_JSON.encode(event)
    return _JSON.encode(event).encode()


def _has_one_spelling(value: Any, depth: int = 3) -> bool:
    """Whether both encoders write the same bytes: only plain values, and no number with an exponent."""
    if type(value) is not dict or not depth:
        return False
    for key, item in value.items():
        kind = type(item)
        if type(key) is not str or not (
            kind is str
            or kind is bool
            or (kind is int and -_COMMON_INTEGER <= item < _COMMON_INTEGER)
            or (kind is float and (1e-4 <= abs(item) < 1e16 or item == 0))
            or (kind is dict and _has_one_spelling(item, depth - 1))
        ):
            return False
    return True


def _json_default(value: Any) -> str:
    if isinstance(value, datetime):
        return timestamp_text(value)
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not a JSON value")


_JSON = json.JSONEncoder(default=_json_default, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
_FAST_JSON = msgspec.json.Encoder()
_COMMON_INTEGER = 2**63


def ingest_encoded(events: Sequence[bytes], *, repeatable: bool) -> PolarRequest:
    """The ingest request of events that are JSON bytes already.

    :param repeatable: every one of them has an ``external_id``.
    """
    body = b'{"events":[' + b",".join(events) + b"]}"
    if len(body) > MAX_BODY_BYTES or len(events) > MAX_EVENTS_PER_REQUEST:
        raise PolarConfigurationError(
            f"{len(events)} events of {len(body)} bytes in one request; Polar takes at most "
            f"{MAX_EVENTS_PER_REQUEST} events and {MAX_BODY_BYTES} bytes: send smaller batches"
        )
    return PolarRequest("POST", "/v1/events/ingest", content=body, repeatable=repeatable)
