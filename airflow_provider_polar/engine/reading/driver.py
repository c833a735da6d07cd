"""Drives the complete reader over a client: the same decisions for threads and for asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from airflow_provider_polar.api.client import AsyncPolarClient, PolarClient
from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.api.requests import PolarRequest
from airflow_provider_polar.api.rows import EventRow, RowPage
from airflow_provider_polar.engine.reading.chunks import read_proved
from airflow_provider_polar.engine.reading.proof import Reading, SliceReport
from airflow_provider_polar.engine.reading.reader import count_window, read_slice
from airflow_provider_polar.engine.reading.slices import Plan, TargetRows, find_changed, plan_slices
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import PolarIncompleteError

T = TypeVar("T")
Sink = Callable[[list[EventRow], SliceReport], None]
"""Takes rows, and the report on everything that was handed on so far, these rows included."""
Filters = EventFilters | Mapping[str, Any] | None


def _no_rows(rows: list[EventRow], _: SliceReport) -> None:
    raise TypeError(f"{len(rows)} rows where none were to come")


def _require_proof(report: SliceReport) -> None:
    if not report.proved:
        raise PolarIncompleteError(
            f"{report.lost} events of {report.window} are counted by Polar and were not given, in "
            f"{len(report.missing)} places; the first: {report.missing[0].to_dict()}. Read the window again later; "
            "where they stay missing, Polar's support needs these places.",
            missing=[lack.to_dict() for lack in report.missing],
        )


class CompleteReader:
    """Reads windows completely over a :class:`PolarClient`. Thread-safe: several slices may be read at once.

    Failures are the client's (after its retries), as they are.

    :param filters: which events; :class:`EventFilters` or the same as a dict.
    """

    def __init__(self, client: PolarClient, filters: Filters = None) -> None:
        self.client = client
        self.filters = EventFilters.parse(filters)

    def count(self, window: EventWindow) -> int:
        """What Polar counts in the request that holds a window (its edge milliseconds whole): one request."""
        return self._drive(count_window(window, self.filters))

    def plan(self, window: EventWindow, *, target_rows: TargetRows = 10_000) -> Plan:
        """Adjacent slices that make up the window, and about how many events each holds: one request a slice.

        Where it is one slice, that request's response comes along, for :meth:`read`."""
        return self._drive(plan_slices(window, self.filters, target_rows=target_rows))

    def read(self, window: EventWindow, sink: Sink, *, page: RowPage | None = None) -> SliceReport:
        """Reads one slice, one request after the other.

        :param sink: takes the rows in lists, in order of (timestamp, id), each event once, and the report so far, as
            if the slice ended with these rows: what follows can be read later as a slice of its own. What a report
            does not prove is to be read again, or reported.
        :param page: the response to the window's first request, if in hand just now (see :class:`Plan`); it counts
            as one of the report's requests.
        :raises PolarIncompleteError: the server's bounds are not whole milliseconds; a retry does not help.
        """
        return self._drive(read_slice(window, self.filters, page), sink)

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
        reading = read_proved(window, self.filters)
        response = None
        while True:
            try:
                step = reading.send(response)
            except StopIteration as stop:
                _require_proof(stop.value)
                return
            response = None
            if isinstance(step, PolarRequest):
                response = self.client.list_rows(step)
            else:
                yield from step.rows

    def _drive(self, reading: Reading[T], sink: Sink = _no_rows) -> T:
        response = None
        while True:
            try:
                step = reading.send(response)
            except StopIteration as stop:
                result: T = stop.value
                return result
            response = None
            if isinstance(step, PolarRequest):
                response = self.client.list_rows(step)
            else:
                sink(step.rows, step.so_far)


class AsyncCompleteReader:
    """The same for asyncio; see :class:`CompleteReader`. Several slices may be read at once in one event loop."""

    def __init__(self, client: AsyncPolarClient, filters: Filters = None) -> None:
        self.client = client
        self.filters = EventFilters.parse(filters)

    async def count(self, window: EventWindow) -> int:
        """See :meth:`CompleteReader.count`."""
        return await self._drive(count_window(window, self.filters))

    async def plan(self, window: EventWindow, *, target_rows: TargetRows = 10_000) -> Plan:
        """See :meth:`CompleteReader.plan`."""
        return await self._drive(plan_slices(window, self.filters, target_rows=target_rows))

    async def read(self, window: EventWindow, sink: Sink, *, page: RowPage | None = None) -> SliceReport:
        """See :meth:`CompleteReader.read`."""
        return await self._drive(read_slice(window, self.filters, page), sink)

    async def verify(self, reports: Sequence[SliceReport]) -> list[EventWindow]:
        """See :meth:`CompleteReader.verify`."""
        return await self._drive(find_changed(reports, self.filters))

    async def iter_rows(self, window: EventWindow) -> AsyncIterator[EventRow]:
        """See :meth:`CompleteReader.iter_rows`."""
        reading = read_proved(window, self.filters)
        response = None
        while True:
            try:
                step = reading.send(response)
            except StopIteration as stop:
                _require_proof(stop.value)
                return
            response = None
            if isinstance(step, PolarRequest):
                response = await self.client.list_rows(step)
            else:
                for row in step.rows:
                    yield row

    async def _drive(self, reading: Reading[T], sink: Sink = _no_rows) -> T:
        response = None
        while True:
            try:
                step = reading.send(response)
            except StopIteration as stop:
                result: T = stop.value
                return result
            response = None
            if isinstance(step, PolarRequest):
                response = await self.client.list_rows(step)
            else:
                sink(step.rows, step.so_far)
