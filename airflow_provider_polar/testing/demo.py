"""The demo's events: a week of a small company's usage, one of every event that Polar itself creates, and meters."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

CUSTOMERS = (
    ("acme", "billing@acme.example", "Acme Robotics"),
    ("birch", "accounts@birch.example", "Birch & Sons"),
    ("comet", "finance@comet.example", "Comet Analytics"),
    ("delta", "ap@delta.example", "Delta Freight"),
    ("ember", "hello@ember.example", "Ember Studio"),
)
_METERS = (
    ("API calls", "api.call", {"func": "count"}),
    ("Tokens", "llm.completion", {"func": "sum", "property": "_llm.total_tokens"}),
    ("Storage", "storage.rollup", {"func": "max", "property": "gigabytes"}),
    ("Kilometres", "flight.departed", {"func": "sum", "property": "kilometres"}),
)
DAYS = 7
_EVENTS_AN_HOUR = 12
_MODELS = (("openai", "gpt-5-mini", 0.00003), ("anthropic", "claude-haiku", 0.00008))


def meters() -> Iterator[dict[str, Any]]:
    """What bills the usage, and the departures that the flights pipeline sends: `add_meter`'s arguments."""
    for name, event_name, aggregation in _METERS:
        taken = {"property": "name", "operator": "eq", "value": event_name}
        yield {
            "name": name,
            "meter_filter": {"conjunction": "and", "clauses": [taken]},
            "aggregation": aggregation,
        }


def user_events(now: datetime, chance: random.Random) -> Iterator[dict[str, Any]]:
    """Calls, completions and jobs with their steps, more by day than by night, and a nightly roll-up.

    The roll-up stamps every customer with the same moment, midnight: events that share a millisecond.
    """
    start = (now - timedelta(days=DAYS)).replace(minute=0, second=0, microsecond=0)
    for hour in range(DAYS * 24):
        begin = start + timedelta(hours=hour)
        if begin.hour == 0:
            for external_id, _, _ in CUSTOMERS:
                gigabytes = chance.randint(20, 400)
                yield _user("storage.rollup", begin, external_id, {"gigabytes": gigabytes})
        busy = 1 - math.cos(2 * math.pi * begin.hour / 24)
        for _ in range(chance.randint(0, round(_EVENTS_AN_HOUR * busy)) + 2):
            moment = begin + timedelta(microseconds=chance.randrange(3_600_000_000))
            if moment < now:
                yield from _usage(moment, now, chance)


def _usage(moment: datetime, now: datetime, chance: random.Random) -> Iterator[dict[str, Any]]:
    customer = chance.choice(CUSTOMERS)[0]
    kind = chance.random()
    if kind < 0.7:
        route = chance.choice(("/v1/search", "/v1/orders", "/v1/reports"))
        metadata = {"route": route, "milliseconds": chance.randint(4, 900), "cached": chance.random() < 0.3}
        yield _user("api.call", moment, customer, metadata)
    elif kind < 0.93:
        yield _user("llm.completion", moment, customer, _completion(chance))
    else:
        job = f"job-{chance.getrandbits(48):012x}"
        yield _user("job.finished", moment, customer, {"steps": 3}, external_id=job)
        for step in range(3):
            later = min(moment + timedelta(seconds=step + 1), now)
            yield _user("job.step", later, customer, {"step": step}, external_id=f"{job}-{step}", parent_id=job)


def _completion(chance: random.Random) -> dict[str, Any]:
    vendor, model, price = chance.choice(_MODELS)
    given, written = chance.randint(50, 4000), chance.randint(20, 800)
    usage = {"input_tokens": given, "output_tokens": written, "total_tokens": given + written}
    return {
        "_cost": {"amount": round(price * (given + 4 * written), 6), "currency": "usd"},
        "_llm": {"vendor": vendor, "model": model, "prompt": None, "response": None, **usage},
    }


def _user(name: str, moment: datetime, customer: str, metadata: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "name": name,
        "timestamp": moment,
        "external_customer_id": customer,
        "metadata": metadata,
        "external_id": f"{name}-{customer}-{moment.isoformat()}",
        **fields,
    }


def system_events(
    now: datetime, customers: Sequence[Mapping[str, Any]], chance: random.Random
) -> Iterator[dict[str, Any]]:
    """One event of every kind that Polar's description names, in the last days, each with its metadata."""
    kinds = system_metadata(now, customers[0], chance)
    for number, (name, metadata) in enumerate(kinds.items()):
        moment = now - timedelta(days=DAYS - 1) + timedelta(hours=4 * number, microseconds=123_456 + number)
        yield {
            "name": name,
            "timestamp": moment,
            "source": "system",
            "customer_id": customers[0]["id"],
            "metadata": metadata,
        }


def system_metadata(now: datetime, customer: Mapping[str, Any], chance: random.Random) -> dict[str, dict[str, Any]]:
    """Example metadata by the name of the event that Polar creates."""

    def new_id() -> str:
        text = f"{chance.getrandbits(128):032x}"
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"

    def moment(days: float) -> str:
        return (now + timedelta(days=days)).astimezone(UTC).isoformat()

    product, other_product, subscription = new_id(), new_id(), new_id()
    order, meter, transaction, refund, dispute = new_id(), new_id(), new_id(), new_id(), new_id()
    price = {"amount": 4900, "currency": "usd"}
    interval = {"recurring_interval": "month", "recurring_interval_count": 1}
    benefit = {"benefit_id": new_id(), "benefit_grant_id": new_id(), "benefit_type": "license_keys"}
    plan = {"subscription_id": subscription, "product_id": product, **price, **interval}
    who = {
        "customer_id": customer["id"],
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_external_id": customer["external_id"],
    }
    sale = {"order_id": order, "product_id": product, "subscription_id": subscription}
    tax = {"tax_amount": 931, "tax_state": None, "tax_country": "DE", "fee": 236, "exchange_rate": 1.0}
    shown = {"presentment_amount": 5831, "presentment_currency": "usd"}
    back = {"transaction_id": transaction, "order_created_at": moment(-6), **sale, **price, **shown, **tax}
    refunded = {"refund_id": refund, "refundable_amount": 0, **back}
    disputed = {"dispute_id": dispute, **back}
    return {
        "customer.created": who,
        "customer.updated": {**who, "updated_fields": {"name": customer["name"], "metadata": {"tier": "gold"}}},
        "checkout.created": {"checkout_id": new_id(), "checkout_status": "open", "product_id": product},
        "order.paid": {
            **sale,
            **price,
            **interval,
            "billing_type": "recurring",
            "net_amount": 4900,
            "tax_amount": 931,
            "applied_balance_amount": 0,
            "discount_amount": 0,
            "platform_fee": 236,
        },
        "balance.order": {"transaction_id": transaction, "net_amount": 4900, **sale, **price, **shown, **tax},
        "balance.credit_order": {**sale, **price, **tax},
        "subscription.created": {**plan, "started_at": moment(-6)},
        "subscription.updated": {
            "subscription_id": subscription,
            "product_id": product,
            "proration_behavior": "invoice",
            "seats": 5,
        },
        "subscription.cycled": plan,
        "subscription.canceled": {
            **plan,
            "customer_cancellation_reason": "too_expensive",
            "canceled_at": moment(-3),
            "ends_at": moment(27),
            "cancel_at_period_end": True,
        },
        "subscription.uncanceled": plan,
        "subscription.past_due": {**plan, "past_due_at": moment(-2)},
        "subscription.reactivated": plan,
        "subscription.reinstated": plan,
        "subscription.paused": {**plan, "paused_at": moment(-2), "resumes_at": moment(28)},
        "subscription.resumed": plan,
        "subscription.product_updated": {
            "subscription_id": subscription,
            "old_product_id": product,
            "new_product_id": other_product,
        },
        "subscription.seats_updated": {
            "subscription_id": subscription,
            "old_seats": 3,
            "new_seats": 5,
            "proration_behavior": "invoice",
        },
        "subscription.billing_period_updated": {
            "subscription_id": subscription,
            "old_period_end": moment(24),
            "new_period_end": moment(27),
        },
        "subscription.update_cleared": {"subscription_id": subscription},
        "subscription.revoked": plan,
        "benefit.granted": benefit,
        "benefit.cycled": benefit,
        "benefit.updated": benefit,
        "benefit.revoked": benefit,
        "meter.credited": {"meter_id": meter, "units": 1000, "rollover": False},
        "meter.reset": {"meter_id": meter},
        "order.refunded": {"order_id": order, "refunded_amount": 4900, "currency": "usd"},
        "order.voided": {"order_id": order, **price},
        "order.unvoided": {"order_id": order, **price},
        "balance.refund": refunded,
        "balance.refund_reversal": refunded,
        "balance.dispute": disputed,
        "balance.dispute_reversal": disputed,
        "customer.deleted": who,
    }
