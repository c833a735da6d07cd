"""What a deferred wait for events waits in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_polar.exceptions import PolarError

if TYPE_CHECKING:
    from airflow_provider_polar.engine.waiting.wait import EventWait, PollResult
    from airflow_provider_polar.triggers._looks import SharedLooks


class PolarEventTrigger(BaseTrigger):
    """Waits for named events of Polar in the triggerer.

    It decides as :class:`~airflow_provider_polar.sensors.event.PolarEventSensor` does, by the same code. It keeps
    nothing between two polls, so a restart of the triggerer costs nothing but a poll, and the deadline is a moment, so
    a restart does not move it. It yields exactly one event: ``{"status": "found", "result": {...}}``, or ``failed``
    (an event of ``fail_on``), ``timeout`` or ``error`` (a mistake that no further poll can fix) with a ``message``.
    Transient faults are logged and waited out, a connection that Airflow does not give among them.

    All waits of a connection in one event loop look at the same moments and share requests
    (:mod:`airflow_provider_polar.engine.waiting.together`). The time that a look waits for the request budget does not
    count: the look at the deadline is made, be it late.

    :param polar_conn_id: the connection.
    :param poll_interval: seconds between two polls, at least :attr:`shortest_poll_interval`; with some jitter.
    :param exponential_backoff: double the interval after each poll.
    :param max_wait: seconds that the doubled interval may reach.
    :param deadline: ISO 8601 text with a zone: when to give up, after a last look; None for never.
    :param wait: what is waited for, as plain JSON under the names of the sensor's parameters: ``event_name``, ``start``
        (ISO 8601 text with a zone), and if wanted ``end``, ``match``, ``min_count``, ``filters``, ``fail_on``.
    """

    shortest_poll_interval: ClassVar[float] = 5.0
    """Seconds; the request budget is the whole organization's."""

    def __init__(
        self,
        *,
        polar_conn_id: str = "polar_default",
        poll_interval: float = 60.0,
        exponential_backoff: bool = False,
        max_wait: float | None = None,
        deadline: str | None = None,
        **wait: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.wait = wait
        self.polar_conn_id = polar_conn_id
        self.poll_interval = poll_interval
        self.exponential_backoff = exponential_backoff
        self.max_wait = max_wait
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and keyword arguments, primitives only."""
        return (
            "airflow_provider_polar.triggers.event.PolarEventTrigger",
            {
                **self.wait,
                "polar_conn_id": self.polar_conn_id,
                "poll_interval": self.poll_interval,
                "exponential_backoff": self.exponential_backoff,
                "max_wait": self.max_wait,
                "deadline": self.deadline,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Polls until the wait has ended, and yields how."""
        try:
            outcome = await self._outcome()
        except PolarError as error:
            outcome = {"status": "error", "message": str(error)}
        yield TriggerEvent(outcome)  # type: ignore[no-untyped-call]

    async def _outcome(self) -> dict[str, Any]:
        from airflow_provider_polar.triggers._client import load
        from airflow_provider_polar.triggers._looks import shared_looks

        await load()
        from airflow_provider_polar.engine.waiting.wait import EventWait

        wait = EventWait.from_dict(self.wait)
        async with shared_looks(self.polar_conn_id) as looks:
            result = await self._until_ended(wait, looks)
        if result is None:
            return {"status": "timeout", "message": f"The wait has timed out: {wait} did not come by {self.deadline}."}
        if result.state == "failed":
            return {"status": "failed", "message": wait.failure(result)}
        return {"status": "found", "result": wait.found(result)}

    async def _until_ended(self, wait: EventWait, looks: SharedLooks) -> PollResult | None:
        """The result that ends the wait; None where the deadline comes first, after a last look."""
        from airflow_provider_polar.api.limits import MAX_LIMIT
        from airflow_provider_polar.engine.waiting.cadence import Cadence

        now = asyncio.get_running_loop().time
        interval = max(self.shortest_poll_interval, self.poll_interval)
        cadence = Cadence(interval, growing=self.exponential_backoff, longest=self.max_wait)
        pause, alone = cadence.to_tick(interval / 2, now()), False
        while True:
            remaining = self._remaining()
            await asyncio.sleep(pause if remaining is None else min(pause, remaining))
            last = remaining is not None and pause >= remaining
            try:
                result = await looks.look(wait, interval=interval, alone=alone)
                if result.state != "waiting":
                    return result
                alone = result.count > MAX_LIMIT
                pause = cadence.to_tick(cadence.after_poll(), now())
            except PolarError as error:
                if not error.retryable:
                    raise
                pause = cadence.after_fault(error)
                self.log.warning("The wait goes on in %.0f seconds, after: %s", pause, error)
            if last:
                return None

    def _remaining(self) -> float | None:
        """Seconds until the deadline; None where there is none."""
        from airflow_provider_polar.engine.window import aware

        if self.deadline is None:
            return None
        return max(0.0, (aware(self.deadline, "deadline") - datetime.now(UTC)).total_seconds())
