"""Polar's own SDK, as its documentation shows it: page by page, and a thousand events a request."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

DISTRIBUTION = "polar-sdk"
BATCH = 1000


def list_events(base_url: str, token: str, start: str, end: str) -> Iterator[dict[str, Any]]:
    """The SDK makes objects of the rows; written is what they hold."""
    from polar.v2026_04 import Polar

    polar = Polar(token, base_url=base_url)
    page = pages = 1
    while page <= pages:
        response: Any = polar.events.list(
            start_timestamp=start, end_timestamp=end, limit=100, sorting=["timestamp"], page=page
        )
        yield from map(asdict, response.items)
        page, pages = page + 1, response.pagination.max_page


def ingest(base_url: str, token: str, events: Iterable[dict[str, Any]]) -> None:
    """The SDK never sends a request again."""
    from polar.v2026_04 import Polar

    rest: Any = iter(events)
    with Polar(token, base_url=base_url, timeout=30) as polar:
        while batch := list(itertools.islice(rest, BATCH)):
            polar.events.ingest(events=batch)
