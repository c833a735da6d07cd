"""Polar's event list as a plain function over a list of events: for laws that need thousands of responses."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from airflow_provider_polar.api.requests import PolarRequest
from airflow_provider_polar.api.rows import EventRow, RowPage, to_ms

_ids = random.Random(5)


@dataclass(frozen=True)
class Listed:
    """An event that the list gives.

    :param copies: how often the index holds it.
    :param given: whether the store holds it.
    """

    timestamp: datetime
    name: str = "order.paid"
    id: str = field(default_factory=lambda: str(uuid.UUID(int=_ids.getrandbits(128))))
    copies: int = 1
    given: bool = True

    def row(self) -> EventRow:
        text = self.timestamp.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
        values = {
            "id": self.id,
            "timestamp": text,
            "name": self.name,
            "source": "user",
            "customer": {"email": "a@example.com"},
        }
        return EventRow({key: msgspec.Raw(msgspec.json.encode(value)) for key, value in values.items()})


@dataclass
class Client:
    """A client whose list responses a plain function gives."""

    respond: Callable[[PolarRequest], RowPage]

    def list_rows(self, request: PolarRequest, **_: Any) -> RowPage:
        return self.respond(request)


@dataclass
class AsyncClient(Client):
    """The same over asyncio."""

    async def list_rows(self, request: PolarRequest, **_: Any) -> RowPage:
        return self.respond(request)


@dataclass
class Listing:
    """Answers list requests: exclusive bounds in whole milliseconds, names, pages without a tie-breaker.

    :ivar asked: the requests so far.
    """

    events: list[Listed] = field(default_factory=list)
    asked: list[PolarRequest] = field(default_factory=list)

    def __call__(self, request: PolarRequest) -> RowPage:
        self.asked.append(request)
        one = dict(request.params)
        names = {value for key, value in request.params if key == "name"}
        after, before = (self._bound(one.get(key)) for key in ("start_timestamp", "end_timestamp"))
        found = [
            event
            for event in self.events
            for _ in range(event.copies)
            if (not names or event.name in names)
            and (after is None or to_ms(event.timestamp) > after)
            and (before is None or to_ms(event.timestamp) < before)
        ]
        limit, page = int(one.get("limit", 10)), int(one.get("page", 1))
        # Ties fall otherwise with every page number, as they do at Polar.
        random.Random(page).shuffle(found)
        found.sort(key=lambda event: to_ms(event.timestamp), reverse=one.get("sorting") != "timestamp")
        shown = found[(page - 1) * limit : page * limit]
        return RowPage([event.row() for event in shown if event.given], len(found) if shown else 0)

    def _bound(self, text: str | None) -> int | None:
        return None if text is None else to_ms(datetime.fromisoformat(text))


def moments(start: datetime, *offsets: float) -> list[datetime]:
    """Moments some seconds after another."""
    return [start + timedelta(seconds=offset) for offset in offsets]
