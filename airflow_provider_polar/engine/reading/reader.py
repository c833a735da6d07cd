"""The complete reader of a client: what an export, a comparison and the hook read with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.api.rows import EventRow, RowPage
from airflow_provider_polar.engine.drive import drive
from airflow_provider_polar.engine.reading.forward import Sink, read_slice
from airflow_provider_polar.engine.reading.queries import count_window
from airflow_provider_polar.engine.reading.reports import SliceReport
from airflow_provider_polar.engine.reading.slices import Plan, TargetRows, find_changed, plan_slices
from airflow_provider_polar.engine.reading.streaming import WindowStream
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import PolarIncompleteError


class CompleteReader:
    """Reads windows completely over a :class:`PolarClient`. Thread-safe: several slices may be read at once.

    Failures are the client's (after its retries), as they are.

    :param filters: which events; :class:`EventFilters` or the same as a dict.
    """

    def __init__(self, client: PolarClient, filters: EventFilters | Mapping[str, Any] | None = None) -> None:
        self.client = client
        self.filters = EventFilters.parse(filters)

    def count(self, window: EventWindow, filters: EventFilters | None = None) -> int:
        """What Polar counts in the request that holds a window (its edge milliseconds whole): one request.

        :param filters: in place of the reader's own.
        """
        return drive(self.client, count_window(window, filters or self.filters))

    def plan(self, window: EventWindow, *, target_rows: TargetRows = 10_000) -> Plan:
        """The slices that a window is to be read in: one request a slice."""
        return drive(self.client, plan_slices(window, self.filters, target_rows=target_rows))

    def read(self, window: EventWindow, sink: Sink, *, page: RowPage | None = None) -> SliceReport:
        """Reads one slice, one request after the other: see :func:`read_slice`."""
        return drive(self.client, read_slice(window, self.filters, sink, page))

    def verify(self, reports: Sequence[SliceReport]) -> list[EventWindow]:
        """The final proof: the slices to be read again, see :func:`find_changed`."""
        return drive(self.client, find_changed(reports, self.filters))

    def iter_rows(self, window: EventWindow) -> Iterator[EventRow]:
        """Every event of a window in order of (timestamp, id), in flat memory.

        :raises PolarIncompleteError: after the last event, where some are counted and not given.
        """
        stream = WindowStream(window, self.filters)
        while not stream.ended:
            yield from drive(self.client, stream.read_on())
        if stream.missing:
            places = msgspec.to_builtins(stream.missing)
            raise PolarIncompleteError(
                f"{sum(found.lost for found in stream.missing)} events of {window} are counted by Polar and were not "
                f"given, in {len(places)} places; the first: {places[0]}. Read the window again later; where they stay "
                "missing, Polar's support needs these places.",
                missing=places,
            )
