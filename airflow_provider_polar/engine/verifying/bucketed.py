"""Events by bucket, whichever witness has them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from airflow_provider_polar.engine.metering.buckets import Buckets
from airflow_provider_polar.engine.metering.filters import Event, time_of
from airflow_provider_polar.engine.window import EventWindow

_CLOCK_CHANGE = timedelta(hours=3)

Read = Callable[[EventWindow], Iterable[Event]]
"""Gives the events of a window."""


class BucketedWindow:
    """A window that is made of whole buckets."""

    def __init__(self, window: EventWindow, buckets: Buckets) -> None:
        self.window = window
        self.buckets = buckets

    def span(self, run: Sequence[datetime]) -> EventWindow:
        """From the first of adjacent buckets to where the one after the last begins."""
        return EventWindow(run[0], next((moment for moment in self.buckets if moment > run[-1]), self.window.end))

    def events(self, chosen: Collection[datetime], read: Read) -> Iterator[Event]:
        """The events of some buckets, adjacent ones being read at once."""
        for run in self.buckets.runs(chosen):
            span = self.span(run)
            if self.buckets.interval != "hour":
                # A day whose midnight clocks skip, or show twice, begins at another moment than it is named by.
                span = EventWindow(span.start - _CLOCK_CHANGE, span.end + _CLOCK_CHANGE)
            for event in read(span):
                if self.buckets.find(time_of(event)) in chosen:
                    yield event

    def bucket_of(self, moment: datetime) -> datetime:
        """The bucket that a moment falls into; the first one for what lies before the window."""
        return self.buckets.find(moment) or next(iter(self.buckets))
