"""Where one request ends and the next begins, and rows and batches in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from airflow_provider_polar.api.limits import MAX_BODY_BYTES

ENVELOPE_BYTES = len(b'{"events":[]}')
MAX_EVENT_BYTES = MAX_BODY_BYTES - ENVELOPE_BYTES
"""Bytes of one event as JSON at most: a request that holds nothing else is full."""
DEFAULT_BATCH_SIZE = 1000
"""Polar's throughput levels off here."""
_RANGES_A_LINE = 200

Place = tuple[int, int]
"""Number of the source, and of the row there."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The events of one request.

    :param number: position among the batches of the run, from 0.
    :param first: number of its first event in the journal, from 1.
    :param events: how many events.
    :param generation: 0, or 1 for events whose parents are in generation 0, and so on.
    """

    number: int
    first: int
    events: int
    generation: int = 0


def counted(number: int, noun: str) -> str:
    """``1 event``, ``2,000 events``, ``3 batches``."""
    plural = f"{noun}es" if noun.endswith("ch") else f"{noun[:-1]}ies" if noun.endswith("ry") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def rows_in_words(places: Iterable[Place], sources: Sequence[str]) -> Iterator[str]:
    """``rows 1-3,000, 5,001 of s3://...``: every row that is given, in lines of bounded length.

    :param places: in the order of their sources and rows.
    """
    source, ranges = -1, list[list[int]]()
    for at, number in places:
        if ranges and (at != source or (len(ranges) >= _RANGES_A_LINE and number != ranges[-1][1] + 1)):
            yield _line(ranges, sources[source])
            ranges = []
        source = at
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    if ranges:
        yield _line(ranges, sources[source])


def _line(ranges: list[list[int]], source: str) -> str:
    told = ", ".join(f"{a:,}" if a == b else f"{a:,}-{b:,}" for a, b in ranges)
    noun = "row" if len(ranges) == 1 and ranges[0][0] == ranges[0][1] else "rows"
    return f"{noun} {told} of {source}" if source else f"{noun} {told}"


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
    for run in filter(None, text.split(",")):
        first, _, last = run.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return numbers
