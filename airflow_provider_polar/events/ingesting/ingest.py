"""The ingest engine: rows -> validated events -> identified events -> batches -> requests -> summary.

Everything is read, checked and identified before the first request. Then batches are sent, several at a time; each
is safe to send again, because each event carries its identity.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.api.requests import encode_event
from airflow_provider_polar.events.ingesting.batches import DEFAULT_BATCH_SIZE, MAX_EVENT_BYTES
from airflow_provider_polar.events.ingesting.delivery import Delivery, Progress
from airflow_provider_polar.events.ingesting.identity import Conflict, Identities
from airflow_provider_polar.events.ingesting.parents import missing_parents
from airflow_provider_polar.events.ingesting.rejected import FilePath, RejectedRows
from airflow_provider_polar.events.ingesting.sources import Row
from airflow_provider_polar.events.ingesting.spool import Spool, Spooled
from airflow_provider_polar.events.ingesting.validation import EventValidator, FieldProblem, RowProblem, place_text
from airflow_provider_polar.exceptions import PolarIdentityConflictError, PolarInvalidEventsError

_TOLD, _KEPT, _SHOWN = 10, 100, 5

ToEvent = Callable[[Any], tuple[dict[str, Any], list[FieldProblem]]]


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How to ingest.

    :param scope: the scope of derived identities, see :mod:`airflow_provider_polar.events.ingesting.identity`.
    :param on_invalid: ``fail`` sends nothing if any row is invalid, ``skip`` sets invalid rows aside.
    :param unknown_parents: what to do with a ``parent_id`` that is neither an event of this run nor an event id at
        Polar: ``reject`` the row (Polar is asked for each such id), or ``accept`` it unasked.
    :param batch_size: events of a request at most.
    :param max_concurrency: requests in flight.
    :param dry_run: check and count only.
    """

    scope: str
    on_invalid: Literal["fail", "skip"] = "fail"
    unknown_parents: Literal["reject", "accept"] = "reject"
    batch_size: int = DEFAULT_BATCH_SIZE
    max_concurrency: int = 4
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class IngestSummary:
    """What an ingest did. ``events = inserted + duplicates + rejected``, except in a dry run.

    :param events: rows read.
    :param inserted: events newly stored.
    :param duplicates: events that were stored already, or came more than once under one ``external_id``.
    :param rejected: rows set aside.
    :param batches: batches that the events were sent in.
    :param rejected_path: the file of rejected rows, None where there is none.
    """

    events: int = 0
    inserted: int = 0
    duplicates: int = 0
    rejected: int = 0
    batches: int = 0
    rejected_path: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@dataclass
class _Reading:
    """What is known of the rows read so far."""

    sources: Sequence[str]
    rows: int = 0
    invalid: int = 0
    repeated: int = 0
    problems: list[RowProblem] = field(default_factory=list)
    conflicts: list[RowProblem] = field(default_factory=list)
    conflict_count: int = 0
    first: list[bytes] = field(default_factory=list)

    def problem(self, place: tuple[int, int], problems: Iterable[FieldProblem]) -> None:
        self.invalid += 1
        for name, message in problems:
            if len(self.problems) < _KEPT:
                self.problems.append(RowProblem(place[1] - 1, name, message, self.sources[place[0]]))

    def conflict(self, place: tuple[int, int], conflict: Conflict) -> None:
        self.conflict_count += 1
        if len(self.conflicts) < _KEPT:
            first = place_text(self.sources[conflict.first[0]], conflict.first[1])
            message = f"is that of different content in {first}"
            self.conflicts.append(RowProblem(place[1] - 1, "external_id", message, self.sources[place[0]]))


class Ingest:
    """One ingest.

    :param client: gives the client when it is first needed; a dry run needs none.
    :param options: see :class:`IngestOptions`.
    :param rejected: where rejected rows go; None to keep none.
    :param progress: keeps the batches that are stored, for the next attempt; None for no memory.
    :param log: the logger to tell how it goes. Content of events is told in a dry run only.
    """

    def __init__(
        self,
        client: Callable[[], PolarClient],
        options: IngestOptions,
        *,
        rejected: FilePath | None = None,
        progress: Progress | None = None,
        log: Any = None,
    ) -> None:
        self._client = client
        self._options = options
        self._rejected_path = rejected
        self._progress = progress
        self._log = log or logging.getLogger(__name__)

    def run(
        self, rows: Iterable[Row], *, mapping: ToEvent | None = None, sources: Sequence[str] = ("",)
    ) -> IngestSummary:
        """Ingests rows, which are read once.

        :param rows: see :mod:`airflow_provider_polar.events.ingesting.sources`.
        :param mapping: makes an event of a row; None where rows are events.
        :param sources: the names of the sources that rows refer to by number.
        :raises PolarInvalidEventsError: rows are invalid and ``on_invalid`` is ``fail``; nothing has been sent, unless
            the message says so. A retry does not help.
        :raises PolarIdentityConflictError: one ``external_id`` for different content; nothing has been sent.
        :raises PolarSourceError: a source cannot be read; nothing has been sent.
        :raises PolarIngestIncompleteError: some batches are not stored, or perhaps not. A retry is safe.
        :raises PolarDestinationError: the rejected rows cannot be written. A retry is safe.
        """
        keep = self._rejected_path if self._options.on_invalid == "skip" else None
        reading = _Reading(sources)
        with RejectedRows(keep) as rejected, Spool(self._options.batch_size) as spool:
            with Identities(self._options.scope) as identities:
                self._read(rows, mapping, reading, identities, rejected, spool)
                if reading.conflict_count:
                    raise _conflict(reading)
                self._refuse_if_invalid(reading)
                parents = {} if self._options.dry_run else self._missing_parents(identities)
            with self._without_orphans(spool, parents, reading, rejected) as events:
                self._refuse_if_invalid(reading)
                return self._deliver(events, reading, rejected)

    def _read(
        self,
        rows: Iterable[Row],
        mapping: ToEvent | None,
        reading: _Reading,
        identities: Identities,
        rejected: RejectedRows,
        spool: Spool,
    ) -> None:
        validate = EventValidator()
        for row in rows:
            reading.rows += 1
            place = (row.source, row.number)
            event, problems = _checked(row, mapping, validate)
            if not problems:
                identity = identities.identify(event, place)
                if isinstance(identity, Conflict):
                    reading.conflict(place, identity)
                    continue
                if identity is None:
                    reading.repeated += 1
                    continue
                event["external_id"] = identity
                payload = encode_event(event)
                if len(payload) <= MAX_EVENT_BYTES:
                    spool.add(Spooled(*place, payload))
                    if len(reading.first) < _SHOWN:
                        reading.first.append(payload)
                    continue
                problems = [("", f"has {len(payload)} bytes as JSON; Polar takes {MAX_EVENT_BYTES} at most")]
            reading.problem(place, problems)
            rejected.add(reading.sources[row.source], row.number, problems, row.value)

    def _refuse_if_invalid(self, reading: _Reading) -> None:
        if reading.invalid and self._options.on_invalid == "fail":
            raise PolarInvalidEventsError(
                f"{reading.invalid:,} of {reading.rows:,} rows are invalid; nothing has been sent. "
                f"{_first(reading.problems)} Mend them, or set them aside with on_invalid='skip'.",
                problems=reading.problems,
            )

    def _missing_parents(self, identities: Identities) -> dict[str, str]:
        return missing_parents(
            identities.foreign_parents(),
            self._client,
            accept_unknown=self._options.unknown_parents == "accept",
            max_concurrency=self._options.max_concurrency,
            log=self._log,
        )

    def _without_orphans(
        self, spool: Spool, parents: dict[str, str], reading: _Reading, rejected: RejectedRows
    ) -> Spool:
        """The spool without the events whose parent is not there, and without those events' own children."""
        while parents:
            kept, orphans = Spool(self._options.batch_size), dict[str, str]()
            for batch in spool.finish():
                for one in spool.read(batch):
                    event = json.loads(one.payload) if b'"parent_id"' in one.payload else {}
                    if (reason := parents.get(event.get("parent_id", ""))) is None:
                        kept.add(one)
                        continue
                    problems = [("parent_id", reason)]
                    reading.problem((one.source, one.number), problems)
                    rejected.add(reading.sources[one.source], one.number, problems, event)
                    orphans[event["external_id"]] = "is an event of this run that is rejected itself"
            spool.close()
            spool, parents = kept, orphans
        return spool

    def _deliver(self, spool: Spool, reading: _Reading, rejected: RejectedRows) -> IngestSummary:
        batches = spool.finish()
        if self._options.dry_run:
            for payload in reading.first:
                self._log.info("Would send: %s", payload.decode())
            self._log.info(
                "Dry run: %s rows read, %s rejected, %s events in %s batches would be sent; nothing was sent.",
                f"{reading.rows:,}",
                f"{rejected.count:,}",
                f"{sum(batch.events for batch in batches):,}",
                f"{len(batches):,}",
            )
            return IngestSummary(reading.rows, 0, reading.repeated, rejected.count, len(batches), rejected.publish())
        delivery = Delivery(
            spool,
            batches,
            reading.sources,
            rejected,
            skip=self._options.on_invalid == "skip",
            max_concurrency=self._options.max_concurrency,
            progress=self._progress,
            log=self._log,
        )
        # Before anything is billed: a path that cannot be written would fail the task after it.
        set_aside, path = rejected.count, rejected.publish()
        if batches:
            delivery.run(self._client())
        if rejected.count > set_aside:
            path = rejected.publish()
        delivery.forget_progress()
        summary = IngestSummary(
            reading.rows,
            delivery.inserted,
            delivery.duplicates + reading.repeated,
            rejected.count,
            len(batches),
            path,
        )
        self._tell(summary, delivery)
        return summary

    def _tell(self, summary: IngestSummary, delivery: Delivery) -> None:
        self._log.info(
            "%s rows: %s events inserted, %s duplicates, %s rejected, in %s batches.",
            *(f"{n:,}" for n in (summary.events, summary.inserted, summary.duplicates, summary.rejected)),
            f"{summary.batches:,}",
        )
        if delivery.uncertain:
            self._log.info(
                "Up to %s of the duplicates are events that this run has stored itself: Polar stored them and its "
                "answer was lost, so that the repeated request found them there.",
                f"{delivery.uncertain:,}",
            )
        elif summary.duplicates and not summary.inserted:
            self._log.info(
                "All %s events were stored already; nothing was billed again.",
                f"{summary.duplicates:,}",
            )
        if summary.rejected_path:
            self._log.warning("%s rejected rows are in %s.", f"{summary.rejected:,}", summary.rejected_path)


def _checked(row: Row, mapping: ToEvent | None, validate: EventValidator) -> tuple[dict[str, Any], list[FieldProblem]]:
    if row.error is not None:
        return {}, [("", row.error)]
    value, problems = (row.value, []) if mapping is None else mapping(row.value)
    event, more = validate(value)
    if problems:
        # A value that could not be mapped is missing for that reason only.
        mapped = {name for name, _ in problems}
        customer = bool(mapped & {"customer_id", "external_customer_id"})
        more = [(n, told) for n, told in more if n not in mapped and not (customer and not n)]
    return event, problems + more


def _first(problems: Sequence[RowProblem]) -> str:
    told = "; ".join(map(str, problems[:_TOLD]))
    return f"{told}; and more." if len(problems) > _TOLD else f"{told}."


def _conflict(reading: _Reading) -> PolarIdentityConflictError:
    return PolarIdentityConflictError(
        f"{reading.conflict_count:,} rows carry the external_id of another row with different content; Polar would "
        f"keep the first and silently drop the other. Nothing has been sent. {_first(reading.conflicts)}",
        problems=[*reading.conflicts, *reading.problems][:_KEPT],
    )
