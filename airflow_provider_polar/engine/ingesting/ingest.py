"""The ingest engine: rows -> validated events -> identified events -> batches -> requests -> summary.

With ``on_invalid="fail"`` everything is read, checked and identified before the first request. With ``skip`` batches
go out while rows are still read, but none of an event that a later row may forbid. Each batch is safe to send again,
because each event carries its identity. Rows that may be others at the next attempt are frozen in a snapshot before the
first request, and what is in the snapshot is sent.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import msgspec

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.engine.files.packages import FilePath
from airflow_provider_polar.engine.ingesting.dispatcher import Dispatcher
from airflow_provider_polar.engine.ingesting.earlier import EarlierEvents
from airflow_provider_polar.engine.ingesting.identity import Identities
from airflow_provider_polar.engine.ingesting.journal import Batch, Journal
from airflow_provider_polar.engine.ingesting.options import IngestOptions
from airflow_provider_polar.engine.ingesting.parents import missing_parents
from airflow_provider_polar.engine.ingesting.preparation import Preparation, ToEvent
from airflow_provider_polar.engine.ingesting.progress import Memory, Progress
from airflow_provider_polar.engine.ingesting.refusals import refuse_changed, refuse_conflicts, refuse_invalid
from airflow_provider_polar.engine.ingesting.rejected import RejectedRows
from airflow_provider_polar.engine.ingesting.snapshot import Counts, Snapshot
from airflow_provider_polar.engine.ingesting.sources import Row
from airflow_provider_polar.exceptions import (
    EventProblem,
    PolarApiError,
    PolarDestinationError,
    PolarIngestIncompleteError,
    PolarInvalidEventsError,
    PolarSourceError,
)
from airflow_provider_polar.wording import number_of


class IngestSummary(NamedTuple):
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


class Ingest:
    """One ingest.

    :param client: gives the client when it is first needed; a dry run needs none.
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
        self._target = target
        self._log = log or logging.getLogger(__name__)
        self._memory = Memory(progress, self._log)

    def run(
        self,
        rows: Iterable[Row],
        *,
        mapping: ToEvent | None = None,
        sources: Sequence[str] = ("",),
        snapshot: Snapshot | None = None,
    ) -> IngestSummary:
        """Ingests rows, which are read once, or not at all where an earlier attempt has frozen them.

        :param rows: see :mod:`airflow_provider_polar.engine.ingesting.sources`.
        :param mapping: makes an event of a row; None where rows are events.
        :param sources: the names of the sources that rows refer to by number; one where there is a snapshot.
        :param snapshot: freezes the events before the first request; not in a dry run.
        :raises PolarInvalidEventsError: rows are invalid and ``on_invalid`` is ``fail``; nothing has been sent, unless
            the message says so. A retry does not help.
        :raises PolarIdentityConflictError: one ``external_id`` for different content; none of these events has been
            sent, and the message says whether others have. A retry does not help.
        :raises PolarSourceError: a source cannot be read; the message says whether anything has been sent.
        :raises PolarIngestIncompleteError: some batches are not stored, or perhaps not. A retry is safe.
        :raises PolarDestinationError: the rejected rows or the snapshot cannot be written. A retry is safe.
        """
        snapshot = None if self._options.dry_run else snapshot
        summary = self._attempt(rows, mapping, sources, snapshot)
        # Another attempt was the first to freeze its rows: these are sent here, too.
        summary = summary or self._attempt(None, mapping, sources, snapshot)
        if summary is None:
            raise PolarIngestIncompleteError(
                "Another attempt of this task has frozen its rows, and has removed them since: it has finished, or "
                "somebody has removed them. This one has sent nothing; a retry reads the rows anew"
            )
        return summary

    def _attempt(
        self, rows: Iterable[Row] | None, mapping: ToEvent | None, sources: Sequence[str], snapshot: Snapshot | None
    ) -> IngestSummary | None:
        """Ingests rows, or what is frozen of them; None where either is not to be had any more.

        :param rows: None for those of the snapshot alone.
        """
        options, started = self._options, time.monotonic()
        with (
            closing(RejectedRows(self._rejected_path, sources, options.owner or options.scope)) as rejected,
            closing(Journal(options.batch_size)) as journal,
            closing(
                Dispatcher(
                    self._client, journal, rejected, options, memory=self._memory, target=self._target, log=self._log
                )
            ) as dispatcher,
        ):
            counts = self._restored(snapshot, journal, rejected)
            try:
                if counts is None:
                    if rows is None:
                        return None
                    identities = Identities(options.scope, journal.database)
                    preparation = self._preparation(journal, identities, rejected, mapping, snapshot)
                    self._prepare(preparation, rows, identities, dispatcher, frozen=snapshot is not None)
                    if options.dry_run:
                        return self._dry_run(preparation)
                    counts = preparation.counts
                    if snapshot is not None and not self._freeze(snapshot, journal, rejected, counts):
                        return None
                summary = self._send(dispatcher, journal, rejected, counts)
            except PolarSourceError as error:
                raise type(error)(f"{str(error).rstrip('.')}. {dispatcher.settle()}") from error
            except (PolarInvalidEventsError, PolarIngestIncompleteError) as error:
                frozen = f". {snapshot.advice}" if snapshot is not None and counts is not None else ""
                error.args = (f"{error}{self._published(rejected)}{frozen}",)
                raise
            if snapshot is not None:
                snapshot.finish()
            self._tell(summary, dispatcher.outcome.stored.uncertain, time.monotonic() - started)
            rejected.tell_reasons(self._log)
            if summary.rejected_path:
                self._log.warning("%s: %s", number_of(summary.rejected, "rejected row"), summary.rejected_path)
            return summary

    def _restored(self, snapshot: Snapshot | None, journal: Journal, rejected: RejectedRows) -> Counts | None:
        counts = None if snapshot is None else snapshot.restore(journal, rejected)
        if snapshot is not None and counts is not None:
            self._log.info(
                "An earlier attempt has frozen %s of %s in %s: these are sent, and the rows are not read again.",
                number_of(journal.events, "event"),
                number_of(counts.rows, "row"),
                snapshot.url,
            )
        return counts

    def _freeze(self, snapshot: Snapshot, journal: Journal, rejected: RejectedRows, counts: Counts) -> bool:
        first = snapshot.freeze(journal, rejected, counts)
        told = "%s: %s frozen before the first request; every attempt of this task sends them."
        if not first:
            told = "%s was frozen by another attempt meanwhile: what it has read is sent, and not these %s."
        self._log.info(told, snapshot.url, number_of(journal.events, "event"))
        return first

    def _preparation(
        self,
        journal: Journal,
        identities: Identities,
        rejected: RejectedRows,
        mapping: ToEvent | None,
        snapshot: Snapshot | None,
    ) -> Preparation:
        earlier = None
        for path, events in snapshot.kept() if snapshot is not None else ():
            earlier = earlier or EarlierEvents(journal.database)
            known = earlier.add(path, events)
            self._log.info("%s are known from %s.", number_of(known, "event"), path)
        skips = self._options.skips
        return Preparation(journal, identities, rejected, skips=skips, mapping=mapping, earlier=earlier, log=self._log)

    def _prepare(
        self,
        preparation: Preparation,
        rows: Iterable[Row],
        identities: Identities,
        dispatcher: Dispatcher,
        *,
        frozen: bool,
    ) -> None:
        """Reads, checks and identifies the rows; raises where they are not to be sent."""
        preparation.read(rows, self._offering(dispatcher, preparation.rejected, frozen=frozen))
        refuse_conflicts(preparation, dispatcher.settle, self._log)
        refuse_changed(preparation, self._options, self._log)
        refuse_invalid(preparation, self._options, self._log)
        parents = {} if self._options.dry_run else self._missing_parents(identities, dispatcher)
        for orphan, reason in preparation.journal.release(parents):
            event = msgspec.json.decode(orphan.payload)
            preparation.rejected.add(orphan.place, [EventProblem("parent_id", reason)], event)
        refuse_invalid(preparation, self._options, self._log)

    def _offering(self, dispatcher: Dispatcher, rejected: RejectedRows, *, frozen: bool) -> Callable[[Batch], None]:
        """What to do with a batch while rows are still read."""
        # What an earlier attempt has left can be compared only with all events.
        if not self._options.skips or self._options.dry_run or frozen or self._memory.holds_something():
            return lambda _batch: None

        def offer(batch: Batch) -> None:
            if not batch.number:
                # Before anything is billed: a path that cannot be written would fail the task after it.
                rejected.expect_writable()
            dispatcher.offer(batch)

        return offer

    def _published(self, rejected: RejectedRows) -> str:
        """Of a failed ingest, too, the rejected rows are written; where they are, in words."""
        rejected.tell_reasons(self._log)
        try:
            path = rejected.publish()
        except PolarDestinationError as error:
            self._log.warning("The rejected rows could not be written: %s", error)
            return ". The rejected rows could not be written, see the log"
        return f". {number_of(len(rejected), 'rejected row')} with all reasons: {path}" if path else ""

    def _missing_parents(self, identities: Identities, dispatcher: Dispatcher) -> dict[str, str]:
        try:
            return missing_parents(identities.foreign_parents(), self._client, self._options, self._log)
        except PolarApiError as error:
            raise PolarIngestIncompleteError(
                f"Parents could not be looked up: {str(error).rstrip('.')}. {dispatcher.settle()}",
                retryable=error.retryable,
            ) from error

    def _dry_run(self, preparation: Preparation) -> IngestSummary:
        journal, rejected = preparation.journal, preparation.rejected
        for payload in preparation.first:
            self._log.info("Would send: %s", payload.decode())
        self._log.info(
            "Dry run: %s read, %s rejected, %s in %s would be sent; nothing was sent.",
            number_of(preparation.rows, "row"),
            f"{len(rejected):,}",
            number_of(journal.events, "event"),
            number_of(len(journal.batches), "batch"),
        )
        rejected.tell_reasons(self._log)
        path = rejected.publish()
        return IngestSummary(preparation.rows, 0, preparation.repeated, len(rejected), len(journal.batches), path)

    def _send(self, dispatcher: Dispatcher, journal: Journal, rejected: RejectedRows, counts: Counts) -> IngestSummary:
        # Before anything is billed: a path that cannot be written would fail the task after it.
        set_aside, path = len(rejected), rejected.publish()
        if journal.batches:
            dispatcher.run()
        if len(rejected) > set_aside:
            path = rejected.publish()
        self._memory.forget()
        stored = dispatcher.outcome.stored
        duplicates = stored.duplicates + counts.repeated
        return IngestSummary(counts.rows, stored.inserted, duplicates, len(rejected), len(journal.batches), path)

    def _tell(self, summary: IngestSummary, uncertain: int, seconds: float) -> None:
        client: Any = self._client() if summary.batches else None
        self._log.info(
            "%s in %s s: %s inserted, %s, %s rejected, in %s; %s, %s, %s s of waiting.",
            number_of(summary.events, "row"),
            f"{seconds:,.1f}",
            number_of(summary.inserted, "event"),
            number_of(summary.duplicates, "duplicate"),
            f"{summary.rejected:,}",
            number_of(summary.batches, "batch"),
            number_of(getattr(client, "requests_sent", 0), "request"),
            number_of(getattr(client, "retries_made", 0), "retry"),
            f"{getattr(client, 'seconds_waited', 0):,.1f}",
        )
        if uncertain:
            self._log.info(
                "Up to %s of the duplicates are events that this run has stored itself: Polar stored them and its "
                "response was lost, so that the repeated request found them there.",
                f"{uncertain:,}",
            )
        elif summary.duplicates and not summary.inserted:
            what = "The event was" if summary.duplicates == 1 else f"All {summary.duplicates:,} events were"
            self._log.info("%s stored already; nothing was billed again.", what)
