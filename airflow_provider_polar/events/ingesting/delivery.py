"""Batches to Polar, several in flight, and what is known when one fails: stored, not stored, or unknown."""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Protocol

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.events.ingesting.batches import Batch, ranges_set, ranges_text
from airflow_provider_polar.events.ingesting.rejected import RejectedRows
from airflow_provider_polar.events.ingesting.sending import Sent, send_batch
from airflow_provider_polar.events.ingesting.spool import Spool
from airflow_provider_polar.events.ingesting.validation import RowProblem, place_text
from airflow_provider_polar.exceptions import (
    PolarIngestIncompleteError,
    PolarInvalidEventsError,
    PolarValidationError,
)

_SAY_EVERY = _SAVE_EVERY = 5.0
_TURNS = 3
"""How often a batch is taken up at most, each time with all the client's retries."""


class Progress(Protocol):
    """Keeps a small JSON object between the attempts of a task. Losing it costs time and nothing else."""

    def load(self) -> Any:
        """What was saved last; None where nothing was."""

    def save(self, state: dict[str, Any]) -> None:
        """Replaces it."""

    def clear(self) -> None:
        """Forgets it."""


class Delivery:
    """Sends the batches of a spool.

    :ivar inserted: events newly stored, those of earlier attempts included where they are remembered.
    :ivar duplicates: events that were stored already.
    :ivar uncertain: how many of the duplicates may be this run's own work, an answer having been lost.
    """

    def __init__(
        self,
        spool: Spool,
        batches: Sequence[Batch],
        sources: Sequence[str],
        rejected: RejectedRows,
        *,
        skip: bool,
        max_concurrency: int,
        progress: Progress | None,
        log: Any,
    ) -> None:
        self._spool, self._batches, self._sources, self._rejected = spool, batches, sources, rejected
        self._skip, self._max_concurrency = skip, max_concurrency
        self._progress, self._log = progress, log
        self._key = ""
        self._stored: set[int] = set()
        self._done: set[int] = set()
        self._failed: dict[int, Sent] = {}
        self._unanswered: set[int] = set()
        self._turns: Counter[int] = Counter()
        self._failures_in_a_row = 0
        self.inserted = self.duplicates = self.uncertain = 0
        self._remembered = [0, 0, 0]
        self._total = sum(batch.events for batch in batches)
        self._sent_events = 0
        self._started = self._said = self._saved = time.monotonic()

    def run(self, client: PolarClient) -> None:
        """Sends every batch that an earlier attempt has not sent.

        :raises PolarInvalidEventsError: Polar refused events, and they are not to be skipped.
        :raises PolarIngestIncompleteError: a batch could not be sent.
        """
        self._key = f"{client.wire.account}:{self._spool.digest}"
        self._remember()
        coming = deque(batch for batch in self._batches if batch.number not in self._done)
        flying: dict[Future[Sent], Batch] = {}
        pool = ThreadPoolExecutor(self._max_concurrency, thread_name_prefix="polar-ingest")
        try:
            while True:
                while coming and len(flying) < self._max_concurrency and not self._failed:
                    batch = coming.popleft()
                    # Read here, not in the thread: a kill closes the spool while threads are still at work.
                    events = list(self._spool.read(batch))
                    flying[pool.submit(send_batch, client, events, skip=self._skip)] = batch
                if not flying:
                    break
                finished, _ = wait(flying, return_when=FIRST_COMPLETED)
                for future in finished:
                    batch, sent = flying.pop(future), future.result()
                    if self._deserves_another_turn(batch, sent):
                        coming.append(batch)
                    else:
                        self._finish(batch, sent)
        finally:
            # On a kill, requests in flight are left to themselves: sent again they do no harm.
            pool.shutdown(wait=False, cancel_futures=True)
            self._save(at_once=True)
        if self._failed:
            raise self._error()

    def _deserves_another_turn(self, batch: Batch, sent: Sent) -> bool:
        """A batch that had bad luck while others get through goes to the end of the queue."""
        if sent.uncertain:
            self._unanswered.add(batch.number)
        if sent.error is None:
            self._failures_in_a_row = 0
            return False
        self._failures_in_a_row += 1
        self._turns[batch.number] += 1
        is_outage = self._failures_in_a_row > self._max_concurrency
        return sent.error.retryable and not is_outage and self._turns[batch.number] < _TURNS

    def _finish(self, batch: Batch, sent: Sent) -> None:
        sent.uncertain = batch.number in self._unanswered
        if sent.error is not None:
            self._failed[batch.number] = sent
            return
        self.inserted += sent.inserted
        self.duplicates += sent.duplicates
        if sent.uncertain:
            self.uncertain += sent.duplicates
        for refused in sent.refused:
            event = refused.event
            self._rejected.add(self._sources[event.source], event.number, refused.problems, json.loads(event.payload))
        self._sent_events += batch.events
        self._stored.add(batch.number)
        if not sent.refused:
            # A batch with refused events is sent again by the next attempt, which must set them aside as well.
            self._done.add(batch.number)
            self._remembered[0] += sent.inserted
            self._remembered[1] += sent.duplicates
            self._remembered[2] += sent.duplicates if sent.uncertain else 0
        self._say()
        self._save()

    # Progress

    def _remember(self) -> None:
        if self._progress is None:
            return
        state = self._progress.load()
        if not isinstance(state, dict) or state.get("events") != self._key:
            return
        self._done = ranges_set(state["batches"])
        self._stored = set(self._done)
        self._remembered = list(state["counts"])
        self.inserted, self.duplicates, self.uncertain = self._remembered
        self._sent_events = sum(batch.events for batch in self._batches if batch.number in self._done)
        self._log.info(
            "An earlier attempt has stored %s of %s batches; going on with the others.",
            f"{len(self._done):,}",
            f"{len(self._batches):,}",
        )

    def _save(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if self._progress is None or not self._done or (now - self._saved < _SAVE_EVERY and not at_once):
            return
        self._saved = now
        self._progress.save({"events": self._key, "batches": ranges_text(self._done), "counts": list(self._remembered)})

    def forget_progress(self) -> None:
        """To be called when all is done: cleared and run again, the task is to ask Polar and not its memory."""
        if self._progress is not None:
            self._progress.clear()

    # Words

    def _say(self) -> None:
        now = time.monotonic()
        if now - self._said < _SAY_EVERY:
            return
        self._said = now
        self._log.info(
            "%s of %s events sent: %s inserted, %s duplicates, %s rejected; %s s so far",
            *(f"{n:,}" for n in (self._sent_events, self._total, self.inserted, self.duplicates)),
            f"{self._rejected.count:,}",
            f"{now - self._started:,.0f}",
        )

    def _error(self) -> PolarInvalidEventsError | PolarIngestIncompleteError:
        state = self._state()
        refused = [sent for sent in self._failed.values() if isinstance(sent.error, PolarValidationError)]
        problems = [
            RowProblem(one.event.number - 1, name, message, self._sources[one.event.source])
            for sent in refused
            for one in sent.refused
            for name, message in one.problems
        ]
        if problems and len(refused) == len(self._failed):
            told = "; ".join(map(str, problems[:10])) + ("; and more" if len(problems) > 10 else "")
            error: PolarInvalidEventsError | PolarIngestIncompleteError = PolarInvalidEventsError(
                f"Polar refused events of {len(refused)} batches: {told}. {state} Mend the rows, or set them aside "
                "with on_invalid='skip', and run again: what is stored is not billed again.",
                problems=problems[:100],
            )
        else:
            error = self._incomplete(state)
        error.__cause__ = error.__cause__ or next(iter(self._failed.values())).error
        return error

    def _incomplete(self, state: str) -> PolarIngestIncompleteError:
        failed = [(sent.error, sent.refused) for sent in self._failed.values() if sent.error is not None]
        # Where it is single events that Polar refuses, a retry still sends the other batches.
        lasting = [error for error, refused in failed if not error.retryable and not refused]
        cause = lasting[0] if lasting else failed[0][0]
        advice = "Mend that and run again" if lasting else "A retry is safe"
        incomplete = PolarIngestIncompleteError(
            f"Not every event is stored: {cause} {state} {advice}: stored events are recognised by their identity and "
            "not billed again.",
            retryable=not lasting,
        )
        incomplete.__cause__ = cause
        return incomplete

    def _state(self) -> str:
        """What is stored, unknown and not stored, in batches and rows."""
        refused = {number for number, sent in self._failed.items() if isinstance(sent.error, PolarValidationError)}
        unknown = self._unanswered - self._stored - refused
        not_stored = [batch for batch in self._batches if batch.number not in self._stored | unknown]
        told = [f"Of {len(self._batches)} batches ({self._total:,} events) {len(self._stored)} are stored"]
        if unknown:
            lost = [self._batches[number] for number in sorted(unknown)]
            told.append("unknown, the answer having been lost: " + self._rows(lost))
        if not_stored:
            told.append("not stored: " + self._rows(not_stored))
        return "; ".join(told) + "."

    def _rows(self, batches: Sequence[Batch]) -> str:
        shown = [
            f"batch {b.number + 1} ({place_text(self._sources[b.first[0]], b.first[1])} to "
            f"{place_text(self._sources[b.last[0]], b.last[1])})"
            for b in batches
        ]
        if len(shown) > 4:
            shown = [*shown[:2], f"... {len(shown) - 3} more ...", shown[-1]]
        return ", ".join(shown)
