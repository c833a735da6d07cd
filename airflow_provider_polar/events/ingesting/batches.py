"""Where one request ends and the next begins: by number of events and by bytes, within the server's limits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from airflow_provider_polar.api.requests import MAX_BODY_BYTES, MAX_EVENTS_PER_REQUEST

ENVELOPE_BYTES = len(b'{"events":[]}')
MAX_EVENT_BYTES = MAX_BODY_BYTES - ENVELOPE_BYTES
"""Bytes of one event as JSON at most: a request that holds nothing else is full."""
DEFAULT_BATCH_SIZE = 1000
"""Polar's throughput levels off here."""

Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Batch:
    """The events of one request.

    :param number: position among the batches of the run, from 0.
    :param offset: first byte in the spool.
    :param length: bytes in the spool.
    :param events: how many events.
    :param first: (source number, row number) of the first event.
    :param last: the same of the last one.
    """

    number: int
    offset: int
    length: int
    events: int
    first: Place
    last: Place


class BatchCutter:
    """Cuts a stream of events; which events share a batch depends only on the stream and the sizes.

    :param max_events: events of a batch at most, at most Polar's 32,767.
    :param max_bytes: bytes of a request's body at most.
    """

    def __init__(self, max_events: int = DEFAULT_BATCH_SIZE, max_bytes: int = MAX_BODY_BYTES) -> None:
        if not 1 <= max_events <= MAX_EVENTS_PER_REQUEST:
            raise ValueError(f"max_events is {max_events}; Polar takes 1 to {MAX_EVENTS_PER_REQUEST} in a request")
        self._max_events, self._max_bytes = max_events, max_bytes
        self._batches: list[Batch] = []
        self._offset = self._length = self._events = 0
        self._body = ENVELOPE_BYTES
        self._first = self._last = (0, 0)

    def add(self, record_bytes: int, event_bytes: int, place: Place) -> None:
        """Takes the next event.

        :param record_bytes: its length in the spool.
        :param event_bytes: its length in the request.
        """
        body = self._body + event_bytes + (1 if self._events else 0)
        if self._events and (self._events >= self._max_events or body > self._max_bytes):
            self._close()
            body = ENVELOPE_BYTES + event_bytes
        if not self._events:
            self._first = place
        self._last = place
        self._body = body
        self._events += 1
        self._length += record_bytes

    def finish(self) -> list[Batch]:
        """Closes the last batch; all of them, in order."""
        if self._events:
            self._close()
        return self._batches

    def _close(self) -> None:
        self._batches.append(
            Batch(len(self._batches), self._offset, self._length, self._events, self._first, self._last)
        )
        self._offset += self._length
        self._length = self._events = 0
        self._body = ENVELOPE_BYTES


def ranges_text(numbers: Iterable[int]) -> str:
    """``0-3,5``: sorted numbers as text, runs joined."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def ranges_set(text: str) -> set[int]:
    """The reverse of :func:`ranges_text`."""
    numbers: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return numbers
