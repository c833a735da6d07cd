"""The buffer in memory that Polar's SDK has in a pre-release. It only sends; lists are those of the SDK."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

DISTRIBUTION = "polar-sdk"


def ingest(base_url: str, token: str, events: Iterable[dict[str, Any]]) -> None:
    """Every event is tracked, and then the buffer is flushed."""
    from polar.v2026_04 import PolarAsync

    async def track() -> None:
        polar: Any = PolarAsync(token, base_url=base_url)
        async with polar.metering() as metering:
            for event in events:
                await metering.track(**event)
            await metering.flush()

    asyncio.run(track())
