"""What an ingest has stored so far, kept from one attempt of a task to the next."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from airflow_provider_polar.engine.ingesting.journal import Batch
from airflow_provider_polar.engine.ingesting.places import ranges_of
from airflow_provider_polar.engine.ingesting.sending import Sent
from airflow_provider_polar.wording import number_of

_NAME = "polar_ingest_progress"
_SAVE_EVERY = 5.0


class Progress(Protocol):
    """Keeps small JSON objects between the attempts of a task, as Airflow does from 3.3 on."""

    def get(self, key: str, /) -> Any: ...
    def set(self, key: str, value: Any, /) -> Any: ...
    def delete(self, key: str, /) -> Any: ...


@dataclass
class Tally:
    """Batches that are stored, and how Polar counted their events.

    :param batches: their numbers.
    :param inserted: events newly stored.
    :param duplicates: events that were stored already.
    :param uncertain: how many of the duplicates may be this run's own work, a response having been lost.
    """

    batches: set[int] = field(default_factory=set)
    inserted: int = 0
    duplicates: int = 0
    uncertain: int = 0

    @property
    def events(self) -> int:
        """How many events are stored."""
        return self.inserted + self.duplicates

    def add(self, number: int, sent: Sent) -> None:
        """Adds a batch."""
        self.batches.add(number)
        self.inserted += sent.inserted
        self.duplicates += sent.duplicates
        self.uncertain += sent.duplicates if sent.uncertain else 0


class Memory:
    """Remembers the batches that are stored whole. Losing it costs time and nothing else.

    :param progress: where; None for no memory.
    """

    def __init__(self, progress: Progress | None, log: Any) -> None:
        self._progress, self._log = progress, log
        self._saved = time.monotonic()

    def holds_something(self) -> bool:
        """Whether an earlier attempt has left something, of whichever events."""
        return self._try("read", lambda progress: progress.get(_NAME)) is not None

    def _try(self, what: str, call: Callable[[Progress], Any]) -> Any:
        if self._progress is None:
            return None
        try:
            return call(self._progress)
        except Exception as error:  # an optimisation must not fail the task
            self._log.warning("The progress could not be %s (%s); this costs time only.", what, type(error).__name__)
            return None

    def recall(self, key: str, batches: Sequence[Batch]) -> Tally:
        """What earlier attempts have stored.

        :param key: what is the same only for the same events in the same batches for the same organization.
        :param batches: those of the run.
        """
        state = self._try("read", lambda progress: progress.get(_NAME))
        try:
            if state is None or state["events"] != key:
                return Tally()
            done = {number for first, last in state["batches"] for number in range(first, last + 1)}
            tally = Tally(done, *state["counts"])
            known = sum(batches[number].events for number in tally.batches)
            if tally.events != known or not 0 <= tally.uncertain <= tally.duplicates <= known:
                raise ValueError("its counts are not those of its batches")
        except (TypeError, ValueError, KeyError, IndexError, AttributeError):
            self._log.warning(
                "What an earlier attempt has saved of its progress is not readable and is ignored: every event is sent "
                "again, and those that are stored count as duplicates."
            )
            return Tally()
        self._log.info(
            "An earlier attempt has stored %s of %s; going on with the others.",
            f"{len(tally.batches):,}",
            number_of(len(batches), "batch"),
        )
        return tally

    def keep(self, key: str, tally: Tally, *, at_once: bool = False) -> None:
        """Saves what is stored, now or every few seconds."""
        now = time.monotonic()
        if tally.batches and (at_once or now - self._saved >= _SAVE_EVERY):
            self._saved = now
            batches, counts = ranges_of(sorted(tally.batches)), [tally.inserted, tally.duplicates, tally.uncertain]
            state = {"events": key, "batches": list(map(list, batches)), "counts": counts}
            self._try("kept", lambda progress: progress.set(_NAME, state))

    def forget(self) -> None:
        """To be called when all is done: cleared and run again, the task is to go by Polar and not by its memory."""
        self._try("cleared", lambda progress: progress.delete(_NAME))
