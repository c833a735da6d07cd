"""The ingest engine: rows -> validated events -> identified events -> batches -> requests -> summary.

With ``on_invalid="fail"`` everything is read, checked and identified before the first request. With ``skip`` batches
go out while rows are still read, but none of an event that a later row may forbid: one with a parent, or with an
``external_id`` of its own. Each batch is safe to send again, because each event carries its identity.
"""

from __future__ import annotations

import logging
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import msgspec

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.api.requests import encode_event
from airflow_provider_polar.engine.ingesting.batches import (
    DEFAULT_BATCH_SIZE,
    MAX_EVENT_BYTES,
    Place,
    counted,
    rows_in_words,
)
from airflow_provider_polar.engine.ingesting.dispatcher import Dispatcher, Progress
from airflow_provider_polar.engine.ingesting.identity import Conflict, Identities
from airflow_provider_polar.engine.ingesting.journal import EncodedEvent, Journal
from airflow_provider_polar.engine.ingesting.parents import missing_parents
from airflow_provider_polar.engine.ingesting.rejected import FilePath, RejectedRows
from airflow_provider_polar.engine.ingesting.sources import Row
from airflow_provider_polar.engine.ingesting.validation import EventValidator
from airflow_provider_polar.engine.ingesting.values import Problems
from airflow_provider_polar.exceptions import (
    EventProblem,
    PolarApiError,
    PolarDestinationError,
    PolarIdentityConflictError,
    PolarIngestIncompleteError,
    PolarInvalidEventsError,
    PolarSourceError,
    row_text,
)

_TOLD, _KEPT, _SHOWN = 10, 100, 5
_SAY_EVERY = 5.0

ToEvent = Callable[[Any], tuple[dict[str, Any], Problems]]


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How to ingest.

    :param scope: the scope of derived identities, see :mod:`airflow_provider_polar.engine.ingesting.identity`.
    :param on_invalid: ``fail`` sends nothing if any row is invalid, ``skip`` sets invalid rows aside.
    :param unknown_parents: what to do with a ``parent_id`` that is neither an event of this run nor an event id at
        Polar: ``reject`` the row (one request for each such id), or ``accept`` it without.
    :param batch_size: events of a request at most.
    :param max_concurrency: requests in flight.
    :param dry_run: check and count only.
    :param owner: tells this ingest's file of rejected rows from another one's; default the scope.
    """

    scope: str
    on_invalid: Literal["fail", "skip"] = "fail"
    unknown_parents: Literal["reject", "accept"] = "reject"
    batch_size: int = DEFAULT_BATCH_SIZE
    max_concurrency: int = 4
    dry_run: bool = False
    owner: str = ""


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


class _Rows:
    """Places of rows, eight bytes each."""

    def __init__(self) -> None:
        self._packed = array("Q")

    def __len__(self) -> int:
        return len(self._packed)

    def __iter__(self) -> Iterator[Place]:
        return ((one >> 40, one & (1 << 40) - 1) for one in sorted(self._packed))

    def add(self, place: Place) -> None:
        self._packed.append(place[0] << 40 | place[1])


@dataclass
class _Reading:
    """What is known of the rows read so far."""

    sources: Sequence[str]
    rejected: RejectedRows
    log: Any
    rows: int = 0
    repeated: int = 0
    problems: list[EventProblem] = field(default_factory=list)
    invalid: _Rows = field(default_factory=_Rows)
    conflicts: list[EventProblem] = field(default_factory=list)
    conflicting: _Rows = field(default_factory=_Rows)
    first: list[bytes] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    said: float = field(default_factory=time.monotonic)

    def set_aside(self, place: Place, problems: Sequence[EventProblem], event: Any) -> None:
        self.invalid.add(place)
        source, row = self.sources[place[0]], place[1]
        self.problems += [problem.of_row(source, row) for problem in problems[: _KEPT - len(self.problems)]]
        self.rejected.add(source, row, problems, event)

    def conflict(self, place: Place, conflict: Conflict) -> None:
        self.conflicting.add(place)
        if len(self.conflicts) < _KEPT:
            first = row_text(self.sources[conflict.first[0]], conflict.first[1])
            problem = EventProblem("external_id", f"is that of different content in {first}")
            self.conflicts.append(problem.of_row(self.sources[place[0]], place[1]))

    def say(self, source: int) -> None:
        now = time.monotonic()
        if now - self.said < _SAY_EVERY:
            return
        self.said = now
        self.log.info(
            "%s checked, %s of them invalid; %s a second%s",
            counted(self.rows, "row"),
            f"{len(self.invalid):,}",
            f"{self.rows / (now - self.started):,.0f}",
            f"; source {source + 1:,} of {len(self.sources):,}" if len(self.sources) > 1 else "",
        )


class Ingest:
    """One ingest.

    :param client: gives the client when it is first needed; a dry run needs none.
    :param options: see :class:`IngestOptions`.
    :param rejected: where rejected rows go; None to keep none.
    :param progress: keeps the batches that are stored, for the next attempt; None for no memory.
    :param target: where events go, in words, for messages.
    :param log: the logger to tell how it goes. Content of events is told in a dry run only.
    """

    def __init__(
        self,
        client: Callable[[], PolarClient],
        options: IngestOptions,
        *,
        rejected: FilePath | None = None,
        progress: Progress | None = None,
        target: str = "Polar",
        log: Any = None,
    ) -> None:
        self._client = client
        self._options = options
        self._rejected_path = rejected
        self._progress = progress
        self._target = target
        self._log = log or logging.getLogger(__name__)

    def run(
        self, rows: Iterable[Row], *, mapping: ToEvent | None = None, sources: Sequence[str] = ("",)
    ) -> IngestSummary:
        """Ingests rows, which are read once.

        :param rows: see :mod:`airflow_provider_polar.engine.ingesting.sources`.
        :param mapping: makes an event of a row; None where rows are events.
        :param sources: the names of the sources that rows refer to by number.
        :raises PolarInvalidEventsError: rows are invalid and ``on_invalid`` is ``fail``; nothing has been sent, unless
            the message says so. A retry does not help.
        :raises PolarIdentityConflictError: one ``external_id`` for different content; none of these events has been
            sent, and the message says whether others have. A retry does not help.
        :raises PolarSourceError: a source cannot be read; the message says whether anything has been sent.
        :raises PolarIngestIncompleteError: some batches are not stored, or perhaps not. A retry is safe.
        :raises PolarDestinationError: the rejected rows cannot be written. A retry is safe.
        """
        options = self._options
        with (
            RejectedRows(self._rejected_path, options.owner or options.scope) as rejected,
            Journal(options.batch_size) as journal,
            Dispatcher(
                self._client,
                journal,
                sources,
                rejected,
                skip=options.on_invalid == "skip",
                max_concurrency=options.max_concurrency,
                progress=self._progress,
                target=self._target,
                log=self._log,
            ) as dispatcher,
        ):
            reading = _Reading(sources, rejected, self._log)
            try:
                identities = Identities(options.scope, journal.database)
                self._read(rows, mapping, reading, identities, journal, dispatcher)
                if len(reading.conflicting):
                    raise self._conflict(reading, dispatcher)
                self._refuse_if_invalid(reading)
                parents = {} if options.dry_run else self._missing_parents(identities, dispatcher)
                for orphan, reason in journal.release(parents):
                    problems = [EventProblem("parent_id", reason)]
                    reading.set_aside(orphan.place, problems, msgspec.json.decode(orphan.payload))
                self._refuse_if_invalid(reading)
                return self._send(journal, dispatcher, reading)
            except PolarSourceError as error:
                raise type(error)(f"{str(error).rstrip('.')}. {dispatcher.settle()}") from error
            except (PolarInvalidEventsError, PolarIngestIncompleteError) as error:
                error.args = (f"{error}{self._published(rejected)}",)
                raise

    def _read(
        self,
        rows: Iterable[Row],
        mapping: ToEvent | None,
        reading: _Reading,
        identities: Identities,
        journal: Journal,
        dispatcher: Dispatcher,
    ) -> None:
        validate = EventValidator()
        skip = self._options.on_invalid == "skip"
        at_once = skip and not self._options.dry_run and not dispatcher.remembers()
        for row in rows:
            reading.rows += 1
            if not reading.rows % 1000:
                reading.say(row.source)
            place = (row.source, row.number)
            event, problems = _checked(row, mapping, validate)
            if not problems:
                parent, is_explicit = event.get("parent_id"), "external_id" in event
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
                    one = EncodedEvent(*place, payload)
                    if len(reading.first) < _SHOWN:
                        reading.first.append(payload)
                    if parent is not None or (skip and is_explicit):
                        journal.hold(one, identity, parent)
                    elif (batch := journal.add(one)) is not None and at_once:
                        if not batch.number:
                            # Before anything is billed: a path that cannot be written would fail the task after it.
                            reading.rejected.expect_writable()
                        dispatcher.offer(batch)
                    continue
                problems.add("", f"has {len(payload)} bytes as JSON; Polar takes {MAX_EVENT_BYTES} at most")
            reading.set_aside(place, problems, row.value)

    def _refuse_if_invalid(self, reading: _Reading) -> None:
        if len(reading.invalid) and self._options.on_invalid == "fail":
            self._tell_rows("Invalid", reading.invalid, reading)
            verb = "is" if len(reading.invalid) == 1 else "are"
            raise PolarInvalidEventsError(
                f"{len(reading.invalid):,} of {counted(reading.rows, 'row')} {verb} invalid; nothing has been sent. "
                f"The first problems: {_first(reading.problems)}. Fix them, or set them aside with on_invalid='skip'",
                problems=reading.problems,
            )

    def _conflict(self, reading: _Reading, dispatcher: Dispatcher) -> PolarIdentityConflictError:
        self._tell_rows("With the external_id of another row", reading.conflicting, reading)
        verb = "carries" if len(reading.conflicting) == 1 else "carry"
        return PolarIdentityConflictError(
            f"{counted(len(reading.conflicting), 'row')} {verb} the external_id of another row with different content, "
            f"and Polar would keep the first and silently drop the other: {_first(reading.conflicts)}. "
            f"{dispatcher.settle()}. Give them different ids",
            problems=[*reading.conflicts, *reading.problems][:_KEPT],
        )

    def _tell_rows(self, what: str, rows: _Rows, reading: _Reading) -> None:
        for line in rows_in_words(rows, reading.sources):
            self._log.error("%s: %s", what, line)

    def _published(self, rejected: RejectedRows) -> str:
        """Of a failed ingest, too, the rejected rows are written; where they are, in words."""
        self._tell_reasons(rejected)
        try:
            path = rejected.publish()
        except PolarDestinationError as error:
            self._log.warning("The rejected rows could not be written: %s", error)
            return ". The rejected rows could not be written, see the log"
        return f". {counted(rejected.count, 'rejected row')} with all reasons: {path}" if path else ""

    def _missing_parents(self, identities: Identities, dispatcher: Dispatcher) -> dict[str, str]:
        try:
            return missing_parents(
                identities.foreign_parents(),
                self._client,
                accept_unknown=self._options.unknown_parents == "accept",
                max_concurrency=self._options.max_concurrency,
                log=self._log,
            )
        except PolarApiError as error:
            raise PolarIngestIncompleteError(
                f"Parents could not be looked up: {str(error).rstrip('.')}. {dispatcher.settle()}",
                retryable=error.retryable,
            ) from error

    def _send(self, journal: Journal, dispatcher: Dispatcher, reading: _Reading) -> IngestSummary:
        rejected = reading.rejected
        if self._options.dry_run:
            for payload in reading.first:
                self._log.info("Would send: %s", payload.decode())
            self._log.info(
                "Dry run: %s read, %s rejected, %s in %s would be sent; nothing was sent.",
                counted(reading.rows, "row"),
                f"{rejected.count:,}",
                counted(journal.events, "event"),
                counted(len(journal.batches), "batch"),
            )
            self._tell_reasons(rejected)
            path = rejected.publish()
            return IngestSummary(reading.rows, 0, reading.repeated, rejected.count, len(journal.batches), path)
        # Before anything is billed: a path that cannot be written would fail the task after it.
        set_aside, path = rejected.count, rejected.publish()
        if journal.batches:
            dispatcher.run()
        if rejected.count > set_aside:
            path = rejected.publish()
        dispatcher.forget_progress()
        summary = IngestSummary(
            reading.rows,
            dispatcher.inserted,
            dispatcher.duplicates + reading.repeated,
            rejected.count,
            len(journal.batches),
            path,
        )
        self._tell(summary, dispatcher, rejected, time.monotonic() - reading.started)
        return summary

    def _tell(self, summary: IngestSummary, dispatcher: Dispatcher, rejected: RejectedRows, seconds: float) -> None:
        client: Any = self._client() if summary.batches else None
        self._log.info(
            "%s in %s s: %s inserted, %s, %s rejected, in %s; %s, %s, %s s of waiting.",
            counted(summary.events, "row"),
            f"{seconds:,.1f}",
            counted(summary.inserted, "event"),
            counted(summary.duplicates, "duplicate"),
            f"{summary.rejected:,}",
            counted(summary.batches, "batch"),
            counted(getattr(client, "requests_sent", 0), "request"),
            counted(getattr(client, "retries_made", 0), "retry"),
            f"{getattr(client, 'seconds_waited', 0):,.1f}",
        )
        if dispatcher.uncertain:
            self._log.info(
                "Up to %s of the duplicates are events that this run has stored itself: Polar stored them and its "
                "response was lost, so that the repeated request found them there.",
                f"{dispatcher.uncertain:,}",
            )
        elif summary.duplicates and not summary.inserted:
            if summary.duplicates == 1:
                self._log.info("The event was stored already; nothing was billed again.")
            else:
                self._log.info(
                    "All %s events were stored already; nothing was billed again.", f"{summary.duplicates:,}"
                )
        self._tell_reasons(rejected)
        if summary.rejected_path:
            self._log.warning("%s: %s", counted(summary.rejected, "rejected row"), summary.rejected_path)

    def _tell_reasons(self, rejected: RejectedRows) -> None:
        for reason, times in rejected.reasons():
            self._log.warning("Rejected for one reason, %s: %s", counted(times, "time"), reason)


def _checked(row: Row, mapping: ToEvent | None, validate: EventValidator) -> tuple[dict[str, Any], Problems]:
    if row.error is not None:
        return {}, Problems([EventProblem("", row.error)])
    if mapping is None:
        return validate(row.value)
    value, problems = mapping(row.value)
    event, more = validate(value)
    # A value that could not be mapped is missing for that reason only.
    mapped = {problem.field for problem in problems}
    customer = bool(mapped & {"customer_id", "external_customer_id"})
    problems += [one for one in more if one.field not in mapped and not (customer and not one.field)]
    return event, problems


def _first(problems: Sequence[EventProblem]) -> str:
    told = "; ".join(map(str, problems[:_TOLD]))
    return f"{told}; and more" if len(problems) > _TOLD else told
