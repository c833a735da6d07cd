"""What became of the batches of an ingest, and the same in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_polar.engine.ingesting.journal import Batch, Journal
from airflow_provider_polar.engine.ingesting.places import Flaws, Place, rows_in_words
from airflow_provider_polar.engine.ingesting.progress import Tally
from airflow_provider_polar.engine.ingesting.sending import Sent
from airflow_provider_polar.exceptions import PolarIngestIncompleteError, PolarInvalidEventsError
from airflow_provider_polar.wording import number_of

_SHOWN = 600
"""Characters of a list of rows in an error's message; the log has it whole."""


@dataclass
class Outcome:
    """What became of the batches.

    :param journal: where they are.
    :param sources: the names of the sources that places refer to by number.
    :ivar stored: all that are stored, those of earlier attempts included where they are remembered.
    :ivar whole: those of them of which no event was refused; the others are to be sent again by the next attempt, which
        must set the same events aside.
    :ivar failed: those that could not be sent.
    :ivar unanswered: those of which a request got no response.
    :ivar refused: the events that were set aside: Polar, or that of their parent, refused them.
    """

    journal: Journal
    sources: Sequence[str]
    stored: Tally = field(default_factory=Tally)
    whole: Tally = field(default_factory=Tally)
    failed: dict[int, Sent] = field(default_factory=dict)
    unanswered: set[int] = field(default_factory=set)
    refused: set[Place] = field(default_factory=set)

    def add_stored(self, batch: Batch, sent: Sent) -> None:
        """Adds a batch that is stored."""
        self.stored.add(batch.number, sent)
        if sent.inserted + sent.duplicates == batch.events:
            self.whole.add(batch.number, sent)

    def error(self, target: str, log: Any) -> PolarInvalidEventsError | PolarIngestIncompleteError:
        """Why not every event is stored, and which ones."""
        failed = [(sent.error, sent.refused) for sent in self.failed.values() if sent.error is not None]
        problems = Flaws(self.sources)
        for _, refused in failed:
            for one in refused:
                problems.add(one.event.place, one.problems)
        state = self._state(log)
        error: PolarInvalidEventsError | PolarIngestIncompleteError
        if problems and all(refused for _, refused in failed):
            cause = failed[0][0]
            error = PolarInvalidEventsError(
                f"{target} refused {number_of(len(self.refused), 'event')}: {problems}. {state} Fix the rows, or set "
                "them aside with on_invalid='skip', and run again: what is stored is not billed again",
                problems=problems.problems,
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

    def _state(self, log: Any) -> str:
        """Which rows are not known to be stored, short for the message and whole in the log."""
        unknown = self.unanswered - self.stored.batches
        refused = {n for n, sent in self.failed.items() if getattr(sent.error, "sent", True)} - unknown
        unsent = {batch.number for batch in self.journal.batches} - self.stored.batches - unknown - refused
        lists = {
            "refused": sorted(self.refused),
            "sent without a response, so perhaps stored": self._places(unknown),
            "not stored, their whole request having been refused": self._places(refused),
            "not sent by this attempt": self._places(unsent),
        }
        missing = sum(map(len, lists.values()))
        verb = "is" if missing == 1 else "are"
        told = [f"Of {number_of(self.journal.events, 'event')}, {missing:,} {verb} not known to be stored"]
        for what, places in lists.items():
            if not places:
                continue
            lines = list(rows_in_words(places, self.sources))
            for line in lines:
                log.error("%s: %s", what[0].upper() + what[1:], line)
            text = ", ".join(lines)
            if len(text) > _SHOWN:
                text = f"{text[:_SHOWN].rpartition(',')[0]}, and more, all of them in the log"
            told.append(f"{number_of(len(places), 'event')} {what} ({text})")
        return "; ".join(told) + "."

    def _places(self, numbers: set[int]) -> list[Place]:
        batches = [batch for batch in self.journal.batches if batch.number in numbers]
        return sorted({one.place for batch in batches for one in self.journal.read(batch)} - self.refused)
