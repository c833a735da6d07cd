"""What was found for a query so far, and how many requests may still go into finding the rest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from airflow_provider_polar.api.rows import EventRow
from airflow_provider_polar.engine.reading.queries import Query
from airflow_provider_polar.engine.reading.reports import Discrepancy


class Found:
    """What was given for a query: distinct rows, proved repetitions, discrepancies that are not proved."""

    __slots__ = ("missing", "repeated", "rows")

    def __init__(self, rows: Iterable[EventRow] = ()) -> None:
        self.rows: dict[str, EventRow] = {}
        self.repeated: list[EventRow] = []
        self.missing: list[Discrepancy] = []
        for row in rows:
            if row.id in self.rows:
                self.repeated.append(row)
            else:
                self.rows[row.id] = row

    @property
    def given(self) -> int:
        """Places in Polar's index that gave a row."""
        return len(self.rows) + len(self.repeated)

    def noticing(self, rows: Iterable[EventRow]) -> Found:
        """Adds rows that another page gave, and returns itself; a row that comes again there proves nothing."""
        self.rows.update((row.id, row) for row in rows)
        return self

    def within(self, query: Query) -> Found:
        """What was found of another query, in which nothing is missing yet."""
        return Found(row for row in [*self.rows.values(), *self.repeated] if row in query)

    def repeating(self, counted: int) -> Found:
        """Takes what is counted beyond its rows as some of them again, and returns itself."""
        first = next(iter(self.rows.values()))
        self.repeated = [first] * (counted - len(self.rows))
        return self

    def include(self, other: Found) -> None:
        """Adds what was given of a part of the query that no other part holds."""
        self.rows.update(other.rows)
        self.repeated += other.repeated
        self.missing += other.missing

    def add_known(self, rows: Iterable[EventRow]) -> None:
        """Adds rows that were given earlier and were not given now: so much less is missing."""
        for row in rows:
            if row.id in self.rows:
                continue
            self.rows[row.id] = row
            at = next((i for i, lack in enumerate(self.missing) if lack.start <= row.timestamp < lack.end), None)
            if at is not None:
                lack = replace(self.missing[at], given=self.missing[at].given + 1)
                self.missing[at : at + 1] = [lack] if lack.lost else []

    def lacking(self, query: Query, counted: int, reason: str) -> Found:
        """Reports what is not given of the query as one discrepancy in the place of finer ones; returns itself."""
        self.missing = [query.discrepancy(counted, self.given, reason)] if counted > self.given else []
        return self


class Budget:
    """How many more requests may go into discrepancies. A part of a budget also draws on the whole.

    :ivar spent: requests that went into them.
    :ivar confirmed: events that turned out to be counted twice.
    """

    __slots__ = ("_requests", "_whole", "confirmed", "spent")

    def __init__(self, requests: int, whole: Budget | None = None) -> None:
        self._requests = requests
        self._whole = whole
        self.spent = 0
        self.confirmed: int = 0 if whole is None else whole.confirmed

    @property
    def left(self) -> int:
        """Requests that may still be spent."""
        left = self._requests - self.spent
        return left if self._whole is None else min(left, self._whole.left)

    def spend(self) -> None:
        """Counts one request."""
        self.spent += 1
        if self._whole is not None:
            self._whole.spend()

    def confirm(self, events: int) -> None:
        """Counts events that turned out to be counted twice."""
        self.confirmed += events
        if self._whole is not None:
            self._whole.confirm(events)
