"""What a deferred wait for events waits in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_polar.exceptions import PolarError

if TYPE_CHECKING:
    from airflow_provider_polar.api.client import AsyncPolarClient
    from airflow_provider_polar.engine.waiting.wait import EventWait, PollResult


class PolarEventTrigger(BaseTrigger):
    """Waits for named events of Polar in the triggerer.

    It shares the decisions of :class:`~airflow_provider_polar.sensors.event.PolarEventSensor`.

    It keeps nothing between two polls, so a restart of the triggerer costs nothing but a poll, and the deadline is a
    moment, so a restart does not move it. It yields exactly one event: ``{"status": "found", "result": {...}}``, or
    ``failed`` (an event of ``fail_on``), ``timeout`` or ``error`` (a mistake that no further poll can fix) with a
    ``message``. Transient faults are logged and waited out.

    :param event_name: event names.
    :param start: ISO 8601 text with a zone, inclusive.
    :param end: likewise, exclusive; None for open.
    :param match: ``any`` or ``all``.
    :param min_count: how many events are enough.
    :param filters: further filters as a dict.
    :param fail_on: names that end the wait with a failure.
    :param polar_conn_id: the connection.
    :param poll_interval: seconds between two polls, at least :attr:`shortest_poll_interval`; with some jitter.
    :param exponential_backoff: double the interval after each poll.
    :param max_wait: seconds that the doubled interval may reach.
    :param deadline: ISO 8601 text with a zone: when to give up, after a last look; None for never.
    """

    shortest_poll_interval: ClassVar[float] = 5.0
    """Seconds; the request budget is the whole organization's."""
    last_look: ClassVar[float] = 60.0
    """Seconds that a poll under way at the deadline may still take."""

    def __init__(
        self,
        *,
        event_name: Sequence[str] | str,
        start: str,
        end: str | None = None,
        match: str = "any",
        min_count: int = 1,
        filters: Mapping[str, Any] | None = None,
        fail_on: Sequence[str] | str | None = None,
        polar_conn_id: str = "polar_default",
        poll_interval: float = 60.0,
        exponential_backoff: bool = False,
        max_wait: float | None = None,
        deadline: str | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.event_name = event_name
        self.start = start
        self.end = end
        self.match = match
        self.min_count = min_count
        self.filters = filters
        self.fail_on = fail_on
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
                "event_name": self.event_name,
                "start": self.start,
                "end": self.end,
                "match": self.match,
                "min_count": self.min_count,
                "filters": self.filters,
                "fail_on": self.fail_on,
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
        except (PolarError, AirflowException) as error:
            outcome = {"status": "error", "message": str(error)}
        yield TriggerEvent(outcome)  # type: ignore[no-untyped-call]

    async def _outcome(self) -> dict[str, Any]:
        from airflow_provider_polar.triggers._client import load, shared_client

        await load()
        from airflow_provider_polar.engine.waiting.wait import EventWait

        async with shared_client(self.polar_conn_id) as (hook, client):
            wait = EventWait.of(
                self.event_name,
                start=self.start,
                end=self.end,
                match=self.match,
                min_count=self.min_count,
                filters=hook.filters(self.filters),
                fail_on=self.fail_on or None,
            )
            try:
                async with asyncio.timeout(self._remaining(self.last_look)):
                    result = await self._until_ended(wait, client)
            except TimeoutError:
                result = None
        if result is None:
            return {"status": "timeout", "message": f"The wait has timed out: {wait} did not come by {self.deadline}."}
        if result.state == "failed":
            return {"status": "failed", "message": wait.failure(result)}
        return {"status": "found", "result": wait.found(result)}

    async def _until_ended(self, wait: EventWait, client: AsyncPolarClient) -> PollResult | None:
        """The result that ends the wait; None where the deadline comes first, after a last look."""
        from airflow_provider_polar.engine.drive import adrive
        from airflow_provider_polar.engine.waiting.cadence import Cadence

        interval = max(self.shortest_poll_interval, self.poll_interval)
        cadence = Cadence(interval, growing=self.exponential_backoff, longest=self.max_wait)
        pause = cadence.first()
        while True:
            remaining = self._remaining()
            await asyncio.sleep(pause if remaining is None else min(pause, remaining))
            last = remaining is not None and pause >= remaining
            try:
                result = await adrive(client, wait.poll())
                if result.state != "waiting":
                    return result
                pause = cadence.after_poll()
            except PolarError as error:
                if not error.retryable:
                    raise
                pause = cadence.after_fault(error)
                self.log.warning("The wait goes on in %.0f seconds, after: %s", pause, error)
            if last:
                return None

    def _remaining(self, beyond: float = 0.0) -> float | None:
        """Seconds until the deadline, and some beyond it; None where there is none."""
        from airflow_provider_polar.engine.window import aware

        if self.deadline is None:
            return None
        return max(0.0, (aware(self.deadline, "deadline") - datetime.now(UTC)).total_seconds()) + beyond
