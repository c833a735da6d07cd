"""What a reading says of itself: how many events it handed on, and where the API counts more than it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from airflow_provider_polar.engine.window import EventWindow

NOT_GIVEN = "not given: in Polar's index but not in its store"
NOT_PROVABLE = "not provable: nothing tells these events apart, and pages repeat and skip them"
NOT_EXAMINED = "counted twice or not given, not examined: the limit of requests for discrepancies was reached"
ARRIVING = "arriving: new events kept coming in while it was read"


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """Where the API counts more events than it gives.

    :param start: aware, UTC.
    :param end: aware, UTC, not included.
    :param counted: what the API counts there.
    :param given: distinct events (and proved repetitions) that it gave.
    :param reason: why they differ, as far as is known.
    :param narrowing: what besides the time narrows it down, in words, by property.
    """

    start: datetime
    end: datetime
    counted: int
    given: int
    reason: str
    narrowing: Mapping[str, str] = field(default_factory=dict)

    @property
    def lost(self) -> int:
        """Events counted and not given."""
        return self.counted - self.given


@dataclass(frozen=True, slots=True)
class SliceReport:
    """How the reading of one slice went.

    :param window: the slice.
    :param rows: events handed on, each once.
    :param repeated: how often events were counted again after their first time.
    :param missing: the discrepancies that are not proved.
    :param before: rows that the request brought along from before the window (its first millisecond is whole).
    :param after: likewise from after it.
    :param requests: requests that it took.
    :param self_proved: one response that was not a full page held every row and its count, so no further count is
        needed. (A full page never is: an early newcomer can push an old event off it.)
    """

    window: EventWindow
    rows: int
    repeated: int = 0
    missing: tuple[Discrepancy, ...] = ()
    before: int = 0
    after: int = 0
    requests: int = 0
    self_proved: bool = False

    @property
    def proved(self) -> bool:
        """Whether every event that the API counts was handed on."""
        return not self.missing

    @property
    def lost(self) -> int:
        """Events that are counted and were not given."""
        return sum(found.lost for found in self.missing)

    @property
    def counted(self) -> int:
        """What the API counts in the request that holds the slice."""
        return counted_in([self])


def counted_in(reports: Sequence[SliceReport]) -> int:
    """What the API counts in the request that holds adjacent slices.

    :param reports: in order; at least one.
    """
    inside = sum(report.rows + report.repeated + report.lost for report in reports)
    return reports[0].before + inside + reports[-1].after
