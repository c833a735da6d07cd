"""Batches to Polar, several in flight, and which rows are not known to be stored when one fails."""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, Protocol, Self

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.api.retrying import PATIENCE
from airflow_provider_polar.engine.ingesting.batches import (
    Batch,
    Place,
    counted,
    ranges_set,
    ranges_text,
    rows_in_words,
)
from airflow_provider_polar.engine.ingesting.journal import CHILD_OF_REJECTED, EncodedEvent, Journal
from airflow_provider_polar.engine.ingesting.rejected import RejectedRows
from airflow_provider_polar.engine.ingesting.sending import Sent, send_batch
from airflow_provider_polar.exceptions import (
    EventProblem,
    PolarIngestIncompleteError,
    PolarInvalidEventsError,
)

_SAY_EVERY = _SAVE_EVERY = 5.0
_TURNS = 3
"""How often a batch is taken up at most, each time with all the client's retries."""
_SHOWN = 600
"""Characters of a list of rows in an error's message; the log has it whole."""


class Progress(Protocol):
    """Keeps a small JSON object between the attempts of a task. Losing it costs time and nothing else."""

    def load(self) -> Any:
        """What was saved last; None where nothing was."""

    def save(self, state: dict[str, Any]) -> None:
        """Replaces it."""

    def clear(self) -> None:
        """Forgets it."""


class Dispatcher:
    """Sends the batches of a journal: those offered while it is still written, and in :meth:`run` all the others.

    Not thread-safe; only the requests themselves run in threads.

    :ivar inserted: events newly stored, those of earlier attempts included where they are remembered.
    :ivar duplicates: events that were stored already.
    :ivar uncertain: how many of the duplicates may be this run's own work, a response having been lost.
    """

    def __init__(
        self,
        client: Callable[[], PolarClient],
        journal: Journal,
        sources: Sequence[str],
        rejected: RejectedRows,
        *,
        skip: bool,
        max_concurrency: int,
        progress: Progress | None,
        target: str,
        log: Any,
    ) -> None:
        self._client, self._journal, self._sources, self._rejected = client, journal, sources, rejected
        self._skip, self._max_concurrency = skip, max_concurrency
        self._progress, self._target, self._log = progress, target, log
        self._key = ""
        self._coming: deque[Batch] = deque()
        self._flying: dict[Future[Sent], tuple[Batch, float]] = {}
        self._pool = ThreadPoolExecutor(max_concurrency, thread_name_prefix="polar-ingest")
        self._stored: set[int] = set()
        self._done: set[int] = set()
        self._failed: dict[int, Sent] = {}
        self._sent: set[int] = set()
        self._unanswered: set[int] = set()
        self._turns: Counter[int] = Counter()
        self._failures_in_a_row = 0
        self._last_success = self._silent_since = 0.0
        self._refused: set[Place] = set()
        self._refused_ids: set[str] = set()
        self.inserted = self.duplicates = self.uncertain = 0
        self._remembered = [0, 0, 0]
        self._sent_events = self._events_before = 0
        self._started = self._said = self._saved = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leaves requests in flight to themselves: sent again they do no harm."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def remembers(self) -> bool:
        """Whether an earlier attempt has left something: then nothing can be sent before all is read and compared."""
        return self._progress is not None and self._progress.load() is not None

    def offer(self, batch: Batch) -> None:
        """Sends a batch as soon as there is room; never waits."""
        self._coming.append(batch)
        self._collect(timeout=0)
        self._launch()

    def settle(self) -> str:
        """Waits for the requests in flight and sends nothing more; what is stored by then, in words."""
        self._coming.clear()
        while self._flying:
            self._collect(timeout=None)
        if not self._sent:
            return "Nothing has been sent"
        return f"Before that, {counted(self.inserted + self.duplicates, 'event')} of other rows were stored"

    def run(self) -> None:
        """Sends every batch that neither was offered nor was sent by an earlier attempt.

        :raises PolarInvalidEventsError: Polar refused events, and they are not to be skipped.
        :raises PolarIngestIncompleteError: a batch could not be sent.
        """
        self._key = f"{self._client().server.account}:{self._journal.digest}"
        offered = self._sent | {batch.number for batch in self._coming}
        if not offered:
            self._remember()
        self._coming.extend(batch for batch in self._journal.batches if batch.number not in self._done | offered)
        try:
            while True:
                self._launch()
                if not self._flying:
                    break
                self._collect(timeout=None)
        finally:
            self.close()
            self._save(at_once=True)
        if self._failed:
            raise self._error()

    def _launch(self) -> None:
        while self._coming and len(self._flying) < self._max_concurrency and not self._failed:
            batch = self._coming[0]
            # Children wait for their parents: those of a parent that Polar refuses must not be sent.
            if any(flying.generation < batch.generation for flying, _ in self._flying.values()):
                return
            self._coming.popleft()
            self._sent.add(batch.number)
            # Read here, not in the thread: the database belongs to this thread.
            events = self._without_orphans(self._journal.read(batch), batch)
            started = time.monotonic()
            future = self._pool.submit(
                send_batch, self._client(), events, skip=self._skip, patience=self._patience_left()
            )
            self._flying[future] = batch, started

    def _without_orphans(self, events: list[EncodedEvent], batch: Batch) -> list[EncodedEvent]:
        if not batch.generation or not self._refused_ids:
            return events
        kept = []
        for one in events:
            event = json.loads(one.payload)
            if event.get("parent_id") in self._refused_ids:
                if one.place not in self._refused:
                    self._reject(one.place, [EventProblem("parent_id", CHILD_OF_REJECTED)], event)
            else:
                kept.append(one)
        return kept

    def _reject(self, place: Place, problems: Sequence[EventProblem], event: dict[str, Any]) -> None:
        self._refused.add(place)
        self._refused_ids.add(event["external_id"])
        self._rejected.add(self._sources[place[0]], place[1], problems, event)

    def _collect(self, timeout: float | None) -> None:
        finished, _ = wait(self._flying, timeout, return_when=FIRST_COMPLETED)
        # Successes come first: they tell whether others got through while a batch failed.
        for future in sorted(finished, key=lambda one: one.result().error is not None):
            (batch, started), sent = self._flying.pop(future), future.result()
            if self._deserves_another_turn(batch, started, sent):
                self._coming.append(batch)
                self._coming = deque(sorted(self._coming, key=lambda one: one.generation))
            else:
                self._finish(batch, sent)

    def _deserves_another_turn(self, batch: Batch, started: float, sent: Sent) -> bool:
        """A batch that had bad luck while others get through goes to the end of the queue."""
        if sent.uncertain:
            self._unanswered.add(batch.number)
        if sent.error is None:
            self._failures_in_a_row = 0
            self._last_success = time.monotonic()
            return False
        if not self._failures_in_a_row:
            self._silent_since = max(started, self._last_success)
        self._failures_in_a_row += 1
        self._turns[batch.number] += 1
        is_outage = self._failures_in_a_row > self._max_concurrency or not self._patience_left()
        return sent.error.retryable and not is_outage and self._turns[batch.number] < _TURNS

    def _patience_left(self) -> float:
        """Seconds that a batch is retried for.

        Those that have passed since the last success, if batches failed since, are taken off, so that an outage takes
        the client's patience once and not once for each turn."""
        patience = self._client().retries.patience
        whole = PATIENCE if patience is None else patience
        silent = time.monotonic() - self._silent_since if self._failures_in_a_row else 0.0
        return max(whole - silent, 0.0)

    def _finish(self, batch: Batch, sent: Sent) -> None:
        sent.uncertain = batch.number in self._unanswered
        for one in sent.refused:
            self._reject(one.event.place, one.problems, json.loads(one.event.payload))
        if sent.error is not None:
            self._failed[batch.number] = sent
            return
        self.inserted += sent.inserted
        self.duplicates += sent.duplicates
        if sent.uncertain:
            self.uncertain += sent.duplicates
        self._sent_events += batch.events
        self._stored.add(batch.number)
        if sent.inserted + sent.duplicates == batch.events:
            # A batch with refused events is sent again by the next attempt, which must set them aside as well.
            self._done.add(batch.number)
            self._remembered[0] += sent.inserted
            self._remembered[1] += sent.duplicates
            self._remembered[2] += sent.duplicates if sent.uncertain else 0
        self._say()
        self._save()

    # Progress

    def _remember(self) -> None:
        state = None if self._progress is None else self._progress.load()
        if state is None:
            return
        try:
            if state["events"] != self._key:
                return
            done = ranges_set(state["batches"])
            inserted, duplicates, uncertain = state["counts"]
            known = sum(batch.events for batch in self._journal.batches if batch.number in done)
            is_sound = (
                inserted + duplicates == known and 0 <= uncertain <= duplicates and min(inserted, duplicates) >= 0
            )
            if not is_sound or not done <= {batch.number for batch in self._journal.batches}:
                raise ValueError("its counts are not those of its batches")
        except (TypeError, ValueError, KeyError, AttributeError):
            self._log.warning(
                "What an earlier attempt has saved of its progress is not readable and is ignored: every event is sent "
                "again, and those that are stored count as duplicates."
            )
            return
        self._done, self._stored = done, set(done)
        self._remembered = [inserted, duplicates, uncertain]
        self.inserted, self.duplicates, self.uncertain = inserted, duplicates, uncertain
        self._sent_events = self._events_before = known
        self._log.info(
            "An earlier attempt has stored %s of %s; going on with the others.",
            f"{len(self._done):,}",
            counted(len(self._journal.batches), "batch"),
        )

    def _save(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if self._progress is None or not self._key or not self._done:
            return
        if at_once or now - self._saved >= _SAVE_EVERY:
            self._saved = now
            counts = list(self._remembered)
            self._progress.save({"events": self._key, "batches": ranges_text(self._done), "counts": counts})

    def forget_progress(self) -> None:
        """To be called when all is done: cleared and run again, the task is to go by Polar and not by its memory."""
        if self._progress is not None:
            self._progress.clear()

    # Words

    def _say(self) -> None:
        now = time.monotonic()
        if now - self._said < _SAY_EVERY:
            return
        self._said = now
        rate = (self._sent_events - self._events_before) / (now - self._started)
        # Without a key rows are still being read, and how many there are is not known.
        left = (self._journal.events - self._sent_events) / rate if self._key and rate else None
        ending = ""
        if left is not None:
            ending = f", about {left:,.0f} s left" if left < 120 else f", about {left / 60:,.0f} min left"
        self._log.info(
            "%s of %s sent: %s inserted, %s duplicates, %s rejected; %s a second%s",
            f"{self._sent_events:,}",
            counted(self._journal.events, "event") + ("" if self._key else " read so far"),
            *(f"{n:,}" for n in (self.inserted, self.duplicates, self._rejected.count)),
            f"{rate:,.0f}",
            ending,
        )

    def _error(self) -> PolarInvalidEventsError | PolarIngestIncompleteError:
        failed = [(sent.error, sent.refused) for sent in self._failed.values() if sent.error is not None]
        problems = [
            problem.of_row(self._sources[one.event.source], one.event.number)
            for _, refused in failed
            for one in refused
            for problem in one.problems
        ]
        state = self._state()
        error: PolarInvalidEventsError | PolarIngestIncompleteError
        if problems and all(refused for _, refused in failed):
            cause = failed[0][0]
            told = "; ".join(map(str, problems[:10])) + ("; and more" if len(problems) > 10 else "")
            error = PolarInvalidEventsError(
                f"{self._target} refused {counted(len(self._refused), 'event')}: {told}. {state} Fix the rows, or set "
                "them aside with on_invalid='skip', and run again: what is stored is not billed again",
                problems=problems[:100],
            )
        else:
            # Where it is single events that Polar refuses, a retry still sends the other batches.
            lasting = [reason for reason, refused in failed if not reason.retryable and not refused]
            cause = lasting[0] if lasting else failed[0][0]
            advice = "Fix that and run again" if lasting else "A retry is safe"
            error = PolarIngestIncompleteError(
                f"Not every event is stored: {str(cause).rstrip('.')}. {state} {advice}: stored "
                "events are recognised by their identity and not billed again",
                retryable=not lasting,
            )
        error.__cause__ = cause
        return error

    def _state(self) -> str:
        """Which rows are not known to be stored, short for the message and whole in the log."""
        unknown = self._unanswered - self._stored
        refused = {n for n, sent in self._failed.items() if getattr(sent.error, "sent", True)} - unknown
        unsent = {batch.number for batch in self._journal.batches} - self._stored - unknown - refused
        lists = [
            ("refused", iter(sorted(self._refused)), len(self._refused)),
            ("sent without a response, so perhaps stored", *self._places(unknown)),
            ("not stored, their whole request having been refused", *self._places(refused)),
            ("not sent by this attempt", *self._places(unsent)),
        ]
        missing = sum(number for _, _, number in lists)
        verb = "is" if missing == 1 else "are"
        told = [f"Of {counted(self._journal.events, 'event')}, {missing:,} {verb} not known to be stored"]
        for what, places, number in lists:
            if not number:
                continue
            lines = list(rows_in_words(places, self._sources))
            for line in lines:
                self._log.error("%s: %s", what[0].upper() + what[1:], line)
            text = ", ".join(lines)
            if len(text) > _SHOWN:
                text = f"{text[:_SHOWN].rpartition(',')[0]}, and more, all of them in the log"
            told.append(f"{counted(number, 'event')} {what} ({text})")
        return "; ".join(told) + "."

    def _places(self, numbers: set[int]) -> tuple[Iterator[Place], int]:
        batches = [batch for batch in self._journal.batches if batch.number in numbers]
        places = sorted(
            one.place for batch in batches for one in self._journal.read(batch) if one.place not in self._refused
        )
        return iter(places), len(places)
