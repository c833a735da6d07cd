"""The waits of a connection in one event loop look together: what is asked for at about the same time is one poll."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from airflow_provider_polar.exceptions import PolarApiError, PolarAuthenticationError, PolarScopeError
from airflow_provider_polar.triggers._client import LiveConnection

if TYPE_CHECKING:
    from airflow_provider_polar.engine.waiting.wait import EventWait, PollResult

    Asked = tuple[EventWait, asyncio.Future[PollResult]]

_LONGEST_GATHERING = 5.0
"""Seconds that a look waits at most for others to join it."""


class SharedLooks:
    """Makes the looks of all waits of a connection.

    :param polar_conn_id: the connection.
    """

    def __init__(self, polar_conn_id: str) -> None:
        self.users = 0
        self._connection = LiveConnection(polar_conn_id)
        self._asked: list[Asked] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def look(self, wait: EventWait, *, interval: float, alone: bool = False) -> PollResult:
        """One look of a wait.

        :param interval: seconds between two looks of it.
        :param alone: it shares no request, for its own events fill pages.
        :raises PolarError: as :meth:`~airflow_provider_polar.triggers._client.LiveConnection.poll`.
        """
        asked: Asked = (wait, asyncio.get_running_loop().create_future())
        if alone:
            self._start(self._poll([asked]))
        else:
            self._asked.append(asked)
            if len(self._asked) == 1:
                self._start(self._gather(min(_LONGEST_GATHERING, interval / 12)))
        return await asked[1]

    async def aclose(self) -> None:
        """Ends what is under way and gives the client up."""
        for task in self._tasks:
            task.cancel()
        await self._connection.aclose()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _gather(self, seconds: float) -> None:
        from airflow_provider_polar.engine.waiting.together import groups_of

        await asyncio.sleep(seconds)
        asked, self._asked = self._asked, []
        for group in groups_of(asked, lambda one: one[0]):
            self._start(self._poll(group))

    async def _poll(self, asked: Sequence[Asked]) -> None:
        from airflow_provider_polar.engine.waiting.together import poll_together

        asked = [one for one in asked if not one[1].done()]
        if not asked:
            return
        try:
            results = await self._connection.poll(
                lambda hook: poll_together([wait.with_filters(hook.filters) for wait, _ in asked])
            )
        except Exception as error:
            if len(asked) > 1 and _is_the_request_s(error):
                # One of them selects by what Polar refuses; the others are not to suffer from it.
                for half in (asked[: len(asked) // 2], asked[len(asked) // 2 :]):
                    self._start(self._poll(half))
                return
            for _, future in asked:
                if not future.done():
                    future.set_exception(error)
        else:
            for (_, future), result in zip(asked, results, strict=True):
                if not future.done():
                    future.set_result(result)


def _is_the_request_s(error: Exception) -> bool:
    return (
        isinstance(error, PolarApiError)
        and not error.retryable
        and not isinstance(error, (PolarAuthenticationError, PolarScopeError))
    )


_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, SharedLooks]] = WeakKeyDictionary()


@asynccontextmanager
async def shared_looks(polar_conn_id: str) -> AsyncIterator[SharedLooks]:
    """The looks that all waits of a connection in this event loop share."""
    shared = _shared.setdefault(asyncio.get_running_loop(), {})
    looks = shared.setdefault(polar_conn_id, SharedLooks(polar_conn_id))
    looks.users += 1
    try:
        yield looks
    finally:
        looks.users -= 1
        if not looks.users:
            del shared[polar_conn_id]
            await looks.aclose()
