"""Traps of what events hold, and of whom a client tells of it."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from airflow_provider_polar.testing.acceptance.clients import NotOffered
from airflow_provider_polar.testing.acceptance.trap import Event, Run, Verdict, ids, judged, trap
from airflow_provider_polar.testing.demo import system_metadata

_ADDRESS = {
    "line1": "1 Main Street",
    "line2": "Floor 2",
    "postal_code": "10001",
    "city": "New York",
    "state": "US-NY",
    "country": "US",
}
_CUSTOMER = {
    "modified_at": "2026-03-01T10:00:00Z",
    "email_verified": True,
    "billing_address": _ADDRESS,
    "tax_id": ["US123456789", "us_ein"],
    "locale": "en-US",
    "default_payment_method_id": str(uuid.UUID(int=1, version=4)),
    "deleted_at": "2026-03-02T10:00:00Z",
    "first_user_event_at": "2026-03-01T11:00:00Z",
}
_SOME_ID = str(uuid.UUID(int=2, version=4))
_MORE_METADATA: dict[str, dict[str, Any]] = {
    "benefit.": {"member_id": _SOME_ID},
    "balance.": {"tax_state": "NY"},
    "customer.updated": {
        "updated_fields": {
            "name": "Acme",
            "billing_name": "Acme",
            "email": "acme@example.com",
            "billing_address": _ADDRESS,
            "tax_id": "US123456789",
            "metadata": {"tier": "gold"},
        }
    },
    "order.paid": {"discount_id": _SOME_ID},
    "subscription.canceled": {"customer_cancellation_comment": "We have grown"},
    "subscription.updated": {
        "discount_id": _SOME_ID,
        "trial_end": "2026-04-01T00:00:00Z",
        "billing_period_end": "2026-04-01T00:00:00Z",
    },
}
"""What examples of Polar's own events leave empty, by the beginning of their names."""
_USAGE = {
    "_cost": {"amount": 12.5, "currency": "usd"},
    "_llm": {
        "vendor": "openai",
        "model": "gpt",
        "prompt": "a prompt",
        "response": "a response",
        "input_tokens": 10,
        "cached_input_tokens": 3,
        "output_tokens": 5,
        "total_tokens": 15,
    },
    "route": "/v1/search",
    "cached": True,
    "seconds": 0.25,
    "calls": 3,
}


@trap
def new_names(run: Run) -> Verdict:
    """Events of Polar's own with names that its description does not have, among those of users."""
    due = run.add(run.moments(150))
    for number, moment in enumerate(run.moments(3)):
        event = {"name": f"invoice.issued_{number}", "source": "system", "metadata": {"invoice_id": _SOME_ID}}
        due += run.polar.add_events([{**event, "customer_id": _SOME_ID, "timestamp": moment}])
    return judged(due, ids(run.read()))


@trap
def unknown_fields(run: Run) -> Verdict:
    """Events have a field that Polar's description does not have; it is to be handed on, and is what may be lost."""
    due = run.add(run.moments(150))
    run.polar.fail("rewrite", path="list", old='"child_count":', new='"weight":7,"child_count":')
    events = run.read()
    verdict = judged(due, ids(events))
    return verdict if not verdict.passed else Verdict(lost=int(any(event.get("weight") != 7 for event in events)))


@trap
def every_field(run: Run) -> Verdict:
    """Every field that Polar's description has is filled at least once; what is lost are fields."""
    due = run.polar.add_events(described(run))
    truth = [event for event in run.polar.events() if event.pop("external_id", None) is None]
    events = run.read()
    verdict = judged(due, ids(events))
    given = {str(event.get("id")): set(filled(event)) for event in events}
    lost = {path for event in truth for path in filled(event) if path not in given.get(event["id"], ())}
    return verdict if not verdict.passed else Verdict(lost=len(lost))


def described(run: Run) -> list[Event]:
    """Events that together fill every field of Polar's description."""
    customer = run.polar.add_customer("acme", "billing@acme.example", "Acme", {"tier": "gold"}, fields=_CUSTOMER)
    who = {"customer_id": customer["id"], "external_customer_id": "acme"}
    who |= {"member_id": _SOME_ID, "external_member_id": "member"}
    events: list[Event] = [
        {"name": name, "source": "system", "metadata": _completed(name, metadata), **who}
        for name, metadata in system_metadata(run.end, customer, random.Random(run.chance.random())).items()
    ]
    parent = str(uuid.UUID(int=run.chance.getrandbits(128), version=4))
    events += [{"name": "job.finished", "id": parent, "metadata": _USAGE, **who}]
    events += [{"name": event["name"], "parent_id": parent, **who} for event in events]
    return [
        {**event, "timestamp": moment + timedelta(microseconds=1)}
        for event, moment in zip(events, run.moments(len(events)), strict=True)
    ]


def _completed(name: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {**metadata, **next((more for begin, more in _MORE_METADATA.items() if name.startswith(begin)), {})}


def filled(value: Any, path: str = "") -> Iterator[str]:
    """The paths of the fields that are filled; a client may leave out the underscore before a name."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from filled(inner, f"{path}.{name.lstrip('_')}")
    elif value is not None:
        yield path


@trap
def other_hosts(run: Run) -> Verdict:
    """A client speaks with its Polar and with nobody else."""
    offered = 0
    run.add(run.moments(3))
    for work in (run.read, lambda: run.ingest([run.event()])):
        try:
            work()
            offered += 1
        except NotOffered:
            continue
    if not offered:
        raise NotOffered
    hosts = run.hosts.tried()
    return Verdict(detail=f"it tried to reach {', '.join(hosts)}" if hosts else "")
