"""A world of usage in a local Polar, and differences that are planted in it, each where its meter shows it."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_polar.testing import LocalPolar

START = datetime(2026, 3, 27, tzinfo=UTC)
HOUR = timedelta(hours=1)
KNOWN = [f"customer-{number:02}" for number in range(16)] + ["kundë-☃"]
UNKNOWN = ["only-external-1", "only-external-2"]
"""Customers that Polar has no record of."""

STORES = ("not_metered", "not_listed", "twice", "other")
FILES = ("removed", "added")
LEFT_OUT = ("boolean", "text")


@dataclass(frozen=True)
class Rule:
    """A meter of the world.

    :param path: where its property lies in the metadata.
    :param kinds: what can be planted so that its quantities show it.
    """

    name: str
    func: str
    path: str = ""
    kinds: Sequence[str] = STORES

    @property
    def event_name(self) -> str:
        return f"{self.func}.{self.path or 'call'}"

    def metadata(self, value: Any) -> dict[str, Any]:
        whole, _, part = self.path.partition(".")
        return {whole: PARTS[whole] | {part: value}} if part else {whole: value} if whole else {}

    def usual(self, chance: random.Random) -> Any:
        """A value that is neither the largest nor the smallest nor another than others have."""
        if self.func == "unique":
            return f"user-{chance.randrange(5)}"
        if self.path == "_llm.total_tokens":
            return chance.randint(10, 20)
        # Polar takes no more digits of an amount.
        return chance.choice([chance.randint(10, 20), round(chance.uniform(10, 20), 12)])

    def outstanding(self, number: int) -> Any:
        """A value that no other event has, and that a largest, a smallest or a mean value shows."""
        return {"unique": f"user-of-{number}", "min": -1_000 - number}.get(self.func, 1_000 + number)


PARTS: dict[str, dict[str, Any]] = {
    "_llm": {"vendor": "acme", "model": "large", "input_tokens": 1, "output_tokens": 2},
    "_cost": {"currency": "usd"},
}
"""What else Polar wants in an object of the metadata."""
ONCE = tuple(kind for kind in STORES if kind != "twice")
RULES = (
    Rule("API calls", "count", kinds=STORES + FILES),
    Rule("Units", "sum", "units", STORES + FILES + LEFT_OUT),
    Rule("Tokens", "sum", "_llm.total_tokens", STORES + FILES),
    Rule("Costs", "sum", "_cost.amount", STORES + FILES),
    Rule("Peak load", "max", "peak", ONCE + FILES + LEFT_OUT),
    Rule("Lowest load", "min", "lowest", ONCE + FILES + LEFT_OUT),
    Rule("Mean latency", "avg", "latency", STORES + FILES + LEFT_OUT),
    Rule("Users", "unique", "user", ONCE + FILES),
)


@dataclass(frozen=True)
class Plant:
    """One planted difference.

    :param other: for whom the event is metered.
    """

    kind: str
    meter: str
    hour: datetime
    customer: str
    event: str
    other: str | None = None

    def places(self) -> set[tuple[str, datetime, str]]:
        """Meter, hour and customer of every quantity that it changes."""
        return {(self.meter, self.hour, who) for who in (self.customer, self.other) if who}


class World:
    """Hours of usage of many customers, under eight meters with all six functions.

    :param hours: how many hours have usage.
    :param plants: how many differences to plant, no two in one hour of one meter.
    :param kinds: of which kinds.
    """

    def __init__(
        self,
        polar: LocalPolar,
        seed: int,
        hours: int,
        plants: int = 0,
        kinds: Sequence[str] = STORES,
        start: datetime = START,
    ) -> None:
        self.polar = polar
        self.start, self.end = start, start + HOUR * hours
        self._chance = chance = random.Random(seed)
        self._ids = {name: polar.add_customer(external_id=name)["id"] for name in KNOWN}
        self._numbers = 0
        self._later: list[dict[str, Any]] = []
        for rule in RULES:
            taken = {"property": "name", "operator": "eq", "value": rule.event_name}
            function = {"func": rule.func} | ({"property": rule.path} if rule.path else {})
            meter_filter = {"conjunction": "and", "clauses": [taken]}
            polar.add_meter(meter_filter, name=rule.name, aggregation=function)
        cells = [(rule, self.start + HOUR * number) for rule in RULES for number in range(hours)]
        self.sent: list[dict[str, Any]] = []
        """What was sent before anything differed, as an ingest takes it."""
        self._add(event for cell in cells for event in self._usual(*cell, chance.randint(1, 4)))
        self.plants = [self._plant(rule, hour, kinds) for rule, hour in chance.sample(cells, plants)]

    def _add(self, events: Iterable[dict[str, Any]]) -> None:
        for event in events:
            self.polar.add_events([event])
            sent = {key: value for key, value in event.items() if key != "id"}
            self.sent.append(sent | {"timestamp": event["timestamp"].isoformat()})

    def _event(self, rule: Rule, hour: datetime, customer: str, value: Any) -> dict[str, Any]:
        self._numbers += 1
        known = customer in self._ids and self._chance.random() < 0.3
        # Half seconds, and both ends of the hour.
        past = self._chance.choice([0, 0.5, 3599.5, 3599.999999, self._chance.uniform(0, 3600)])
        return {
            "name": rule.event_name,
            "timestamp": hour + timedelta(seconds=past),
            **({"customer_id": self._ids[customer]} if known else {"external_customer_id": customer}),
            "metadata": rule.metadata(value) | {"request": f"request-{self._numbers}", "größe": "ü☃"},
        }

    def _usual(self, rule: Rule, hour: datetime, number: int, customer: str | None = None) -> Iterator[dict[str, Any]]:
        for _ in range(number):
            whose = customer or self._chance.choice(KNOWN + UNKNOWN)
            yield self._event(rule, hour, whose, rule.usual(self._chance))

    def _plant(self, rule: Rule, hour: datetime, kinds: Sequence[str]) -> Plant:
        """Adds the event that is to differ, among others of its customer, so that Polar bills it as it should yet."""
        kind = self._chance.choice([kind for kind in kinds if kind in rule.kinds])
        customer, other = self._chance.sample(KNOWN if kind == "other" else KNOWN + UNKNOWN, 2)
        value = {"boolean": True, "text": "12"}.get(kind, rule.outstanding(self._numbers))
        event = self._event(rule, hour, customer, value) | {"id": str(uuid.UUID(int=self._chance.getrandbits(128)))}
        if kind == "added":
            self._later.append(event)
        else:
            self._add([event])
        self._add(self._usual(rule, hour, 2, customer))
        if kind == "other" and self._chance.random() < 0.5:
            self._add(self._usual(rule, hour, 1, other))
        return Plant(kind, rule.name, hour, customer, event["id"], other if kind == "other" else None)

    def differ(self) -> None:
        """Lets Polar differ from then on in everything that is planted."""
        ids = {kind: [plant.event for plant in self.plants if plant.kind == kind] for kind in STORES + FILES}
        self.polar.meter_otherwise(ids["not_metered"], copies=0)
        self.polar.meter_otherwise(ids["twice"], copies=2)
        for plant in self.plants:
            if plant.other:
                self.polar.meter_otherwise([plant.event], external_customer_id=plant.other)
        self.polar.remove_events(ids["not_listed"], store=False)
        self.polar.remove_events(ids["removed"])
        self.polar.add_events(self._later)

    def left_out(self) -> Counter[tuple[str, str]]:
        """How many events each meter leaves out by its own rule, by meter and kind of value."""
        return Counter((plant.meter, plant.kind) for plant in self.plants if plant.kind in LEFT_OUT)
