"""Drives the complete reader over a client: the same decisions for threads and for asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from airflow_provider_polar.api.client import AsyncPolarClient, PolarClient
from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.api.rows import EventRow
from airflow_provider_polar.events.reading.chunks import read_proved
from airflow_provider_polar.events.reading.proof import MILLISECOND, Ask, Reading, SliceReport
from airflow_provider_polar.events.reading.reader import count_window, read_slice
from airflow_provider_polar.events.reading.slices import find_changed, plan_slices
from airflow_provider_polar.events.window import EventWindow
from airflow_provider_polar.exceptions import PolarIncompleteError

T = TypeVar("T")
Sink = Callable[[list[EventRow]], None]
Filters = EventFilters | Mapping[str, Any] | None


def _no_rows(rows: list[EventRow]) -> None:
    raise TypeError(f"{len(rows)} rows where none were to come")


def _require_proof(report: SliceReport) -> None:
    if not report.proved:
        raise PolarIncompleteError(
            f"{report.lost} events of {report.window} are counted by Polar and were not given, in "
            f"{len(report.missing)} spots; the first: {report.missing[0].to_dict()}. Read the window again later; if "
            "they stay missing, Polar's support needs these spots.",
            missing=[spot.to_dict() for spot in report.missing],
        )


class CompleteReader:
    """Reads windows completely over a :class:`PolarClient`. Thread-safe: several slices may be read at once.

    Failures are the client's (after its retries), as they are.

    :param filters: which events; :class:`EventFilters` or the same as a dict.
    """

    def __init__(self, client: PolarClient, filters: Filters = None) -> None:
        self.client = client
        self.filters = EventFilters.parse(filters)
        self._grain = MILLISECOND

    def count(self, window: EventWindow) -> int:
        """What Polar counts in the request that holds a window (its edge milliseconds whole): one request."""
        return self._drive(count_window(window, self.filters, self._grain))

    def plan(self, window: EventWindow, *, target_rows: int = 10_000) -> list[tuple[EventWindow, int]]:
        """Adjacent slices that make up the window, and about how many events each holds: one request a slice."""
        return self._drive(plan_slices(window, self.filters, target_rows=target_rows))

    def read(self, window: EventWindow, sink: Sink) -> SliceReport:
        """Reads one slice, one request after the other.

        :param sink: takes the rows in lists, in order of (timestamp, id), each event once. What the report does
            not prove is to be read again, or reported.
        """
        report = self._drive(read_slice(window, self.filters, self._grain), sink)
        self._grain = max(self._grain, report.grain)
        return report

    def verify(self, reports: Sequence[SliceReport]) -> list[EventWindow]:
        """The final proof: the slices whose count is not what it was when they were read, to be read again.
        One request where there are none.

        :param reports: of adjacent slices, in order; in the end, those of the whole window.
        """
        return self._drive(find_changed(reports, self.filters))

    def iter_rows(self, window: EventWindow) -> Iterator[EventRow]:
        """Every event of a window in order of (timestamp, id), in flat memory.

        :raises PolarIncompleteError: after the last event, where some are counted and not given.
        """
        reading = read_proved(window, self.filters, self._grain)
        answer = None
        while True:
            try:
                step = reading.send(answer)
            except StopIteration as stop:
                _require_proof(stop.value)
                return
            answer = None
            if isinstance(step, Ask):
                answer = self.client.list_rows(step.request)
            else:
                yield from step

    def _drive(self, reading: Reading[T], sink: Sink = _no_rows) -> T:
        answer = None
        while True:
            try:
                step = reading.send(answer)
            except StopIteration as stop:
                result: T = stop.value
                return result
            answer = None
            if isinstance(step, Ask):
                answer = self.client.list_rows(step.request)
            else:
                sink(step)


class AsyncCompleteReader:
    """The same for asyncio; see :class:`CompleteReader`. Several slices may be read at once in one event loop."""

    def __init__(self, client: AsyncPolarClient, filters: Filters = None) -> None:
        self.client = client
        self.filters = EventFilters.parse(filters)
        self._grain = MILLISECOND

    async def count(self, window: EventWindow) -> int:
        """See :meth:`CompleteReader.count`."""
        return await self._drive(count_window(window, self.filters, self._grain))

    async def plan(self, window: EventWindow, *, target_rows: int = 10_000) -> list[tuple[EventWindow, int]]:
        """See :meth:`CompleteReader.plan`."""
        return await self._drive(plan_slices(window, self.filters, target_rows=target_rows))

    async def read(self, window: EventWindow, sink: Sink) -> SliceReport:
        """See :meth:`CompleteReader.read`."""
        report = await self._drive(read_slice(window, self.filters, self._grain), sink)
        self._grain = max(self._grain, report.grain)
        return report

    async def verify(self, reports: Sequence[SliceReport]) -> list[EventWindow]:
        """See :meth:`CompleteReader.verify`."""
        return await self._drive(find_changed(reports, self.filters))

    async def iter_rows(self, window: EventWindow) -> AsyncIterator[EventRow]:
        """See :meth:`CompleteReader.iter_rows`."""
        reading = read_proved(window, self.filters, self._grain)
        answer = None
        while True:
            try:
                step = reading.send(answer)
            except StopIteration as stop:
                _require_proof(stop.value)
                return
            answer = None
            if isinstance(step, Ask):
                answer = await self.client.list_rows(step.request)
            else:
                for row in step:
                    yield row

    async def _drive(self, reading: Reading[T], sink: Sink = _no_rows) -> T:
        answer = None
        while True:
            try:
                step = reading.send(answer)
            except StopIteration as stop:
                result: T = stop.value
                return result
            answer = None
            if isinstance(step, Ask):
                answer = await self.client.list_rows(step.request)
            else:
                sink(step)
