"""Batches to Polar, several in flight."""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.api.retrying import PATIENCE
from airflow_provider_polar.engine.ingesting.journal import CHILD_OF_REJECTED, Batch, EncodedEvent, Journal
from airflow_provider_polar.engine.ingesting.options import IngestOptions
from airflow_provider_polar.engine.ingesting.outcome import Outcome
from airflow_provider_polar.engine.ingesting.progress import Memory
from airflow_provider_polar.engine.ingesting.rejected import RejectedRows
from airflow_provider_polar.engine.ingesting.sending import Refused, Sent, send_batch
from airflow_provider_polar.engine.progress_log import ProgressLog
from airflow_provider_polar.exceptions import EventProblem
from airflow_provider_polar.wording import number_of

_TURNS = 3
"""How often a batch is taken up at most, each time with all the client's retries."""


class Outage:
    """Tells the bad luck of a batch from an outage of Polar, which takes the client's patience once.

    :param patience: seconds that the client retries for.
    :param max_concurrency: batches in flight.
    """

    def __init__(self, patience: Callable[[], float], max_concurrency: int) -> None:
        self._patience, self._max_concurrency = patience, max_concurrency
        self._turns: Counter[int] = Counter()
        self._failures_in_a_row = 0
        self._last_success = self._silent_since = 0.0

    def patience_left(self) -> float:
        """Seconds to retry a batch for: those since the last success, if batches failed since, are taken off."""
        silent = time.monotonic() - self._silent_since if self._failures_in_a_row else 0.0
        return max(self._patience() - silent, 0.0)

    def deserves_another_turn(self, batch: Batch, started: float, sent: Sent) -> bool:
        """Whether a batch that has failed is to be taken up again, for others get through."""
        if sent.error is None:
            self._failures_in_a_row = 0
            self._last_success = time.monotonic()
            return False
        if not self._failures_in_a_row:
            self._silent_since = max(started, self._last_success)
        self._failures_in_a_row += 1
        self._turns[batch.number] += 1
        is_outage = self._failures_in_a_row > self._max_concurrency or not self.patience_left()
        return sent.error.retryable and not is_outage and self._turns[batch.number] < _TURNS


class Dispatcher:
    """Sends the batches of a journal: those offered while it is still written, and in :meth:`run` all the others.

    Not thread-safe; only the requests themselves run in threads. What became of the batches is in ``outcome``.
    """

    def __init__(
        self,
        client: Callable[[], PolarClient],
        journal: Journal,
        rejected: RejectedRows,
        options: IngestOptions,
        *,
        memory: Memory,
        target: str,
        log: Any,
    ) -> None:
        self._client, self._journal, self._rejected = client, journal, rejected
        self._options, self._memory, self._target, self._log = options, memory, target, log
        self._key = ""
        self._coming: deque[Batch] = deque()
        self._flying: dict[Future[Sent], tuple[Batch, float]] = {}
        self._pool = ThreadPoolExecutor(options.max_concurrency, thread_name_prefix="polar-ingest")
        self._outage = Outage(self._patience, options.max_concurrency)
        self._offered = 0
        self._refused_ids: set[str] = set()
        self.outcome = Outcome(journal, rejected.sources)
        self._progress_log: ProgressLog | None = None

    def close(self) -> None:
        """Leaves requests in flight to themselves: sent again they do no harm."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def offer(self, batch: Batch) -> None:
        """Sends a batch as soon as there is room; never waits."""
        self._offered += 1
        self._coming.append(batch)
        self._collect(timeout=0)
        self._launch()

    def settle(self) -> str:
        """Waits for the requests in flight and sends nothing more; what is stored by then, in words."""
        self._coming.clear()
        while self._flying:
            self._collect(timeout=None)
        if not self._offered:
            return "Nothing has been sent"
        return f"Before that, {number_of(self.outcome.stored.events, 'event')} of other rows were stored"

    def run(self) -> None:
        """Sends every batch that neither was offered nor was sent by an earlier attempt.

        :raises PolarInvalidEventsError: Polar refused events, and they are not to be skipped.
        :raises PolarIngestIncompleteError: a batch could not be sent.
        """
        self._key = f"{self._client().server.account}:{self._journal.digest}"
        outcome = self.outcome
        if not self._offered:
            outcome.whole = self._memory.recall(self._key, self._journal.batches)
            outcome.stored = replace(outcome.whole, batches=set(outcome.whole.batches))
        self._progress_log = ProgressLog(
            self._log, f"Sending to {self._target}", total=self._journal.events, done=outcome.stored.events
        )
        others = self._journal.batches[self._offered :]
        self._coming.extend(batch for batch in others if batch.number not in outcome.stored.batches)
        try:
            while True:
                self._launch()
                if not self._flying:
                    break
                self._collect(timeout=None)
        finally:
            self.close()
            self._memory.keep(self._key, outcome.whole, at_once=True)
        if outcome.failed:
            raise outcome.error(self._target, self._log)

    def _launch(self) -> None:
        while self._coming and len(self._flying) < self._options.max_concurrency and not self.outcome.failed:
            batch = self._coming[0]
            # Children wait for their parents: those of a parent that Polar refuses must not be sent.
            if any(flying.generation < batch.generation for flying, _ in self._flying.values()):
                return
            self._coming.popleft()
            # Read here, not in the thread: the database belongs to this thread.
            events = self._without_orphans(self._journal.read(batch), batch)
            started, patience = time.monotonic(), self._outage.patience_left()
            future = self._pool.submit(send_batch, self._client(), events, skip=self._options.skips, patience=patience)
            self._flying[future] = batch, started

    def _without_orphans(self, events: list[EncodedEvent], batch: Batch) -> list[EncodedEvent]:
        if not batch.generation or not self._refused_ids:
            return events
        kept = []
        for one in events:
            if json.loads(one.payload).get("parent_id") not in self._refused_ids:
                kept.append(one)
            elif one.place not in self.outcome.refused:
                self._reject(Refused(one, [EventProblem("parent_id", CHILD_OF_REJECTED)]))
        return kept

    def _reject(self, refused: Refused) -> None:
        event = json.loads(refused.event.payload)
        self.outcome.refused.add(refused.event.place)
        self._refused_ids.add(event["external_id"])
        self._rejected.add(refused.event.place, refused.problems, event)

    def _collect(self, timeout: float | None) -> None:
        finished, _ = wait(self._flying, timeout, return_when=FIRST_COMPLETED)
        # Successes come first: they tell whether others got through while a batch failed.
        for future in sorted(finished, key=lambda one: one.result().error is not None):
            (batch, started), sent = self._flying.pop(future), future.result()
            if sent.uncertain:
                self.outcome.unanswered.add(batch.number)
            if self._outage.deserves_another_turn(batch, started, sent):
                # It goes to the end of the queue, but for children that wait for their parents.
                self._coming.append(batch)
                self._coming = deque(sorted(self._coming, key=lambda one: one.generation))
            else:
                self._finish(batch, sent)

    def _finish(self, batch: Batch, sent: Sent) -> None:
        sent.uncertain = batch.number in self.outcome.unanswered
        for one in sent.refused:
            self._reject(one)
        if sent.error is not None:
            self.outcome.failed[batch.number] = sent
            return
        self.outcome.add_stored(batch, sent)
        if self._progress_log is not None:  # all is read
            self._progress_log.add(batch.events)
            self._memory.keep(self._key, self.outcome.whole)

    def _patience(self) -> float:
        patience = self._client().retries.patience
        return PATIENCE if patience is None else patience
