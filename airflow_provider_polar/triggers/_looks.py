"""The waits of a connection in one event loop look together: what begins at about the same time is one poll."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from airflow_provider_polar.exceptions import PolarApiError
from airflow_provider_polar.triggers._client import AsyncLiveConnection

if TYPE_CHECKING:
    from airflow_provider_polar.engine.waiting.wait import EventWait, PollResult

    Pending = tuple[EventWait, asyncio.Future[PollResult]]

_REFUSED = (400, 413, 414, 422, 431)
"""Statuses that refuse what a request selects by, or its length."""
_PATIENCE = 20.0
"""Seconds of failing after which a request of many is not repeated: one that hangs must not hold up all waits."""
_LONGEST_GATHERING = 5.0
"""Seconds that a look waits at most for others to join it."""


class SharedLooks:
    """Makes the looks of all waits of a connection.

    :param polar_conn_id: the connection.
    """

    def __init__(self, polar_conn_id: str) -> None:
        self.users = 0
        self._connection = AsyncLiveConnection(polar_conn_id)
        self._pending: list[Pending] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def look(self, wait: EventWait, *, interval: float, alone: bool = False) -> PollResult:
        """One look of a wait.

        :param interval: seconds between two looks of it.
        :param alone: it shares no request, for its own events fill pages.
        :raises PolarError: as :meth:`~airflow_provider_polar.triggers._client.AsyncLiveConnection.poll`.
        """
        pending: Pending = (wait, asyncio.get_running_loop().create_future())
        if alone:
            self._start(self._poll([pending]))
        else:
            self._pending.append(pending)
            if len(self._pending) == 1:
                self._start(self._gather(min(_LONGEST_GATHERING, interval / 12)))
        return await pending[1]

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
        pending, self._pending = self._pending, []
        with _failing(pending):
            for group in groups_of(pending, lambda one: one[0]):
                self._start(self._poll(group))

    async def _poll(self, pending: Sequence[Pending]) -> None:
        from airflow_provider_polar.api.retrying import FEW_RETRIES
        from airflow_provider_polar.engine.waiting.together import poll_together

        pending = [one for one in pending if not one[1].done()]
        if not pending:
            return
        with _failing(pending):
            try:
                results = await self._connection.poll(
                    lambda hook: poll_together([wait.with_filters(hook.filters) for wait, _ in pending]),
                    replace(FEW_RETRIES, patience=_PATIENCE) if len(pending) > 1 else None,
                )
            except PolarApiError as error:
                if len(pending) == 1 or error.status not in _REFUSED:
                    raise
                # Polar refuses what one of them selects by; the others are not to suffer from it.
                for half in (pending[: len(pending) // 2], pending[len(pending) // 2 :]):
                    self._start(self._poll(half))
            else:
                for (_, future), result in zip(pending, results, strict=True):
                    if not future.done():
                        future.set_result(result)


@contextmanager
def _failing(pending: Sequence[Pending]) -> Iterator[None]:
    """Hands an error on to the waits, of which each decides whether it goes on."""
    try:
        yield
    except Exception as error:
        for _, future in pending:
            if not future.done():
                future.set_exception(error)


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
