"""Polar's event list as a plain function over events, with an index that can hold them twice or alone."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.api.requests import PolarRequest
from airflow_provider_polar.api.rows import EventRow, RowPage, from_ms, to_ms
from airflow_provider_polar.engine.drive import drive
from airflow_provider_polar.engine.reading.forward import read_slice
from airflow_provider_polar.engine.reading.reports import SliceReport
from airflow_provider_polar.engine.reading.streaming import WindowStream
from airflow_provider_polar.engine.window import EventWindow
from tests.unit.engine.listing import Client

DAY = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Indexed:
    """An event of the index.

    :param ms: milliseconds after :data:`DAY`.
    :param copies: how often the index holds it.
    :param given: whether the store holds it.
    """

    number: int
    ms: int
    metadata: dict[str, Any] = field(default_factory=dict, hash=False)
    name: str = "call"
    customer: str = "c1"
    copies: int = 1
    given: bool = True

    @property
    def id(self) -> str:
        return f"{self.number:032x}"

    def row(self) -> EventRow:
        values = {
            "id": self.id,
            "timestamp": (DAY + timedelta(milliseconds=self.ms)).isoformat(),
            "name": self.name,
            "source": "user",
            "external_customer_id": self.customer,
            "metadata": self.metadata,
        }
        return EventRow({key: msgspec.Raw(msgspec.json.encode(value)) for key, value in values.items()})

    def matches(self, params: list[tuple[str, str]]) -> bool:
        """Whether a request with these parameters, bounds aside, is answered for it."""
        for key in {key for key, _ in params}:
            values = [value for name, value in params if name == key]
            if key == "filter":
                if not self._meets(json.loads(values[0])):
                    return False
            elif key == "external_customer_id":
                if self.customer not in values:
                    return False
            elif key.startswith("metadata[") and str(self.metadata.get(key[9:-1], "")) not in values:
                return False
        return True

    def _meets(self, clause: dict[str, Any]) -> bool:
        if "clauses" in clause:
            return all(map(self._meets, clause["clauses"]))
        wanted = clause["value"]
        value: Any = {"name": self.name, "source": "user", **self.metadata}.get(clause["property"])
        if isinstance(wanted, str):
            value = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        else:
            value = value if isinstance(value, (int, float)) else 0
        operations: dict[str, Callable[[], bool]] = {
            "eq": lambda: value == wanted,
            "ne": lambda: value != wanted,
            "gte": lambda: value >= wanted,
            "lt": lambda: value < wanted,
        }
        return operations[clause["operator"]]()


@dataclass
class Index:
    """Answers list requests as Polar's server does.

    :param collapsed: a page gives an event once, however often the index holds it there.
    :param before_request: called before each request is answered.
    """

    events: list[Indexed]
    collapsed: bool = True
    before_request: Callable[[Index], None] = lambda index: None
    requests: int = 0

    @property
    def given(self) -> set[str]:
        return {event.id for event in self.events if event.given}

    @property
    def places(self) -> int:
        return sum(event.copies for event in self.events)

    def __call__(self, request: PolarRequest) -> RowPage:
        self.requests += 1
        self.before_request(self)
        one = dict(request.params)
        low, high = (
            to_ms(datetime.fromisoformat(one[key])) - to_ms(DAY) for key in ("start_timestamp", "end_timestamp")
        )
        found = [e for e in self.events for _ in range(e.copies) if low < e.ms < high and e.matches([*request.params])]
        # The order within a millisecond is any, and the same for the same request.
        random.Random(repr(request.params)).shuffle(found)
        found.sort(key=lambda event: event.ms, reverse=one["sorting"] != "timestamp")
        limit, page = int(one["limit"]), int(one["page"])
        shown = found[(page - 1) * limit : page * limit]
        rows = dict.fromkeys(shown) if self.collapsed else shown
        return RowPage([event.row() for event in rows if event.given], len(found) if shown else 0)


def read(window: EventWindow, respond: Callable[[PolarRequest], RowPage]) -> tuple[list[EventRow], SliceReport]:
    """The rows of a slice that were handed on, and the report."""
    rows: list[EventRow] = []

    def sink(more: list[EventRow], so_far: SliceReport) -> None:
        rows.extend(more)
        assert more
        assert so_far.rows == len(rows)
        assert rows[-1].timestamp < so_far.window.end

    return rows, drive(Client(respond), read_slice(window, EventFilters(), sink))  # type: ignore[arg-type]


def stream(
    window: EventWindow, respond: Callable[[PolarRequest], RowPage], **options: Any
) -> tuple[list[EventRow], WindowStream]:
    """The rows of a window that was read in one pass, and how that went."""
    rows: list[EventRow] = []
    streamed = WindowStream(window, EventFilters(), **options)
    while not streamed.ended:
        rows += drive(Client(respond), streamed.read_on())  # type: ignore[arg-type]
        assert streamed.rows == len(rows)
    return rows, streamed


def moment(ms: int) -> datetime:
    return from_ms(to_ms(DAY) + ms)
