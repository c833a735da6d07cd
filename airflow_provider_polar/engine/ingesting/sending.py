"""One batch on its way: sent, repeated where the response is lost, and what Polar itself refuses set aside."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.api.models import IngestResult
from airflow_provider_polar.api.requests import ingest_encoded
from airflow_provider_polar.engine.ingesting.journal import EncodedEvent
from airflow_provider_polar.exceptions import (
    EventProblem,
    PolarError,
    PolarServerError,
    PolarTransportError,
    PolarValidationError,
)

_CLOCK_WAITS = (0.5, 1.0, 2.0, 4.0)
"""Seconds to wait, one after the other, for a server's clock that is behind."""
_RECENT = timedelta(minutes=1)


class Refused(NamedTuple):
    """An event that Polar refused, with its reasons."""

    event: EncodedEvent
    problems: list[EventProblem]


@dataclass
class Sent:
    """What became of one batch.

    :ivar inserted: newly stored events.
    :ivar duplicates: events that were there already.
    :ivar refused: events that Polar refused, which are not stored.
    :ivar uncertain: a request of the batch got no response, so that some of ``duplicates`` may be its work.
    :ivar error: why the batch could not be finished; None where it could.
    """

    inserted: int = 0
    duplicates: int = 0
    refused: list[Refused] = field(default_factory=list)
    uncertain: bool = False
    error: PolarError | None = None

    def note(self, error: PolarError) -> None:
        """Remembers a failed attempt after which it is unknown whether Polar has stored the events."""
        if isinstance(error, PolarServerError) or (isinstance(error, PolarTransportError) and error.sent):
            self.uncertain = True


def send_batch(
    client: PolarClient,
    events: Sequence[EncodedEvent],
    *,
    skip: bool,
    patience: float | None = None,
    sleep: Callable[[float], object] = time.sleep,
) -> Sent:
    """Sends the events of one batch. Never raises a :class:`PolarError`: it is in the outcome.

    :param skip: leave out what Polar refuses and send the rest, under the same identities.
    :param patience: seconds to retry for, in place of the client's.
    """
    retries = client.retries if patience is None else replace(client.retries, patience=patience)
    sent = Sent()
    waits = iter(_CLOCK_WAITS)
    while events:
        try:
            response = client.send(
                ingest_encoded([one.payload for one in events], repeatable=True),
                IngestResult.decode,
                retries=retries,
                on_retry=sent.note,
            )
        except PolarValidationError as error:
            refused = _by_event(error.problems, events)
            if _only_clocks_differ(refused) and (pause := next(waits, None)) is not None:
                sleep(pause)
                continue
            sent.refused += refused
            if not refused or not skip:
                sent.error = error
                return sent
            gone = {id(one.event) for one in refused}
            events = [event for event in events if id(event) not in gone]
            continue
        except PolarError as error:
            sent.note(error)
            sent.error = error
            return sent
        sent.inserted, sent.duplicates = response.inserted, response.duplicates
        if response.inserted + response.duplicates != len(events):
            sent.uncertain = True
            sent.error = PolarTransportError(
                f"Polar counts {response.inserted} inserted and {response.duplicates} duplicate events, "
                f"but {len(events)} were sent ({client.server})"
            )
        return sent
    return sent


def _by_event(problems: Sequence[EventProblem], events: Sequence[EncodedEvent]) -> list[Refused]:
    """The refused events; none where a problem is not about one event."""
    found: dict[int, list[EventProblem]] = {}
    for problem in problems:
        if problem.index is None or not 0 <= problem.index < len(events):
            return []
        found.setdefault(problem.index, []).append(EventProblem(problem.field, problem.message))
    return [Refused(events[index], told) for index, told in sorted(found.items())]


def _only_clocks_differ(refused: Sequence[Refused]) -> bool:
    """Whether Polar's one objection is that events of this very moment are in its future."""
    recent = datetime.now(UTC) - _RECENT
    return bool(refused) and all(
        [problem.field for problem in one.problems] == ["timestamp"]
        and datetime.fromisoformat(json.loads(one.event.payload)["timestamp"]) > recent
        for one in refused
    )
