"""The polls of watchers: for ever, through faults and mistakes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.api.retrying import FEW_RETRIES
from airflow_provider_polar.engine.drive import Steps
from airflow_provider_polar.engine.waiting.cadence import Cadence
from airflow_provider_polar.engine.waiting.cursor import WatchCursor
from airflow_provider_polar.engine.waiting.watch import Look, Watch, cursors_of
from airflow_provider_polar.engine.waiting.watcher import Watcher
from airflow_provider_polar.exceptions import PolarError
from airflow_provider_polar.hooks.polar import PolarHook
from airflow_provider_polar.triggers._client import AsyncLiveConnection

if TYPE_CHECKING:
    from airflow_provider_polar.triggers.watch import PolarEventWatchTrigger

log = logging.getLogger(__name__)


class WatchPolls:
    """Polls with a trigger's connection, filters, overlap and interval.

    :param begin: gives the watchers that the next poll is for.
    :param joined: set where there are more of them, so that the next poll does not wait.
    """

    together: ClassVar[float] = 1.0
    """Seconds that a poll waits for other watchers that start at the same time."""

    def __init__(
        self, trigger: PolarEventWatchTrigger, begin: Callable[[], Sequence[Watcher]], joined: asyncio.Event
    ) -> None:
        self._begin, self._joined = begin, joined
        self._filters: Mapping[str, Any] | None = trigger.filters
        self._watch = Watch(EventFilters.parse(trigger.filters), timedelta(seconds=trigger.overlap))
        self._live = AsyncLiveConnection(trigger.polar_conn_id)
        self._cadence = Cadence(max(trigger.shortest_poll_interval, trigger.poll_interval))

    async def looks(self) -> AsyncIterator[Look]:
        """Yields what each poll finds."""
        names: list[str] = []
        try:
            while True:
                try:
                    while not (cursors := cursors_of(watcher.cursors for watcher in self._begin())):
                        await self._pause(None)
                    names = sorted(cursors)
                    look = await self._look(cursors)
                except PolarError as error:
                    pause = self._cadence.after_fault(error)
                    say = log.warning if error.retryable else log.error
                    say("The watch for %s goes on in %.0f seconds, after: %s", ", ".join(names), pause, error)
                except Exception as error:
                    # A trigger that raises is started again within a second, and would send a request each time.
                    pause = self._cadence.after_fault(error)
                    log.exception("The watch for %s goes on in %.0f seconds.", ", ".join(names), pause)
                else:
                    yield look
                    await self._pause(self._cadence.after_poll())
                    continue
                await asyncio.sleep(pause)
        finally:
            await self._live.aclose()

    async def _look(self, cursors: Mapping[str, Sequence[WatchCursor]]) -> Look:
        def steps(hook: PolarHook) -> Steps[Look]:
            self._watch.filters = hook.filters(self._filters)
            return self._watch.poll(cursors, datetime.now(UTC))

        return await self._live.poll(steps, FEW_RETRIES)

    async def _pause(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._joined.wait()
        except TimeoutError:
            return
        await asyncio.sleep(self.together)
