"""Verifies a window: totals of every meter and bucket, then customers, then events, as far as something differs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_provider_polar.engine.metering.filters import Event, time_of
from airflow_provider_polar.engine.metering.quantities import (
    Customer,
    Difference,
    Meter,
    Quantities,
    compare,
    customer_of,
    evaluate,
)
from airflow_provider_polar.engine.verifying.bucketed import BucketedWindow
from airflow_provider_polar.engine.verifying.customers import CustomerSearch
from airflow_provider_polar.engine.verifying.differences import Finding, Kind, UsageDifference
from airflow_provider_polar.engine.verifying.events import EventSearch
from airflow_provider_polar.engine.verifying.exported import ExportedEvents
from airflow_provider_polar.engine.verifying.files import EventSums, compare_files
from airflow_provider_polar.engine.verifying.lines import lines_of
from airflow_provider_polar.engine.verifying.listed import ListedEvents
from airflow_provider_polar.engine.verifying.metered import MeteredUsage, can_be_told
from airflow_provider_polar.engine.verifying.moved import find_moved
from airflow_provider_polar.engine.verifying.sample import Sample
from airflow_provider_polar.engine.verifying.sent import Sent
from airflow_provider_polar.engine.window import aware
from airflow_provider_polar.wording import number_of

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 8.0

Suspects = Mapping[str, set[datetime]]
"""By meter, the buckets in which something differs."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification found.

    :param events: how many events were compared.
    :param customers: how many customers were compared one by one.
    """

    events: int
    customers: int
    differences: Sequence[UsageDifference]
    findings: Sequence[Finding]


class Verification:
    """One verification of a window.

    :param listed: what Polar lists.
    :param polar: what Polar meters.
    :param meters: which to compare.
    :param place: the window.
    :param exported: what exports hold, to be compared in place of the list; None for what Polar lists.
    :param sent: what was sent, to be compared with the list besides.
    :param compared: the customers that are compared one by one, besides all together.
    :param max_concurrency: requests in flight.
    :param patience: for how many seconds a difference is looked at again before it counts.
    """

    def __init__(
        self,
        listed: ListedEvents,
        polar: MeteredUsage,
        meters: Sequence[Meter],
        place: BucketedWindow,
        *,
        exported: ExportedEvents | None = None,
        sent: Sent,
        compared: Sample,
        max_concurrency: int,
        patience: float,
        log: Any,
    ) -> None:
        self._listed = listed
        self._polar = polar
        self._meters = meters
        self._place = place
        self._exported = exported
        self._sent = sent
        self._compared = compared
        self._patience = patience
        self._log = log
        self._known: set[Customer] = set()
        self._sums = EventSums(meters)
        self._events = 0
        self._pool = ThreadPoolExecutor(max_concurrency, thread_name_prefix="polar-verify")

    def run(self) -> Verdict:
        """Compares everything once, and what differs again, closer."""
        witness, window, buckets = self._exported or self._listed, self._place.window, self._place.buckets
        with self._pool:
            ours = evaluate(self._meters, self._seen(witness.read(window)), buckets, by=self._whose)
            self._log.info("%s read; comparing them with what Polar meters", number_of(self._events, "event"))
            suspects = self._suspects(ours)
            of_files, gaps = self._differences_of_files(), self._gaps()
            explained = self._explained(suspects, gaps)
            if self._exported is not None and (suspects or gaps or of_files):
                self._gaps()  # those of narrower requests than the window's are told already
                of_files = self._differences_of_files()  # once more, with what has become listed meanwhile
                explained += [gap for gap in self._gaps() if gap not in explained]
            differences = [*of_files, *explained]
        return Verdict(
            self._events, len(set().union(*(one.customers for one in ours))), differences, self._findings(ours)
        )

    def _differences_of_files(self) -> list[UsageDifference]:
        if self._exported is None:
            return []
        return compare_files(self._place, self._meters, self._exported, self._listed, self._sums)

    def _findings(self, ours: Sequence[Quantities]) -> list[Finding]:
        findings = [
            Finding(one.meter, events, text)
            for one in ours
            for (_, events), text in zip(one.left_out.most_common(), one.findings(), strict=True)
        ]
        for manifest, lost in self._exported.incomplete.items() if self._exported else ():
            findings.append(Finding(None, lost, f"{manifest} says that its export lacks {number_of(lost, 'event')}"))
        return [*findings, *self._sent.findings()]

    def _seen(self, events: Iterable[Event]) -> Iterator[Event]:
        for event in self._beside_sent(events):
            self._events += 1
            if self._exported is not None:
                self._sums.add(self._place.bucket_of(time_of(event)), event)
            if self._exported is None or self._exported.tells_customers:
                self._known.add(customer_of(event))
            yield event

    def _beside_sent(self, events: Iterable[Event]) -> Iterator[Event]:
        for event in events:
            self._sent.add_listed(event, self._place.bucket_of(time_of(event)))
            yield event

    def _whose(self, event: Event) -> Customer | None:
        customer = customer_of(event)
        return customer if customer in self._compared and can_be_told(customer) else None

    def _suspects(self, ours: Sequence[Quantities]) -> Suspects:
        jobs: list[tuple[Quantities, Customer | None]] = [(one, None) for one in ours]
        jobs += [(one, customer) for one in ours for customer in sorted(one.customers, key=str)]
        found = self._pool.map(lambda job: self._compared_once(*job), jobs)
        return _by_meter(one for differences in found for one in differences)

    def _compared_once(self, ours: Quantities, customer: Customer | None) -> list[Difference]:
        polar = self._polar.quantities(ours.meter, customers=[customer] if customer else [])
        return compare(ours, polar, customer=customer)

    def _gaps(self) -> list[UsageDifference]:
        """Where Polar counted events in its list since the last look and did not give them."""
        return [
            UsageDifference(
                kind=Kind.NOT_GIVEN,
                meter=None,
                bucket=self._place.bucket_of(aware(gap["start"], "start")),
                events=gap["given"],
                expected=gap["counted"],
                note=f"in [{gap['start']}, {gap['end']}): {gap['reason']}",
            )
            for gap in self._listed.take_not_given()
        ]

    def _explained(self, suspects: Suspects, gaps: Sequence[UsageDifference]) -> list[UsageDifference]:
        """Looks at what differs again, by customer, until it does not or until the patience ends."""
        deadline, pause = time.monotonic() + self._patience, _FIRST_PAUSE
        search = CustomerSearch(self._polar, self._pool, self._known, each=self._compared.is_everybody)
        found: list[Difference] = []
        lacking = self._sent.compare()
        while suspects or gaps or lacking:
            late = {one.bucket for one in gaps} | self._sent.doubtful()
            # What was not listed before has been compared with no meter.
            suspects = {meter.id: late | suspects.get(meter.id, set()) for meter in self._meters}
            chosen = late.union(*suspects.values())
            listed = self._listed_again(suspects, chosen)
            found = [one for ours in listed for one in search.find(ours, sorted(suspects[ours.meter.id]))]
            gaps, lacking, suspects = self._gaps(), self._sent.compare(), _by_meter(found)
            left = deadline - time.monotonic()
            if left <= 0 or not (found or gaps or lacking):
                break
            differences = number_of(len(found) + len(gaps) + len(lacking), "difference")
            self._log.info("%s found; looking again in a moment, for %.0f s more", differences, left)
            time.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE)
        by_events = EventSearch(self._listed, self._polar, self._pool, self._place)
        cases = by_events.explain(found)
        find_moved(cases, by_events)
        return [*lacking, *gaps, *(line for case in cases for line in lines_of(case))]

    def _listed_again(self, suspects: Suspects, chosen: set[datetime]) -> list[Quantities]:
        """What is listed now in the buckets in which something differs, by customer."""
        meters = [meter for meter in self._meters if suspects[meter.id]]
        self._sent.forget_listed(chosen)
        events = self._place.events(chosen, self._listed.read)
        return evaluate(meters, self._beside_sent(events), self._place.buckets.only(chosen), by=customer_of)


def _by_meter(differences: Iterable[Difference]) -> dict[str, set[datetime]]:
    suspects: dict[str, set[datetime]] = {}
    for one in differences:
        suspects.setdefault(one.meter.id, set()).add(one.bucket)
    return suspects
