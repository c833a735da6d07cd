"""Rows become validated events, these identified events, and these batches of the journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from airflow_provider_polar.api.limits import CUSTOMER_FIELDS
from airflow_provider_polar.api.requests import encode_event
from airflow_provider_polar.engine.ingesting.earlier import EarlierEvents
from airflow_provider_polar.engine.ingesting.identity import Conflict, Identities
from airflow_provider_polar.engine.ingesting.journal import MAX_EVENT_BYTES, Batch, EncodedEvent, Journal
from airflow_provider_polar.engine.ingesting.places import Flaws, Place, place_of, where
from airflow_provider_polar.engine.ingesting.rejected import RejectedRows
from airflow_provider_polar.engine.ingesting.snapshot import Counts
from airflow_provider_polar.engine.ingesting.sources import Row
from airflow_provider_polar.engine.ingesting.validation import EventValidator
from airflow_provider_polar.engine.ingesting.values import Problems
from airflow_provider_polar.exceptions import EventProblem, row_text
from airflow_provider_polar.wording import number_of

_SAY_EVERY = 5.0
_SAY_LEAST = 1000
_SHOWN = 5

ToEvent = Callable[[Any], tuple[dict[str, Any], Problems]]


class Preparation:
    """Prepares the events of one ingest; rows that cannot be events are set aside.

    :param skips: whether invalid rows are set aside and the others sent.
    :param mapping: makes an event of a row; None where rows are events.
    :param earlier: what earlier runs have sent; None where nothing is known of it.
    :ivar rows: how many have been read.
    :ivar repeated: events that came more than once under one ``external_id``.
    :ivar changed: rows that an earlier run has sent with other content; they are set aside, too.
    :ivar conflicts: rows that carry the ``external_id`` of another one with different content.
    :ivar first: the first events as they are sent.
    """

    def __init__(
        self,
        journal: Journal,
        identities: Identities,
        rejected: RejectedRows,
        *,
        skips: bool,
        mapping: ToEvent | None,
        earlier: EarlierEvents | None = None,
        log: Any,
    ) -> None:
        self.journal, self._identities, self.rejected = journal, identities, rejected
        self._skips, self._mapping, self._earlier, self._log = skips, mapping, earlier, log
        self._validate = EventValidator()
        self.rows = self.repeated = 0
        self.conflicts, self.changed = Flaws(rejected.sources), Flaws(rejected.sources)
        self.first: list[bytes] = []
        self._started = self._said = time.monotonic()

    def read(self, rows: Iterable[Row], complete: Callable[[Batch], None]) -> None:
        """Prepares all rows.

        :param complete: is given each batch that is complete while rows are still read. None of an event is in one
            that a later row may forbid: one with a parent, or where rows are skipped with an ``external_id`` of its
            own.
        """
        for row in rows:
            self.rows += 1
            if not self.rows % _SAY_LEAST:
                self._say(row.source)
            place = place_of(row.source, row.number)
            event, problems = self._checked(row)
            if not problems and (batch := self._journalled(event, place, problems)):
                complete(batch)
            if problems:
                self.rejected.add(place, problems, row.value)

    @property
    def counts(self) -> Counts:
        """What it has counted."""
        return Counts(self.rows, self.repeated)

    def _checked(self, row: Row) -> tuple[dict[str, Any], Problems]:
        if row.error is not None:
            return {}, Problems([EventProblem("", row.error)])
        if self._mapping is None:
            return self._validate(row.value)
        value, problems = self._mapping(row.value)
        event, more = self._validate(value)
        # A value that could not be mapped is missing for that reason only.
        mapped = {problem.field for problem in problems}
        customer = not mapped.isdisjoint(CUSTOMER_FIELDS)
        problems += [one for one in more if one.field not in mapped and not (customer and not one.field)]
        return event, problems

    def _journalled(self, event: dict[str, Any], place: Place, problems: Problems) -> Batch | None:
        """Identifies an event and writes it to the journal; the batch that is complete by that, if there is one."""
        parent, is_explicit = event.get("parent_id"), "external_id" in event
        identity = self._identities.identify(event, place)
        if isinstance(identity, Conflict):
            first = row_text(*where(identity.first, self.rejected.sources))
            self.conflicts.add(place, [EventProblem("external_id", f"is that of different content in {first}")])
            return None
        if identity is None:
            self.repeated += 1
            return None
        event["external_id"] = identity
        if self._earlier is not None and (known := self._earlier.other_value(event)):
            problems.add("", f"was sent with other content by an earlier run, which Polar keeps: see {known}")
            self.changed.add(place, problems)
            return None
        payload = encode_event(event)
        if len(payload) > MAX_EVENT_BYTES:
            problems.add("", f"has {len(payload)} bytes as JSON; Polar takes {MAX_EVENT_BYTES} at most")
            return None
        if len(self.first) < _SHOWN:
            self.first.append(payload)
        if parent is None and not (self._skips and is_explicit):
            return self.journal.add(EncodedEvent(place, payload))
        self.journal.hold(EncodedEvent(place, payload), identity, parent)
        return None

    def _say(self, source: int) -> None:
        now, sources = time.monotonic(), self.rejected.sources
        if now - self._said < _SAY_EVERY:
            return
        self._said = now
        self._log.info(
            "%s checked, %s of them invalid; %s a second%s",
            number_of(self.rows, "row"),
            f"{len(self.rejected):,}",
            f"{self.rows / (now - self._started):,.0f}",
            f"; source {source + 1:,} of {len(sources):,}" if len(sources) > 1 else "",
        )
