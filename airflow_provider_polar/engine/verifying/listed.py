"""What Polar lists: the first store's witness."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from airflow_provider_polar.engine.metering.filters import Event
from airflow_provider_polar.engine.reading.reader import CompleteReader
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import PolarIncompleteError


class ListedEvents:
    """The events of Polar's list, each once.

    :param max_concurrency: slices read at once; so many, of about ten thousand events, are held at a time.
    """

    def __init__(self, reader: CompleteReader, *, max_concurrency: int) -> None:
        self._reader = reader
        self._side_by_side = max_concurrency
        self._not_given: list[Mapping[str, Any]] = []

    def read(self, window: EventWindow) -> Iterator[Event]:
        """The events of a window, in order of time."""
        slices = deque(window for window, _ in self._reader.plan(window).slices)
        reading: deque[Future[list[Event]]] = deque()
        with ThreadPoolExecutor(self._side_by_side, thread_name_prefix="polar-verify") as pool:
            while slices or reading:
                while slices and len(reading) < self._side_by_side:
                    reading.append(pool.submit(self._slice, slices.popleft(), self._reader))
                yield from reading.popleft().result()

    def narrowed(self, filters: Mapping[str, Any], window: EventWindow) -> list[Event]:
        """The events of a window that some filters take besides, read in one thread."""
        narrower = self._reader.filters.model_copy(update=filters)
        return self._slice(window, CompleteReader(self._reader.client, narrower))

    def take_not_given(self) -> list[Mapping[str, Any]]:
        """Where Polar counted events and did not give them, of what was read since this was called before.

        Each with ``start``, ``end``, ``counted``, ``given``, ``reason``."""
        taken, self._not_given = self._not_given, []
        return taken

    def _slice(self, window: EventWindow, reader: CompleteReader) -> list[Event]:
        events: list[Event] = []
        try:
            for row in reader.iter_rows(window):
                events.append(row.to_dict())
        except PolarIncompleteError as error:
            self._not_given += error.missing
        return events
