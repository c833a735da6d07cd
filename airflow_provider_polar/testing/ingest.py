"""`POST /v1/events/ingest`: what Polar accepts, what it refuses, and what it drops without a word."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import (
    UUID4,
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from airflow_provider_polar.testing.errors import Invalid, ServerError
from airflow_provider_polar.testing.store import Lag, NewEvent, Store
from airflow_provider_polar.testing.times import to_microseconds

MAX_NEW_EVENTS = 32_767
MAX_BODY = 10_485_760
_JSON = re.compile(r"\s*application/(?:[^;\s]+\+)?json\s*(?:;.*)?", re.IGNORECASE)


def _in_the_past(moment: datetime) -> datetime:
    if moment > datetime.now(UTC):
        raise ValueError("Timestamp must be in the past.")
    return moment


class _Cost(BaseModel):
    amount: Annotated[Decimal, Field(max_digits=17, decimal_places=12)]
    currency: Annotated[str, Field(pattern="usd")]


class _LLM(BaseModel):
    vendor: str
    model: str
    prompt: str | None = None
    response: str | None = None
    input_tokens: int
    cached_input_tokens: int | None = None
    output_tokens: int
    total_tokens: int


_Value = Annotated[str, StringConstraints(min_length=1, max_length=500)] | int | float | bool


class _Metadata(BaseModel):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, _Value]

    cost: _Cost = Field(default=None, alias="_cost")  # type: ignore[assignment]
    llm: _LLM = Field(default=None, alias="_llm")  # type: ignore[assignment]


class _EventCreate(BaseModel):
    # An event may come without a moment, but null is not one.
    timestamp: Annotated[AwareDatetime, AfterValidator(_in_the_past)] = None  # type: ignore[assignment]
    name: Annotated[str, StringConstraints(max_length=128)]
    organization_id: UUID4 | None = None
    external_id: str | None = None
    parent_id: str | None = None
    metadata: _Metadata = Field(default_factory=lambda: _Metadata())


class EventCreateCustomer(_EventCreate):
    customer_id: UUID4
    member_id: UUID4 | None = None


class EventCreateExternalCustomer(_EventCreate):
    external_customer_id: str
    external_member_id: str | None = None


class _Ingest(BaseModel):
    events: list[EventCreateCustomer | EventCreateExternalCustomer]


class UnreadableBody(Exception):
    """Becomes a 400."""


@dataclass(frozen=True)
class Ingested:
    inserted: int
    duplicates: int


def ingest(
    store: Store, organization: str, body: bytes, content_type: str, *, visible_after: Lag, deadlock: bool = False
) -> Ingested:
    """Store a batch, all or nothing; raises Invalid (422) or ServerError (500).

    :param deadlock: fail if a name is new to the organization, as two such batches at once make Polar's database do.
    """
    payload = _load(body, content_type)
    try:
        batch = _Ingest.model_validate(payload)
    except ValidationError as error:
        raise Invalid.from_pydantic(error, "body") from error
    events = [
        _with_external_customer(event, given) for event, given in zip(batch.events, payload["events"], strict=True)
    ]
    _refuse_nul(events)
    _refuse_foreign(store, organization, events)
    new, duplicates = _without_duplicates(store, organization, [_to_new(store, event) for event in events])
    if len(new) > MAX_NEW_EVENTS:
        raise ServerError(f"{len(new)} new events in one request")
    if deadlock and store.has_new_names(organization, {event.name for event in new}):
        raise ServerError("a deadlock on the names of events")
    store.add(organization, new, visible_after=visible_after)
    return Ingested(len(new), duplicates)


def _load(body: bytes, content_type: str) -> Any:
    def refuse(constant: str) -> float:
        raise ServerError(f"{constant} in a body")

    if not body:
        raise Invalid([{"type": "missing", "loc": ["body"], "msg": "Field required", "input": None}])
    if not _JSON.fullmatch(content_type):
        what = "Input should be a valid dictionary or object to extract fields from"
        given = body.decode(errors="replace")
        raise Invalid([{"type": "model_attributes_type", "loc": ["body"], "msg": what, "input": given}])
    try:
        return json.loads(body, parse_constant=refuse)
    except json.JSONDecodeError as error:
        problem = {"type": "json_invalid", "loc": ["body", error.pos], "msg": "JSON decode error", "input": {}}
        raise Invalid([{**problem, "ctx": {"error": error.msg}}]) from error
    except UnicodeDecodeError as error:
        raise UnreadableBody("the body is not UTF-8, as a compressed one is not") from error


def _with_external_customer(event: _EventCreate, given: dict[str, Any]) -> _EventCreate:
    """With both customers given, Polar keeps the external one."""
    if isinstance(event, EventCreateCustomer) and isinstance(given.get("external_customer_id"), str):
        try:
            return EventCreateExternalCustomer.model_validate(given)
        except ValidationError:
            return event
    return event


def _refuse_nul(events: list[_EventCreate]) -> None:
    problems = [
        {
            "type": "value_error",
            "loc": ["body", "events", index, field],
            "msg": "Value error, text must not contain NUL characters.",
            "input": value,
        }
        for index, event in enumerate(events)
        for field, value in (
            ("name", event.name),
            ("metadata", event.metadata.model_dump(mode="json", by_alias=True, exclude_unset=True)),
        )
        if "\\u0000" in json.dumps(value)
    ]
    if problems:
        raise Invalid(problems)


def _refuse_foreign(store: Store, organization: str, events: list[_EventCreate]) -> None:
    problems: list[dict[str, Any]] = []
    for index, event in enumerate(events):
        where = ["body", "events", index]
        if event.organization_id is not None:
            problems.append(
                {
                    "type": "organization_token",
                    "loc": [*where, "organization_id"],
                    "msg": "Setting organization_id is disallowed when using an organization token.",
                    "input": str(event.organization_id),
                }
            )
        if isinstance(event, EventCreateCustomer) and not store.directory.customer(
            organization, str(event.customer_id)
        ):
            problems.append(
                {
                    "type": "customer_id",
                    "loc": [*where, "customer_id"],
                    "msg": "Customer not found.",
                    "input": str(event.customer_id),
                }
            )
    if problems:
        raise Invalid(problems, "PolarRequestValidationError")


def _to_new(store: Store, event: _EventCreate) -> NewEvent:
    metadata = event.metadata.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if event.metadata.cost is not None:
        metadata["_cost"]["amount"] = float(event.metadata.cost.amount)
    if "_llm" in metadata:
        metadata["_llm"] = {"prompt": None, "response": None} | metadata["_llm"]
    new = NewEvent(
        name=event.name,
        microseconds=time.time_ns() // 1000 if event.timestamp is None else to_microseconds(event.timestamp),
        id=store.new_id(),
        external_id=event.external_id,
        parent=event.parent_id,
        metadata=metadata,
    )
    if isinstance(event, EventCreateCustomer):
        new.customer_id = str(event.customer_id)
        new.member_id = str(event.member_id) if event.member_id else None
    elif isinstance(event, EventCreateExternalCustomer):
        new.external_customer_id = event.external_customer_id
        new.external_member_id = event.external_member_id
    return new


def _without_duplicates(store: Store, organization: str, events: list[NewEvent]) -> tuple[list[NewEvent], int]:
    """An external id is stored once for ever, and the first one in a request wins."""
    known = store.known_external_ids(organization, [e.external_id for e in events if e.external_id is not None])
    new: list[NewEvent] = []
    for event in events:
        if event.external_id is not None:
            if event.external_id in known:
                continue
            known.add(event.external_id)
        new.append(event)
    return new, len(events) - len(new)
