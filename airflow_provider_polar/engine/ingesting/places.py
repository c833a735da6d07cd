"""Where rows come from, and many of them in words."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice

from airflow_provider_polar.exceptions import EventProblem

KEPT_PROBLEMS = 100
"""Problems that an error keeps at most."""
_TOLD_PROBLEMS = 10
_RANGES_A_LINE = 200

Place = int
"""One row of one source, as a number: places are ordered as sources and their rows are."""
_ROWS_A_SOURCE = 1 << 40


def place_of(source: int, row: int) -> Place:
    """The place of a row.

    :param source: number of the source, from 0.
    :param row: number of the row there, from 1.
    """
    return source * _ROWS_A_SOURCE + row


def where(place: Place, sources: Sequence[str]) -> tuple[str, int]:
    """The name of the source, and the number of the row there."""
    source, row = divmod(place, _ROWS_A_SOURCE)
    return sources[source], row


class Flaws:
    """The rows with which something is wrong: the places of all, eight bytes each, and the first problems.

    :param sources: the names of the sources that places refer to by number.
    """

    def __init__(self, sources: Sequence[str]) -> None:
        self._sources = sources
        self.places = array("Q")
        self.problems: list[EventProblem] = []

    def __len__(self) -> int:
        return len(self.places)

    def __str__(self) -> str:
        told = "; ".join(map(str, self.problems[:_TOLD_PROBLEMS]))
        return f"{told}; and more" if len(self.problems) > _TOLD_PROBLEMS else told

    def add(self, place: Place, problems: Sequence[EventProblem]) -> None:
        """Adds one row."""
        self.places.append(place)
        source, row = where(place, self._sources)
        self.problems += [problem.of_row(source, row) for problem in problems[: KEPT_PROBLEMS - len(self.problems)]]

    def lines(self) -> Iterator[str]:
        """All its rows in words."""
        return rows_in_words(sorted(self.places), self._sources)


def rows_in_words(places: Iterable[Place], sources: Sequence[str]) -> Iterator[str]:
    """``rows 1-3,000, 5,001 of s3://...``: every row that is given, in lines of bounded length.

    :param places: sorted.
    """
    for number, group in groupby(places, lambda place: place // _ROWS_A_SOURCE):
        source = f" of {sources[number]}" if sources[number] else ""
        ranges = ranges_of(place % _ROWS_A_SOURCE for place in group)
        while line := list(islice(ranges, _RANGES_A_LINE)):
            told = ", ".join(f"{first:,}" if first == last else f"{first:,}-{last:,}" for first, last in line)
            noun = "row" if len(line) == 1 and line[0][0] == line[0][1] else "rows"
            yield f"{noun} {told}{source}"


def ranges_of(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """The first and the last of each run of sorted numbers."""
    # What a number is ahead of its position is the same all over a run.
    for _, run in groupby(enumerate(numbers), lambda one: one[1] - one[0]):
        values = (number for _, number in run)
        first = next(values)
        yield first, max(values, default=first)
