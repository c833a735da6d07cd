"""What a verification finds: differences by kind, and the same as JSON and in words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from airflow_provider_polar.engine.metering.buckets import Buckets
from airflow_provider_polar.engine.metering.quantities import Customer, Meter
from airflow_provider_polar.engine.window import moment_text
from airflow_provider_polar.wording import number_of

_SHOWN_IDS = 3


class Kind(StrEnum):
    """What is wrong."""

    NOT_METERED = "not_metered"
    METERED_TWICE = "metered_twice"
    OTHER_CUSTOMER = "other_customer"
    NOT_LISTED = "not_listed"
    DIFFERENT = "different"
    UNEXPLAINED = "unexplained"
    NOT_GIVEN = "not_given"
    ONLY_IN_FILES = "only_in_files"
    NOT_IN_FILES = "not_in_files"
    OTHER_IN_FILES = "other_in_files"
    NOT_STORED = "not_stored"
    STORED_OTHERWISE = "stored_otherwise"


WORDS = {
    Kind.NOT_METERED: "listed, and not metered",
    Kind.METERED_TWICE: "metered twice",
    Kind.OTHER_CUSTOMER: "metered for another customer than listed for",
    Kind.NOT_LISTED: "metered, and not listed",
    Kind.DIFFERENT: "metered otherwise than listed",
    Kind.UNEXPLAINED: "metered otherwise than listed, and of none of the customers that a request can name",
    Kind.NOT_GIVEN: "counted by Polar's list, and not given",
    Kind.ONLY_IN_FILES: "in the files, and no longer listed",
    Kind.NOT_IN_FILES: "listed, and not in the files",
    Kind.OTHER_IN_FILES: "in the files with other content than listed",
    Kind.NOT_STORED: "sent, and not listed",
    Kind.STORED_OTHERWISE: "listed with another quantity than sent",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageDifference:
    """One difference: of a meter, in a bucket, of a customer, of one kind.

    :param meter: None for what no meter takes, or where that is not known.
    :param bucket: the hour or day.
    :param customer: None for what is of no customer that is known.
    :param events: the events that the rule takes there.
    :param expected: the quantity that the rule makes of them.
    :param metered: the quantity that Polar gives; None where the difference is none to Polar's meter.
    :param event_ids: the events that differ, as far as they can be told.
    :param certain: False where the events named are all that it may be, and it is one of them.
    :param other: for whom the events are metered, or listed, with :attr:`Kind.OTHER_CUSTOMER`.
    :param note: more in words.
    """

    kind: Kind
    meter: Meter | None
    bucket: datetime
    customer: Customer | None = None
    events: int = 0
    expected: float = 0.0
    metered: float | None = None
    event_ids: tuple[str, ...] = ()
    certain: bool = True
    other: Customer | None = None
    note: str = ""

    def to_dict(self, buckets: Buckets) -> dict[str, Any]:
        """Its line of the report: always the same keys, the ids of events and customers and no content of events."""
        return {
            "type": "difference",
            "kind": self.kind.value,
            "meter_id": self.meter and self.meter.id,
            "meter": self.meter and self.meter.name,
            "start": moment_text(self.bucket),
            "interval": buckets.interval,
            "timezone": buckets.timezone,
            "customer_id": self.customer and self.customer.id,
            "external_customer_id": self.customer and self.customer.external_id,
            "events": self.events,
            "expected": self.expected,
            "metered": self.metered,
            "event_ids": list(self.event_ids),
            "certain": self.certain,
            "other_customer_id": self.other and self.other.id,
            "other_external_customer_id": self.other and self.other.external_id,
            "text": str(self),
        }

    def __str__(self) -> str:
        place = [f"meter {self.meter.name}"] if self.meter else []
        place += [customer_text(self.customer)] if self.customer or self.metered is not None else []
        what = WORDS[self.kind]
        if self.meter is not None and self.metered is not None:
            function = self.meter.aggregation.function
            of = "" if function == "count" else f" ({function} of {number_of(self.events, 'event')})"
            what = f"{quantity_text(self.expected)} listed{of}, {quantity_text(self.metered)} metered: {what}"
        ids = ", ".join(self.event_ids[:_SHOWN_IDS])
        more = len(self.event_ids) - _SHOWN_IDS
        if ids:
            ids = f" ({'' if self.certain else 'one of '}{ids}{f' and {more:,} more' if more > 0 else ''})"
        note = f"; {self.note}" if self.note else ""
        return f"{', '.join([*place, moment_text(self.bucket)])}: {what}{ids}{note}"


@dataclass(frozen=True, slots=True)
class Finding:
    """What is no difference, and still worth a look: values that a meter leaves out by its own rule, for example."""

    meter: Meter | None
    events: int
    text: str

    def to_dict(self) -> dict[str, Any]:
        """Its line of the report."""
        return {
            "type": "finding",
            "meter_id": self.meter and self.meter.id,
            "meter": self.meter and self.meter.name,
            "events": self.events,
            "text": self.text,
        }

    def __str__(self) -> str:
        return f"meter {self.meter.name}: {self.text}" if self.meter else self.text


def customer_text(customer: Customer | None) -> str:
    """A customer by its id: the organization's own, or else Polar's."""
    return f"customer {customer.external_id or customer.id}" if customer else "no known customer"


def quantity_text(quantity: float) -> str:
    """A quantity as a table shows it: whole numbers whole."""
    return f"{int(quantity):,}" if quantity == int(quantity) and abs(quantity) < 1e15 else f"{quantity:,.6g}"
